"""Rows in Feast's SQLite file, as Feast writes them."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .writing import Encoded

if TYPE_CHECKING:
    from feast import FeatureStore

    Ints = np.ndarray[Any, np.dtype[np.int64]]

_GROUP = 100  # features a statement: SQLite may be built for no more than 999 variables
_CACHE = 128 * 1024  # KiB of pages that SQLite keeps while it writes
_PATIENCE = 60.0  # seconds to wait for another process that writes
_EPOCH = datetime(1970, 1, 1)


class Sqlite:
    """The table of a view in Feast's SQLite file."""

    def __init__(self, store: FeatureStore, view: Any) -> None:
        from feast.infra.online_stores.sqlite import SqliteOnlineStore, _table_id

        path = SqliteOnlineStore._get_db_path(store.config)
        self._table = _table_id(store.project, view, store.config.registry.enable_online_feature_view_versioning)
        # Readers of other threads hand over to this one: a view is written by one thread at a time.
        self._connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE}")

    def write(self, rows: Encoded) -> None:
        """One transaction; one statement inserts all features of a row."""
        times = _as_feast_adapts(rows.moments).tolist()
        created = repeat(None) if rows.created is None else _as_feast_adapts(rows.created).tolist()
        keys = rows.keys.to_numpy(zero_copy_only=False)
        names = list(rows.values)
        with self._connection:
            for first in range(0, len(names), _GROUP):
                group = names[first : first + _GROUP]
                columns = [side for name in group for side in _objects(*rows.values[name])]
                self._connection.executemany(self._statement(group), zip(keys, times, created, *columns))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _statement(self, names: list[str]) -> str:
        table = '"' + self._table.replace('"', '""') + '"'
        rows = ", ".join(
            f"(?1, '{name.replace(chr(39), chr(39) * 2)}', ?{4 + 2 * place}, ?{5 + 2 * place}, ?2, ?3)"
            for place, name in enumerate(names)
        )
        return (
            f"INSERT INTO {table} (entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES {rows}"
            " ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value,"
            " value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
        )


def _objects(values: pa.Array, texts: pa.Array | None) -> tuple[Any, Any]:
    none = repeat(None) if texts is None else texts.to_numpy(zero_copy_only=False)
    return values.to_numpy(zero_copy_only=False), none


def _as_feast_adapts(moments: Ints) -> Ints:
    """Seconds as Feast's adapter for SQLite makes them: of a UTC time without its zone, read as this machine's time."""
    distinct, places = np.unique(moments, return_inverse=True)
    seconds = [int((_EPOCH + timedelta(microseconds=moment)).timestamp()) for moment in distinct.tolist()]
    return np.array(seconds, np.int64)[places]
