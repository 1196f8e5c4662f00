"""Rows written to Postgres as Feast's online store does, by COPY in its binary format.

They are copied to a temporary table and taken from there in one statement, because COPY knows no conflict. The format:
https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .encoding import constant, fixed
from .writing import Encoded

if TYPE_CHECKING:
    from feast import FeatureStore

_BLOB = pa.large_binary()
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = 946_684_800_000_000  # microseconds from 1970 to 2000, where Postgres counts from


class Postgres:
    """The table of a view in Postgres.

    Args:
        store: Feast's.
        view: the view.
    """

    def __init__(self, store: FeatureStore, view: Any) -> None:
        from feast.infra.online_stores.postgres_online_store.postgres import _table_id
        from feast.infra.utils.postgres.connection_utils import _get_conn
        from psycopg import sql

        name = _table_id(store.project, view, store.config.registry.enable_online_feature_view_versioning)
        self._connection = _get_conn(store.config.online_store)
        # Times have no zone here, as Feast gives them: the session's makes moments of them.
        self._connection.execute(
            "CREATE TEMPORARY TABLE mlops_rows (entity_key bytea, feature_name text, value bytea, value_text text,"
            " event_ts timestamp, created_ts timestamp) ON COMMIT DELETE ROWS"
        )
        self._connection.commit()
        self._take = sql.SQL(
            "INSERT INTO {} (entity_key, feature_name, value, value_text, event_ts, created_ts)"
            " SELECT * FROM mlops_rows ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = EXCLUDED.value,"
            " value_text = EXCLUDED.value_text, vector_value = EXCLUDED.vector_value,"
            " event_ts = EXCLUDED.event_ts, created_ts = EXCLUDED.created_ts"
        ).format(sql.Identifier(name))

    def write(self, rows: Encoded) -> None:
        """One transaction."""
        count = len(rows.keys)
        times = [_moments(rows.moments), _moments(rows.created) if rows.created is not None else _null(count)]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy("COPY mlops_rows FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(_HEADER)
                for name, (values, texts) in rows.values.items():
                    text = _null(count) if texts is None else _sized(texts.cast(_BLOB))
                    label = name.encode()
                    fields = [
                        constant(struct.pack(">h", 6), count),
                        _sized(rows.keys),
                        constant(struct.pack(">i", len(label)) + label, count),
                        _sized(values),
                        text,
                        *times,
                    ]
                    copy.write(_content(pc.binary_join_element_wise(*fields, pa.scalar(b"", _BLOB))))
                copy.write(_TRAILER)
            cursor.execute(self._take)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _sized(column: pa.Array) -> pa.Array:
    """Each value after its length; a null is a length of -1 alone."""
    lengths = pc.binary_length(column).fill_null(-1).to_numpy(zero_copy_only=False).astype(">i4")
    sizes = fixed(lengths.view(np.uint8).reshape(len(column), 4))
    return pc.binary_join_element_wise(sizes, column.fill_null(b""), pa.scalar(b"", _BLOB))


def _moments(micros: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    since = (micros - _EPOCH).astype(">i8").view(np.uint8).reshape(len(micros), 8)
    sizes = np.broadcast_to(np.array([0, 0, 0, 8], np.uint8), (len(micros), 4))
    return fixed(np.concatenate([sizes, since], axis=1))


def _null(rows: int) -> pa.Array:
    return constant(struct.pack(">i", -1), rows)


def _content(joined: pa.Array) -> memoryview:
    """All bytes of an array that starts at its buffer's beginning."""
    offsets = np.frombuffer(joined.buffers()[1], np.int64, len(joined) + 1)
    return memoryview(joined.buffers()[2])[offsets[0] : offsets[-1]]
