"""What the online store gives for entities, compared with the rows that it was made of: values, types and nulls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from feast import FeatureStore

    from .source import BatchSource


_MOMENT = pa.timestamp("us", "UTC")


class Read:
    """Rows of a source, and what the online store gives for their entities.

    Args:
        store: Feast's.
        source: of the view.
        rows: numbers of rows that are the last of their entity.

    Attributes:
        offline: the rows.
    """

    def __init__(self, store: FeatureStore, source: BatchSource, rows: Sequence[int]) -> None:
        self._source = source
        numbers = np.sort(np.array(rows, np.int64))
        self.offline = [row for _, batch in source.rows(numbers) for row in batch.to_pylist()]
        self._online: dict[str, list[Any]] = {}
        if self.offline:
            nobody = {} if source.keys else {"__dummy_id": ""}  # what Feast keeps a view without an entity under
            entities = [{**nobody, **{key: row[raw] for key, raw in source.keys.items()}} for row in self.offline]
            names = [f"{source.view.name}:{name}" for name in source.features]
            self._online = store.get_online_features(names, entities).to_dict(include_event_timestamps=True)

    def differences(self) -> list[str]:
        """A sentence for each value that differs."""
        found = []
        for name, row, offline, online in self._values():
            if not _equal(offline, online):
                entity = ", ".join(f"{key}={row[raw]}" for key, raw in self._source.keys.items())
                found.append(f"{self._source.view.name}:{name} of {entity}: offline {offline!r}, online {online!r}")
        return found

    @property
    def has_any(self) -> bool:
        """Whether the online store has a value, or the rows have none themselves."""
        there = [online is not None for _, _, offline, online in self._values() if offline is not None]
        return any(there) or not there

    @property
    def has_all(self) -> bool:
        """Whether the online store has a value wherever the rows have one."""
        return all(online is not None for _, _, offline, online in self._values() if offline is not None)

    def save(self, folder: Path) -> str:
        """What the online store gave as a Parquet file, and its path: entity keys, features, and `event_timestamp`.

        Columns have the types of the source; where a value cannot have it, it is text.
        """
        schema = self._source.dataset.schema
        columns = {
            key: pa.array([row[raw] for row in self.offline], schema.field(raw).type)
            for key, raw in self._source.keys.items()
        }
        for name, raw in self._source.features.items():
            columns[name] = _column(self._online[name], schema.field(raw).type)
        seconds = [self._online[f"{name}__ts"] for name in self._source.features]  # a remote store gives none
        latest = [
            max((each[row] for each in seconds if row < len(each)), default=0) or None
            for row in range(len(self.offline))
        ]
        columns["event_timestamp"] = pa.array(latest, pa.int64()).cast(pa.timestamp("s", "UTC")).cast(_MOMENT)
        path = folder / f"served-{self._source.view.name}.parquet"
        pq.write_table(pa.table(columns), path)
        return str(path)

    def _values(self) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
        """Each feature of each row: its name, the row, its value there and its value online."""
        for name, column in self._source.features.items():
            for row, online in zip(self.offline, self._online.get(name, [])):
                yield name, row, row[column], online


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _equal(offline: Any, online: Any) -> bool:
    """Whether two values are the same, but for the width of a float, fractions of a second, and a list's kind."""
    if _is_null(offline) or _is_null(online):
        return _is_null(offline) and _is_null(online)
    if isinstance(online, dict):
        return _equal_maps(offline, online)
    if isinstance(offline, str) and not isinstance(online, str):
        return (isinstance(online, UUID | Decimal) and offline == str(online)) or _equal_json(offline, online)
    if isinstance(online, set):
        return len(set(map(str, offline))) == len(online) and set(map(str, offline)) == set(map(str, online))
    if isinstance(offline, list | tuple):
        return _is_listed(online) and len(offline) == len(online) and all(map(_equal, offline, online))
    if isinstance(offline, bool) or isinstance(online, bool):
        return type(offline) is type(online) and offline == online
    if isinstance(offline, date):
        return isinstance(online, datetime) and abs(_moment(offline) - _moment(online)) < timedelta(seconds=1)
    if isinstance(offline, float) and isinstance(online, float):
        return bool(np.isclose(offline, online, rtol=1e-6, atol=0.0))
    if isinstance(online, str):
        return str(offline) == online
    return bool(offline == online)


def _equal_maps(offline: Any, online: dict[Any, Any]) -> bool:
    if isinstance(offline, str):
        return _equal_json(offline, online)
    pairs: dict[Any, Any] = dict(offline)
    return pairs.keys() == online.keys() and all(_equal(value, online[key]) for key, value in pairs.items())


def _equal_json(offline: str, online: Any) -> bool:
    try:
        return bool(json.loads(offline) == online)
    except ValueError:
        return False


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _is_listed(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | dict)


def _moment(value: date) -> datetime:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
