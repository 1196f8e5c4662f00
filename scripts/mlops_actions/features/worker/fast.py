"""The way past Feast's engine for a view whose rows are a Parquet file's as they are.

Feast's engine holds all rows in memory several times over, and converts and writes them one value at a time. Here the
last row of each entity is found from keys and times alone, those rows are read again and set aside in parts that
follow the order of the keys, and each part is encoded by column and written in one commit. What the online store holds
afterwards is the same, byte for byte; where that is not known to be so, `obstacle` says why, and Feast's way is taken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .encoding import can_be_key, entity_keys, values
from .online import can_write, writer_for
from .repository import Problem, engine_of, has_credentials
from .source import BatchSource, micros_of
from .watchdog import Watchdog
from .writing import Encoded

if TYPE_CHECKING:
    from feast import FeatureStore

    Ints = np.ndarray[Any, np.dtype[np.int64]]

KNOWN = ("0.67.0",)
"""Versions of Feast whose bytes are known here."""
PART = 100_000
"""Rows encoded and written at once."""
_PLACE = "__place"


def obstacle(store: FeatureStore, view: Any, source: BatchSource) -> str:
    """Why a view must go Feast's own way; "" when it need not."""
    import feast
    from feast import FileSource

    config, batch = store.config, view.batch_source
    engine = engine_of(store, view)
    offline = str(config.offline_store.type)
    reasons = [
        (feast.__version__ not in KNOWN, f"Feast {feast.__version__} is not {' or '.join(KNOWN)}"),
        (engine != "local" or getattr(view, "batch_engine", None), f"its batch engine is {engine}"),
        (offline not in ("dask", "file"), f"its offline store is {offline}"),
        (not isinstance(batch, FileSource), f"its source is a {type(batch).__name__}"),
        (has_credentials(batch), "its source has credentials of its own"),
        (getattr(view, "offline", False), "it is written to the offline store too"),
        (getattr(view, "enable_validation", False), "it has Feast's validation turned on"),
        (getattr(view, "filter", None), "it has a filter"),
        (config.entity_key_serialization_version != 3, "its entity keys are not of version 3"),
    ]
    for is_so, reason in reasons:
        if is_so:
            return reason
    for column in view.entity_columns:
        if column.name in source.keys:
            type_ = source.dataset.schema.field(source.keys[column.name]).type
            if not can_be_key(type_, column.dtype.to_value_type()):
                return f"its join key {column.name} is {type_} in the source and {column.dtype} in Feast"
    if not can_write(store):
        return f"its online store is {config.online_store.type}"
    return ""


class Fast:
    """Writes rows of one view.

    Args:
        store: Feast's.
        source: the view's rows.
        scratch: folder for parts that are set aside.
        watchdog: with the online store.

    Attributes:
        view: Feast's.
    """

    def __init__(self, store: FeatureStore, source: BatchSource, scratch: Path, watchdog: Watchdog) -> None:
        from feast.infra.key_encoding_utils import serialize_entity_key_prefix

        self._source, self.view = source, source.view
        self._scratch, self._watchdog = scratch, watchdog
        self._waited_for = f"{store.config.online_store.type} to accept rows of {self.view.name!r}"
        self._columns = {c.name: c.dtype.to_value_type() for c in self.view.entity_columns}
        version = store.config.entity_key_serialization_version
        self._prefix = serialize_entity_key_prefix(sorted(self._columns), version)
        self._writer = writer_for(store, self.view)

    def write(self, numbers: Ints, progress: Callable[[int], None]) -> None:
        """Write the rows with these numbers, which are in the order of their keys.

        Args:
            numbers: from `Index.latest`.
            progress: is told how many rows are written, after each part.

        Raises:
            Problem: a row has no value for a join key.
            Exception: what Feast's conversion raises for a value that does not fit its type.
        """
        done = 0
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            for part in self._parts(numbers, Path(folder)):
                encoded = self._encoded(part)
                with self._watchdog.waiting_for(self._waited_for):
                    self._writer.write(encoded)
                done += part.num_rows
                progress(done)

    def close(self) -> None:
        """Give back the connection to the online store."""
        self._writer.close()

    def _parts(self, numbers: Ints, folder: Path) -> Iterator[pa.RecordBatch]:
        """The rows in parts that follow the order of the keys; more than one part is set aside in files."""
        order = np.argsort(numbers)
        count = -(-len(numbers) // PART)
        batches = self._placed(numbers[order], order)
        if count <= 1:
            yield from map(_in_place, _whole(list(batches)))
            return
        files: dict[int, Any] = {}
        for batch in batches:
            parts = batch.column(_PLACE).to_numpy() // PART
            for part in np.unique(parts).tolist():
                if part not in files:
                    files[part] = pa.ipc.new_file(str(folder / str(part)), batch.schema)
                files[part].write(batch.filter(pa.array(parts == part)))
        for file in files.values():
            file.close()
        for part in range(count):
            path = folder / str(part)
            with pa.memory_map(str(path)) as mapped:
                yield from map(_in_place, _whole(pa.ipc.open_file(mapped).read_all().to_batches()))
            path.unlink()

    def _placed(self, rows: Ints, places: Ints) -> Iterator[pa.RecordBatch]:
        """The rows as they come, each with its place in the order of the keys."""
        for positions, batch in self._source.rows(rows):
            yield batch.append_column(_PLACE, pa.array(places[positions]))

    def _encoded(self, part: pa.RecordBatch) -> Encoded:
        source = self._source
        keys = []
        for name in sorted(self._columns):
            column = part.column(source.keys[name]) if name in source.keys else pa.repeat("", part.num_rows)
            if column.null_count:
                what = f"{column.null_count:,} rows of the source of {self.view.name!r} have no {source.keys[name]!r}"
                raise Problem(what, "It is a join key", "Leave those rows out, or give them a value")
            keys.append((column, self._columns[name]))
        encoded = {
            feature.name: values(part.column(source.features[feature.name]), feature.dtype.to_value_type())
            for feature in self.view.features
        }
        created = micros_of(part.column(source.created)) if source.created else None
        moments = micros_of(part.column(source.timestamp))
        return Encoded(entity_keys(self._prefix, keys), encoded, moments, created)


def _whole(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return pa.Table.from_batches(batches).combine_chunks().to_batches() if batches else []


def _in_place(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.take(pa.array(np.argsort(batch.column(_PLACE).to_numpy())))
