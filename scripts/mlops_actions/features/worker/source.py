"""A feature view's rows, read by streaming: which of them is the last of each entity, and those rows' columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from .repository import Problem, has_credentials, is_plain, remote, short, source_name

if TYPE_CHECKING:
    from feast import FeatureStore

    Ints = np.ndarray[Any, np.dtype[np.int64]]

Interval = tuple[datetime, datetime]
BATCH = 64 * 1024
BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""Where a first materialization starts; Feast's own rule, now - ttl, gives nothing for data older than its ttl."""
NEVER = np.iinfo(np.int64).min
"""The moment of a row without one; it is in no interval."""


@dataclass(frozen=True)
class Index:
    """What is kept of every row: no more than three numbers.

    Attributes:
        entities: a number of 32 bits for each row's entity, from 0, in the order of the serialized entity keys.
        count: of entities.
        moments: event times in microseconds since 1970, UTC.
        created: the same of the created timestamps, if the source has them.
    """

    entities: np.ndarray[Any, np.dtype[np.int32]]
    count: int
    moments: Ints
    created: Ints | None

    def latest(self, intervals: Iterable[Interval], after: bool = False) -> Ints:
        """Numbers of the rows that are their entity's last within intervals, in the order of the entities' keys.

        The last is the one of the latest event time, then created timestamp, then place in the source.

        Args:
            intervals: their ends belong to them.
            after: leave the starts themselves out.
        """
        rows = np.flatnonzero(self._within(intervals, after))
        if self.created is None:
            order = np.argsort(self.moments[rows], kind="stable")
        else:
            order = np.lexsort((self.created[rows], self.moments[rows]))
        found = np.full(self.count, -1, np.int64)
        rows = rows[order]
        found[self.entities[rows]] = rows  # of several for one entity, numpy keeps the last
        return found[found >= 0]

    def without_newer(self, rows: Ints, intervals: Iterable[Interval]) -> Ints:
        """Those of the rows, of which each is its entity's last, whose entity has no later row within intervals."""
        newest = np.full(self.count, NEVER, np.int64)
        there = np.flatnonzero(self._within(intervals))
        np.maximum.at(newest, self.entities[there], self.moments[there])
        return rows[self.moments[rows] >= newest[self.entities[rows]]]

    def _within(self, intervals: Iterable[Interval], after: bool = False) -> np.ndarray[Any, np.dtype[np.bool_]]:
        spans: list[list[int]] = []
        for start, end in sorted((to_micros(start) + after, to_micros(end)) for start, end in intervals):
            if spans and start <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        if not spans:
            return np.zeros(len(self.moments), bool)
        starts, ends = np.array(spans, np.int64).T
        place = np.searchsorted(starts, self.moments, side="right") - 1
        within: np.ndarray[Any, np.dtype[np.bool_]] = (place >= 0) & (self.moments <= ends[place])
        return within

    def is_tied(self, row: int) -> bool:
        """Whether another row of the same entity has the same times, so that either may be taken for the last."""
        same = (self.entities == self.entities[row]) & (self.moments == self.moments[row])
        if self.created is not None:
            same &= self.created == self.created[row]
        return int(np.count_nonzero(same)) > 1


class BatchSource:
    """The rows of one view's batch source until a moment.

    Args:
        store: Feast's.
        view: one with a batch source.
        end: until when rows are of interest; of a file all are read.

    Attributes:
        dataset: pyarrow's, with the source's own column names.
        keys: join keys by their column in the source; empty for a view without an entity.
        features: features by their column in the source.
        timestamp, created: columns; `created` is "" when there is none.

    Raises:
        Problem: the source cannot be read.
    """

    def __init__(self, store: FeatureStore, view: Any, end: datetime) -> None:
        source = view.batch_source
        self.view = view
        plain = is_plain(view)  # of another the source's columns are not the view's
        entities = view.entity_columns if plain else []
        self.keys = {c.name: source_name(source, c.name) for c in entities if c.name != "__dummy_id"}
        self.features = {f.name: source_name(source, f.name) for f in (view.features if plain else [])}
        self.timestamp = source_name(source, source.timestamp_field)
        self.created = source_name(source, source.created_timestamp_column or "")
        try:
            self.dataset = _dataset(store, self, end)
        except OSError as error:
            what = f"The source of the feature view {view.name!r} cannot be read"
            raise remote(what, short(error)) from None
        self._rows = 0

    def index(self) -> Index:
        """Read keys and times of every row."""
        times = [name for name in (self.timestamp, self.created) if name]
        wanted = [*dict.fromkeys([*self.keys.values(), *times])]
        table = pa.Table.from_batches(self._batches(wanted), self.dataset.schema.empty_table().select(wanted).schema)
        self._rows = table.num_rows
        moments = micros_of(table.column(self.timestamp))
        created = micros_of(table.column(self.created)) if self.created else None
        keys = [table.column(self.keys[key]) for key in sorted(self.keys)]
        del table
        entities, count = _numbered(keys, self._rows)
        del keys
        pa.default_memory_pool().release_unused()  # what is left of the columns is more than the index
        return Index(entities, count, moments, created)

    def rows(self, numbers: Ints) -> Iterator[tuple[Ints, pa.RecordBatch]]:
        """The rows with these numbers, ascending, a batch at a time: positions in `numbers`, and all that is used."""
        passed = 0
        for batch in self._batches(self.columns):
            first, last = np.searchsorted(numbers, [passed, passed + batch.num_rows])
            if last > first:
                yield np.arange(first, last), batch.take(pa.array(numbers[first:last] - passed))
            passed += batch.num_rows
        if passed != self._rows:
            what = f"The source of the feature view {self.view.name!r} changed while it was read"
            raise Problem(
                what, f"It had {self._rows:,} rows, then {passed:,}", "Run this again when writing it has finished"
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every row, all that is used of it."""
        return self._batches(self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns that are used, each once."""
        names = [*self.keys.values(), self.timestamp, self.created, *self.features.values()]
        return [name for name in dict.fromkeys(names) if name]

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        options: dict[str, Any] = {"batch_size": BATCH, "batch_readahead": 4, "fragment_readahead": 1}
        if isinstance(self.dataset, ds.FileSystemDataset):
            # Reading ahead is for slow stores, and keeps a whole file's bytes until its end.
            local = isinstance(self.dataset.filesystem, LocalFileSystem)
            options["fragment_scan_options"] = ds.ParquetFragmentScanOptions(pre_buffer=not local)
        yield from self.dataset.to_batches(columns=list(columns), **options)


def micros_of(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Times as microseconds since 1970; a time without a zone is UTC, as Feast takes it."""
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        zone = getattr(column.type, "tz", None)
        moments = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        found: Ints = moments.fill_null(NEVER).to_numpy()
        return found
    raise TypeError(f"{column.type} is not a time")


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - BEGINNING) // timedelta(microseconds=1)


def from_micros(moment: int) -> datetime:
    """The moment, UTC."""
    return BEGINNING + timedelta(microseconds=int(moment))


def _numbered(columns: Sequence[pa.ChunkedArray], rows: int) -> tuple[np.ndarray[Any, np.dtype[np.int32]], int]:
    """A number for each distinct row of the columns, in the order of their serialized keys, and how many there are."""
    numbers: Any = np.zeros(rows, np.int32)
    count = 1
    for place, column in enumerate(columns):
        encoded = column.combine_chunks().dictionary_encode()
        ranks = np.append(_ranks(encoded.dictionary), np.int32(len(encoded.dictionary)))  # of a null too
        codes = ranks[encoded.indices.fill_null(len(ranks) - 1).to_numpy()]
        if not place:
            numbers, count = codes, len(ranks)
            continue
        # Dense again after each key, so that the product of several does not grow out of bounds.
        distinct, numbers = np.unique(numbers.astype(np.int64) * len(ranks) + codes, return_inverse=True)
        count = len(distinct)
    return numbers, count


def _ranks(distinct: pa.Array) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The place of each value among all: as bytes with their length before them, numbers with the lowest byte first."""
    if pa.types.is_integer(distinct.type):
        numbers = distinct.to_numpy()
        order = np.argsort(numbers.view(f"u{numbers.itemsize}").byteswap())
    else:
        table = pa.table({"length": pc.binary_length(distinct.cast(pa.binary())), "value": distinct})
        order = pc.sort_indices(table, [("length", "ascending"), ("value", "ascending")]).to_numpy()
    ranks = np.empty(len(distinct), np.int32)
    ranks[order] = np.arange(len(distinct), dtype=np.int32)
    return ranks


def _dataset(store: FeatureStore, source: BatchSource, end: datetime) -> Any:
    """A file's dataset; of a warehouse the latest row of each entity, which its own engine has found."""
    from feast import FileSource

    batch = source.view.batch_source
    if isinstance(batch, FileSource) and not has_credentials(batch):
        path = FileSource.get_uri_for_file_path(store.config.repo_path, batch.path)
        filesystem, name = FileSource.create_filesystem_and_path(path, batch.file_options.s3_endpoint_override)
        return ds.dataset(name, filesystem=filesystem, format="parquet", partitioning="hive")
    job = store._get_provider().offline_store.pull_latest_from_table_or_query(
        config=store.config,
        data_source=batch,
        join_key_columns=list(source.keys.values()),
        feature_name_columns=list(source.features.values()),
        timestamp_field=source.timestamp,
        created_timestamp_column=source.created or None,
        start_date=BEGINNING,
        end_date=end,
    )
    return ds.dataset(job.to_arrow())
