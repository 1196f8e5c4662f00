"""The engine `kfp` against tests/doubles/kfp, which really executes pipelines, and goes wrong when it is asked to.

`tests/cluster/test_kfp_pods.py` has what only Kubernetes knows.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import kfp_recorded
import servers
from doubles.kfp import KfpDouble, Metadata, MetadataUnavailable, Settings
from doubles.kfp.metadata import Record
from kfp_worlds import Told, compiled
from mlops_actions.context import Context
from mlops_actions.errors import BadInput, Cancelled, ComponentFailed, Place, RemoteFailed
from mlops_actions.pipelines.downloads import download, wanted
from mlops_actions.pipelines.engine import Origin, PipelineContext, RunRequest, RunResult
from mlops_actions.pipelines.kfp import engine as kfp_engine
from mlops_actions.pipelines.kfp import runs as kfp_runs
from mlops_actions.pipelines.kfp.client.api import KfpApi
from mlops_actions.pipelines.kfp.engine import KfpEngine
from mlops_actions.pipelines.kfp.inputs import KfpEngineInputs
from mlops_actions.pipelines.kfp.metadata import recorded
from mlops_actions.pipelines.metrics import classifications, flat_metrics
from mlops_actions.pipelines.parameters import resolve_parameters
from mlops_actions.pipelines.spec import Pipeline
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import StoreOptions
from mlops_actions.waiting import Clock
from workspaces import workspace

COMMIT = "0123456789abcdef" * 2 + "01234567"
RUN = r"/apis/v2beta1/runs/[0-9a-f-]+$"


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    return compiled(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else starts the same run, so it need not be waited for."""
    monkeypatch.setattr(kfp_runs, "SETTLING", 0.0)


@pytest.fixture(scope="session")
def metadata() -> Iterator[Metadata]:
    """ML Metadata, which takes a process; runs do not see one another in it."""
    try:
        store = Metadata()
    except MetadataUnavailable as error:
        pytest.skip(f"no ML Metadata: {error}")
    yield store
    store.close()


@pytest.fixture
def double(metadata: Metadata) -> Iterator[KfpDouble]:
    with KfpDouble(metadata=metadata) as made:
        yield made
        assert not made.violations


class World:
    """A consumer's folder, a store, and the engine on a double."""

    def __init__(self, double: KfpDouble, pipelines: dict[str, Pipeline], folder: Path, **site: Any) -> None:
        self.double, self.pipelines, self.folder = double, pipelines, folder
        self.inputs: dict[str, Any] = {"kfp_host": double.url}
        self.context = Context(commit=COMMIT)
        self.workspace = workspace(folder, **{name: site.pop(name) for name in ("store", "options") if name in site})
        self.cluster = site.pop("cluster", None)
        self.site, self.told = site, Told()
        self.store = self.workspace.store

    def run(
        self, name: str, *, key: str = "", reuse: bool = True, timeout: float = 0.0, told: Told | None = None,
        settings: dict[str, Any] | None = None, pipeline: Pipeline | None = None, image: str = "", tag: str = "",
        **given: Any,
    ) -> RunResult:  # fmt: skip
        """Run a pipeline; `told` is made anew."""
        self.told = told or Told()
        pipeline = pipeline or self.pipelines[name]
        place = dataclasses.replace(self.workspace, root=pipeline.file.parent)
        site = PipelineContext(place, Origin(dataclasses.replace(self.context, tag=tag), "consumer", ""), **self.site)
        request = RunRequest(
            pipeline, resolve_parameters(pipeline.parameters, given, name), key or f"key-of-{name}", {},
            timeout=timeout, reuse=reuse, roles={"model": "", "predictions": "", "golden": ""}, image=image,
        )  # fmt: skip
        inputs = KfpEngineInputs.model_validate({**self.inputs, **(settings or {})})
        return KfpEngine(inputs, site, self.cluster).run(request, self.told)

    def versions(self) -> list[dict[str, Any]]:
        return list(self.double._world.versions.values())


@pytest.fixture
def world(double: KfpDouble, pipelines: dict[str, Pipeline], tmp_path: Path, quick: None) -> World:
    return World(double, pipelines, tmp_path)


class Waits:
    """A pipeline whose second task waits for a file, in a thread; `go()` lets it end."""

    def __init__(self, world: World, tmp_path: Path, **options: Any) -> None:
        self.file, self.told = tmp_path / "go", Told()
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self._reached = threading.Event()
        logged = self.told.logged

        def listen(task: str, line: str) -> None:
            logged(task, line)
            if "waiting for" in line:
                self._reached.set()

        self.told.logged = listen  # type: ignore[method-assign]

        def work() -> None:
            try:
                self.result = world.run("waiting", told=self.told, file=str(self.file), **options)
            except BaseException as error:
                self.error = error
                self._reached.set()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def reached(self) -> None:
        """Until the task that waits is at work."""
        assert self._reached.wait(60)

    def go(self) -> RunResult:
        """Let it end; its result."""
        self.file.touch()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        assert self.result
        return self.result


# Results


def test_a_run_gives_what_it_made_as_the_local_engine_does(world: World) -> None:
    result = world.run("training", rows=4)
    load, train = result.tasks
    model = next(a for a in train.artifacts if a.type == "system.Model")
    assert (load.parameters, train.parameters, result.outputs) == ({"Output": 4}, {"Output": 2.0}, {"Output": 2.0})
    assert flat_metrics(a for t in result.tasks for a in t.artifacts) == {"rows": 4}
    assert model.uri.startswith(world.store.url)
    assert model.digest == tree_digest(world.store.get_file(model.uri[len(world.store.url) + 1 :], world.folder / "m"))
    assert result.url == f"{world.double.url}/#/runs/details/{world.double.runs()[0]['run_id']}"
    assert [event for event in world.told.events if event[1] != "started"] == [
        ("load", "succeeded"),
        ("train", "succeeded"),
    ]


def test_a_pull_request_uploads_nothing_and_what_it_did_is_reused_by_itself_alone(world: World) -> None:
    on_branch, on_pull = world.context, dataclasses.replace(world.context, event="pull_request", pull_request=7)

    def states(context: Context, key: str) -> set[str]:
        world.context = context
        result = world.run("training", key=key, rows=4, settings={"store_secret": "keys"})
        assert result.outputs == {"Output": 2.0}
        return {task.state for task in result.tasks}

    assert states(on_pull, "a") == {"succeeded"}
    assert not world.versions() and not world.double._world.pipelines
    assert states(on_branch, "b") == {"succeeded"}
    assert states(on_pull, "c") == states(on_pull, "c") == {"reused"}
    assert states(dataclasses.replace(on_pull, pull_request=8), "d") == {"succeeded"}
    assert [version["pipeline_id"] for version in world.versions()] == [*world.double._world.pipelines]


def test_loops_conditions_nested_pipelines_and_exit_handlers_have_the_local_engines_names(world: World) -> None:
    result = world.run("branching")
    assert world.told.states() == {
        "nested/judge": "succeeded", "load": "succeeded", "judge": "skipped", "judge-2.0": "succeeded",
        "judge-2.1": "succeeded", "load-2": "succeeded", "last": "succeeded",
    }  # fmt: skip
    assert len(world.told.results) == len(world.told.states()), "each once"
    assert result.outputs == {"Output": 7}
    pictures = {entry["task"]: entry for entry in classifications(a for t in result.tasks for a in t.artifacts)}
    assert pictures["judge-2.1"]["matrix"] == [[2, 0], [0, 1]]
    assert pictures["nested/judge"]["roc"][0]["threshold"] is None, "infinite, as scikit-learn's first one is"


def test_artifacts_are_downloaded_on_request(world: World) -> None:
    artifacts = [a for task in world.run("training", rows=5).tasks for a in task.artifacts]
    paths = download(wanted(artifacts, ["train.model", "out"]), world.folder / "down", None)
    assert [path.relative_to(world.folder).as_posix() for path in paths] == ["down/train/model", "down/load/out"]
    assert paths[1].read_text() == "xxxxx"
    with pytest.raises(BadInput, match=r"no artifact 'modle'.*`model`"):
        wanted(artifacts, ["modle"])


def test_a_host_without_ml_metadata_is_refused_before_anything_runs(
    pipelines: dict[str, Pipeline], tmp_path: Path, quick: None
) -> None:
    with KfpDouble(settings=Settings(ui=False), metadata=False) as double:
        inside = World(double, pipelines, tmp_path)
        with pytest.raises(BadInput, match=r"has no ML Metadata.*Set `kfp-host` to KFP's UI"):
            inside.run("training")
        assert not double.runs()
        assert [task.state for task in inside.run("silent").tasks] == ["succeeded"], "what makes nothing needs none"


def test_artifacts_in_kfps_own_bucket_come_into_our_store(
    pipelines: dict[str, Pipeline],
    tmp_path: Path,
    quick: None,
    bucket: tuple[str, StoreOptions],
    metadata: Metadata,
) -> None:
    name, options = bucket
    double = KfpDouble(options, Settings(pipeline_root=f"minio://{name}/v2/artifacts"), metadata=metadata)
    with double:
        inside = World(double, pipelines, tmp_path, store=f"s3://{name}/ours", options=options)
        result = inside.run("training")
        root = f"s3://{name}/ours/kfp"
        below = inside.run("training", key="other", settings={"pipeline_root": root}, rows=9)
    model, kept = (next(a for t in r.tasks for a in t.artifacts if a.name == "model") for r in (result, below))
    dataset = next(a for t in result.tasks for a in t.artifacts if a.name == "out")
    assert (model.uri, dataset.digest) == (f"s3://{name}/ours/artifacts/key-of-training/train/model", "")
    assert dataset.uri.startswith(f"minio://{name}/v2/artifacts/training/")
    assert kept.uri.startswith(root), "what is below the store stays where it is"
    assert kept.digest.startswith("sha256:") and kept.digest != model.digest


@pytest.fixture
def bucket() -> tuple[str, StoreOptions]:
    """A bucket on a real S3 server, and how to reach it."""
    server = servers.seaweedfs()
    return server.new_store().split("/")[2], server.options()


def test_what_its_own_library_writes_into_ml_metadata_is_read_back(metadata: Metadata) -> None:
    class Direct:
        def grpc_web(self, service: str, method: str, message: bytes) -> bytes:
            return metadata.call(method, message)

    record = Record(metadata, "p", "run", "kubeflow", "p-x", "minio://bucket/root")
    record.dag("root", "", "", None, None, 120)
    for index in range(120):  # more than a page
        record.container(f"t{index}", "root", f"t{index}", "pod", "image")
        made = {"local": str(index), "name": "m", "type": "system.Metrics", "uri": f"s3://b/{index}"}
        logged = {
            "n": index - 5,
            "x": 0.5,
            "text": "größe",
            "yes": True,
            "list": [1, "a", None],
            "map": {"a": {}},
        }
        outputs = {"n": -index, "deep": {"a": [index]}, "text": "", "no": False}
        record.end(f"t{index}", "COMPLETE", outputs, [{**made, "metadata": logged}])
    found = recorded(cast(KfpApi, Direct()), "run")
    tasks = [one for one in found.executions if not one.is_group]
    assert (found.root, found.namespace) == ("minio://bucket/root", "kubeflow")
    assert {(task.state, task.pod) for task in found.tasks} == {("succeeded", "pod")}
    assert [one.label for one in tasks] == [f"t{index}" for index in range(120)]
    assert tasks[7].parameters == {"n": -7, "deep": {"a": [7]}, "text": "", "no": False}
    (output,) = tasks[7].outputs
    assert (output.name, output.type, output.uri) == ("m", "system.Metrics", "s3://b/7")
    assert output.metadata == {"n": 2.0, "x": 0.5, "text": "größe", "yes": 1, "list": [1, "a", None], "map": {"a": {}}}


def test_a_run_whose_results_cannot_be_read_is_no_success_and_is_found_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kfp_engine, "_RECORDED", 1.0)
    world.double.fault("metadata", status=503)
    monkeypatch.setattr(kfp_engine, "check_metadata", lambda api: None)  # it breaks while the run goes on
    with pytest.raises(RemoteFailed, match="The run succeeded in KFP, but its results cannot be read"):
        world.run("training")
    assert world.double.runs()[0]["state"] == "SUCCEEDED"
    world.double.fault("metadata", status=0)
    assert world.run("training").outputs == {"Output": 1.5}
    assert len(world.double.runs()) == 1


# Upload


def test_the_same_pipeline_is_uploaded_once(world: World) -> None:
    world.run("training")
    world.run("training", key="other", rows=2)
    (version,) = world.versions()
    assert version["name"] == COMMIT[:12]
    assert "as it was" in world.told.notes[0]


def test_platform_settings_survive_the_upload(world: World, bucket: tuple[str, StoreOptions]) -> None:
    name, options = bucket
    world.workspace = workspace(world.folder, store=f"s3://{name}/ours", options=options)
    world.run("training", settings={"store_secret": "keys"})
    (version,) = world.versions()
    spec = version["pipeline_spec"]
    executors = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["nodeSelector"]["labels"] == {"disk": "ssd"}
    assert executors["exec-load"]["secretAsEnv"][0]["secretName"] == "keys"
    container = spec["pipeline_spec"]["deploymentSpec"]["executors"]["exec-load"]["container"]
    assert {"name": "MLOPS_STORE", "value": f"s3://{name}/ours"} in container["env"]


def test_another_spec_of_the_same_commit_gets_a_name_of_its_own(world: World) -> None:
    world.run("training")
    world.run("training", key="other", image="registry/image@sha256:1")
    names = [version["name"] for version in world.versions()]
    assert names[0] == COMMIT[:12]
    assert re.fullmatch(rf"{COMMIT[:12]}-[0-9a-f]{{8}}", names[1])


def test_a_version_that_was_named_and_is_another_one_is_a_clear_conflict(world: World) -> None:
    world.run("training", settings={"version": "v1.0"})
    with pytest.raises(BadInput, match=r"version 'v1.0' with another spec.*Give another `version`"):
        world.run("training", key="other", settings={"version": "v1.0"}, image="other")


def test_a_version_that_others_uploaded_is_compared_by_its_spec(world: World) -> None:
    world.run("training", settings={"version": "v1"})
    world.versions()[0]["description"] = ""
    world.run("training", key="second", settings={"version": "v1"}, rows=2)
    assert len(world.versions()) == 1
    with pytest.raises(BadInput, match="another spec"):
        world.run("training", key="third", settings={"version": "v1"}, image="other")


def test_two_uploads_at_once_end_with_one_version(world: World, pipelines: dict[str, Pipeline]) -> None:
    worlds = [World(world.double, pipelines, world.folder) for _ in range(3)]
    run = lambda number: worlds[number].run("training", key=f"k{number}", rows=number + 1)  # noqa: E731
    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(world.versions()) == 1
    assert [run["state"] for run in world.double.runs()] == ["SUCCEEDED"] * 3


def test_names_that_kfp_does_not_allow_are_mapped(world: World) -> None:
    pipeline = world.pipelines["training"]
    spec = {**pipeline.spec, "pipelineInfo": {"name": "Flight_Delays"}}
    world.run("training", pipeline=dataclasses.replace(pipeline, spec=spec), tag="release/V1.2")
    (version,) = world.versions()
    assert (version["name"], world.double.runs()[0]["display_name"]) == ("release-v1.2", "flight-delays-release-v1.2")


def test_without_the_cache_the_version_says_so_and_tasks_run_again(world: World) -> None:
    world.run("training", settings={"version": "v1"})
    world.run("training", settings={"version": "v1"}, reuse=False)
    assert [version["name"] for version in world.versions()] == ["v1", "v1-no-cache"]
    assert set(world.told.states().values()) == {"succeeded"}


def test_the_experiment_and_service_account_are_as_asked(world: World) -> None:
    world.run("training", settings={"experiment": "Delays of flights", "service_account": "trainer"})
    run = world.double.runs()[0]
    experiment = world.double._world.experiments[run["experiment_id"]]
    assert (experiment["display_name"], run["service_account"]) == ("Delays of flights", "trainer")


def test_an_archived_experiment_is_a_clear_error(world: World) -> None:
    world.run("training")
    run = world.double.runs()[0]
    world.double._world.experiments[run["experiment_id"]]["storage_state"] = "ARCHIVED"
    with pytest.raises(BadInput, match="The experiment 'training' is archived"):
        world.run("training", key="other")


# One run for one key


def test_a_finished_run_of_the_key_is_taken(world: World) -> None:
    first = world.run("training")
    second = world.run("training")
    assert len(world.double.runs()) == 1
    assert [task.state for task in second.tasks] == ["reused", "reused"]
    assert [t.artifacts for t in first.tasks] == [t.artifacts for t in second.tasks]
    assert (second.outputs, second.url, world.told.events) == (first.outputs, first.url, [])


def test_a_run_that_goes_on_is_watched_again(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    again = Waits(world, tmp_path)
    again.reached()
    waits.go()
    assert [task.state for task in again.go().tasks] == ["succeeded", "succeeded"]
    assert len(world.double.runs()) == 1
    assert "goes on already" in again.told.notes[1]


def test_failed_and_archived_runs_are_not_taken(world: World, tmp_path: Path) -> None:
    with pytest.raises(ComponentFailed):
        world.run("failing", key="k")
    world.run("failing", key="k", text="1")
    world.double.fault("archive", run=world.double.runs()[1]["run_id"])
    world.run("failing", key="k", text="1")
    assert [run["state"] for run in world.double.runs()] == ["FAILED", "SUCCEEDED", "SUCCEEDED"]


def test_two_jobs_with_one_key_start_one_run(double: KfpDouble, pipelines: dict[str, Pipeline], tmp_path: Path) -> None:
    """Here runs are waited for: both jobs see no run, and both create one."""
    worlds = [World(double, pipelines, tmp_path) for _ in range(2)]
    double.fault("stall", path="POST /apis/v2beta1/runs", seconds=0.3, times=2)
    both = [Waits(one, tmp_path) for one in worlds]
    for one in both:
        one.reached()
    for one in both:
        one.go()
    created = [line for line in double.requests if re.match(r"POST /apis/v2beta1/runs($|\?)", line)]
    assert [run["state"] for run in double.runs()] == ["SUCCEEDED"]
    assert len(created) <= 2


def test_a_run_whose_creation_was_not_answered_is_found(world: World) -> None:
    world.double.fault("cut", path="POST /apis/v2beta1/runs$")
    world.run("training")
    assert len(world.double.runs()) == 1


def test_users_have_their_own_pipelines_and_runs(
    pipelines: dict[str, Pipeline], tmp_path: Path, quick: None, metadata: Metadata
) -> None:
    with KfpDouble(settings=Settings(users={"alice": ["team-a"], "bob": ["team-b"]}), metadata=metadata) as double:
        inside = World(double, pipelines, tmp_path)
        inside.run("training", settings={"namespace": "team-a", "kfp_sign_in": "user-header", "kfp_user": "alice"})
        assert not double.violations
        (pipeline,) = double._world.pipelines.values()
        assert pipeline["namespace"] == "team-a"


# Watching


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "times": 3},
        {"kind": "status", "status": 500, "times": 2},
        {"kind": "status", "status": 429, "retry_after": 0.2, "times": 2},
        {"kind": "cut", "times": 2},
        {"kind": "drop", "times": 2},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_faults_that_pass_are_waited_out(world: World, tmp_path: Path, fault: dict[str, Any]) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    world.double.fault(fault.pop("kind"), path=f"GET {RUN}", **fault)
    assert [task.state for task in waits.go().tasks] == ["succeeded", "succeeded"]


def test_a_restart_of_the_server_is_survived_and_said_once(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    world.double.fault("restart", seconds=1.5)
    waits.go()
    assert len([note for note in waits.told.notes if "Retrying" in note]) == 1
    assert len([note for note in waits.told.notes if "responds again" in note]) == 1


def test_a_token_that_expires_while_waiting_is_read_again(world: World, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    world.double.fault("token", token="first")
    waits = Waits(world, tmp_path, settings={"kfp_sign_in": "token-file", "kfp_token_file": str(token)})
    waits.reached()
    token.write_text("second")
    world.double.fault("token", token="second")
    waits.go()


def test_servers_whose_nodes_are_not_tried_again_are_understood(
    pipelines: dict[str, Pipeline], tmp_path: Path, quick: None, metadata: Metadata
) -> None:
    with KfpDouble(settings=Settings(retries=False), metadata=metadata) as double:
        inside = World(double, pipelines, tmp_path)
        inside.run("branching")
        assert inside.told.states()["judge-2.1"] == inside.told.states()["nested/judge"] == "succeeded"
        assert sorted(inside.told.states()) == [
            "judge", "judge-2.0", "judge-2.1", "last", "load", "load-2", "nested/judge",
        ]  # fmt: skip
        with pytest.raises(ComponentFailed, match=r"The task 'broken' failed\. ValueError"):
            inside.run("failing")


@pytest.mark.parametrize("mode", ["duplicate", "nameless", "absent"])
def test_strange_task_details_do_no_harm(world: World, mode: str) -> None:
    world.double.fault("details", mode=mode)
    result = world.run("training")
    assert {task.task: task.state for task in result.tasks} == {"load": "succeeded", "train": "succeeded"}
    assert world.told.states() == {"load": "succeeded", "train": "succeeded"}


def test_tasks_that_lag_behind_the_runs_state_are_told_once_by_the_results(world: World) -> None:
    world.double.fault("details", mode="late", seconds=30.0)
    world.run("training")
    assert sorted(world.told.states()) == ["load", "train"]
    assert len(world.told.results) == 2


@pytest.mark.parametrize(("state", "said"), [("PAUSED", "paused"), ("SLEEPING", "an unknown state, 'SLEEPING'")])
def test_states_that_are_no_end_are_waited_for_and_said_once(
    world: World, tmp_path: Path, state: str, said: str
) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    waited, note = threading.Event(), waits.told.note

    def listen(text: str) -> None:
        note(text)
        if said in text:
            waited.set()

    waits.told.note = listen  # type: ignore[method-assign]
    world.double.fault("state", state=state)
    assert waited.wait(30)
    world.double.fault("state", state="")
    waits.go()
    world.double.violations.clear()  # a state that is in no description
    assert len([text for text in waits.told.notes if said in text]) == 1


def test_a_clock_that_jumps_does_not_matter(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path, timeout=3600.0)
    waits.reached()
    world.double.fault("clock", seconds=-7200.0)
    result = waits.go()
    assert all(task.seconds >= 0 for task in result.tasks)


def test_a_run_that_was_deleted_is_a_clear_error(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    world.double.fault("delete", run=world.double.runs()[0]["run_id"])
    with pytest.raises(RemoteFailed, match=r"no longer exists in KFP.*Still running: slow"):
        waits.go()


def test_a_run_that_was_archived_goes_on(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path)
    waits.reached()
    world.double.fault("archive", run=world.double.runs()[0]["run_id"])
    waits.go()
    assert len([note for note in waits.told.notes if "was archived" in note]) == 1


def test_a_run_that_somebody_terminated_says_what_had_finished_and_is_not_retried(world: World, tmp_path: Path) -> None:
    waits = Waits(world, tmp_path, settings={"retries": 1})
    waits.reached()
    world.double.fault("terminate", run=world.double.runs()[0]["run_id"])
    waits.thread.join(60)
    with pytest.raises(RemoteFailed, match=r"terminated in KFP\. Finished before: load; ended with it: slow"):
        raise waits.error or AssertionError("it did not end")
    assert not [line for line in world.double.requests if ":retry" in line]


def test_a_run_that_kfp_has_deleted_meanwhile_is_started_again(world: World) -> None:
    """KFP after 2.17 deletes old runs: one that was listed may be gone when it is looked at."""
    world.run("training")
    world.double.fault("status", path=f"GET {RUN}", status=404, times=2, body='{"code": 5, "message": "Run not found"}')
    result = world.run("training")
    assert [task.state for task in result.tasks] == ["reused", "reused"], "by KFP's cache"
    assert len(world.double.runs()) == 2


def test_live_lines_of_a_log_are_told_once_though_the_connection_is_cut(world: World, tmp_path: Path) -> None:
    world.double.fault("cut", path="/log")
    waits = Waits(world, tmp_path)
    waits.reached()
    waits.go()
    assert [line for line in waits.told.lines if line.startswith("slow | ")] == [
        f"slow | waiting for {waits.file}", "slow | found it",
    ]  # fmt: skip


# Limits and cancelling


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 3.0}, r"The pipeline did not end within 3 s.*Still running: slow.*Raise `timeout`"),
        ({"settings": {"task_timeout": 2.0}}, r"The task 'slow' did not end within 2 s.*Raise `task-timeout`"),
    ],
)
def test_a_limit_ends_the_run_and_says_what_was_at_work(
    world: World, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    waits = Waits(world, tmp_path, **options)
    waits.thread.join(60)
    with pytest.raises(RemoteFailed, match=said):
        raise waits.error or AssertionError("it did not end")
    assert any("terminated" in note for note in waits.told.notes)
    assert any("Finished before: load" in note for note in waits.told.notes)
    assert world.double.runs()[0]["state"] in ("CANCELING", "FAILED")


class Signalled(Clock):
    """A clock whose next wait is interrupted by a signal, once it is told to be."""

    def __init__(self) -> None:
        self.cancel = threading.Event()
        self._main: threading.Thread | None = None

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        if self.cancel.is_set() and threading.current_thread() is self._main:
            self.cancel.clear()
            raise Cancelled(15, "Cancelled by SIGTERM")
        self._main = self._main or threading.current_thread()
        return super().wait(seconds, wake)


def test_a_cancelled_job_terminates_the_run_and_says_what_had_finished(
    double: KfpDouble, pipelines: dict[str, Pipeline], tmp_path: Path, quick: None
) -> None:
    clock = Signalled()
    waits = Waits(World(double, pipelines, tmp_path, clock=clock), tmp_path)
    waits.reached()
    clock.cancel.set()
    waits.thread.join(60)
    assert isinstance(waits.error, Cancelled)
    assert waits.error.details["tasks"][0]["name"] == "load"
    assert double.runs()[0]["state"] in ("CANCELING", "FAILED")
    assert any("Finished before: load" in note for note in waits.told.notes)


def test_a_job_cancelled_while_it_starts_leaves_no_run(
    double: KfpDouble, pipelines: dict[str, Pipeline], tmp_path: Path
) -> None:
    clock = Signalled()
    clock._main = threading.current_thread()
    clock.cancel.set()  # the first wait is the one after creating the run
    with pytest.raises(Cancelled):
        World(double, pipelines, tmp_path, clock=clock).run("waiting", file=str(tmp_path / "never"))
    assert [run["state"] in ("CANCELING", "FAILED") for run in double.runs()] == [True]


# Failures


def test_a_failure_names_the_task_its_exception_its_line_and_its_log(world: World) -> None:
    with pytest.raises(ComponentFailed) as caught:
        world.run("failing", text="forty")
    error, file = caught.value, world.pipelines["failing"].file
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "number = int(text)" in text)
    assert error.what == "The task 'broken' failed"
    assert "ValueError: invalid literal for int() with base 10: 'forty'" in error.why
    assert re.search(r"States: PENDING \S+, RUNNING \S+, FAILED \S+", error.why)
    assert error.place == Place("pipelines.py", line)
    assert error.log.startswith("about to fail\nTraceback")
    assert world.double.url in error.fix
    assert {task["name"]: task["state"] for task in error.details["tasks"]}["broken"] == "failed"


@pytest.mark.parametrize(
    ("retries", "said"), [(True, "KFP made one attempt, though `set_retry` allows 1 more"), (False, "Attempts: 2")]
)
def test_attempts_are_those_that_kfp_made(
    pipelines: dict[str, Pipeline], metadata: Metadata, tmp_path: Path, quick: None, retries: bool, said: str
) -> None:
    with KfpDouble(settings=Settings(retries=retries), metadata=metadata) as double:
        double.fault("task", task="load-2", outcome="exit", code=3)
        with pytest.raises(ComponentFailed, match=re.escape(said)) as caught:
            World(double, pipelines, tmp_path).run("branching")
    assert "The task 'load-2' failed" in caught.value.what


def test_a_failure_in_a_nested_pipeline_of_the_real_server_is_that_of_its_task(world: World) -> None:
    """`nestfail`, which was run on a real server: there too `ok` and `last` succeed."""
    pipeline = Pipeline(kfp_recorded.RECORDED / "nestfail-spec.json", kfp_recorded.spec("nestfail"), {})
    with pytest.raises(ComponentFailed, match=r"The task 'inner/broken' failed\. ValueError: invalid literal"):
        world.run("nestfail", pipeline=pipeline, text="nope")
    assert world.told.states() == {"ok": "succeeded", "inner/broken": "failed", "last": "succeeded"}


def test_a_failure_without_an_exception_tells_its_exit_code_and_last_line(world: World) -> None:
    world.double.fault("task", task="broken", outcome="exit", code=7)
    with pytest.raises(ComponentFailed, match=r"The task 'broken' failed\. It ended with exit code 7") as caught:
        world.run("failing", text="1")
    assert "leaving with 7" in caught.value.log


def test_the_log_of_a_pod_that_is_gone_comes_from_the_archive(
    pipelines: dict[str, Pipeline],
    tmp_path: Path,
    quick: None,
    bucket: tuple[str, StoreOptions],
    metadata: Metadata,
) -> None:
    name, options = bucket
    settings = Settings(pipeline_root=f"minio://{name}/v2/artifacts")
    with KfpDouble(options, settings, metadata=metadata, archive=True) as double:
        inside = World(double, pipelines, tmp_path, options=options)
        inside.inputs["archived_logs"] = f"s3://{name}/private-artifacts/{double.namespace}"
        with pytest.raises(ComponentFailed, match="ValueError: invalid literal") as caught:
            inside.run("failing")
    ui, api, *lines = caught.value.log.splitlines()
    assert ui.startswith("No log from KFP's UI: ") and api.startswith("No log from KFP's API: ")
    assert lines[0] == "about to fail"


def test_a_failed_run_is_retried_from_its_failed_tasks(world: World, tmp_path: Path) -> None:
    result = world.run("again", file=str(tmp_path / "tried"), settings={"retries": 1})
    assert {task.task: task.state for task in result.tasks} == {"load": "succeeded", "flaky": "succeeded"}
    assert ("flaky", "failed") in world.told.events
    assert [note for note in world.told.notes if "retry 1 of 1" in note]


def test_retries_are_counted_in_the_failure(world: World) -> None:
    with pytest.raises(ComponentFailed, match="The run was tried 3 times"):
        world.run("failing", settings={"retries": 2})
    assert len([line for line in world.double.requests if ":retry" in line]) == 2


def test_the_engine_without_a_host_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="`kfp-host`"):
        site = PipelineContext(workspace(tmp_path), Origin(Context(), "consumer", ""))
        KfpEngine(KfpEngineInputs(), site, None)
