"""One view: its latest values brought to the online store, and a sample of what that gives compared with the source."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .fast import Fast, obstacle
from .fingerprint import Fingerprint
from .planning import reset
from .reading_back import Read
from .repository import Problem, engine_of, is_of_a_store, is_plain, remote, short
from .source import BEGINNING, BatchSource, Index, Interval, from_micros, to_micros
from .watchdog import Watchdog

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
        overwrite: let the rows of a range replace newer ones.
        sample: entities a view to read back.
    """

    mode: str
    start: datetime | None
    end: datetime
    chunk: timedelta | None
    redo: bool
    overwrite: bool
    sample: int


@dataclass
class Done:
    """What was done with one view; `intervals` are all of which the online store has the rows."""

    view: Any
    way: str = ""
    rows: int = 0
    intervals: list[Interval] = field(default_factory=list)
    seconds: float = 0.0
    start: datetime | None = None
    watermark: datetime | None = None
    fingerprint: list[Any] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    compared: int = 0
    served: str = ""

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
            "served": self.served,
            "fingerprint": _digest(self.fingerprint) if self.fingerprint else "",
        }


class Materializer:
    """Materializes views of one store; several at once, but for what of Feast can only be used by one.

    Args:
        store: Feast's.
        wanted: what is to be done.
        scratch: folder for temporary files.
        watchdog: with the online store.
        notice: called with what is worth a look.
        progress: is told a view's name, the rows that are written, and of how many.
    """

    def __init__(
        self,
        store: FeatureStore,
        wanted: Wanted,
        scratch: Path,
        watchdog: Watchdog,
        notice: Notice,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.store, self.wanted = store, wanted
        self.scratch, self.watchdog = scratch, watchdog
        self.notice, self.progress = notice, progress
        self._online = str(store.config.online_store.type)
        self._feast = RLock()
        """Held while Feast's store, registry and caches are used."""

    def materialize(self, name: str) -> Done:
        """Bring a view up to date; from the beginning if the online store has lost it."""
        began = time.monotonic()
        with self._feast:
            view = self.store.registry.get_any_feature_view(name, self.store.project)
            before = _aware(view.most_recent_end_time) if view.most_recent_end_time else None
            recorded = [(_aware(first), _aware(last)) for first, last in view.materialization_intervals]
            # An earlier end than last time writes nothing, but what was written then is still what must be read back.
            source = BatchSource(self.store, view, max(self.wanted.end, before or self.wanted.end))
        done = Done(view, watermark=before, intervals=recorded)
        index = source.index()
        if recorded and not self._has_online(done, source, index):
            done.intervals = []
            again = "it is" if self.wanted.mode == "incremental" else "only the range is"
            self.notice(f"{name}: the online store has lost its rows; {again} materialized from the beginning")
        self._write(done, source, index)
        if done.watermark is None:
            self.notice(f"{name}: its source has no rows up to {self.wanted.end:%Y-%m-%d %H:%M} UTC")
        else:
            self._check(done, source, index, done.watermark)
        done.seconds = time.monotonic() - began
        return done

    def materialize_on_demand(self, view: Any, sources: list[Done]) -> None:
        """Write an on-demand view that is kept online, over what was written of the views that it is made of."""
        written = [(done.start, done.watermark) for done in sources if done.start and done.watermark]
        if written:
            start, end = min(start for start, _ in written), max(end for _, end in written)
            self._by_feast(view, start, end)

    def precompute(self, names: set[str]) -> None:
        """Make the vectors of the feature services that keep them online, as Feast does after it materialized."""
        for service in self.store.registry.list_feature_services(self.store.project):
            views = {projection.name for projection in service.feature_view_projections}
            if not getattr(service, "precompute_online", False) or not views & names:
                continue
            try:
                self.store.precompute_feature_service(service.name)
            except Exception as error:
                traceback.print_exc()
                self.notice(f"The vectors of the feature service {service.name!r} were not made: {short(error)}")

    def _write(self, done: Done, source: BatchSource, index: Index) -> None:
        """Write what is wanted and not there yet, a chunk at a time, each recorded when its rows are written."""
        view = done.view
        reason = obstacle(self.store, view, source) if is_plain(view) else "it transforms or aggregates its source"
        with contextlib.ExitStack() as stack:
            fast, older = None, 0
            for start, end, after in self._chunks(index, done):
                latest = index.latest([(start, end)], after)
                if not len(latest) or self._is_recorded(done, start, end):
                    continue
                later = [] if self.wanted.overwrite else [known for known in done.intervals if known[1] > end]
                numbers = index.without_newer(latest, later) if later else latest
                older += len(latest) - len(numbers)
                if not reason:
                    fast = fast or stack.enter_context(self._fast(source))
                    reason = self._write_fast(fast, numbers, done.rows)
                with self._feast:
                    if not reason:
                        self.store.registry.apply_materialization(view, self.store.project, start, end)
                    elif older and not self._keeps_newest:
                        raise self._would_replace(done, older)
                    else:
                        self._write_by_feast(done, source, index, numbers, (start, end))
                done.rows += len(numbers)
                done.intervals = [*done.intervals, (start, end)]
                done.start = min(done.start or start, start)
                done.watermark = max(done.watermark or end, end)
        if older:
            what = f"{view.name}: {older:,} entities have newer values online than in the range"
            self.notice(f"{what}, which are kept; `allow-destructive` replaces them")
        done.way = f"Feast's own: {reason}" if reason else "fast"

    @property
    def _keeps_newest(self) -> bool:
        """Whether the online store itself leaves a newer row in its place."""
        return self._online == "redis" and not self.store.config.online_store.skip_dedup

    def _would_replace(self, done: Done, rows: int) -> Problem:
        what = f"The range would replace newer values of {rows:,} entities of {done.view.name!r} in the online store"
        why = f"It is materialized until {_text(done.watermark)}, and {self._online} keeps what is written last"
        return Problem(what, why, "End the range there or later, or set `allow-destructive`")

    def _chunks(self, index: Index, done: Done) -> Iterator[tuple[datetime, datetime, bool]]:
        """Intervals that hold rows, each with whether its start is left out.

        They begin and end with what is there to write, so that data that arrive later than now are not skipped.
        """
        wanted = self.wanted
        before = max((end for _, end in done.intervals), default=None)
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

    def _is_recorded(self, done: Done, start: datetime, end: datetime) -> bool:
        """Whether a chunk of a range was finished before, and is not to be done again."""
        if self.wanted.mode != "range" or self.wanted.chunk is None or self.wanted.redo:
            return False
        return (start, end) in done.intervals

    @contextlib.contextmanager
    def _fast(self, source: BatchSource) -> Iterator[Fast]:
        fast = Fast(self.store, source, self.scratch, self.watchdog)
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

    def _write_by_feast(self, done: Done, source: BatchSource, index: Index, numbers: Ints, interval: Interval) -> None:
        """Let Feast's engine write and record an interval, and see that it did.

        Feast's Ray engine reports success when its workers could not write.
        """
        view, engine = done.view, engine_of(self.store, done.view)
        before = list(view.materialization_intervals)
        self._by_feast(view, *interval)
        if engine == "local" or not is_plain(view):
            return
        sample = self._sample(view, index, numbers)
        with self._reading(view):
            whole = Read(self.store, source, sample).has_all
        if not whole:
            reset(self.store, self.store.registry.get_any_feature_view(view.name, self.store.project), before)
            what = f"The engine {engine} reported no error, but not all rows of {view.name!r} are in the online store"
            fix = (
                "Look at its workers' log (`enable_ray_logging: true`), and check that they can reach the online store"
            )
            raise remote(what, fix=fix)

    def _by_feast(self, view: Any, start: datetime, end: datetime) -> None:
        try:
            self.store.materialize(start, end, feature_views=[view.name])
        except Exception as error:
            traceback.print_exc()
            raise self._failed(view, error) from None

    def _failed(self, view: Any, error: Exception) -> Problem:
        """What a failing write is for the user; the interval is not recorded."""
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            what = f"The disk is full: the feature view {view.name!r} cannot be written"
            return remote(what, short(error), "Free some space, and run this again: it resumes")
        if is_of_a_store(error) or self._online == "remote":
            what = f"The feature view {view.name!r} cannot be written to the online store {self._online}"
            fix = "Check that it runs, can be written to, and has space; then run this again: it resumes"
            return remote(what, short(error), fix)
        engine = engine_of(self.store, view)
        if engine != "local":
            what = f"Feast's engine {engine} cannot materialize the feature view {view.name!r}"
            return remote(what, short(error), "Look at its log; then run this again: it resumes")
        what = f"Feast cannot materialize the feature view {view.name!r}"
        return Problem(what, short(error), "Correct the table, or the types of the view's fields")

    def _check(self, done: Done, source: BatchSource, index: Index, watermark: datetime) -> None:
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
        intervals = done.intervals
        if self.wanted.start and self.wanted.overwrite and done.rows and not self._keeps_newest:
            # What was written last is what is there, even over newer rows.
            intervals = [(self.wanted.start, min(watermark, self.wanted.end))]
        rows = self._sample(done.view, index, index.latest(intervals))
        with self._feast, self._reading(done.view):
            read = Read(self.store, source, rows)
            done.compared, done.differences = len(read.offline), read.differences()
        try:
            done.served = read.save(self.scratch) if read.offline else ""
        except OSError as error:
            raise self._failed(done.view, error) from None

    def _has_online(self, done: Done, source: BatchSource, index: Index) -> bool:
        """Whether the online store has something of a view that the registry says is materialized."""
        rows = self._served(done.view, index, index.latest(done.intervals))[-3:]
        if not is_plain(done.view) or not len(rows):
            return True
        with self._feast, self._reading(done.view):
            return Read(self.store, source, rows.tolist()).has_any

    def _sample(self, view: Any, index: Index, rows: Ints) -> list[int]:
        """Some of the rows that are to be read back; of those with a twin, either may be online."""
        there = self._served(view, index, rows).tolist()
        some = there[:: max(1, len(there) // max(1, self.wanted.sample))]
        return [row for row in some if not index.is_tied(row)][: self.wanted.sample]

    def _served(self, view: Any, index: Index, rows: Ints) -> Ints:
        """Those of the rows that are to be found online: Feast's Ray engine leaves out what is older than the ttl."""
        if engine_of(self.store, view) != "ray.engine" or not view.ttl:
            return rows
        return rows[index.moments[rows] > to_micros(datetime.now(timezone.utc) - view.ttl)]

    @contextlib.contextmanager
    def _reading(self, view: Any) -> Iterator[None]:
        """The block reads a view's values from the online store."""
        try:
            with self.watchdog.waiting_for(f"{self._online} to return values of {view.name!r}"):
                yield
        except Exception as error:
            traceback.print_exc()
            what = f"The values of the feature view {view.name!r} cannot be read from the online store {self._online}"
            raise remote(what, short(error), "Check that it runs and can be reached; then run this again") from None


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


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _text(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if moment else ""
