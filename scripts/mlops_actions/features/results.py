"""What a materialization gives: the plan, each view, and the whole."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..text import many

Mode = Literal["incremental", "range", "plan-only"]


class Plan(BaseModel):
    """What applying does to the registry: objects as `kind name`.

    Attributes:
        destructive: a sentence for each change that takes away what is served online.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    unchanged: list[str] = []
    destructive: list[str] = []

    def sentence(self) -> str:
        """`12 added` or `nothing changed`."""
        counts = {"added": self.added, "changed": self.changed, "removed": self.removed}
        said = ", ".join(f"{len(names)} {what}" for what, names in counts.items() if names) or "nothing changed"
        return f"{said}; {many(len(self.destructive), 'change')} would be destructive" if self.destructive else said


class View(BaseModel):
    """One feature view after its materialization.

    Attributes:
        name: the view's.
        way: `fast`, or Feast's own and why.
        rows: entities whose values were written now.
        watermark: UTC time until which it is materialized, ISO 8601; "" when it never was.
        start: beginning of what was written now; "" when nothing was.
        seconds: that it took.
        features: names.
        compared: entities that were read back.
        differences: the first values that were not those of the source.
        fingerprint: digest of the source's rows until the watermark.
        served: Parquet file with what was read back; "" when nothing was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    way: str = ""
    rows: int
    watermark: str
    start: str
    seconds: float
    features: list[str]
    compared: int
    differences: list[str]
    fingerprint: str
    served: str = ""

    def age(self, now: datetime) -> timedelta | None:
        """How long ago the newest row was that is served; None when there is none."""
        return now - datetime.fromisoformat(self.watermark.replace("Z", "+00:00")) if self.watermark else None


class Materialized(BaseModel):
    """The whole repository.

    Attributes:
        project: Feast's name of it.
        registry: URI of the registry.
        online: the online store's file; "" when it is a server.
        plan: what applying changed.
        refused: whether nothing was done because the plan is destructive.
        views: each view.
        digest: of definitions, watermarks and source rows; "" when nothing was materialized.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str
    registry: str
    online: str
    plan: Plan
    refused: bool = False
    views: list[View]
    digest: str

    @property
    def differing(self) -> list[View]:
        """Views whose online values are not those of the source."""
        return [view for view in self.views if view.differences]

    def headline(self, mode: Mode) -> str:
        """What was done, in one sentence."""
        if self.refused:
            more = f" (and {len(self.plan.destructive) - 1} more)" if len(self.plan.destructive) > 1 else ""
            return f"Nothing was changed, because applying is destructive: {self.plan.destructive[0]}{more}"
        if mode == "plan-only":
            return f"The plan: {self.plan.sentence()}"
        if self.differing:
            view = self.differing[0]
            return f"The online store differs from the source of {view.name}: {view.differences[0]}"
        rows, read = sum(view.rows for view in self.views), sum(view.compared for view in self.views)
        written = f"{rows:,} rows written" if rows else "nothing new to write"
        return f"{many(len(self.views), 'feature view')}, {written}, {read} read back equal"

    def stale(self, max_age: timedelta, now: datetime) -> str:
        """A sentence about the stalest view that is older than it may be; "" when none is."""
        ages = {view.name: view.age(now) for view in self.views}
        never = [name for name, age in ages.items() if age is None]
        if never:
            return f"{never[0]} has never been materialized, and `max-age` is set"
        name, age = max(ages.items(), key=lambda item: item[1] or timedelta(), default=("", None))
        if age is None or age <= max_age:
            return ""
        return f"{name} is {_span(age)} old, and `max-age` is {_span(max_age)}"


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
