"""Suggestions for misspelt names: one rule for every message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 30
"""Known names that a message lists; more than that nobody reads."""


def did_you_mean(name: object, known: Iterable[object], otherwise: str = "Known: {}") -> str:
    """What to do about a name that is not known: ``Did you mean `auc`?``, or the names there are.

    Args:
        name: what was written.
        known: what could have been written.
        otherwise: what to say when nothing is near; `{}` stands for the known names. Without any, it is "" unless this
            text has no `{}`.
    """
    names = list(dict.fromkeys(str(one) for one in known))
    lower = {one.lower(): one for one in reversed(names)}
    begun = [one for one in lower if name and one.startswith(str(name).lower())]
    near = begun[:1] if len(begun) == 1 else difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{lower[near[0]]}`?"
    if "{}" not in otherwise:
        return otherwise
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return otherwise.replace("{}", ", ".join(names[:_SHOWN]) + more) if names else ""
