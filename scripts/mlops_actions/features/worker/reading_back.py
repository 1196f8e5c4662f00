"""What the online store gives for entities, compared with the rows that it was made of: values, types and nulls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

if TYPE_CHECKING:
    from feast import FeatureStore

    from .source import Source


def compare(store: FeatureStore, source: Source, rows: Sequence[int]) -> tuple[int, list[str]]:
    """How many entities were read, and a sentence for each value that differs.

    Args:
        store: Feast's.
        source: of the view.
        rows: numbers of rows that are the last of their entity.
    """
    offline = _rows(source, rows)
    online = _online(store, source, offline)
    found = []
    for name, column in source.features.items():
        for row, value in zip(offline, online.get(name, [])):
            if not _equal(row[column], value):
                entity = ", ".join(f"{key}={row[raw]}" for key, raw in source.keys.items())
                found.append(f"{source.view.name}:{name} of {entity}: offline {row[column]!r}, online {value!r}")
    return len(offline), found


def has_any(store: FeatureStore, source: Source, rows: Sequence[int]) -> bool:
    """Whether the online store has a value of any of the rows' entities, or the rows have none themselves."""
    offline = _rows(source, rows)
    online = _online(store, source, offline)
    there = any(row[column] is not None for row in offline for column in source.features.values())
    return not there or any(value is not None for values in online.values() for value in values)


def _rows(source: Source, rows: Sequence[int]) -> list[dict[str, Any]]:
    numbers = np.sort(np.array(rows, np.int64))
    return [row for _, batch in source.rows(numbers) for row in batch.to_pylist()]


def _online(store: FeatureStore, source: Source, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the online store gives for the entities of the rows, by feature."""
    if not rows:
        return {}
    entities = [{key: row[column] for key, column in source.keys.items()} for row in rows]
    names = [f"{source.view.name}:{name}" for name in source.features]
    found = store.get_online_features(names, entities).to_dict()
    return {name: list(found[name]) for name in source.features}


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
