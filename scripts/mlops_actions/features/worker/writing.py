"""Encoded rows, and the online stores that they can be written to as Feast writes them: SQLite, Redis and Postgres.

Each `write` is one commit of rows that are in the
order of their keys, which keeps a table's index in the pages that are at hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from feast import FeatureStore

    Ints = np.ndarray[Any, np.dtype[np.int64]]

_GROUP = 100  # features a statement: SQLite may be built for no more than 999 variables
_CACHE = 128 * 1024  # KiB of pages that SQLite keeps while it writes
_PATIENCE = 60.0  # seconds to wait for another process that writes
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Encoded:
    """Rows of one view in Feast's bytes, in the order of their keys.

    Attributes:
        keys: entity keys.
        values: bytes and texts (None where Feast keeps none) of each feature, in the view's order.
        moments: event times in microseconds since 1970, UTC.
        created: the same of created timestamps, if the source has them.
    """

    keys: pa.Array
    values: Mapping[str, tuple[pa.Array, pa.Array | None]]
    moments: Ints
    created: Ints | None


class Writer(Protocol):
    """An online store's table of one view."""

    def write(self, rows: Encoded) -> None:
        """Write the rows and commit them; a row of the same key is replaced as Feast would."""

    def close(self) -> None:
        """Give back the connection."""


def can_write(store: FeatureStore) -> bool:
    """Whether the online store is one that is known here, as it is configured."""
    online = store.config.online_store
    if getattr(online, "vector_enabled", False) or getattr(online, "enable_openai_compatible_store", False):
        return False
    if online.type == "redis":
        from .to_redis import is_one_server

        return is_one_server(store)
    return str(online.type) in ("sqlite", "postgres")


def writer_for(store: FeatureStore, view: Any) -> Writer:
    """The way to write a view's rows to an online store of which `can_write` holds."""
    kind = store.config.online_store.type
    if kind == "redis":
        from .to_redis import Redis

        return Redis(store, view)
    if kind == "postgres":
        from .to_postgres import Postgres

        return Postgres(store, view)
    return Sqlite(store, view)


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
