"""Texts of a few hundred bytes that stand for more than a machine can hold."""

from __future__ import annotations

from itertools import pairwise

LEVELS = [f"a{n}" for n in range(40)]
ALIASES = "\n".join(
    ["a0: &a0 [x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(LEVELS))]
)  # fmt: skip
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}" for a, b in pairwise(LEVELS))]
)  # fmt: skip
