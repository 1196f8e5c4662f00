"""The online stores that rows can be written to directly: SQLite, Redis and Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .to_postgres import Postgres
from .to_redis import Redis, is_one_server
from .to_sqlite import Sqlite
from .writing import Writer

if TYPE_CHECKING:
    from feast import FeatureStore


def can_write(store: FeatureStore) -> bool:
    """Whether the online store is one that is known here, as it is configured."""
    online = store.config.online_store
    if getattr(online, "vector_enabled", False) or getattr(online, "enable_openai_compatible_store", False):
        return False
    if online.type == "redis":
        return is_one_server(store)
    return str(online.type) in ("sqlite", "postgres")


def writer_for(store: FeatureStore, view: Any) -> Writer:
    """The way to write a view's rows to an online store of which `can_write` holds."""
    kind = store.config.online_store.type
    if kind == "redis":
        return Redis(store, view)
    if kind == "postgres":
        return Postgres(store, view)
    return Sqlite(store, view)
