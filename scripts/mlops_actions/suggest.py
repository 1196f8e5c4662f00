"""The name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], mark: str = "`") -> str:
    """The question "Did you mean `x`?" for a name that is not known; "" when no known name is near it."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"Did you mean {mark}{near[0]}{mark}?" if near else ""
