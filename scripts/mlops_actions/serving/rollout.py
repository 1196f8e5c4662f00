"""A rollout: a release is brought up beside the one that serves, proves itself by its own answers, and takes over.

The order is: bring it up; its digest is the manifest's; the golden rows are right and a wrong request is refused; it is
not slower than the one that serves; perhaps it is sent copies of the requests; then it gets a share of the requests,
step by step. A step passes on right answers that the candidate itself gave at the model's own address, and on nothing
else. A fault at any point goes back to the one that served. What is done is kept in the store, so that a rollout that
was killed is gone on with, or gone back from, by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, Literal, TypeVar

from ..errors import BadInput, MlopsError, RemoteFailed
from ..evaluation.golden import Tolerance, agreement
from ..evaluation.golden_rows import Golden
from ..models.tensors import rows_of
from ..text import many
from ..waiting import Clock
from . import latency
from .engine import Comparing, HandedOver, NotServed, Release, Serving, ServingEngine
from .history import Deployment, Ending, History, Step
from .latency import Compared, Limit, Limited
from .protocol import Answer, Answered, Client, Refused, score

T = TypeVar("T")
How = Literal["deployed", "reused", "handed over", "failed"]
WHOLE = 100
"""Per cent of the requests."""
_NO_INPUT = "mlops-no-such-input"
_UNLIKELY = 1e-6  # a share that is in force gives such counts once in a million rollouts
_HOP = 0.01  # seconds that the way to a candidate may be longer than the one to what serves
_UNDECIDED = "Raise `measure` for more requests, or let it pass with `undecided-latency: pass`"
_PAUSE = 0.5  # seconds between requests when far more were sent than should be needed


class WrongAnswer(NotServed):
    """The candidate gave a user's request a wrong answer."""


@dataclass(frozen=True)
class Rules:
    """What a candidate must keep to.

    Attributes:
        steps: shares of the requests in per cent, rising to 100; () for what the engine can do.
        answers: right answers of its own with which it passes a step.
        error_rate: share of requests of a step that may fail.
        slowdown: how many times as long as the one that serves it may take.
        limit: how long it may take; None for as long as it likes.
        measure: seconds at most for measuring times.
        undecided: whether it passes when the times cannot tell.
        shadow: rows that are compared while it is sent copies of all requests; 0 for none.
        patience: seconds for one step.
        drill: it is wrong on purpose, gets requests without golden rows and comparison, and never becomes what serves.
    """

    steps: Sequence[int] = ()
    answers: int = 20
    error_rate: float = 0.0
    slowdown: float = 2.0
    limit: Limit | None = None
    measure: float = 60.0
    undecided: bool = False
    shadow: int = 0
    patience: float = 300.0
    drill: bool = False

    def shares(self, engine: ServingEngine) -> Sequence[int]:
        """The steps that an engine can do.

        Raises:
            BadInput: it cannot do those that were asked for.
        """
        able = engine.capabilities()
        steps = tuple(self.steps) or ((10, 50, WHOLE) if able.weights else (WHOLE,))
        if steps[-1] != WHOLE or list(steps) != sorted(set(steps)) or steps[0] < 1:
            listed = ", ".join(map(str, steps))
            raise BadInput(f"`steps` is {listed}", fix="Give rising shares in per cent, the last of them 100")
        if steps[0] < WHOLE and not able.weights:
            raise BadInput(
                f"{engine.place} cannot send a version {steps[0]} % of the requests",
                why=able.lacking,
                fix="Set `steps: 100`, or let it have what it lacks",
            )
        if self.shadow and not able.mirror:
            raise BadInput(f"{engine.place} cannot mirror requests", why=able.lacking, fix="Set `shadow: 0`")
        return steps


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended.

    Attributes:
        how: it was deployed, served already and is right, was handed over to another tool unproved, or failed.
        serving: what serves now.
        previous: the version that served before.
        answered: what it gave for the golden rows.
        reason, log, fix: of a failure; `reason` also of what was handed over: where it is.
        wrong: whether it was a wrong answer to a request at the model's own address.
        steps: what was done.
    """

    how: How
    serving: Serving | None
    previous: int | None
    answered: Answered = field(default_factory=Answered)
    reason: str = ""
    log: str = ""
    fix: str = ""
    wrong: bool = False
    steps: Sequence[Step] = ()


@dataclass
class Questions:
    """What a version is asked: its golden rows, one after the other; without any, for its metadata.

    Attributes:
        golden: rows and what it must give for them.
        tolerance: how far that may be off.
        output: that has the score.
    """

    golden: Golden | None
    tolerance: Tolerance = field(default_factory=Tolerance)
    output: str = "predict"
    _next: count[int] = field(default_factory=count, init=False)

    def ask(self, client: Client) -> tuple[Answer, str]:
        """An answer, and what is wrong with it; "" when it is right.

        Raises:
            Refused: there is an error in the place of an answer.
        """
        if self.golden is None:
            return client.introduce(), ""
        row = next(self._next) % len(self.golden.scores)
        answer = client.infer(rows_of(self.golden.inputs, row, row + 1), self.output)
        if len(answer.values) != 1:
            return answer, f"golden row {row + 1} got {many(len(answer.values), 'prediction')}"
        try:
            expected, got = self.golden.scores[row], [score(answer.values[0], self.output)]
        except Refused as several:  # perhaps by the version that serves, which has other outputs
            return answer, str(several)
        wrong = agreement([expected], got, self.tolerance).mismatches
        return answer, f"golden row {row + 1} should be {_short(expected)} and is {_short(got[0])}" if wrong else ""

    def wrong(self) -> list[dict[str, object]]:
        """A request that does not fit the model; [] when nothing is known of what would."""
        if self.golden is None:
            return []
        first, *others = rows_of(self.golden.inputs, 0, 1)
        return [{**first, "name": _NO_INPUT}, *others]


class Rollout:
    """One rollout of a model to a place. The caller holds the lease of the place.

    Args:
        engine: where it is served.
        history: of the model at that place.
        rules: that the candidate must keep to.
        questions: what the candidate is asked.
        say: is told what is done.
        hold: raises when the lease is lost.
        stable: what the version that serves is asked in the comparison: its own golden rows; None when it has none.
        clock: for waiting.
    """

    def __init__(
        self,
        engine: ServingEngine,
        history: History,
        rules: Rules,
        questions: Questions,
        say: Callable[[str], None],
        hold: Callable[[], None] = lambda: None,
        stable: Questions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.engine, self._history, self.rules, self.questions = engine, history, rules, questions
        self._say, self._hold, self._stable, self._clock = say, hold, stable, clock or Clock()
        self._steps: list[Step] = []
        self._passed: set[str] = set()
        self._answered = Answered()
        self._usual: list[float] = []  # seconds of stable's answers at the model's own address
        self._began = self._clock.now()

    def run(self, release: Release, deployment: Deployment) -> Outcome:
        """Let a release serve.

        Args:
            release: that shall serve.
            deployment: who wants it and why, for the history.

        Raises:
            BadInput: the place cannot do what the rules ask for.
            RemoteFailed: it cannot be reached, or the lease was lost; what served before does so still.
        """
        shares = self.rules.shares(self.engine)
        before = self.engine.serving(release.name)
        deployment = self._settle(release, deployment, before)
        if before and before.candidate not in ("", release.id):
            self._say(f"Ending {before.candidate}, which an earlier rollout left")
            self._hold()
            before = self.engine.abandon(release.name)
        if before and before.release == release.id:
            return self._again(release, before)
        stable = before if before and before.release else None
        deployment = deployment.model_copy(update={"previous": stable.version if stable else None})
        self._history.begin(deployment)
        try:
            self._prove(release, stable, shares)
        except HandedOver as given:
            self._history.end("handed over", str(given), self._clock.now() - self._began)
            previous = stable.version if stable else None
            return Outcome("handed over", None, previous, reason=str(given), steps=self._steps)
        except NotServed as fault:
            log = fault.log or self._why(release.name)
            return self._back(release, stable, fault, log)
        except MlopsError as fault:
            self._leave(release.name, "failed" if fault.exit_code < 100 else "cancelled", str(fault))
            raise
        except BaseException as fault:
            self._leave(release.name, "cancelled", type(fault).__name__)
            raise
        return self._live("deployed", release, stable.version if stable else None)

    def _settle(self, release: Release, deployment: Deployment, now: Serving | None) -> Deployment:
        """The deployment to go on with: that of an earlier run, if it was killed while it let the same release serve.

        One whose release serves by now has only not been written down.
        """
        left = self._history.read().under_way
        if left is None:
            return deployment
        whose = left.url or f"run {left.run}"
        if now and now.release == left.release and not now.candidate:
            self._say(f"Version {left.version} serves since {whose}, which ended before it said so")
            self._history.end("live", f"version {left.version} serves", sum(step.seconds for step in left.steps))
            return deployment
        if now and now.candidate == left.release == release.id:
            self._say(f"Going on with what {whose} began")
            self._passed = {step.name for step in left.steps if step.passed}
            self._steps = list(left.steps)
            return left
        self._say(f"The rollout of version {left.version} by {whose} was interrupted")
        self._history.end("interrupted", "", sum(step.seconds for step in left.steps))
        return deployment

    def _again(self, release: Release, now: Serving) -> Outcome:
        """It serves already: is it right?"""
        try:
            client = self.engine.ask(release.name)
            self._check_digest(client, release)
            self._check_golden(client, release)
        except NotServed as fault:
            fix = "See its log; `mlops rollback` lets the version before it serve, `--stop` ends it"
            log = fault.log or self._why(release.name)
            return Outcome("failed", now, now.version, reason=f"it serves, but {fault}", log=log, fix=fault.fix or fix)
        self.engine.finish(release)  # a kill may have left it half done
        return Outcome("reused", now, now.version, self._answered)

    def _prove(self, release: Release, stable: Serving | None, shares: Sequence[int]) -> None:
        clients: list[Client] = []

        def start() -> str:
            clients.append(self.engine.start(release))
            return f"it is up at {clients[0].url}"

        self._do("start", start)
        alone = clients[0]
        self._do("digest", lambda: self._check_digest(alone, release))
        if not self.rules.drill:
            self._do("golden rows", lambda: self._check_golden(alone, release))
            self._do("schema", lambda: self._check_schema(alone))
            served = stable.release if stable else None
            if served or self.rules.limit:
                self._do("latency", lambda: self._measure(alone, release.name, served), once=True)
            if served and self.rules.shadow:
                self._do("shadow", lambda: self._shadow(alone, release), once=True)
        if stable:
            self._usual = self._baseline(release)
        for percent in shares if stable else (WHOLE,):
            self._do(f"{percent} %", partial(self._share, release, stable, percent), once=True)

        if self.rules.drill:
            raise NotServed("its wrong answers were not found in any step")

        def finish() -> str:
            self.engine.finish(release)
            return f"version {release.version} serves"

        self._do("finish", finish)

    def _do(self, name: str, work: Callable[[], str | tuple[str, dict[str, float]]], *, once: bool = False) -> None:
        """Do one step, and keep what came of it. One that needs to be done `once` is not repeated after a kill."""
        if once and name in self._passed:
            return
        self._hold()
        began = self._clock.now()
        try:
            done = work()
        except NotServed as fault:
            self._keep(Step(name=name, passed=False, found=str(fault), seconds=self._since(began)))
            raise
        found, measured = done if isinstance(done, tuple) else (done, {})
        self._say(f"{name}: {found} ({self._since(began):.1f} s)")
        self._keep(Step(name=name, passed=True, found=found, measured=measured, seconds=self._since(began)))

    def _keep(self, step: Step) -> None:
        self._steps.append(step)
        self._history.step(step)

    def _check_digest(self, client: Client, release: Release) -> str:
        """What is loaded is what the manifest says, by the metadata.

        Raises:
            NotServed: it is not.
        """
        found = self._asking(client.introduce)
        if found.digest != release.digest:
            loaded = found.digest or "a model without a digest"
            raise NotServed(f"it has loaded {loaded}, and its manifest says {release.digest}")
        if found.release != release.id:
            raise NotServed(f"the release {found.release or 'without a name'} is up, and not {release.id}")
        return release.digest

    def _check_golden(self, client: Client, release: Release) -> str:
        questions = self.questions
        if questions.golden is None:
            return "there are none: it is only asked whether it is ready"
        self._answered = self._asking(client.check, questions.golden, questions.tolerance)
        questions.output = self._answered.output
        return f"{self._answered.rows} golden predictions were right"

    def _check_schema(self, client: Client) -> str:
        """A wrong request is told so (4xx), and is neither answered nor a crash.

        Raises:
            NotServed: it is.
        """
        wrong = self.questions.wrong()
        if not wrong:
            return "nothing is known of its inputs"
        try:
            client.infer(wrong, self.questions.output)
        except Refused as refused:
            if 400 <= refused.status < 500:
                return f"a wrong request gets status {refused.status}"
            got = f"status {refused.status}: {refused}" if refused.status else str(refused)
            raise NotServed(f"a request with an unknown input got {got}", fix="It must be refused with 4xx") from None
        raise NotServed(f"it answers a request with the unknown input {_NO_INPUT!r}", fix="It must refuse it")

    def _measure(self, alone: Client, name: str, served: str | None) -> tuple[str, dict[str, float]]:
        """Its times, in turn with those of what serves, until it is clear or the time is over.

        Raises:
            NotServed: the candidate is too slow, or it cannot be told and that is not a pass.
        """
        if self.questions.golden is None:
            if self.rules.limit and not self.rules.undecided:
                raise NotServed("it cannot be told whether it is too slow: there are no golden rows", fix=_UNDECIDED)
            return "not measured: there are no golden rows", {}
        theirs = replace(self._stable or self.questions)
        old: list[float] = []
        new: list[float] = []
        other, lacking = None, ""
        try:
            if served:
                other = self.engine.ask(name, served)
                theirs.output = other.output()
                theirs.ask(other)
        except (Refused, NotServed) as fault:
            other, lacking = None, str(fault)
        self._asked(alone)
        until, found = self._clock.now() + self.rules.measure, list[Compared | Limited]()
        for pairs in latency.LOOKS:
            while len(new) < pairs and (not new or self._clock.now() < until) and (other or self.rules.limit):
                for candidate in (True, False) if len(new) % 2 else (False, True):
                    if candidate:
                        new.append(self._asked(alone).seconds)
                        continue
                    try:
                        old += [theirs.ask(other)[0].seconds] if other else []
                    except (Refused, NotServed) as fault:
                        other, lacking = None, str(fault)
                self._hold()
            found = self._judged(old if other else [], new)
            if all(one.verdict == "ok" for one in found) or any(one.verdict == "too slow" for one in found):
                break
            if self._clock.now() >= until:
                break
        for one in found:
            if one.verdict == "too slow":
                raise NotServed(f"it is too slow: {one}", fix=f"Make it faster, or raise `{one.rule}`")
        for one in found:
            if one.verdict == "cannot tell" and not self.rules.undecided:
                raise NotServed(f"it cannot be told whether it is too slow: {one}", fix=_UNDECIDED)
        said = [f"{one.verdict}: {one}" for one in found]
        said += [f"not compared: the version that serves does not predict ({lacking})"] if lacking else []
        return "; ".join(said), {name: value for one in found for name, value in one.measured().items()}

    def _judged(self, old: Sequence[float], new: Sequence[float]) -> list[Compared | Limited]:
        """By what there is to judge by: the times of what serves, and the limit."""
        pairs, found = min(len(old), len(new)), list[Compared | Limited]()
        if pairs:
            found.append(latency.compare(old[:pairs], new[:pairs], self.rules.slowdown))
        if self.rules.limit and new:
            found.append(latency.within(new, self.rules.limit))
        return found

    def _shadow(self, alone: Client, release: Release) -> tuple[str, dict[str, float]]:
        """While copies of all requests go to the candidate: the same rows asked of both, answers side by side.

        Raises:
            NotServed: the candidate fails under them.
        """
        self.engine.shift(release, 0, mirror=True)
        golden, tolerance = self.questions.golden, self.questions.tolerance
        if golden is None:
            return "there are no golden rows to compare", {}
        public, output, differ, worst = self.engine.ask(release.name), self.questions.output, 0, 0.0
        for i in range(self.rules.shadow):
            rows = rows_of(golden.inputs, i % len(golden.scores), i % len(golden.scores) + 1)
            now = self._asking(public.infer, rows, output)
            then = self._asking(alone.infer, rows, output)
            scores = [[self._asking(score, one, output) for one in answer.values] for answer in (now, then)]
            both = agreement(scores[0], scores[1], tolerance)
            differ += bool(both.mismatches)
            worst = max(worst, both.worst)
            self._hold()
        text = f"{differ} of {self.rules.shadow} rows get another answer than now, by at most {worst:.4g}"
        found = {"rows": float(self.rules.shadow), "differ": float(differ), "largest": worst}
        if not isinstance(self.engine, Comparing):
            return text, found
        live = self.engine.compared(release.name)
        copies = many(live.requests, "copied request")
        if live.failed > self.rules.error_rate * live.requests:
            raise NotServed(f"it failed on {live.failed} of {copies}{live.why}")
        said = f"{text}; so do {live.differing} of {copies}"
        return said, {**found, "copies": float(live.requests), "copies_differ": float(live.differing)}

    def _baseline(self, release: Release) -> list[float]:
        """Seconds of answers at the model's own address as it is now, by what serves."""
        public, times = self.engine.ask(release.name), []
        for _ in range(self.rules.answers):
            try:
                answer, _wrong = self.questions.ask(public)
            except Refused as refused:
                if refused.status:
                    continue  # it may take other inputs than the candidate
                break
            if not _gave(answer, release, None):
                times.append(answer.seconds)
        return times

    def _share(self, release: Release, stable: Serving | None, percent: int) -> tuple[str, dict[str, float]]:
        """Give the candidate a share of the requests, and ask until it has itself given enough right answers.

        At 100 % they come one after the other, with none of the version before between them.

        Raises:
            NotServed: an answer is wrong, too many requests fail, it is too slow, it does not get its share.
        """
        self.engine.shift(release, percent)
        rules, public = self.rules, self.engine.ask(release.name)
        until, expected = self._clock.now() + rules.patience, rules.answers * WHOLE / percent
        own: list[float] = []
        requests = errors = in_row = last = 0
        why = ""
        while (in_row if percent == WHOLE else len(own)) < rules.answers:
            if self._clock.now() >= until:
                raise NotServed(_starved(release, percent, len(own), requests, rules, why))
            if requests > 2 * expected:
                self._clock.wait(_PAUSE)
            self._hold()
            requests += 1
            try:
                answer, wrong = self.questions.ask(public)
            except Refused as refused:
                if not refused.release or refused.release == release.id:
                    errors, in_row, why = errors + 1, 0, str(refused)
                if errors > rules.error_rate * max(requests, expected):
                    text = f"{errors} of {many(requests, 'request')} failed at {percent} % of the requests: {why}"
                    raise NotServed(text) from None
                continue
            if not _gave(answer, release, stable):
                self._usual.append(answer.seconds)
                in_row, last = 0, requests
                continue
            if wrong:
                raise WrongAnswer(f"at {percent} % of the requests it answers wrong: {wrong}")
            own.append(answer.seconds)
            in_row += 1
        if percent < WHOLE and latency.at_least(len(own), requests, percent / WHOLE) < _UNLIKELY:
            raise NotServed(
                f"the share is not in force: at {percent} % it gave {len(own)} of {many(requests, 'answer')}",
                fix="See what sends the requests there, or set `steps: 100`",
            )
        there = [seconds - _HOP for seconds in own]
        judged = latency.within(there, rules.limit) if rules.limit and not rules.drill else None
        if judged and judged.verdict == "too slow":
            raise NotServed(f"it is too slow at {percent} % of the requests: {judged}")
        if latency.slower(self._usual, there, rules.slowdown):
            times = f"{1000 * _median(self._usual):.3g} ms → {1000 * _median(own):.3g} ms"
            raise NotServed(f"it is too slow at {percent} % of the requests: median {times}")
        measured = {"requests": requests, "answers": len(own), "errors": errors, "median_ms": 1000 * _median(own)}
        late = {"last_other": last} if percent == WHOLE and last else {}
        found = f"{many(len(own), 'right answer')} of its own in {many(requests, 'request')}"
        return found, {name: round(float(value), 3) for name, value in {**measured, **late}.items()}

    def _asked(self, client: Client) -> Answer:
        """A right answer of the candidate.

        Raises:
            NotServed: it is wrong, or an error.
        """
        answer, wrong = self._asking(self.questions.ask, client)
        if wrong:
            raise NotServed(wrong)
        return answer

    def _asking(self, ask: Callable[..., T], *given: Any) -> T:
        """What the candidate gives.

        Raises:
            NotServed: an error.
        """
        try:
            return ask(*given)
        except Refused as refused:
            raise NotServed(str(refused)) from None

    def _live(self, how: How, release: Release, previous: int | None) -> Outcome:
        self._history.end("live", f"version {release.version} serves", self._clock.now() - self._began)
        now = self.engine.serving(release.name)
        return Outcome(how, now, previous, self._answered, steps=self._steps)

    def _back(self, release: Release, stable: Serving | None, fault: NotServed, log: str) -> Outcome:
        self._hold()
        now = self.engine.abandon(release.name)
        wrong = isinstance(fault, WrongAnswer)
        ended: Ending = "gone back" if wrong and self.rules.drill else "failed"
        self._history.end(ended, str(fault), self._clock.now() - self._began)
        return Outcome(
            "failed",
            now if now and now.release else None,
            stable.version if stable else None,
            reason=str(fault),
            log=log,
            fix=fault.fix,
            wrong=wrong,
            steps=self._steps,
        )

    def _leave(self, name: str, ended: Ending, outcome: str) -> None:
        """Go back without a word of its own: the error that is under way is what is told.

        What cannot be reached any more is gone back from by the next rollout, as after a kill.
        """
        try:
            self._hold()
            self.engine.abandon(name)
            self._history.end(ended, outcome, self._clock.now() - self._began)
        except (MlopsError, NotServed, OSError) as fault:
            why = "" if str(fault) == outcome else f" ({fault})"
            self._say(f"The candidate could not be ended{why}; the next rollout or `--stop` ends it")

    def _why(self, name: str) -> str:
        try:
            return self.engine.why(name)
        except (RemoteFailed, NotServed, OSError):
            return ""

    def _since(self, began: float) -> float:
        return round(self._clock.now() - began, 3)


def _gave(answer: Answer, release: Release, stable: Serving | None) -> bool:
    """Whether an answer is the candidate's, by the release that it names, else by its version.

    Raises:
        NotServed: nothing tells.
    """
    if answer.release:
        return answer.release == release.id
    if stable and stable.version == release.version:
        raise NotServed("answers do not say which release gave them, and both are of one version")
    return answer.version == str(release.version)


def _starved(release: Release, percent: int, own: int, requests: int, rules: Rules, why: str) -> str:
    text = (
        f"version {release.version} gave {own} of {rules.answers} answers within {rules.patience:g} s at {percent} % of"
        f" the requests ({many(requests, 'request')})"
    )
    return f"{text}; the last error: {why}" if why else text


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
