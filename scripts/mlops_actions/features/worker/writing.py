"""Encoded rows, and what writes them to an online store as Feast does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    Ints = np.ndarray[Any, np.dtype[np.int64]]


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
        """Write the rows and commit them; a row of the same key is replaced as Feast would.

        The rows are in the order of their keys, which keeps a table's index in the pages that are at hand.
        """

    def close(self) -> None:
        """Give back the connection."""
