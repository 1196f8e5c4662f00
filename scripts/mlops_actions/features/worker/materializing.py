"""One view: its latest values brought to the online store, and a sample of what that gives compared with the source."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .fast import Fast, obstacle
from .fingerprint import Fingerprint
from .reading_back import compare, has_any
from .repository import Problem, is_of_a_store, is_plain, short
from .source import BEGINNING, Index, Source, from_micros, to_micros

if TYPE_CHECKING:
    import numpy as np
    from feast import FeatureStore

    Ints = np.ndarray[Any, np.dtype[np.int64]]

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be materialized.

    Attributes:
        mode: `incremental` or `range`.
        start: beginning of the range; None otherwise.
        end: until when.
        chunk: length of an interval that is written and recorded by itself; None for all at once.
        redo: write intervals of a range again that are recorded already.
        sample: entities a view to read back.
    """

    mode: str
    start: datetime | None
    end: datetime
    chunk: timedelta | None
    redo: bool
    sample: int


@dataclass
class Done:
    """What was done with one view."""

    view: Any
    way: str = ""
    rows: int = 0
    seconds: float = 0.0
    start: datetime | None = None
    watermark: datetime | None = None
    fingerprint: list[Any] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    compared: int = 0

    def summary(self) -> dict[str, Any]:
        """The view as the outputs and the report have it."""
        return {
            "name": self.view.name,
            "way": self.way,
            "rows": self.rows,
            "watermark": _text(self.watermark),
            "start": _text(self.start),
            "seconds": round(self.seconds, 3),
            "features": [feature.name for feature in self.view.features],
            "compared": self.compared,
            "differences": self.differences[:5],
            "fingerprint": _digest(self.fingerprint) if self.fingerprint else "",
        }


class Materializer:
    """Materializes views of one store; several at once, but for what of Feast can only be used by one.

    Args:
        store: Feast's.
        wanted: what is to be done.
        notice: is told what is worth a look.
        progress: is told a view's name, the rows that are written, and of how many.
    """

    def __init__(
        self, store: FeatureStore, wanted: Wanted, notice: Notice, progress: Callable[[str, int, int], None]
    ) -> None:
        self.store, self.wanted = store, wanted
        self.notice, self.progress = notice, progress
        self._feast = RLock()
        """Held while Feast's store, registry and caches are used."""

    def materialize(self, name: str) -> Done:
        """Bring a view up to date; from the beginning if the online store has lost it."""
        began = time.monotonic()
        with self._feast:
            view = self.store.registry.get_any_feature_view(name, self.store.project)
            before = _aware(view.most_recent_end_time)
            # An earlier end than last time writes nothing, but what was written then is still what must be read back.
            source = Source(self.store, view, max(self.wanted.end, before or self.wanted.end))
        done = Done(view, watermark=before)
        index = source.index()
        lost = before is not None and self.wanted.mode == "incremental" and not self._has_online(source, index, before)
        if lost:
            self.notice(f"{name}: the online store has nothing of it any more; it is materialized from the beginning")
        if self.wanted.mode == "range" and before is not None and self.wanted.end < before:
            self.notice(
                f"{name}: the range ends before {_text(before)}, until when it is materialized; where the online"
                " store keeps what is written last, the range's older values replace newer ones"
            )
        self._write(done, source, index, None if lost else before)
        if done.watermark is None:
            self.notice(f"{name}: its source has no rows until {self.wanted.end:%Y-%m-%d %H:%M} UTC")
        else:
            self._check(done, source, index, done.watermark)
        done.seconds = time.monotonic() - began
        return done

    def materialize_on_demand(self, view: Any, sources: list[Done]) -> None:
        """Write an on-demand view that is kept online, over what was written of the views that it is made of."""
        written = [(done.start, done.watermark) for done in sources if done.start and done.watermark]
        if written:
            start, end = min(start for start, _ in written), max(end for _, end in written)
            self.store.materialize(start, end, feature_views=[view.name])

    def _write(self, done: Done, source: Source, index: Index, before: datetime | None) -> None:
        """Write what is wanted and not there yet, a chunk at a time, each recorded when its rows are written."""
        view = done.view
        reason = obstacle(self.store, view, source) if is_plain(view) else "it transforms or aggregates its source"
        with contextlib.ExitStack() as stack:
            fast = None
            for start, end, after in self._chunks(index, before):
                numbers = index.latest(start, end, after)
                if not len(numbers) or self._is_recorded(view, start, end):
                    continue
                if not reason:
                    fast = fast or stack.enter_context(self._fast(source))
                    reason = self._write_fast(fast, numbers, done.rows)
                with self._feast:
                    if reason:
                        self._write_by_feast(view, start, end)
                    else:
                        self.store.registry.apply_materialization(view, self.store.project, start, end)
                done.rows += len(numbers)
                done.start = min(done.start or start, start)
                done.watermark = max(done.watermark or end, end)
        done.way = f"Feast's own: {reason}" if reason else "fast"

    def _chunks(self, index: Index, before: datetime | None) -> Iterator[tuple[datetime, datetime, bool]]:
        """Intervals that hold rows, each with whether its start is left out.

        They begin and end with what is there to write, so that data that arrive later than now are not skipped.
        """
        wanted = self.wanted
        after = wanted.mode == "incremental" and before is not None
        first = wanted.start or before or BEGINNING
        lower = to_micros(first) + after
        there = index.moments[(index.moments >= lower) & (index.moments <= to_micros(wanted.end))]
        if not len(there):
            return
        lowest, last = from_micros(there.min()), from_micros(there.max())
        if wanted.chunk is None:
            yield lowest, last, False
            return
        # A range is always cut at the same places, so that chunks that were finished are known again.
        start = first if after or wanted.start else BEGINNING + (lowest - BEGINNING) // wanted.chunk * wanted.chunk
        while start <= last:
            yield start, min(start + wanted.chunk, last), after
            start, after = start + wanted.chunk, True

    def _is_recorded(self, view: Any, start: datetime, end: datetime) -> bool:
        """Whether a chunk of a range was finished before, and is not to be done again."""
        if self.wanted.mode != "range" or self.wanted.chunk is None or self.wanted.redo:
            return False
        recorded = {(_aware(first), _aware(last)) for first, last in view.materialization_intervals}
        return (start, end) in recorded

    @contextlib.contextmanager
    def _fast(self, source: Source) -> Iterator[Fast]:
        fast = Fast(self.store, source)
        try:
            yield fast
        finally:
            fast.close()

    def _write_fast(self, fast: Fast, numbers: Ints, before: int) -> str:
        """Write the rows; why they could not be, when Feast itself is to have its say about them."""
        name = fast.view.name
        try:
            fast.write(numbers, lambda rows: self.progress(name, before + rows, before + len(numbers)))
        except Problem:
            raise
        except Exception as error:
            traceback.print_exc()
            if is_of_a_store(error):
                raise self._failed(fast.view, error) from None
            return f"a value did not fit ({short(error)})"
        return ""

    def _write_by_feast(self, view: Any, start: datetime, end: datetime) -> None:
        try:
            self.store.materialize(start, end, feature_views=[view.name])
        except Exception as error:
            traceback.print_exc()
            raise self._failed(view, error) from None

    def _failed(self, view: Any, error: Exception) -> Problem:
        """What a failing write is for the user; the interval is not recorded."""
        if is_of_a_store(error):
            store = self.store.config.online_store
            what = f"The feature view {view.name!r} cannot be written to the online store {store.type}"
            fix = "See that it runs, can be written to, and has space; then run this again: it goes on"
            problem = Problem(what, short(error), fix)
            problem.event["kind"] = "remote"
            return problem
        what = f"Feast cannot materialize the feature view {view.name!r}"
        return Problem(what, short(error), "Correct the table, or the types of the view's fields")

    def _check(self, done: Done, source: Source, index: Index, watermark: datetime) -> None:
        """Fingerprint the rows up to the watermark, and read a sample back."""
        end = to_micros(watermark)
        known = Fingerprint()
        passed = 0
        for batch in source.batches():
            within = index.moments[passed : passed + batch.num_rows] <= end
            known.add(batch if within.all() else batch.filter(pa.array(within)))
            passed += batch.num_rows
        done.fingerprint = known.state()
        if not is_plain(done.view) or not self.wanted.sample:
            return
        start = BEGINNING
        if self.wanted.start and done.rows and self.store.config.online_store.type != "redis":
            # What was written last is what is there, even over newer rows; Redis keeps the newest.
            start, watermark = self.wanted.start, min(watermark, self.wanted.end)
        rows = index.latest(start, watermark).tolist()
        sample = [row for row in rows[:: max(1, len(rows) // self.wanted.sample)] if not index.is_tied(row)]
        with self._feast:
            done.compared, done.differences = compare(self.store, source, sample[: self.wanted.sample])

    def _has_online(self, source: Source, index: Index, until: datetime) -> bool:
        """Whether the online store has something of a view that the registry says is materialized."""
        rows = index.latest(BEGINNING, until)[-3:]
        if not is_plain(source.view) or not len(rows):
            return True
        with self._feast:
            return has_any(self.store, source, rows.tolist())


def digest_of(views: list[Done]) -> str:
    """Digest of definitions, watermarks and source rows: what decides the values that a model is trained on."""
    return _digest({done.view.name: [_definition(done.view), done.fingerprint, str(done.watermark)] for done in views})


def _definition(view: Any) -> dict[str, Any]:
    """What a view's values depend on; not where its table is, of which the fingerprint speaks."""
    return {
        "features": {feature.name: str(feature.dtype) for feature in view.features},
        "keys": [column.name for column in view.entity_columns],
        "ttl": view.ttl.total_seconds() if view.ttl else 0,
    }


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()}"


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=timezone.utc) if moment and moment.tzinfo is None else moment


def _text(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if moment else ""
