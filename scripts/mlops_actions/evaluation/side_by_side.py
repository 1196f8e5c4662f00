"""The environments that a model was tested in, side by side: where their predictions part, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from .golden import difference

_SHOWN = 20
_COLUMNS = (
    "environment",
    "Python",
    "passed",
    "differ",
    "worst",
    "at row",
    "cold",
    "p50",
    "p95",
    "memory",
    "rows a second",
)


class Tested(Protocol):
    """A record or a result of test-model."""

    @property
    def details(self) -> dict[str, Any]:
        """What a person wants to see."""

    @property
    def outputs(self) -> Any:
        """The outputs: a mapping by kebab-case names, or the action's own."""


def apart(expected: Sequence[Any], got: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows that differ from the golden prediction at all, within the tolerance too; the largest differences first.

    `difference` is None where no number tells it.
    """
    rows = [(difference(e, g), number, e, g) for number, (e, g) in enumerate(zip(expected, got), 1)]
    rows = sorted((one for one in rows if one[0] > 0), key=lambda one: -one[0])[:_SHOWN]
    return [
        {"row": number, "expected": e, "is": g, "difference": far if math.isfinite(far) else None}
        for far, number, e, g in rows
    ]


def table(tested: Sequence[Tested]) -> list[dict[str, Any]]:
    """A row of each environment, in the order in which they were tested; the last of those with one name counts."""
    found: dict[str, dict[str, Any]] = {}
    for one in tested:
        out = one.outputs if isinstance(one.outputs, dict) else one.outputs.model_dump(mode="json", by_alias=True)
        details, facts = one.details, one.details.get("facts") or {}
        name = str(details.get("variant", ""))
        far = details.get("apart") or []
        found.pop(name, None)
        found[name] = {
            "name": name,
            "python": facts.get("python", ""),
            "machine": f"{facts.get('system', '')} {facts.get('machine', '')}".strip(),
            "gpu": ", ".join(facts.get("gpus") or []),
            "packages": facts.get("packages") or {},
            "passed": out.get("verdict") == "passed",
            "ran": "checks" in details,
            "differ": out.get("mismatches"),
            "worst": far[0]["difference"] if far else 0.0,
            "row": far[0]["row"] if far else None,
            "apart": far,
            **{
                key: out.get(key)
                for key in ("cold-ms", "latency-p50-ms", "latency-p95-ms", "peak-memory-mb", "throughput")
            },
        }
    return list(found.values())


def parted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The golden rows that environments predict differently: each with what every environment predicts for it.

    A row that an environment does not tell is as expected there (or differs by less than the rows that it tells).
    """
    by_row: dict[int, dict[str, Any]] = {}
    for one in rows:
        for far in one["apart"]:
            made = by_row.setdefault(far["row"], {"row": far["row"], "expected": far["expected"], "is": {}, "far": 0.0})
            made["is"][one["name"]] = far["is"]
            made["far"] = max(made["far"], math.inf if far["difference"] is None else far["difference"])
    return sorted(by_row.values(), key=lambda one: (-one["far"], one["row"]))[:_SHOWN]


def differing_packages(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The packages whose version is not the same everywhere, with that of each environment; "" where it is absent."""
    names = sorted({name for one in rows if one["ran"] for name in one["packages"]}, key=str.lower)
    versions = {name: [one["packages"].get(name, "") for one in rows] for name in names}
    return [(name, found) for name, found in versions.items() if len(set(found)) > 1]


def shown(tested: Sequence[Tested]) -> tuple[list[str], list[list[str]], str] | None:
    """The table for a terminal: columns, rows and a title; None for one environment alone."""
    rows = table(tested)
    if len(rows) < 2:
        return None

    def number(value: Any, unit: str = "") -> str:
        return "–" if value is None or value == "" else f"{value:,.3g}{unit}" if value < 1000 else f"{value:,.0f}{unit}"

    made = [
        [
            one["name"], one["python"], "yes" if one["passed"] else "NO", number(one["differ"] if one["ran"] else None),
            ("differs" if one["worst"] is None else number(one["worst"])) if one["ran"] else "–", number(one["row"]),
            number(one["cold-ms"], " ms"), number(one["latency-p50-ms"], " ms"), number(one["latency-p95-ms"], " ms"),
            number(one["peak-memory-mb"], " MB"), number(one["throughput"]),
        ]
        for one in rows
    ]  # fmt: skip
    return list(_COLUMNS), made, "The environments of this run"
