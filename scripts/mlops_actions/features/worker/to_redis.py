"""Rows written to Redis as Feast's online store does: a hash for each entity, with its view's features and event time.

Commands are laid out by column in the protocol of Redis and sent many at once; the client library packs them one
argument at a time. The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .encoding import constant, varints
from .writing import Encoded

if TYPE_CHECKING:
    from feast import FeatureStore

_AT_ONCE = 5_000  # commands before their replies are read, which must fit the connection's buffers
_BLOB = pa.large_binary()


class Redis:
    """The hashes of a view in a Redis that is one server.

    Args:
        store: Feast's.
        view: the view.
    """

    def __init__(self, store: FeatureStore, view: Any) -> None:
        from feast.infra.online_stores.helpers import _mmh3
        from feast.infra.online_stores.redis import _versioned_fv_name

        online = store.config.online_store
        self._client = store._get_provider().online_store._get_client(online)
        name = _versioned_fv_name(view, store.config)
        self._project = store.project.encode()
        self._time = f"_ts:{name}".encode()
        self._names = {feature.name: _mmh3(f"{name}:{feature.name}") for feature in view.features}
        self._overwrite = online.skip_dedup
        self._ttl = online.key_ttl_seconds

    def write(self, rows: Encoded) -> None:
        """Write each row that is newer than what is there; there is no transaction over several, as in Feast."""
        keys = pc.binary_join_element_wise(rows.keys, constant(self._project, len(rows.keys)), pa.scalar(b"", _BLOB))
        connection = self._client.connection_pool.get_connection()
        try:
            newer = np.ones(len(keys), bool) if self._overwrite else self._newer(connection, keys, rows)
            fields: list[pa.Array | bytes] = [b"HSET", keys, self._time, _time_messages(rows.moments)]
            for name, (values, _) in rows.values.items():
                fields += [self._names[name], values]
            self._send(connection, _commands(fields, len(keys)).filter(pa.array(newer)))
            if self._ttl:
                expiring = _commands([b"EXPIRE", keys, str(self._ttl).encode()], len(keys))
                self._send(connection, expiring.filter(pa.array(newer)))
        except BaseException:
            connection.disconnect()  # replies that were not read are nobody else's
            raise
        finally:
            self._client.connection_pool.release(connection)

    def close(self) -> None:
        """The client is Feast's, and stays."""

    def _newer(self, connection: Any, keys: pa.Array, rows: Encoded) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each row is newer than the one that is there, by Feast's rule: a row of the same moment is not."""
        from google.protobuf.timestamp_pb2 import Timestamp

        there = np.zeros(len(keys), np.int64)  # nanoseconds; 0 is none, in Feast too
        replies = self._send(connection, _commands([b"HMGET", keys, self._time], len(keys)))
        for place, (found,) in enumerate(replies):
            if found:
                stamp = Timestamp.FromString(found)
                there[place] = stamp.seconds * 1_000_000_000 + stamp.nanos
        newer: np.ndarray[Any, np.dtype[np.bool_]] = (there == 0) | (rows.moments * 1000 > there)
        return newer

    def _send(self, connection: Any, commands: pa.Array) -> list[Any]:
        """Send commands and read their replies."""
        replies: list[Any] = []
        for first in range(0, len(commands), _AT_ONCE):
            some = commands.slice(first, _AT_ONCE)
            connection.send_packed_command([b"".join(some.to_pylist())])
            responses = [connection.read_response() for _ in range(len(some))]
            failed = next((response for response in responses if isinstance(response, Exception)), None)
            if failed:
                raise failed
            replies += responses
        return replies


def is_one_server(store: FeatureStore) -> bool:
    """Whether Feast's client is of one server, and of the library whose connections are used here."""
    import redis

    online = store.config.online_store
    return isinstance(store._get_provider().online_store._get_client(online), redis.Redis)


def _commands(fields: Sequence[pa.Array | bytes], rows: int) -> pa.Array:
    """A command for each row, of arguments that are a column, or the same for all."""
    parts: list[pa.Array] = []
    fixed = f"*{len(fields)}\r\n".encode()
    for field in fields:
        if isinstance(field, bytes):
            fixed += b"$%d\r\n%s\r\n" % (len(field), field)
            continue
        lengths = pc.binary_length(field).cast(pa.large_string()).cast(_BLOB)
        parts += [constant(fixed + b"$", rows), lengths, constant(b"\r\n", rows), field]
        fixed = b"\r\n"
    return pc.binary_join_element_wise(*parts, constant(fixed, rows), pa.scalar(b"", _BLOB))


def _time_messages(moments: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """protobuf's Timestamp of each moment: field 1 the seconds, field 2 the nanoseconds, neither when it is 0."""
    seconds, micros = np.divmod(moments, 1_000_000)
    return pc.binary_join_element_wise(
        varints(seconds, 0x08, seconds != 0), varints(micros * 1000, 0x10, micros != 0), pa.scalar(b"", _BLOB)
    )
