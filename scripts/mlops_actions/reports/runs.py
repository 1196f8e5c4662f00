"""The runs of the chain that a store has: listed by when they were last at work, and read only as far as they are asked
for, so that thousands of them cost no more than those that are shown.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from typing import Any

from ..errors import BadInput
from ..records import Record, read_record
from ..stores.store import Store
from ..suggest import did_you_mean
from .described import Described, describe, known

ABOUT = (
    "run",
    "pull",
    "started",
    "seconds",
    "verdict",
    "branch",
    "commit",
    "event",
    "actor",
    "url",
    "model",
    "version",
)
"""What is known of a run beside what its actions made."""
_BATCH = 64  # runs that are read at the same time
_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(>=|<=|!=|=|>|<)\s*(.*?)\s*")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """A run's folder in the store: the run's name, the pull request that it is of, and the paths of its records."""

    name: str
    pull: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run of the chain.

    Attributes:
        name: of the run.
        pull: number of the pull request that it is of; "" for none.
        records: of its actions, in the order they were started; see `read_record`.
    """

    name: str
    pull: str
    records: tuple[Record, ...]

    @cached_property
    def described(self) -> Described:
        """What it was made of and what it came to."""
        return describe(self.records)

    @property
    def started(self) -> str:
        """When its first action was started; those that an earlier run did are not its own."""
        return min((record.started for record in self._own), default="")

    @property
    def seconds(self) -> float:
        """From the start of its first action to the end of its last one."""
        try:
            spans = [(datetime.fromisoformat(one.started), timedelta(seconds=one.seconds)) for one in self._own]
            return (max(at + took for at, took in spans) - min(at for at, _ in spans)).total_seconds()
        except (ValueError, TypeError, OverflowError):  # none, or times that nobody can subtract
            return sum(record.seconds for record in self._own)

    @property
    def _own(self) -> Sequence[Record]:
        return [record for record in self.records if record.run == self.name] or self.records

    @property
    def labels(self) -> list[str]:
        """The name of each record's action; of a leg of a matrix, as `test-model (py3.11)`."""
        return [f"{one.action} ({one.details['variant']})" if one.details.get("variant") else one.action
                for one in self.records]  # fmt: skip

    @property
    def steps(self) -> dict[str, str]:
        """Each action's verdict, by its label."""
        return {label: record.verdict for label, record in zip(self.labels, self.records)}

    @property
    def verdict(self) -> str:
        """`passed`, or what is worst of its steps."""
        return _worst(self.records)

    @property
    def actions(self) -> dict[str, str]:
        """Each action's verdict, by its name: of a matrix what is worst of its legs."""
        names = dict.fromkeys(record.action for record in self.records)
        return {name: _worst([record for record in self.records if record.action == name]) for name in names}

    @property
    def headline(self) -> dict[str, float]:
        """The metric that evaluate-model judged by; without one, the first two there are."""
        metrics: dict[str, float] = self.described["metrics"]
        judged = next((r.outputs for r in reversed(self.records) if r.action == "evaluate-model"), {})
        primary = judged.get("primary-metric")
        if isinstance(primary, str) and primary in metrics:
            return {primary: metrics[primary]}
        return dict(islice(sorted(metrics.items()), 2))

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is known of it, by name."""
        source = next((record.source for record in self.records if record.source), {})
        registered = next((r.subject for r in reversed(self.records) if r.action == "register-model"), {})
        asked = next((r.inputs["model"] for r in self.records if isinstance(r.inputs.get("model"), str)), None)
        made = {name: source.get(name) for name in ("branch", "commit", "event", "actor", "url")}
        return {
            **known(run=self.name, pull=self.pull, started=self.started, seconds=round(self.seconds, 1)),
            **known(
                verdict=self.verdict, **made, model=registered.get("name") or asked, version=registered.get("version")
            ),
        }

    def value(self, name: str) -> Any:
        """What `--where` and `--sort` name: a property, an action or a leg, a metric or a parameter; None if absent."""
        group, _, inner = name.partition(".")
        if group in self.described and inner:
            return self.described[group].get(inner)
        return next((values[name] for values in self._plain if name in values), None)

    @property
    def _plain(self) -> Sequence[Mapping[str, Any]]:
        return self.about, self.actions, self.steps, self.described["metrics"], self.described["parameters"]

    def names(self) -> set[str]:
        """The names that `value` knows."""
        grouped = {f"{group}.{name}" for group, values in self.described.items() for name in values}
        return grouped.union(*self._plain)

    def as_json(self) -> dict[str, Any]:
        """All that a program may want to know of it."""
        return {**self.about, "steps": self.steps, **self.described}


def _worst(records: Iterable[Record]) -> str:
    found = {record.verdict for record in records}
    return next((v for v in ("cancelled", "failed", "bad-input", "rejected", "unchecked") if v in found), "passed")


def folders(store: Store) -> list[Folder]:
    """The folders of all runs, also those of pull requests; the one that was written to last comes first."""
    found: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    for entry in store.list_all(["runs/", *(f"{pull}runs/" for pull in store.folders("pulls/"))]):
        *before, name, file = entry.path.split("/")
        if before and before[-1] == "runs" and file.endswith(".json"):
            pull = before[1] if before[0] == "pulls" else ""
            found.setdefault((name, pull), []).append((entry.modified, entry.path))
    ordered = sorted(found.items(), key=lambda one: (max(one[1]), one[0]), reverse=True)
    return [Folder(name, pull, tuple(path for _, path in files)) for (name, pull), files in ordered]


def read(store: Store, wanted: Sequence[Folder]) -> Iterator[Run]:
    """The runs of folders, many at a time, when they are asked for."""
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        data = store.get_all(path for folder in batch for path in folder.paths)
        for folder in batch:
            records = [read_record(path, data[path]) for path in folder.paths if path in data]
            yield Run(folder.name, folder.pull, tuple(sorted(records, key=lambda record: record.started)))


def find(store: Store, *names: str) -> list[Run]:
    """The runs with these names, or with a part of them that no other one has; `last` is the last one.

    Raises:
        BadInput: there is none, or several.
    """
    listed = folders(store)
    return [next(read(store, [_named(store, listed, name)])) for name in names]


def _named(store: Store, listed: Sequence[Folder], name: str) -> Folder:
    found = listed[:1] if name == "last" else [one for one in listed if one.name == name]
    found = found or [one for one in listed if name in one.name]
    if len(found) == 1:
        return found[0]
    if not found:
        fix = "`mlops runs` lists them" if listed else "Nothing has been run with this store yet"
        raise BadInput(f"No run {name!r} in {store.url}", fix=fix)
    some = ", ".join(one.name for one in found[:5])
    raise BadInput(f"{len(found)} runs have {name!r} in their names", why=f"{some} …", fix="Name one of them")


def condition(text: str) -> tuple[str, Callable[[Run], bool]]:
    """What `--where` says, and whether a run is so: `auc>=0.8`, `branch=feature/*`, `evaluate-model!=passed`.

    Numbers are compared as numbers. `=` and `!=` take `*` and `?` in text. A run that has no such value is not shown.

    Raises:
        BadInput: it is not `NAME`, an operator and a value.
    """
    parts = _CONDITION.fullmatch(text)
    if not parts:
        raise BadInput(f"`--where {text}` is not a condition", fix="Write it as `auc>=0.8` or `branch=main`")
    name, sign, wanted = parts.groups()
    wanted = _moment(text, wanted) if name == "started" and sign in _ORDERS else wanted
    limit = _number(wanted)
    if sign in _ORDERS and limit is None and name != "started":
        raise BadInput(f"`--where {text}` compares with {wanted!r}, which is not a number", fix="Use `=` or a number")

    def holds(run: Run) -> bool:
        value = run.value(name)
        if value is None:
            return False
        if sign in _ORDERS:
            if name == "started":
                return _ORDERS[sign](str(value), wanted)
            there = _number(value)
            return there is not None and limit is not None and _ORDERS[sign](there, limit)
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else None
        same = (
            _number(value) == limit if text is None and limit is not None else fnmatchcase(text or str(value), wanted)
        )
        return same == (sign == "=")

    return name, holds


def _moment(text: str, wanted: str) -> str:
    """A time or its beginning (`2026`, `2026-01-31`, `2026-01-31 12:00`) as records have it.

    Raises:
        BadInput: it is none.
    """
    begun = wanted.removesuffix("Z").replace(" ", "T")
    try:
        at = datetime.fromisoformat(begun + "....-01-01T00:00:00"[len(begun) :])
    except ValueError:
        fix = "Write it as `2026-01-31` or `2026-01-31T12:00`"
        raise BadInput(f"`--where {text}` compares with {wanted!r}, which is not a time", fix=fix) from None
    return at.astimezone(timezone.utc).isoformat() if at.tzinfo else begun


def check_names(wanted: Mapping[str, str], runs: Sequence[Run], always: Iterable[str]) -> None:
    """Refuse a name that none of all runs has.

    Args:
        wanted: names, each with the option that has it.
        runs: all runs.
        always: names of actions, which may not have run yet.

    Raises:
        BadInput: a name is not known.
    """
    there = {*ABOUT, *always}.union(*(run.names() for run in runs))
    for name, option in wanted.items():
        if name not in there:
            plain = sorted(one for one in there if "." not in one) or sorted(there)
            fix = did_you_mean(name, there, f"Known: {', '.join(plain[:30])}")
            raise BadInput(f"`{option}`: no run has {name!r}", fix=fix)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def sort_key(value: object) -> tuple[bool, float, str]:
    """What values are sorted by: numbers as numbers, after text."""
    there = _number(value)
    return (there is not None, there or 0.0, str(value))
