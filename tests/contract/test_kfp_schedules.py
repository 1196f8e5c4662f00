"""Schedules against the double of Kubeflow Pipelines, which holds every request to KFP's published description."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from doubles.kfp import KfpDouble, Settings
from given import kfp_inputs
from mlops_actions.context import Context
from mlops_actions.pipelines.engine import Origin, PipelineContext, RunRequest
from mlops_actions.pipelines.kfp.client.api import ApiError, KfpApi
from mlops_actions.pipelines.kfp.engine import KfpEngine
from mlops_actions.pipelines.kfp.schedules.recurring import Change, Schedule, Target, apply, plan
from mlops_actions.pipelines.spec import Parameter, Pipeline
from mlops_actions.waiting import Clock
from workspaces import workspace

RECURRING = "/apis/v2beta1/recurringruns"
SPEC = {
    "pipelineInfo": {"name": "training"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.17.0",
    "components": {"comp-hello": {"executorLabel": "exec-hello"}},
    "deploymentSpec": {"executors": {"exec-hello": {"container": {"image": "python:3.11", "command": ["true"]}}}},
    "root": {
        "dag": {
            "tasks": {
                "hello": {
                    "componentRef": {"name": "comp-hello"},
                    "taskInfo": {"name": "hello"},
                    "cachingOptions": {},
                }
            }
        },
        "inputDefinitions": {
            "parameters": {"rows": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3, "isOptional": True}}
        },
    },
}
NIGHTLY = Schedule("nightly", cron="0 3 * * *", parameters={"rows": 5})
HOURLY = Schedule("hourly", every=3600, concurrency=2, catch_up=True)


class World:
    """A KFP with a pipeline of two versions."""

    def __init__(self, double: KfpDouble, **host: str) -> None:
        self.double = double
        self.api = KfpApi(kfp_inputs(double.url, **host), {}, Path())
        file = yaml.safe_dump(SPEC).encode()
        pipeline = self.api.upload("/apis/v2beta1/pipelines/upload", file, "p.yaml", name="training", **self._where())
        self.pipeline = str(pipeline["pipeline_id"])
        experiment = self.api.post("/apis/v2beta1/experiments", {"display_name": "nights", **self._where()})
        self.experiment = str(experiment["experiment_id"])
        self._file = file

    def _where(self) -> dict[str, str]:
        return {"namespace": self.api.namespace} if self.api.namespace else {}

    def target(self, version: str = "v1", scope: str = "owner/name/training") -> Target:
        path = f"/apis/v2beta1/pipelines/{self.pipeline}/versions"
        found = {v["name"]: v["pipeline_version_id"] for v in self.api.pages(path, "pipeline_versions")}
        if version not in found:
            uploaded = self.api.upload(
                "/apis/v2beta1/pipelines/upload_version", self._file, "p.yaml", name=version, pipelineid=self.pipeline
            )
            found[version] = uploaded["pipeline_version_id"]
        declared = {"rows": Parameter("rows", "NUMBER_INTEGER", False, 3)}
        return Target(scope, "training", self.pipeline, version, str(found[version]), self.experiment, declared)

    def there(self) -> list[dict[str, Any]]:
        where = {"namespace": self.api.namespace or None}
        return sorted(self.api.pages(RECURRING, "recurringRuns", **where), key=lambda item: str(item["display_name"]))


@pytest.fixture
def double() -> Iterator[KfpDouble]:
    with KfpDouble(metadata=False) as server:
        yield server
        assert not server.violations


@pytest.fixture
def world(double: KfpDouble) -> World:
    return World(double)


def actions(changes: list[Change]) -> dict[str, str]:
    return {change.schedule: change.action for change in changes}


@pytest.mark.parametrize(
    ("context", "made"),
    [
        ({"branch": "change", "event": "pull_request", "pull_request": 3}, 0),
        ({"branch": "main", "event": "pull_request_target", "pull_request": 3}, 0),
        ({"branch": "topic", "event": "push"}, 0),
        ({"branch": "main", "event": "push"}, 1),
    ],
)
def test_only_the_default_branch_changes_schedules(
    double: KfpDouble, tmp_path: Path, context: dict[str, Any], made: int
) -> None:
    origin = Origin(Context(repository="owner/name", default_branch="main", **context), "name", "")
    engine = KfpEngine(kfp_inputs(double.url), PipelineContext(workspace(tmp_path), origin), None)
    request = RunRequest(Pipeline(tmp_path / "training.py", SPEC), {"rows": 3}, "key", {})
    for _ in range(2):
        (found,) = engine.schedule(request, {"nightly": {"cron": "0 3 * * *"}}, None)
        api = KfpApi(kfp_inputs(double.url), {}, Path())
        assert len(list(api.pages(RECURRING, "recurringRuns"))) == made
        assert len(list(api.pages("/apis/v2beta1/pipelines", "pipelines"))) == made, "nor is anything uploaded"
    assert found.action == ("same" if made else "create"), "and what would be changed is said"


def test_what_is_wanted_is_made_and_then_nothing_is_to_do(world: World) -> None:
    target = world.target()
    wanted = [NIGHTLY, HOURLY, Schedule("off", cron="@weekly", enabled=False)]
    assert actions(plan(world.api, wanted, target)) == {"nightly": "create", "hourly": "create", "off": "create"}
    assert world.there() == []
    apply(world.api, wanted, target)
    hourly, nightly, off = world.there()
    assert nightly["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert nightly["runtime_config"]["parameters"] == {"rows": 5}
    assert nightly["pipeline_version_reference"]["pipeline_version_id"] == target.version_id
    assert nightly["no_catchup"] and nightly["status"] == "ENABLED"
    assert hourly["trigger"]["periodic_schedule"]["interval_second"] == "3600"
    assert hourly["max_concurrency"] == "2" and not hourly.get("no_catchup") and hourly["status"] == "ENABLED"
    assert off["status"] == "DISABLED"
    before = world.there()
    assert set(actions(apply(world.api, wanted, target)).values()) == {"same"}
    assert world.there() == before


def test_a_new_version_replaces_and_says_so(world: World) -> None:
    apply(world.api, [NIGHTLY], world.target())
    (old,) = world.there()
    newer = world.target("v2")
    (change,) = apply(world.api, [NIGHTLY], newer)
    assert str(change) == "replace  nightly: the version is v2, not v1"
    (new,) = world.there()
    assert new["pipeline_version_reference"]["pipeline_version_id"] == newer.version_id
    assert new["status"] == "ENABLED" and new["recurring_run_id"] != old["recurring_run_id"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cron": "0 4 * * *"}, "cron `0 0 4 * * *`, not `0 0 3 * * *`"),
        ({"parameters": {"rows": 6}}, 'parameters `{"rows": 6}`, not `{"rows": 5'),
        ({"concurrency": 3}, "concurrency `3`, not `1`"),
        ({"catch_up": True}, "catch-up `true`, not `false`"),
        ({"cron": "", "every": 60}, "every `60`, not `0`"),
    ],
)
def test_another_setting_replaces_and_says_which(world: World, changes: dict[str, Any], words: str) -> None:
    target = world.target()
    apply(world.api, [NIGHTLY], target)
    (change,) = plan(world.api, [replace(NIGHTLY, **changes)], target)
    assert change.action == "replace" and words in str(change)


def test_another_experiment_or_account_replaces(world: World) -> None:
    target = world.target()
    apply(world.api, [NIGHTLY], target)
    (change,) = plan(world.api, [NIGHTLY], replace(target, service_account="other"))
    assert change.action == "replace" and "another setting" in str(change)


def test_what_somebody_did_in_the_cluster_is_told_and_put_right(world: World) -> None:
    target = world.target()
    wanted = [NIGHTLY, HOURLY]
    apply(world.api, wanted, target)
    hourly, nightly = world.there()
    world.api.post(f"{RECURRING}/{nightly['recurring_run_id']}:disable")
    world.api.delete(f"{RECURRING}/{hourly['recurring_run_id']}")
    assert [str(change) for change in plan(world.api, wanted, target)] == [
        "enable   nightly: it is disabled",
        "create   hourly",
    ]
    apply(world.api, wanted, target)
    assert [item["status"] for item in world.there()] == ["ENABLED", "ENABLED"]
    assert world.there()[1]["recurring_run_id"] == nightly["recurring_run_id"]


def test_a_schedule_is_disabled_and_one_that_is_gone_is_deleted(world: World) -> None:
    target = world.target()
    apply(world.api, [NIGHTLY, HOURLY], target)
    changes = apply(world.api, [replace(NIGHTLY, enabled=False)], target)
    assert actions(changes) == {"nightly": "disable", "hourly": "delete"}
    (left,) = world.there()
    assert left["status"] == "DISABLED"


def test_others_recurring_runs_are_never_touched(world: World) -> None:
    target = world.target()
    apply(world.api, [NIGHTLY], replace(target, scope="owner/other/training"))
    (other,) = world.there()
    body = {name: other[name] for name in ("description", "trigger", "max_concurrency", "runtime_config")}
    body |= {"pipeline_version_reference": other["pipeline_version_reference"], "mode": "ENABLE"}
    body |= {"experiment_id": world.experiment}
    body["description"] = body["description"].replace("owner/other", "owner/name")  # a person's copy of one of ours
    world.api.post(RECURRING, {**body, "display_name": "Clone of training-nightly"})
    world.api.post(RECURRING, {**body, "display_name": "by hand", "description": ""})
    before = {item["recurring_run_id"] for item in world.there()}
    apply(world.api, [NIGHTLY], target)
    apply(world.api, [], target)
    assert {item["recurring_run_id"] for item in world.there()} == before


class Killed(Exception):
    """As by kill -9: nothing is done after it."""


class Mortal(KfpApi):
    """Dies before its n-th request, or just after it was answered."""

    def __init__(self, url: str, dies: int, after: bool) -> None:
        super().__init__(kfp_inputs(url), {}, Path())
        self._left, self._after = dies, after

    def _send(self, *arguments: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        response = super()._send(*arguments, **options)
        if self._left == 0:
            raise Killed
        return response


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_job_that_was_killed_anywhere_is_put_right_by_the_next(world: World, after: bool) -> None:
    old, new = world.target("v1"), world.target("v2")
    wanted = [NIGHTLY]
    for dies in range(1, 100):
        apply(world.api, [NIGHTLY, Schedule("gone", cron="@daily")], old)
        try:
            apply(Mortal(world.double.url, dies, after), wanted, new)
        except Killed:
            enabled = [item["display_name"] for item in world.there() if item["status"] == "ENABLED"]
            assert len(set(enabled)) == len(enabled)  # none fires twice
        else:
            break
        apply(world.api, wanted, new)
        assert [(item["display_name"], item["status"]) for item in world.there()] == [("training-nightly", "ENABLED")]
        assert set(actions(plan(world.api, wanted, new)).values()) == {"same"}
    assert dies > 8


def test_an_answer_that_was_lost_makes_no_second_one(world: World) -> None:
    target = world.target()
    for kind in ("drop", "cut"):
        world.double.fault(kind, path=r"POST /apis/v2beta1/recurringruns$")
        apply(world.api, [NIGHTLY], target)
        assert len(world.there()) == 1
        apply(world.api, [], target)


def test_jobs_at_the_same_time_leave_one_of_each(world: World) -> None:
    target = world.target()
    meet = threading.Barrier(4)
    failed: list[Exception] = []

    def job() -> None:
        meet.wait()
        try:
            apply(KfpApi(kfp_inputs(world.double.url), {}, Path()), [NIGHTLY, HOURLY], target)
        except ApiError as error:
            failed.append(error)

    threads = [threading.Thread(target=job) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [item["display_name"] for item in world.there()] == ["training-hourly", "training-nightly"]
    assert {item["status"] for item in world.there()} == {"ENABLED"}


def test_a_namespace_s_schedules_are_its_own() -> None:
    users = {"ci@example.com": ["team-a", "team-b"]}
    with KfpDouble(settings=Settings(users=users), metadata=False) as server:
        sign_in = {"sign_in": "user-header", "user": "ci@example.com"}
        a, b = (World(server, namespace=name, **sign_in) for name in ("team-a", "team-b"))
        apply(a.api, [NIGHTLY], a.target())
        apply(b.api, [HOURLY], b.target())
        assert [item["namespace"] for item in a.there() + b.there()] == ["team-a", "team-b"]
        apply(b.api, [], b.target())
        assert len(a.there()) == 1 and not b.there()
        assert not server.violations


def until(holds: Callable[[], bool]) -> None:
    clock = Clock()
    end = clock.now() + 30
    while not holds():
        assert clock.now() < end
        clock.wait(0.05)


def test_a_schedule_starts_runs_of_the_version_that_it_is_pinned_to(world: World) -> None:
    target = world.target("v1")
    apply(world.api, [Schedule("often", cron="* * * * * *", concurrency=10)], target)
    world.target("v2")  # uploaded by a pull request, and followed by nobody
    until(lambda: bool(world.double.runs()))
    apply(world.api, [], target)
    versions = {run["pipeline_version_reference"]["pipeline_version_id"] for run in world.double.runs()}
    assert versions == {target.version_id}
