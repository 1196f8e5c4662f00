"""The ML Test Score and the scorecard of level 2: each line by what is kept, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from live_markup import Live, as_html
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.records import Record
from mlops_actions.registry.manifest import Move
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry, manifest_path
from mlops_actions.reports.sections import render
from mlops_actions.scoring.rubric import LEVEL_2, ML_TEST_SCORE
from mlops_actions.scoring.score import Score, Scored, score
from mlops_actions.serving.history import Deployment, History, Step
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import Store

DATA, IMAGE, FEATURES = (f"sha256:{letter * 64}" for letter in "dcf")
CHECKS = ("dtype(Int64)", "forbidden(ssn)", "no_personal_data", "no_skew(1e-06)")

GATES = [
    {"kind": kind, "metric": "auc", "value": 0.9, "limit": "> 0.8", "note": note}
    for kind, note in (("threshold", ""), ("baseline", "a linear model"), ("slice", ""), ("fairness", ""))
]


class World:
    """A store with the model `m`, whose versions are registered with records of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store((folder / "store").as_uri())
        self.model = folder / "model.txt"
        self.model.write_text("one", encoding="utf-8")

    def record(self, action: str, run: str = "run-1", *, event: str = "push", **values: Any) -> Record:
        """A record of an action as it is kept."""
        record = Record.model_validate({
            "action": action, "run": run, "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0,
            "source": {"event": event}, **values,
        })  # fmt: skip
        variant = record.details.get("variant")
        name = f"{action}@{variant}" if variant else action
        self.store.put_json(f"runs/{run}/{name}.json", record.model_dump(mode="json"))
        return record

    def about(self) -> dict[str, str]:
        """The subject of a record about the model."""
        return {"model": tree_digest(self.model), "name": "m"}

    def whole(self, event: str = "push", run: str = "run-1", **changed: Mapping[str, Any]) -> list[Record]:
        """Records of a chain that shows all that a chain can; `changed`: values of an action's record."""
        values: dict[str, dict[str, Any]] = {
            "validate_data": {"subject": {"data": DATA}, "inputs": {"contract": "c.yaml"},
                              "outputs": {"fingerprint": DATA},
                              "details": {"checks": [{"check": name, "failed": 0} for name in CHECKS]}},
            "materialize_features": {"outputs": {"features-digest": FEATURES, "views": []},
                                     "details": {"views": [{"name": "v", "compared": 20}]}},
            "build_image": {"subject": {"image": IMAGE}, "outputs": {"digest": IMAGE},
                            "details": {"test": "python -m pytest tests"}, "reason": "built"},
            "tune_hyperparams": {"reason": "the best of 9 trials is 0.9", "outputs": {"best-trial": "4"}},
            "run_pipeline": {"subject": self.about(), "details": {"packages": "numpy==2\n"},
                             "outputs": {"pipeline": "p", "pipeline-key": "k", "data-fingerprint": DATA,
                                         "features-digest": FEATURES}},
            "evaluate_model": {"subject": self.about(), "outputs": {"gates-passed": 4, "metrics": {"auc": 0.9}},
                               "details": {"gates": GATES, "champion": {"version": None}, "comparisons": []}},
            "test_model": {"subject": self.about(), "outputs": {"rows": 20, "latency-p95-ms": 2.0},
                           "details": {"variant": "training", "max_latency_ms": 5.0}},
        }  # fmt: skip
        return [
            self.record(action.replace("_", "-"), run, event=event, **{**given, **changed.get(action, {})})
            for action, given in values.items()
        ]

    def register(self, records: list[Record], run: str = "run-1", *, dirty: bool = False, **tags: str) -> int:
        """The number of the version of the model as it is now."""
        asked = Registration(
            "m", self.model, records=records, run=run, source={"commit": "abcdef0123"}, dirty=dirty, tags=tags
        )
        return register(Registry(self.store), asked).manifest.version

    def deploy(self, version: int, kind: str = "deploy", shares: str = "10 100", run: str = "run-1") -> None:
        """Let a version serve."""
        history = History(self.store, "m", "prod")
        names = ("latency", *(f"{share} %" for share in shares.split()))
        steps = [Step(name=name, passed=True, found="ok") for name in names]
        history.begin(
            Deployment.model_validate({
                "kind": kind, "version": version, "release": f"r{version}", "run": run, "alias": "champion",
                "at": "2026-01-02T00:00:00+00:00", "steps": steps,
            })
        )  # fmt: skip
        history.end("live", "", 5.0)

    def monitor(self, event: str = "schedule", run: str = "run-9", **values: Any) -> None:
        """A look at the model in use."""
        quality = {"metric": "auc", "live": 0.88, "registered": 0.9, "rows": 9, "worse": False}
        given = {"details": {"quality": quality, "columns": [1]}, "reason": "none of 3 columns has drifted", **values}
        self.record("monitor-model", run, event=event, subject=self.about(), **given)

    def score(self, wanted: str = "") -> dict[str, Scored]:
        """Lines by key."""
        return lines(score(self.store, "m", wanted))


def lines(found: Score) -> dict[str, Scored]:
    return {line.key: line for part in (*found.sections, *found.level_2_sections) for line in part.lines}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def complete(world: World, event: str = "push") -> Score:
    """Two versions, the second one deployed over the first, monitored, drilled, and trained twice."""
    registry = Registry(world.store)
    world.register(world.whole(event, "run-0"), "run-0")
    older = {"metric": "auc", "live": 0.5, "registered": 0.6, "rows": 9, "worse": False}
    world.monitor(event, "run-8", details={"quality": older, "columns": []})
    world.deploy(1, shares="100", run="run-0")
    first = registry.manifest("m", 1).model_copy(update={"created": "2025-12-01T00:00:00+00:00"})
    world.store.put_json(manifest_path("m", 1), first.model_dump(mode="json"))
    world.model.write_text("two", encoding="utf-8")
    outputs = {"pipeline": "p", "pipeline-key": "k2", "data-fingerprint": DATA, "features-digest": FEATURES,
               "schedules": [{"name": "nightly", "action": "same"}]}  # fmt: skip
    compared = [{"metric": "auc", "champion": 0.85, "challenger": 0.9, "method": "DeLong"}]
    details = {"gates": GATES, "champion": {"version": 1}, "comparisons": compared}
    chain = world.whole(event, run_pipeline={"outputs": outputs}, evaluate_model={"details": details})
    version = world.register(chain)
    world.whole(event, "run-2", run_pipeline={"outputs": outputs})
    drill = {"variant": "drill", "drill": {"seconds": 0.4}}
    world.record("deploy-model", event=event, subject=world.about(), details={"variant": "prod"})
    world.record("deploy-model", "run-3", event=event, subject=world.about(), details=drill)
    world.deploy(version)
    world.monitor(event)
    registry.move_alias(registry.manifest("m", version), "champion", Move(version=version, at="2026-01-02"))
    return score(world.store, "m")


NOTHING = {"data-2", "data-3", "data-6", "data-7", "infrastructure-5", "monitoring-1"}


def test_a_complete_world_has_all_that_actions_can_show(world: World) -> None:
    found = complete(world)
    assert {line.key for line in lines(found).values() if line.points < 1} == NOTHING | {"model-1"}
    assert (found.version, found.ml_test_score, found.level_2) == (2, 3.0, 12)
    assert "reasonably tested" in found.meaning
    for line in lines(found).values():
        assert bool(line.uri) == (line.points > 0)
        assert bool(line.raise_by) == (line.points < 1), line.key
        if line.uri:
            assert world.store.exists(line.uri.removeprefix(world.store.url + "/")), line


def test_what_a_person_did_is_half_a_point_and_no_automated_stage(world: World) -> None:
    found = complete(world, "workflow_dispatch")
    tests = [line for section in found.sections for line in section.lines if line.key not in NOTHING]
    assert {line.key for line in tests if line.points != 0.5} == {"monitoring-4"}, "schedules run by themselves"
    assert all("workflow" in line.raise_by for line in tests if line.points == 0.5 and line.key != "model-1")
    components, stages = found.level_2_sections
    assert (components.points, stages.points) == (7, 0)


def test_the_lines_are_those_of_the_paper(world: World) -> None:
    assert [len(part.lines) for part in ML_TEST_SCORE] == [7, 7, 7, 7]
    assert len({line.name for part in (*ML_TEST_SCORE, *LEVEL_2) for line in part.lines}) == 40


def test_what_nothing_shows_is_nothing(world: World) -> None:
    world.register([])
    found = score(world.store, "m")
    assert found.ml_test_score == 0 and "research project" in found.meaning
    assert {line.key for line in lines(found).values() if line.points} == {"model-1", "component-1", "component-4"}
    assert all(line.what and line.raise_by for line in lines(found).values() if not line.points)


@pytest.mark.parametrize(
    ("action", "changed", "key", "why"),
    [
        ("validate_data", {"verdict": "rejected", "reason": "3 checks failed"}, "data-1", "3 checks failed"),
        ("validate_data", {"inputs": {}}, "data-1", "no contract"),
        ("validate_data", {"subject": {"data": "sha256:other"}}, "data-1", "no record of validate-data"),
        ("validate_data", {"details": {"checks": []}}, "data-5", "personal data does not fail"),
        ("validate_data", {"details": {"checks": 7}}, "data-4", "another form"),
        ("evaluate_model", {"details": {"gates": [], "champion": {"version": None}}}, "infrastructure-4", "no gate"),
        ("evaluate_model", {"verdict": "unchecked", "reason": "nothing was checked"}, "model-6", "nothing was checked"),
        ("build_image", {"details": {"test": "python -c 'import x'"}}, "infrastructure-2", "without a test"),
        ("test_model", {"verdict": "rejected", "reason": "2 differ"}, "monitoring-5", "did not pass in training"),
        ("materialize_features", {"outputs": {"features-digest": "sha256:other"}}, "component-5", "no features"),
        ("run_pipeline", {"outputs": {"pipeline-key": "k"}}, "component-6", "unknown: data"),
    ],
)
def test_a_line_says_why_it_is_not_met(world: World, action: str, changed: dict[str, Any], key: str, why: str) -> None:
    if key == "component-5":
        changed = {**changed, "details": {"views": []}}
        world.register(world.whole(materialize_features=changed, run_pipeline={
            "outputs": {"pipeline-key": "k", "data-fingerprint": DATA}}))  # fmt: skip
    else:
        world.register(world.whole(**{action: changed}))
    line = world.score()[key]
    assert line.points == 0 and why in line.what and line.raise_by and not line.uri


def test_a_training_that_gave_other_bytes_is_not_reproducible(world: World) -> None:
    world.register(world.whole())
    assert world.score()["infrastructure-1"].what == "it was trained once"
    world.whole(run="run-2")
    assert world.score()["infrastructure-1"].points == 1
    world.record("run-pipeline", "run-3", subject={"model": "sha256:other"}, outputs={"pipeline-key": "k"})
    assert "gave different bytes" in world.score()["infrastructure-1"].what


def test_a_reused_training_is_not_a_second_one(world: World) -> None:
    world.register(world.whole())
    world.record("run-pipeline", "run-2", subject=world.about(), outputs={"pipeline-key": "k"}, reused=True)
    assert world.score()["infrastructure-1"].points == 0


def test_a_recurring_run_that_was_deleted_keeps_nothing_fresh_and_a_scheduled_training_does(world: World) -> None:
    outputs = {"pipeline-key": "k", "schedules": [{"name": "nightly", "action": "delete"}]}
    world.register(world.whole(run_pipeline={"outputs": outputs}))
    assert world.score()["monitoring-4"].what == "it was not trained on a schedule"
    world.whole("schedule", "run-2", run_pipeline={"outputs": outputs})
    assert world.score()["monitoring-4"].points == 1


def test_what_was_evaluated_again_was_evaluated_before_it_served(world: World) -> None:
    version = world.register(world.whole())
    world.deploy(version)
    again = world.whole(run="run-5")
    evaluated = next(one for one in again if one.action == "evaluate-model")
    later = evaluated.model_copy(update={"started": "2026-03-01T00:00:00+00:00"})
    world.register([later], "run-5")
    for record in (*again, *world.whole()):  # records of runs may be deleted, evidence stays
        world.store.delete(f"runs/{record.run}/{record.action}.json")
    assert world.score()["infrastructure-4"].points == 1


def test_what_was_evaluated_only_after_it_served_was_not_validated(world: World) -> None:
    chain = world.whole(evaluate_model={"started": "2026-03-01T00:00:00+00:00", "subject": world.about(),
                                        "outputs": {"gates-passed": 4}, "details": {"gates": GATES}})  # fmt: skip
    world.deploy(world.register(chain))
    assert world.score()["infrastructure-4"].what == "it served before it was evaluated"


def test_a_version_that_took_all_requests_at_once_is_no_canary_and_a_rollback_counts(world: World) -> None:
    version = world.register(world.whole())
    world.deploy(version, shares="100")
    found = world.score()
    assert found["infrastructure-6"].what == "it took all requests at once"
    assert found["infrastructure-7"].points == 0
    world.deploy(version, kind="rollback", shares="100")
    assert world.score()["infrastructure-7"].points == 0.5


def test_quality_in_use_that_is_worse_does_not_count_and_drift_does(world: World) -> None:
    world.register(world.whole())
    quality = {"metric": "auc", "live": 0.1, "registered": 0.9, "rows": 9, "worse": True}
    world.monitor(verdict="rejected", reason="2 of 3 columns have drifted", details={"quality": quality, "columns": []})
    found = world.score()
    assert found["monitoring-7"].points == 0
    assert found["monitoring-2"].points == found["stage-5"].points == 1


def test_what_is_documented_elsewhere_is_half_a_point_by_its_tag(world: World) -> None:
    url = "https://wiki.example/ablation"
    tags = {"ml-test-score.data-2": url, "ml-test-score.data-3": "yes", "ml-test-score.stage-5": url}
    world.register(world.whole(), **tags)
    found = world.score()
    assert (found["data-2"].points, found["data-2"].uri) == (0.5, url)
    assert found["data-3"].points == found["stage-5"].points == 0, "what is no URL, and a stage, are not documented"


def test_the_champion_is_scored_or_what_is_named_or_the_last_version(world: World) -> None:
    world.register(world.whole(run="run-0"), "run-0")
    world.model.write_text("two", encoding="utf-8")
    world.register(world.whole(), dirty=True)
    assert score(world.store, "m").version == 2
    assert "not in commit abcdef0" in world.score()["model-1"].what
    registry = Registry(world.store)
    registry.move_alias(registry.manifest("m", 1), "champion", Move(version=1, at="2026-01-02"))
    assert score(world.store, "m").version == 1
    assert score(world.store, "m", "2").version == 2
    with pytest.raises(BadInput, match="no version 7"):
        score(world.store, "m", "7")
    with pytest.raises(BadInput, match="Unknown model"):
        score(world.store, "other")


def test_another_version_that_cannot_be_read_is_left_out(world: World) -> None:
    world.register(world.whole())
    before = score(world.store, "m", "1")
    for number, data in ((2, b"{"), (3, world.store.get("models/m/versions/1.json"))):
        world.store.put(f"models/m/versions/{number}.json", data)
    assert score(world.store, "m", "1") == before
    with pytest.raises(RemoteFailed, match="is not what the registry writes"):
        score(world.store, "m", "2")


def test_a_record_that_cannot_be_read_is_left_out(world: World) -> None:
    world.register(world.whole())
    world.store.put("runs/run-9/monitor-model.json", b"half")
    world.store.put("runs/run-9/deploy-model@x.json", b"{}")
    assert world.score()["stage-5"].points == 0


def test_markdown_shows_foreign_text_as_text(world: World) -> None:
    world.register(world.whole(tune_hyperparams={"reason": "<img src=x> @octocat | [x](http://evil.example)"}))
    shown = render("score.md.j2", score=score(world.store, "m"))
    assert Live(as_html(shown)).found == []
    assert as_html(shown).count("<tr>") == 40 + 6, "each line is one row"
