"""What a run's model is made of and what it came to, as values by group and name, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..records import Record
from ..text import number

Described = dict[str, dict[str, Any]]
"""Values by name, by group: `metrics`, `parameters`, `data`, `features`, `image`, `environment`, `code`."""


class Difference(NamedTuple):
    """One value that differs; None where there is none."""

    group: str
    name: str
    before: Any
    now: Any


def describe(records: Sequence[Record]) -> Described:
    """What the records of one run say, the last one of an action first."""
    made: Described = {"metrics": {}, "parameters": {}, "data": {}, "features": {}, "image": {}, "environment": {}}
    last = {record.action: record for record in records}
    outputs = {action: record.outputs for action, record in last.items()}
    trained, checked = outputs.get("run-pipeline", {}), outputs.get("validate-data", {})
    for action in ("run-pipeline", "evaluate-model"):
        made["metrics"] |= numbers(outputs.get(action, {}).get("metrics"))
    made["parameters"] = _mapping(trained.get("parameters"))
    made["data"] = known(fingerprint=trained.get("data-fingerprint") or checked.get("fingerprint"))
    if "validate-data" in last:
        made["data"] |= known(rows=checked.get("rows")) | columns(last["validate-data"])
    made["features"] = known(
        digest=trained.get("features-digest") or outputs.get("materialize-features", {}).get("features-digest")
    )
    made["image"] = known(digest=outputs.get("build-image", {}).get("digest"))
    if "run-pipeline" in last:
        details = last["run-pipeline"].details
        made["environment"] = known(digest=details.get("environment")) | packages(str(details.get("packages") or ""))
    source = next((record.source for record in reversed(records) if record.source), {})
    made["code"] = known(
        branch=source.get("branch"), commit=source.get("commit"), pipeline=trained.get("pipeline-digest")
    )
    return made


def columns(record: Record) -> dict[str, Any]:
    """The statistics of the columns that validate-data looked at: `age mean`, `age nulls` …"""
    found = record.details.get("columns")
    return {
        f"{column.get('column')} {name}": value
        for column in (found if isinstance(found, list) else [])
        if isinstance(column, dict)
        for name, value in column.items()
        if name != "column" and isinstance(value, str | int | float)
    }


def packages(lines: str) -> dict[str, str]:
    """Versions by package, of `name==version` lines."""
    return {name: version for name, _, version in (line.partition("==") for line in lines.split()) if version}


def known(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {name: value for name, value in values.items() if value not in (None, "")}


def numbers(value: object) -> dict[str, float]:
    """The metrics of a mapping that comes from outside; what is no number is none."""
    return {k: v for k, v in _mapping(value).items() if isinstance(v, int | float) and not isinstance(v, bool)}


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """What differs, in the order of the groups, by name. A group that one of them does not have is not known."""
    for group in (group for group in now if group in before):
        ours, theirs = now[group], before[group]
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                yield Difference(group, name, theirs.get(name), ours.get(name))


def shown(value: object, longest: int = 0) -> str:
    """A value for people: a digest by its first characters, a float with four digits; "–" where there is none."""
    if value is None:
        return "–"
    if not isinstance(value, str):
        return number(value) if isinstance(value, float) else json.dumps(value)
    text = value.removeprefix("sha256:")[:12] if value.startswith("sha256:") else value
    return f"{text[: longest - 1]}…" if 0 < longest < len(text) else text


def _mapping(value: object) -> dict[str, Any]:
    return {str(name): one for name, one in value.items()} if isinstance(value, Mapping) else {}
