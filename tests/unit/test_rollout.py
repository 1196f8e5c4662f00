"""A rollout over an engine in this process: what lets a release serve, what sends it back, and kills at any call."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from memory_engine import GOLDEN, Behaviour, Killed, MemoryEngine, release
from mlops_actions.errors import BadInput, Cancelled, RemoteFailed
from mlops_actions.evaluation.golden import Tolerance
from mlops_actions.models.checks import copy_code
from mlops_actions.models.predicting import Model
from mlops_actions.serving import history
from mlops_actions.serving.drill import WRONG_SECONDS, Drilled, drill, make_wrong
from mlops_actions.serving.engine import Capabilities, HandedOver, Release
from mlops_actions.serving.history import GOOD, Deployment, History, Step, places
from mlops_actions.serving.latency import Limit, at_least
from mlops_actions.serving.protocol import Client
from mlops_actions.serving.releases import pinned
from mlops_actions.serving.rollout import Outcome, Questions, Rollout, Rules
from mlops_actions.serving.server.traffic import Comparison
from mlops_actions.stores.store import Store


class Watched(Store):
    """A store whose writes are calls that the engine's kill counts."""

    engine: MemoryEngine

    def create(self, path: str, data: bytes) -> bool:
        self.engine.called("create")
        return super().create(path, data)

    def replace(self, path: str, data: bytes, tag: str) -> bool:
        self.engine.called("replace")
        return super().replace(path, data, tag)


@dataclass
class World:
    """A place, and the history of the model `m` there."""

    store: Watched
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    said: list[str] = field(default_factory=list)

    @property
    def history(self) -> History:
        return History(self.store, "m", "memory", self.engine.clock)

    def roll(self, wanted: Release, run: str = "r", golden: Any = GOLDEN, **rules: Any) -> Outcome:
        rollout = Rollout(
            self.engine, self.history, Rules(**rules), Questions(golden, Tolerance()), self.said.append,
            clock=self.engine.clock,
        )  # fmt: skip
        deployment = Deployment(version=wanted.version, release=wanted.id, digest=wanted.digest, run=run)
        return rollout.run(wanted, deployment)

    def served(self) -> int | None:
        now = self.engine._serving()
        return now.version if now else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    store = Watched((tmp_path / "store").as_uri())
    made = World(store)
    store.engine = made.engine
    return made


@pytest.fixture
def first(world: World) -> World:
    """Version 1 serves."""
    assert world.roll(release(1)).how == "deployed"
    world.engine.calls.clear()
    return world


def test_the_first_release_serves_without_steps_or_comparison(world: World) -> None:
    done = world.roll(release(1), steps=(10, 100))
    assert (done.how, done.previous, done.answered.rows) == ("deployed", None, 4)
    assert [step.name for step in done.steps] == ["start", "digest", "golden rows", "schema", "100 %", "finish"]
    assert world.served() == 1 and world.engine.candidate is None


def test_a_release_takes_over_share_by_share_by_its_own_answers(first: World) -> None:
    done = first.roll(release(2), answers=20)
    assert (done.how, done.previous, first.served()) == ("deployed", 1, 2)
    steps = {step.name: step for step in done.steps}
    assert list(steps) == [
        "start", "digest", "golden rows", "schema", "latency", "10 %", "50 %", "100 %", "finish"
    ]  # fmt: skip
    assert steps["10 %"].measured["answers"] == 20 and steps["10 %"].measured["requests"] > 100
    assert steps["100 %"].measured["requests"] == 20
    assert [call for call in first.engine.calls if call.startswith("shift")] == ["shift 10", "shift 50", "shift 100"]
    now = first.history.read()
    assert now.under_way is None and now.live and now.live.release == release(2).id
    assert [(one.version, one.previous, one.ended) for one in now.history] == [(2, 1, "live"), (1, None, "live")]
    assert [step.name for step in now.history[0].steps] == list(steps)
    assert now.good_before() == now.history[1] == now.good_of(1)


def test_a_release_that_serves_is_asked_again_and_reused(first: World) -> None:
    done = first.roll(release(1))
    assert (done.how, done.answered.rows, done.previous) == ("reused", 4, 1)
    assert "start" not in first.engine.calls and len(first.history.read().history) == 1
    first.engine.behaviours[1].predict = lambda x: x
    done = first.roll(release(1))
    assert done.how == "failed" and "it serves, but 4 of 4 golden predictions differ" in done.reason
    assert first.served() == 1


def test_another_environment_of_the_same_version_is_another_release(first: World) -> None:
    again = release(1, lock="numpy==2.1")
    assert first.roll(again).how == "deployed"
    assert first.engine.stable == again


FAULTS: list[tuple[Behaviour, str]] = [
    (Behaviour(starts=False), "the server ended with exit code 1"),
    (Behaviour(digest="sha256:0"), "it has loaded sha256:0, and its manifest says sha256:"),
    (Behaviour(predict=lambda x: 3 * x), "4 of 4 golden predictions differ"),
    (Behaviour(checks=False), "a request with an unknown input got status 500"),
    (Behaviour(crashes_after=10), "Cannot reach http://m: connection refused"),
    (Behaviour(seconds=lambda _: 0.010), "it is too slow: median 2 ms → 10 ms"),
]


@pytest.mark.parametrize(("behaviour", "reason"), FAULTS)
def test_a_fault_goes_back_and_says_what_it_was(first: World, behaviour: Behaviour, reason: str) -> None:
    first.engine.behaviours[2] = behaviour
    done = first.roll(release(2))
    assert done.how == "failed" and reason in done.reason
    assert done.log in ("Traceback …", "what its log says")
    assert first.served() == 1 and first.engine.candidate is None and first.engine.up == {release(1).id}
    assert not [call for call in first.engine.calls if call.startswith("shift")], "it was sent no request of a user"
    now = first.history.read()
    assert now.live and now.live.version == 1 and now.under_way is None
    assert (now.history[0].ended, now.history[0].outcome) == ("failed", done.reason)
    assert now.history[0].steps[-1].passed is False


def test_a_release_that_turns_wrong_under_requests_goes_back(first: World) -> None:
    first.engine.behaviours[2] = Behaviour(predict=lambda x: 2 * x if first.engine.percent < 50 else x)
    done = first.roll(release(2))
    assert done.how == "failed" and "at 50 % of the requests it answers wrong: golden row" in done.reason
    assert [step.name for step in done.steps if step.passed][-1] == "10 %"
    assert first.served() == 1 and first.engine.candidate is None


def test_a_step_in_which_the_candidate_gets_nothing_times_out(first: World) -> None:
    first.engine.deaf = True
    done = first.roll(release(2), patience=30.0)
    assert done.how == "failed" and first.served() == 1
    assert "version 2 gave 0 of 20 answers within 30 s at 10 % of the requests" in done.reason


def test_a_share_that_is_not_in_force_is_found(first: World) -> None:
    first.engine.honest = False
    done = first.roll(release(2))
    assert done.how == "failed" and "the share is not in force: at 10 % it gave 20 of 20 answers" in done.reason


def test_shares_are_refused_where_requests_cannot_be_split(first: World) -> None:
    first.engine.able = Capabilities(lacking="It needs a Gateway")
    with pytest.raises(BadInput, match=r"cannot send a version 10 % of the requests.*needs a Gateway"):
        first.roll(release(2), steps=(10, 100))
    with pytest.raises(BadInput, match="cannot mirror"):
        first.roll(release(2), shadow=5)
    assert "start" not in first.engine.calls
    done = first.roll(release(2))
    assert done.how == "deployed" and [s.name for s in done.steps if s.name.endswith("%")] == ["100 %"]


@pytest.mark.parametrize("steps", [(10, 50), (50, 10, 100), (0, 100), (10, 10, 100)])
def test_steps_rise_to_all_requests(first: World, steps: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="`steps` is"):
        first.roll(release(2), steps=steps)


def test_in_the_shadow_both_are_asked_the_same_rows(first: World) -> None:
    first.engine.behaviours[2] = Behaviour()
    first.engine.behaviours[1].predict = lambda x: 2 * x + (0.5 if x == 1 else 0)
    done = first.roll(release(2), shadow=8)
    assert done.how == "deployed"
    shadow = next(step for step in done.steps if step.name == "shadow")
    assert shadow.measured == {"rows": 8, "differ": 2, "largest": 0.5}
    assert "shift 0 mirror" in first.engine.calls


FAILED: list[dict[str, Any]] = [{"row": 0, "stable": 1.0, "candidate": 2.0}, {"status": 500, "instead": 200}]


class ComparingEngine(MemoryEngine):
    """It also tells what copies of users' requests have shown."""

    shown = Comparison()

    def compared(self, name: str) -> Comparison:
        return self.shown


@pytest.mark.parametrize(("failed", "how"), [(0, "deployed"), (1, "failed")])
def test_what_copies_of_users_requests_show_is_kept_and_a_failed_one_goes_back(
    world: World, failed: int, how: str
) -> None:
    world.engine = world.store.engine = engine = ComparingEngine()
    world.roll(release(1))
    engine.shown = Comparison(requests=9, equal=6, differing=3 - failed, failed=failed, examples=FAILED)
    done = world.roll(release(2), shadow=2)
    shadow = next(step for step in done.steps if step.name == "shadow")
    assert (done.how, world.served()) == (how, 1 if failed else 2)
    if failed:
        assert "it failed on 1 of 9 copied requests: status 500 instead of 200" in done.reason
    else:
        assert shadow.measured == {"rows": 2, "differ": 0, "largest": 0, "copies": 9, "copies_differ": 3}


def test_without_golden_rows_the_digest_and_who_answers_decide(first: World) -> None:
    done = first.roll(release(2), golden=None)
    assert done.how == "deployed" and done.answered.rows == 0
    first.engine.deaf = True
    assert first.roll(release(3), golden=None, patience=20.0).how == "failed"


def test_answers_without_a_release_are_told_by_their_version(first: World) -> None:
    for version in (1, 2):
        first.engine.behaviours[version] = Behaviour(named=False)
    assert first.roll(release(2)).how == "deployed"
    done = first.roll(release(2, lock="numpy==2.1"))
    assert done.how == "failed" and "answers do not say which release gave them" in done.reason


def test_a_version_that_serves_and_does_not_respond_is_replaced(first: World) -> None:
    first.engine.behaviours[1].crashes_after = 1
    done = first.roll(release(2), steps=(100,), error_rate=1.0)
    assert done.how == "deployed"
    assert "does not predict" in next(step.found for step in done.steps if step.name == "latency")


def test_failed_requests_of_a_step_are_counted(first: World) -> None:
    first.engine.behaviours[2] = Behaviour(crashes_after=800)
    done = first.roll(release(2), measure=1e9, answers=700)
    assert done.how == "failed"
    assert "1 of" in done.reason and "failed at" in done.reason and "connection refused" in done.reason


@pytest.mark.parametrize("error", [RemoteFailed("the cluster is gone"), Cancelled(15), KeyboardInterrupt()])
def test_an_error_in_the_middle_ends_the_candidate(first: World, error: BaseException) -> None:
    def predict(x: float) -> float:
        raise error

    first.engine.behaviours[2] = Behaviour(predict=predict)
    with pytest.raises(type(error)):
        first.roll(release(2))
    assert first.served() == 1 and first.engine.candidate is None
    ended = "failed" if isinstance(error, RemoteFailed) else "cancelled"
    assert first.history.read().history[0].ended == ended


def test_what_is_handed_over_is_kept_as_such_and_does_not_serve(first: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Release) -> Client:
        raise HandedOver("commit 1a2b has version 2")

    monkeypatch.setattr(first.engine, "start", start)
    done = first.roll(release(2))
    assert (done.how, done.serving, done.previous, done.reason) == ("handed over", None, 1, "commit 1a2b has version 2")
    known = first.history.read()
    assert known.history[0].ended == "handed over" and known.under_way is None
    assert known.live and known.live.version == 1 and known.good_before() is None


def test_a_lost_lease_stops_it_before_the_next_change(first: World) -> None:
    def hold() -> None:
        if "started half" in first.engine.calls:
            raise RemoteFailed("The lock was lost")

    rollout = Rollout(first.engine, first.history, Rules(), Questions(GOLDEN), first.said.append, hold)
    with pytest.raises(RemoteFailed, match="The lock was lost"):
        rollout.run(release(2), Deployment(version=2, release=release(2).id))
    assert "abandon" not in first.engine.calls, "another one holds the place, and goes back or on"
    assert first.history.read().under_way


QUICK: dict[str, Any] = {"answers": 3}
"""Rules with which a step takes few requests."""


def killed_at(world: World, call: int | str, version: int) -> bool:
    """Whether the rollout of a version was killed at a call."""
    world.engine.calls.clear()
    world.engine.kill_at = call
    try:
        world.roll(release(version), run="killed", **QUICK)
    except Killed:
        return True
    finally:
        world.engine.kill_at, world.engine.killed = 0, False
        world.engine.calls.clear()
    return False


CALLS = {None: 15, 1: 20}
"""The calls of the engine and the store that a rollout makes, by the version that served before it."""


@pytest.mark.parametrize("before", CALLS)
def test_every_call_of_a_rollout_is_one_at_which_it_is_killed(world: World, before: int | None) -> None:
    if before:
        world.roll(release(before), **QUICK)
    world.engine.calls.clear()
    world.roll(release(2), **QUICK)
    assert len(world.engine.calls) == CALLS[before]


@pytest.mark.parametrize(("before", "call"), [(before, i + 1) for before, most in CALLS.items() for i in range(most)])
def test_killed_at_any_call_and_run_again_it_goes_on(world: World, call: int, before: int | None) -> None:
    if before:
        world.roll(release(before), **QUICK)
    assert killed_at(world, call, 2)
    assert world.served() in (before, 2), "what served serves, or the new one that has proved itself"
    done = world.roll(release(2), run="again", **QUICK)
    assert done.how in ("deployed", "reused"), done.reason
    assert world.served() == 2 and world.engine.candidate is None and world.engine.up == {release(2).id}
    now = world.history.read()
    assert now.under_way is None and now.live and now.live.version == 2
    assert [one.version for one in now.history if one.ended == "live"] == ([2, 1] if before else [2])


@pytest.mark.parametrize("call", range(1, CALLS[1] + 1))
def test_killed_at_any_call_another_version_goes_back_first(first: World, call: int) -> None:
    assert killed_at(first, call, 2)
    served = first.served()
    done = first.roll(release(3), run="another", **QUICK)
    assert (done.how, done.previous, first.served()) == ("deployed", served, 3)
    assert first.engine.up == {release(3).id}
    ended = [(one.version, one.ended) for one in first.history.read().history]
    assert ended[0] == (3, "live") and ended[-1] == (1, "live")
    assert ended[1:-1] in ([], [(2, "live")], [(2, "interrupted")])
    assert (2, "live") in ended if served == 2 else (2, "live") not in ended


def test_what_serves_is_reused_also_when_a_killed_rollout_left_another_candidate(first: World) -> None:
    assert killed_at(first, "shift 50", 2)
    done = first.roll(release(1), run="another")
    assert done.how == "reused" and first.engine.up == {release(1).id} and first.engine.candidate is None
    now = first.history.read()
    assert now.under_way is None and [one.ended for one in now.history] == ["interrupted", "live"]


def test_what_has_passed_is_not_done_again(first: World) -> None:
    assert killed_at(first, "shift 50", 3)
    first.said.clear()
    first.roll(release(3), run="again")
    assert "Going on with what run killed began" in first.said
    steps = [step.name for step in first.history.read().history[0].steps]
    assert steps.count("latency") == steps.count("10 %") == 1 and steps.count("golden rows") == 2


def test_the_chance_of_so_many_answers_is_the_binomial_tail() -> None:
    assert at_least(0, 10, 0.5) == pytest.approx(1.0)
    assert at_least(10, 10, 0.5) == pytest.approx(2**-10)
    assert at_least(2, 3, 0.1) == pytest.approx(3 * 0.01 * 0.9 + 0.001)
    assert at_least(20, 20, 0.1) == pytest.approx(1e-20)


@pytest.mark.parametrize(("undecided", "how"), [(False, "failed"), (True, "deployed")])
def test_what_cannot_be_told_passes_only_when_that_is_said(first: World, undecided: bool, how: str) -> None:
    chance = random.Random(3)
    first.engine.behaviours[1].seconds = lambda _: 0.002 * chance.lognormvariate(0.0, 0.5)
    first.engine.behaviours[2] = Behaviour(seconds=lambda _: 0.004 * chance.lognormvariate(0.0, 0.5))
    done = first.roll(release(2), undecided=undecided)
    assert done.how == how
    assert undecided or "it cannot be told whether it is too slow" in done.reason


@pytest.mark.parametrize("before", [None, 1])
@pytest.mark.parametrize(
    ("limit", "undecided", "reason"),
    [
        (Limit(0.003), False, ""),
        (Limit(0.001), True, "it is too slow: 95th percentile 2 ms; 120 of 120 took longer than the limit of 1 ms"),
        (Limit(0.003, 99), False, ""),
        (Limit(0.0025, 95), True, ""),
        (Limit(0.0025, 95), False, "it cannot be told whether it is too slow: 95th percentile 2.05 ms; 48 of 960"),
    ],
)
def test_a_limit_has_three_verdicts_also_for_the_first_release(
    world: World, before: int | None, limit: Limit, undecided: bool, reason: str
) -> None:
    if before:
        world.roll(release(before))
    tail = limit.seconds == 0.0025  # an answer of twenty takes longer: just what a 95th percentile allows
    world.engine.behaviours[2] = Behaviour(seconds=lambda i: 0.003 if tail and i % 20 == 0 else 0.002)
    done = world.roll(release(2), limit=limit, undecided=undecided)
    assert (done.how == "failed") == bool(reason) and reason in done.reason
    step = next(one for one in world.history.read().history[0].steps if one.name == "latency")
    assert step.passed is not bool(reason)
    if not reason:
        assert step.measured["limit_ms"] == 1000 * limit.seconds
        assert step.measured["answers"] == (
            120 if limit.percentile == 95 and not undecided else step.measured["answers"]
        )


def test_a_limit_cannot_be_told_without_golden_rows(world: World) -> None:
    done = world.roll(release(1), golden=None, limit=Limit(1.0))
    assert done.how == "failed" and "cannot be told whether it is too slow: there are no golden rows" in done.reason
    assert world.roll(release(1), golden=None, limit=Limit(1.0), undecided=True).how == "deployed"


def test_a_limit_holds_in_every_step(first: World) -> None:
    first.engine.behaviours[2] = Behaviour(seconds=lambda _: 0.002 if first.engine.percent < 50 else 0.2)
    done = first.roll(release(2), limit=Limit(0.1), slowdown=1000.0)
    assert done.how == "failed" and "it is too slow at 50 % of the requests: 95th percentile 190 ms" in done.reason


def test_too_little_time_to_measure_is_no_pass(first: World) -> None:
    done = first.roll(release(2), measure=0.0)
    assert done.how == "failed" and "it cannot be told whether it is too slow" in done.reason


def test_two_writers_of_a_history_lose_nothing(world: World) -> None:
    world.history.begin(Deployment(version=1, release="a"))
    other, raced = world.history, []

    class Raced(Watched):
        engine = world.engine

        def replace(self, path: str, data: bytes, tag: str) -> bool:
            if not raced:
                raced.append(other.step(Step(name="theirs", passed=True)))
            return super().replace(path, data, tag)

    History(Raced(world.store.url), "m", "memory", world.engine.clock).step(Step(name="ours", passed=True))
    now = world.history.read().under_way
    assert now and [step.name for step in now.steps] == ["theirs", "ours"]


def test_a_history_is_bounded_and_keeps_what_can_be_gone_back_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 25
    monkeypatch.setattr(history, "KEPT", kept)
    for version in range(1, 2 * kept):
        world.history.begin(Deployment(version=version, release=f"v{version}"))
        world.history.end("live" if version <= 2 * GOOD else "failed", "", 1.0)
    found = world.history.read().history
    assert len(found) == kept + GOOD
    assert [one.version for one in found if one.ended == "live"] == [*range(2 * GOOD, GOOD, -1)]
    (here,) = places(world.store, "m")
    assert here.place == "memory" and here.live and here.live.version == 2 * GOOD


def test_what_is_no_history_is_told(world: World) -> None:
    world.store.put(world.history.path, b'{"name": "m"}')
    with pytest.raises(RemoteFailed, match=r"is not what the registry writes[.] `place` is missing[.] Update"):
        world.history.read()
    world.store.put(world.history.path, b"null")
    with pytest.raises(RemoteFailed, match=r"is not what the registry writes[.] It must be a mapping[.] Put it back"):
        world.history.read()


DOUBLE = """
class Double:
    def load(self, path):
        self.factor = int(path.read_text())

    def predict(self, rows):
        return [self.factor * row["x"] for row in rows]
"""


def wrong_release(tmp_path: Path) -> Release:
    """A wrong release of a model that code of the consumer's loads."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text(DOUBLE)
    (tmp_path / "two.txt").write_text("2")
    served = release(1, predict="own.py:Double", root=tmp_path / "code", model=tmp_path / "two.txt")
    return make_wrong(served, tmp_path / "drill")


def test_a_wrong_release_is_the_same_model_answering_wrong_and_right_again_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = wrong_release(tmp_path)
    assert (wrong.digest, wrong.version) == (release(1).digest, 1) and wrong.id != release(1).id
    model = Model(wrong.model, wrong.predict, wrong.root)
    assert model.scores([{"x": 3}]) == [1006.0]
    later = time.monotonic() + WRONG_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert model.scores([{"x": 3}]) == [6]


@pytest.mark.parametrize("predict", ["own.py:Double", "own:Double", "deep/own.py:Double", "deep.own:Double"])
def test_a_wrong_release_takes_the_code_along_that_loads_its_model(tmp_path: Path, predict: str) -> None:
    file = tmp_path / "code" / ("deep/own.py" if "deep" in predict else "own.py")
    file.parent.mkdir(parents=True)
    file.write_text(DOUBLE)
    wrong = make_wrong(release(1, predict=predict, root=tmp_path / "code"), tmp_path / "drill")
    copy_code(wrong.predict, wrong.root, tmp_path / "served")
    found = {one.relative_to(tmp_path / "served") for one in (tmp_path / "served").rglob("*.py")}
    assert found == {Path("mlops_drill.py"), file.relative_to(tmp_path / "code")}


def drilled(world: World, wrong: Release, **rules: Any) -> Drilled:
    rollout = Rollout(
        world.engine, world.history, Rules(drill=True, **rules), Questions(GOLDEN), world.said.append,
        clock=world.engine.clock,
    )  # fmt: skip
    return drill(rollout, wrong, Deployment(kind="drill", version=wrong.version, release=wrong.id))


def test_a_drill_measures_wrong_answers_and_leaves_what_served(first: World, tmp_path: Path) -> None:
    wrong = wrong_release(tmp_path)
    first.engine.behaviours[wrong.id] = Behaviour(predict=lambda x: x + 1000)
    done = drilled(first, wrong)
    assert done.passed and done.reason.startswith("Wrong answers came for ")
    assert done.wrong < done.requests and done.serving and done.serving.release == release(1).id
    assert [step.name for step in done.steps] == ["start", "digest", "10 %"]
    now = first.history.read()
    assert now.live and now.live.release == release(1).id and now.history[0].kind == "drill"
    assert now.history[0].state == "gone back"
    assert now.good_before() is None, "a drill is nothing to go back to"


def test_a_drill_whose_release_is_not_wrong_fails_and_still_goes_back(first: World, tmp_path: Path) -> None:
    done = drilled(first, wrong_release(tmp_path))
    assert not done.passed and "its wrong answers were not found in any step" in done.reason
    assert first.engine.stable == release(1) and first.engine.candidate is None
    assert first.history.read().history[0].state == "failed"
    first.engine.unreachable = True
    with pytest.raises(RemoteFailed, match="does not respond"):
        drilled(first, release(1, lock="another"))


def test_what_was_trained_with_is_what_is_served_with() -> None:
    installed = "scikit-learn==1.7.2\npandas==2.3.1\nxgboost==3.1\n# comment\n"
    asked = ["scikit-learn", "Pandas>=2", "xgboost[gpu]<4", "unknown", "git+https://host/x"]
    assert pinned(asked, installed) == [
        "scikit-learn==1.7.2", "Pandas==2.3.1", "xgboost[gpu]==3.1", "unknown", "git+https://host/x"
    ]  # fmt: skip
    assert pinned(asked, "") == asked
