"""The double of KFP (tests/doubles/kfp), held to KFP's published description, its official client, and ML Metadata."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

import kfp_recorded
import servers
from doubles.kfp import KfpDouble, MetadataUnavailable, Settings, Step, interpreter
from doubles.kfp.metadata import Metadata
from doubles.kfp.schedules import cron_fields, next_time
from mlops_actions import environments
from mlops_actions.pipelines.kfp.run.argo import Nodes, hash_of
from mlops_actions.stores.store import Store
from mlops_actions.waiting import Clock

ROOT = Path(__file__).resolve().parents[2]
API = "/apis/v2beta1"
PIPELINES = """
from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output

component = dsl.component(base_image="python:3.11")


@component
def load(rows: int, out: Output[Dataset]) -> int:
    print("loading", rows)
    with open(out.path, "w") as file:
        file.write("x" * rows)
    return rows


@component
def train(data: Input[Dataset], rate: float, model: Output[Model], metrics: Output[Metrics]):
    with open(data.path) as file:
        rows = len(file.read())
    print("training on", rows)
    with open(model.path, "w") as file:
        file.write(str(rows * rate))
    metrics.log_metric("rows", rows)


@component
def score(i: int, classes: Output[ClassificationMetrics]) -> int:
    classes.log_confusion_matrix(["a", "b"], [[i, 0], [0, 1]])
    return i


@component
def slow(file: str):
    import os, time

    print("waiting for", file, flush=True)
    while not os.path.exists(file):
        time.sleep(0.02)
    print("found it", flush=True)


@component
def last():
    print("in any case")


@dsl.pipeline(name="training")
def training(rows: int = 3, rate: float = 0.5):
    loaded = load(rows=rows)
    train(data=loaded.outputs["out"], rate=rate)


@dsl.pipeline
def nested(i: int) -> int:
    return score(i=i).outputs["Output"]


@dsl.pipeline(name="branching")
def branching(rows: int = 3):
    with dsl.ExitHandler(last()):
        loaded = load(rows=rows)
        with dsl.If(loaded.outputs["Output"] > 100):
            score(i=1)
        with dsl.ParallelFor([1, 2]) as item:
            score(i=item)
        inner = nested(i=7)
        after = load(rows=inner.output)
        after.set_retry(num_retries=1, backoff_duration="0s")


@dsl.container_component
def shell():
    return dsl.ContainerSpec(image="alpine", command=["sh", "-c"], args=["echo hello"])


@dsl.component(base_image="python:3.11", packages_to_install=["iniconfig==2.0.0"])
def packaged() -> str:
    import iniconfig

    return iniconfig.__name__


@dsl.pipeline(name="others")
def others():
    packaged()
    shell()


@dsl.pipeline(name="waiting")
def waiting(file: str):
    slow(file=file).set_caching_options(False)
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The pipelines above, by name, as the SDK compiles them."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "pipelines.py").write_text(PIPELINES)
    program = (
        "import pipelines\nfrom kfp import compiler\n"
        "for name in ('training', 'branching', 'others', 'waiting'):\n"
        "    compiler.Compiler().compile(getattr(pipelines, name), name + '.yaml')\n"
    )
    subprocess.run([str(interpreter()), "-c", program], cwd=folder, check=True)
    return {path.stem: path.read_bytes() for path in folder.glob("*.yaml")}


class Client:
    """A plain HTTP client; every answer is kept for `test_the_official_classes_read_every_answer`."""

    def __init__(self, double: KfpDouble, compiled: dict[str, bytes]) -> None:
        self.double, self.url, self._compiled = double, double.url, compiled
        self.http = requests.Session()
        self.http.trust_env = False
        self.answers: list[tuple[str, Any]] = []

    def ask(self, method: str, path: str, status: int = 200, kind: str = "", **given: Any) -> Any:
        answer = self.http.request(method, f"{self.url}{API}{path}", timeout=30, **given)
        assert answer.status_code == status, answer.text
        if kind:
            self.answers.append((kind, answer.json()))
        return answer.json()

    def upload(self, pipeline: str, status: int = 200, endpoint: str = "upload", kind: str = "", **query: str) -> Any:
        file = {"uploadfile": (f"{pipeline}.yaml", self._compiled[pipeline])}
        return self.ask("POST", f"/pipelines/{endpoint}", status, kind, params={"name": pipeline, **query}, files=file)

    def start(self, name: str, **parameters: Any) -> str:
        found = self.ask("GET", "/pipelines").get("pipelines", [])
        pipeline = next((p for p in found if p["name"] == name), None) or self.upload(name)
        reference = {"pipeline_id": pipeline["pipeline_id"]}
        run = {"display_name": name, "pipeline_version_reference": reference}
        return str(self.ask("POST", "/runs", json={**run, "runtime_config": {"parameters": parameters}})["run_id"])

    def until(self, run: str, wanted: Callable[[Any], bool]) -> Any:
        clock, began = Clock(), Clock().now()
        while not wanted(found := self.ask("GET", f"/runs/{run}")):
            assert clock.now() - began < 300, found
            clock.wait(0.05)
        return found

    def end(self, run: str) -> Any:
        return self.until(run, lambda r: r["state"] in ("SUCCEEDED", "FAILED", "CANCELED"))

    def log(self, run: str, pod: str) -> requests.Response:
        query = {"runid": run, "podname": pod, "podnamespace": self.double.namespace}
        return self.http.get(f"{self.url}/k8s/pod/logs", params=query, timeout=30)

    def lines(self, run: str, pod: str) -> list[str]:
        """What the component printed, and the launcher after it."""
        answer = self.log(run, pod)
        assert answer.status_code == 200, answer.text
        return answer.text.rpartition("\n}\n")[2].splitlines()


def states(run: Any) -> dict[str, list[str]]:
    """The states of a run's tasks by display name."""
    found: dict[str, list[str]] = {}
    for detail in run.get("run_details", {}).get("task_details", []):
        found.setdefault(detail.get("display_name", ""), []).append(detail.get("state", ""))
    return found


@pytest.fixture
def start(compiled: dict[str, bytes]) -> Iterator[Callable[..., Client]]:
    """Start doubles: `start(…arguments of KfpDouble…)`; none may have seen a violation in the end."""
    made: list[KfpDouble] = []

    def call(*arguments: Any, metadata: bool = False, **options: Any) -> Client:
        try:
            made.append(KfpDouble(*arguments, metadata=metadata, **options))
        except MetadataUnavailable as error:
            pytest.skip(f"no ml-metadata: {error}")
        return Client(made[-1], compiled)

    yield call
    for double in made:
        double.close()
    assert [violation for double in made for violation in double.violations] == []


@pytest.fixture
def kfp(start: Callable[..., Client]) -> Client:
    return start()


# What a run is


def test_a_pipeline_really_runs_and_its_artifacts_are_on_s3(start: Callable[..., Client]) -> None:
    s3 = servers.seaweedfs()
    bucket = urlsplit(s3.new_store()).netloc
    kfp = start(s3.options(), Settings(pipeline_root=f"minio://{bucket}/v2/artifacts"), archive=True)
    run = kfp.end(kfp.start("training", rows=5))
    assert run["state"] == "SUCCEEDED"
    assert [entry["state"] for entry in run["state_history"]] == ["PENDING", "RUNNING", "SUCCEEDED"]
    (whole,) = [name for name in states(run) if name.startswith("training-") and not name.endswith("(0)")]
    names = [whole, *("root-driver", "root", "load-driver", "load", "train-driver", "train")]
    assert states(run) == {
        **{name: ["SUCCEEDED"] for one in names for name in (one, f"{one}(0)")},
        **{name: ["SUCCEEDED", "SUCCEEDED"] for name in ("executor", "executor(0)")},
        "": ["", ""],
    }
    store = Store(f"s3://{bucket}", s3.options())
    paths = [entry.path for entry in store.list()]
    made = [path for path in paths if path.startswith(f"v2/artifacts/training/{run['run_id']}/train/")]
    model = next(path for path in made if path.endswith("/model"))
    assert len(model.split("/")) == 7, "the root, pipeline, run, task, execution, artifact"
    assert store.get(model) == b"2.5"
    logs = {path.split("/")[-2]: store.get(path).decode() for path in paths if path.startswith("private-artifacts/")}
    made_pods = kfp.double.pods(run["run_id"], "executor(0)")
    assert sorted(logs) == sorted(made_pods)
    assert sorted(log.splitlines()[-1] for log in logs.values()) == ["loading 5", "training on 5"]
    gone = kfp.log(run["run_id"], made_pods[0])
    assert gone.status_code == 500 and "not found" in gone.text


def test_groups_are_the_nodes_that_argo_has(kfp: Client) -> None:
    run = kfp.end(kfp.start("branching"))
    found = states(run)
    assert run["state"] == "SUCCEEDED"
    assert found["condition-2-driver"] == ["SUCCEEDED"] and found["condition-2"] == ["SKIPPED"]
    assert found["for-loop-4"] == found["iteration-driver"] == found["iteration-iterations"] == ["SUCCEEDED"]
    assert found["iteration-iterations(0:0)"] == found["iteration-iterations(1:1)"] == ["SUCCEEDED"]
    assert found["iteration-item"] == ["SUCCEEDED"] * 2
    assert found["score-2"] == ["SUCCEEDED"] * 2 and found["score"] == ["SUCCEEDED"]
    assert found["exit-handler-1.onExit"] == found["last"] == ["SUCCEEDED"]
    assert found["executor"] == found["executor(0)"] == ["SUCCEEDED"] * 6


def shape(run: Any, workflow: str, names: Sequence[str]) -> Counter[tuple[str, str, tuple[str, ...]]]:
    """The nodes of a run: how each is displayed, its state, and the full names of its children, by those of all."""
    known = {f"{workflow}-{hash_of(name.replace('WORKFLOW', workflow))}": name for name in names}
    return Counter(
        (
            row.get("display_name", "").replace(workflow, "WORKFLOW"),
            row.get("state", ""),
            tuple(sorted(known[child["pod_name"]] for child in row.get("child_tasks", []))),
        )
        for row in run["run_details"]["task_details"]
    )


@pytest.mark.parametrize("name", ["failing", "branch"])
def test_nodes_are_those_of_the_same_run_on_a_real_server(kfp: Client, name: str) -> None:
    real = kfp_recorded.run(name)
    parameters = real["runtime_config"].get("parameters", {})
    body = {"pipeline_spec": kfp_recorded.spec(name), "runtime_config": {"parameters": parameters}}
    run = kfp.end(kfp.ask("POST", "/runs", kind="V2beta1Run", json={"display_name": name, **body})["run_id"])
    workflow = kfp.double._world.runs[run["run_id"]].workflow
    names = [node.name.replace(workflow.name, "WORKFLOW") for node in workflow.nodes.values()]
    found, expected = (
        shape(run, workflow.name, names),
        shape(real, Nodes(real["run_details"]["task_details"]).workflow, names),
    )
    if name == "branch":  # there a task was taken from the cache
        expected.subtract({("executor", "SKIPPED", ()): 1})
        executed = ("executor", "SUCCEEDED", tuple(n for n in names if n.endswith("judge-2(0).executor(0)")))
        expected.update([executed, ("executor(0)", "SUCCEEDED", ()), ("", "", ())])
    assert found == +expected


def test_a_failure_fails_the_groups_around_it_and_omits_what_depends(kfp: Client) -> None:
    kfp.double.fault("task", task="load", outcome="exit", code=3)
    run = kfp.end(kfp.start("branching"))
    found = states(run)
    assert run["state"] == "FAILED"
    assert found["load"] == ["FAILED"] and found["exit-handler-1"] == found["root"] == ["FAILED"]
    assert found["condition-2"] == [""], "Argo's Omitted is no state of KFP's"
    assert found["last"] == ["SUCCEEDED"]
    (failed,) = (
        pod for pod in kfp.double.pods(run["run_id"], "executor(0)") if "leaving" in kfp.log(run["run_id"], pod).text
    )
    said, *_, launcher = kfp.lines(run["run_id"], failed)
    assert said == "leaving with 3" and launcher.endswith("] failed to execute component: exit status 3")
    assert not any("pod_name" in detail or "error" in detail for detail in run["run_details"]["task_details"])


def test_without_the_configuration_of_2_17_nodes_are_no_attempts(start: Callable[..., Client]) -> None:
    kfp = start(settings=Settings(retries=False))
    found = states(kfp.end(kfp.start("branching")))
    assert found["load"] == found["load-2"] == ["SUCCEEDED"]
    assert "load(0)" not in found
    assert found["executor(0)"] == ["SUCCEEDED"], "a task that may be retried has a node for each attempt"


def test_packages_are_installed_and_containers_are_not_run(kfp: Client) -> None:
    run = kfp.end(kfp.start("others"))
    found = states(run)
    assert run["state"] == "FAILED" and found["packaged"] == ["SUCCEEDED"] and found["shell"] == ["FAILED"]
    texts = [kfp.log(run["run_id"], pod).text for pod in kfp.double.pods(run["run_id"], "executor(0)")]
    assert any("runs Python functions only" in text for text in texts)


def test_what_fails_by_itself_is_not_tried_again_with_the_configuration_of_2_17(kfp: Client) -> None:
    kfp.double.fault("task", task="load-2", outcome="exit", code=3)
    assert "executor(1)" not in states(kfp.end(kfp.start("branching")))


def test_each_attempt_of_a_task_is_a_pod_with_a_log(start: Callable[..., Client]) -> None:
    kfp = start(settings=Settings(retries=False))
    kfp.double.fault("task", task="load-2", outcome="exit", code=3)
    run = kfp.end(kfp.start("branching"))
    found = states(run)
    assert found["executor(1)"] == ["FAILED"] and "FAILED" in found["executor(0)"]
    texts = [
        kfp.log(run["run_id"], pod).text for n in (0, 1) for pod in kfp.double.pods(run["run_id"], f"executor({n})")
    ]
    assert len([text for text in texts if "leaving with 3\n" in text]) == 2


def test_retry_goes_on_from_what_failed(kfp: Client) -> None:
    kfp.double.fault("task", task="train", outcome="oom")
    identity = kfp.start("training")
    first = kfp.end(identity)
    assert first["state"] == "FAILED" and states(first)["load"] == ["SUCCEEDED"]
    texts = [kfp.log(identity, pod).text for pod in kfp.double.pods(identity, "executor(0)")]
    assert any("failed to execute component: signal: killed" in text for text in texts)
    (kept,) = [d for d in first["run_details"]["task_details"] if d.get("display_name") == "load"]
    kfp.ask("POST", f"/runs/{identity}:retry")
    second = kfp.end(identity)
    assert second["state"] == "SUCCEEDED"
    assert [e["state"] for e in second["state_history"]] == ["PENDING", "RUNNING", "FAILED", "RUNNING", "SUCCEEDED"]
    assert kept in second["run_details"]["task_details"], "a task that had succeeded was executed again"
    refused = kfp.ask("POST", f"/runs/{identity}:retry", 409)
    assert refused["code"] == 10


def test_an_exit_task_runs_in_each_attempt(kfp: Client) -> None:
    kfp.double.fault("task", task="load", outcome="exit")
    identity = kfp.start("branching")
    first = kfp.end(identity)
    kfp.ask("POST", f"/runs/{identity}:retry")
    second = kfp.end(identity)
    assert second["state"] == "SUCCEEDED"
    (before,), (after,) = (
        [d for d in run["run_details"]["task_details"] if d.get("display_name") == "last"] for run in (first, second)
    )
    assert before["task_id"] != after["task_id"]
    assert states(second)["exit-handler-1.onExit"] == states(second)["exit-handler-1"] == ["SUCCEEDED"]


def test_a_task_with_the_same_inputs_is_taken_from_the_cache(kfp: Client) -> None:
    kfp.end(kfp.start("training"))
    again = kfp.end(kfp.start("training", rate=1.0))
    assert states(again)["load"] == ["SUCCEEDED"]
    assert sorted(states(again)["executor"]) == ["SKIPPED", "SUCCEEDED"]


def test_a_log_is_what_there_is_now(kfp: Client, tmp_path: Path) -> None:
    identity = kfp.start("waiting", file=str(tmp_path / "go"))
    kfp.until(identity, lambda r: "RUNNING" in states(r).get("executor(0)", []))
    (pod,) = kfp.double.pods(identity, "executor(0)")
    clock, began = Clock(), Clock().now()
    while not (lines := kfp.lines(identity, pod)):
        assert clock.now() - began < 30
        clock.wait(0.05)
    assert lines[0].startswith("waiting for")
    (tmp_path / "go").touch()
    kfp.end(identity)
    assert kfp.lines(identity, pod)[1:] == ["found it"]


def test_the_log_reader_of_the_api_finds_no_pods_and_says_so_with_status_200(start: Callable[..., Client]) -> None:
    kfp = start(settings=Settings(ui=False))
    run = kfp.end(kfp.start("training"))
    (pod, _), identity = kfp.double.pods(run["run_id"], "executor(0)"), run["run_id"]
    answer = kfp.http.get(f"{kfp.url}/apis/v1alpha1/runs/{identity}/nodes/{pod}/log", timeout=10)
    assert (
        answer.status_code == 200
        and f"/artifacts/{pod.partition('-system')[0]}/{pod}/" in answer.json()["error_message"]
    )
    assert kfp.log(identity, pod).status_code == 404


def test_the_ui_has_another_path_for_logs_and_users_need_a_namespace(start: Callable[..., Client]) -> None:
    kfp = start(settings=Settings(users={"ann": ["team-a"]}))
    assert kfp.http.get(f"{kfp.url}/apis/v1alpha1/runs/r/nodes/p/log", timeout=10).status_code == 404
    logs, ann = f"{kfp.url}/k8s/pod/logs?runid=r&podname=p", {"kubeflow-userid": "ann"}
    assert kfp.http.get(logs, headers=ann, timeout=10).status_code == 422
    assert kfp.http.get(f"{logs}&podnamespace=team-b", headers=ann, timeout=10).status_code == 403


def test_terminate_kills_the_task(kfp: Client, tmp_path: Path) -> None:
    identity = kfp.start("waiting", file=str(tmp_path / "never"))
    running = kfp.until(identity, lambda r: "RUNNING" in states(r).get("executor", []))
    assert running["finished_at"] == "1970-01-01T00:00:00Z"
    ends = {d["end_time"] for d in running["run_details"]["task_details"] if d.get("state") == "RUNNING"}
    assert ends == {"0001-01-01T00:00:00Z"}
    kfp.ask("POST", f"/runs/{identity}:terminate")
    assert kfp.ask("GET", f"/runs/{identity}")["state"] in ("CANCELING", "FAILED")
    ended = kfp.end(identity)
    assert ended["state"] == "FAILED" and states(ended)["executor"] == ["FAILED"]
    assert [entry["state"] for entry in ended["state_history"]] == ["PENDING", "RUNNING", "CANCELING", "FAILED"]
    assert _processes_with(str(tmp_path)) == []
    assert kfp.ask("POST", f"/runs/{identity}:terminate", 400)["code"] == 3


def _processes_with(text: str) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if text in line and "kfp-double" in line]


# What clients see of the API


def test_the_official_client_works_with_it(start: Callable[..., Client], tmp_path: Path, compiled: Any) -> None:
    kfp = start()
    (tmp_path / "training.yaml").write_bytes(compiled["training"])
    long = kfp.double.synthetic_run([Step("long", 0, 600)])
    program = f"""
import json
from kfp.client import Client
client = Client(host={kfp.url!r})
uploaded = client.upload_pipeline("training.yaml", "training", description="a b+c")
version = client.upload_pipeline_version("training.yaml", "v2", pipeline_id=uploaded.pipeline_id)
assert client.get_pipeline_id("training") == uploaded.pipeline_id
started = client.create_run_from_pipeline_package("training.yaml", arguments={{"rows": 4}}, enable_caching=False)
run = client.wait_for_run_completion(started.run_id, timeout=60, sleep_duration=1)
experiment = client.create_experiment("nightly")
other = client.run_pipeline(experiment.experiment_id, "again", pipeline_id=uploaded.pipeline_id,
                            version_id=version.pipeline_version_id, params={{"rows": 2}})
listed = client.list_runs(experiment_id=experiment.experiment_id).runs
recurring = client.create_recurring_run(experiment.experiment_id, "hourly", cron_expression="0 0 * * * *",
                                        pipeline_id=uploaded.pipeline_id, version_id=version.pipeline_version_id,
                                        max_concurrency=1)
client.disable_recurring_run(recurring.recurring_run_id)
print(json.dumps({{
    "state": run.state, "tasks": len(run.run_details.task_details), "listed": [r.run_id for r in listed],
    "other": client.get_run(other.run_id).display_name, "versions": client.list_pipeline_versions(
        uploaded.pipeline_id).total_size, "status": client.get_recurring_run(recurring.recurring_run_id).status,
    "experiments": [e.display_name for e in client.list_experiments().experiments],
}}))
client.terminate_run({long!r})
client.delete_recurring_run(recurring.recurring_run_id)
"""
    environ = {**os.environ, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [str(interpreter()), "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["state"] == "SUCCEEDED" and said["tasks"] == 9 * 2 + 2, "each with its attempt, and what was cached"
    assert said["other"] == "again" and len(said["listed"]) == 1
    assert said["versions"] == 2 and said["status"] == "DISABLED"
    assert said["experiments"] == ["Default", "nightly"]


def test_the_official_classes_read_every_answer(kfp: Client) -> None:
    pipeline = kfp.upload("branching", kind="V2beta1Pipeline", description="it", tags='{"team": "a"}')
    one = f"/pipelines/{pipeline['pipeline_id']}"
    version = kfp.upload(
        "branching", endpoint="upload_version", kind="V2beta1PipelineVersion",
        name="v2", pipelineid=pipeline["pipeline_id"], code_source_url="https://example.com",
    )  # fmt: skip
    for path, kind in (
        ("/healthz", "V2beta1GetHealthzResponse"),
        (one, "V2beta1Pipeline"),
        ("/pipelines/names/branching", "V2beta1Pipeline"),
        ("/pipelines", "V2beta1ListPipelinesResponse"),
        (f"{one}/versions", "V2beta1ListPipelineVersionsResponse"),
        (f"{one}/versions/{version['pipeline_version_id']}", "V2beta1PipelineVersion"),
        ("/experiments", "V2beta1ListExperimentsResponse"),
    ):
        kfp.ask("GET", path, kind=kind)
    experiment = kfp.ask("POST", "/experiments", kind="V2beta1Experiment", json={"display_name": "nightly"})
    recurring = {
        "display_name": "hourly", "max_concurrency": "1", "mode": "ENABLE",
        "experiment_id": experiment["experiment_id"],
        "pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]},
        "trigger": {"cron_schedule": {"cron": "0 0 * * * *", "start_time": "2030-01-01T00:00:00Z"}},
    }  # fmt: skip
    kfp.ask("POST", "/recurringruns", kind="V2beta1RecurringRun", json=recurring)
    kfp.ask("GET", "/recurringruns", kind="V2beta1ListRecurringRunsResponse")
    run = kfp.end(kfp.start("branching"))
    kfp.ask("GET", f"/runs/{run['run_id']}", kind="V2beta1Run")
    kfp.ask("GET", "/runs", kind="V2beta1ListRunsResponse")
    kfp.ask("GET", "/runs/none", 404, kind="GoogleRpcStatus")
    program = """
import json, sys, types
import kfp_server_api
client = kfp_server_api.ApiClient()
for kind, body in json.load(sys.stdin):
    found = client.deserialize(types.SimpleNamespace(data=json.dumps(body)), kind)
    kept = client.sanitize_for_serialization(found)
    missing = set(body) - set(kept) - {"error"}
    assert not missing, (kind, missing)
"""
    done = subprocess.run(
        [str(interpreter()), "-c", program], input=json.dumps(kfp.answers), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_what_the_description_does_not_allow_is_refused_and_kept(compiled: dict[str, bytes]) -> None:
    with KfpDouble(metadata=False) as double:
        kfp = Client(double, compiled)
        kfp.ask("POST", "/experiments", 500, json={"displayName": "x"})
        kfp.ask("GET", "/runs?order_by=name", 500)
        kfp.ask("GET", "/runs?page_size=many", 500)
        kfp.ask("POST", "/recurringruns", 500, json={"display_name": "x", "max_concurrency": "many"})
        assert len(double.violations) == 4
        assert "displayName" in double.violations[0] and "order_by" in double.violations[1]


def test_a_name_that_is_taken_is_a_conflict(kfp: Client) -> None:
    pipeline = kfp.upload("training")
    taken = kfp.upload("training", 409)
    assert taken["error_message"] == "Failed to create a pipeline and a pipeline version"
    where = {"endpoint": "upload_version", "pipelineid": pipeline["pipeline_id"]}
    kfp.upload("training", **where, name="v1")
    assert "The name v1 already exists" in kfp.upload("training", 409, **where, name="v1")["error_details"]
    kfp.ask("POST", "/experiments", json={"display_name": "x"})
    assert kfp.ask("POST", "/experiments", 409, json={"display_name": "x"})["code"] == 6


def test_names_have_limits(start: Callable[..., Client]) -> None:
    kfp = start()
    too_long = kfp.upload("training", 400, name="x" * 129)
    assert too_long["error_message"] == "Pipeline.Name length cannot exceed 128"
    pipeline = kfp.upload("training", name="Any name: ü, /, and spaces")
    where = {"endpoint": "upload_version", "pipelineid": pipeline["pipeline_id"]}
    assert "127" in kfp.upload("training", 400, **where, name="x" * 128)["error_message"]
    kubernetes = start(settings=Settings(pipeline_store="kubernetes"))
    assert "RFC 1123" in kubernetes.upload("training", 400, name="With Spaces")["error_message"]


def test_bad_input_is_told_as_the_real_server_does(kfp: Client) -> None:
    pipeline = kfp.upload("training")
    reference = {"pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]}}
    run = {"display_name": "r", **reference}
    for body, status, message in (
        ({**run, "display_name": ""}, 400, "The run name is empty"),
        ({**run, "experiment_id": "none"}, 404, "Experiment none not found."),
        ({"display_name": "r"}, 400, "empty pipeline spec"),
        ({**run, "runtime_config": {"parameters": {"row": 1}}}, 400, "parameter row is not defined"),
        ({**run, "runtime_config": {"parameters": {"rows": "1"}}}, 400, "requires type NUMBER_INTEGER"),
        ({**run, "pipeline_version_reference": {"pipeline_id": "none"}}, 404, "Pipeline none not found."),
    ):
        answer = kfp.ask("POST", "/runs", status, json=body)
        assert message in answer["message"] and answer["error"] == answer["message"]
        assert answer["details"][0]["@type"] == "type.googleapis.com/google.rpc.Status"
    assert kfp.ask("DELETE", f"/pipelines/{pipeline['pipeline_id']}", 400)["code"] == 3
    kfp.ask("DELETE", f"/pipelines/{pipeline['pipeline_id']}?cascade=true")
    assert kfp.ask("GET", "/pipelines") == {}


def test_lists_are_filtered_sorted_and_paged(kfp: Client) -> None:
    for name in ("c", "a", "b", "100% + more"):
        kfp.ask("POST", "/experiments", json={"display_name": name})

    def names(**query: Any) -> list[str]:
        found = kfp.ask("GET", "/experiments", params=query)
        return [experiment["display_name"] for experiment in found.get("experiments", [])]

    def by(key: str, operation: str, **value: Any) -> str:
        return json.dumps({"predicates": [{"key": key, "operation": operation, **value}]})

    assert names(sort_by="display_name desc") == ["c", "b", "a", "Default", "100% + more"]
    assert names(filter=by("display_name", "EQUALS", string_value="b")) == ["b"]
    assert names(filter=by("name", "IN", string_values={"values": ["a", "c"]}), sort_by="name") == ["a", "c"]
    assert names(filter=by("display_name", "IS_SUBSTRING", stringValue="efau")) == ["Default"]
    plus = by("display_name", "EQUALS", string_value="100% + more")
    assert names(filter=plus) == [], "the server decodes a filter twice"
    assert names(filter=requests.utils.quote(plus)) == ["100% + more"]
    assert names(filter=by("created_at", "LESS_THAN", timestamp_value="2020-01-01T00:00:00Z")) == []
    first = kfp.ask("GET", "/experiments", params={"page_size": 2, "sort_by": "name"})
    token = first["next_page_token"]
    second = kfp.ask("GET", "/experiments", params={"page_size": 10, "page_token": token})
    assert first["total_size"] == second["total_size"] == 5
    assert len(first["experiments"]) == 2 and len(second["experiments"]) == 3 and "next_page_token" not in second
    for query, message in (
        ({"page_token": token, "sort_by": "id"}, "page token does not match"),
        ({"page_token": "???"}, "Invalid package token"),
        ({"sort_by": "colour"}, "Invalid sorting field"),
        ({"filter": by("colour", "EQUALS", string_value="red")}, "unrecognized field"),
        ({"filter": "{"}, "failed to parse valid filter"),
    ):
        assert message in kfp.ask("GET", "/experiments", 400, params=query)["message"]


def test_a_server_with_users_wants_a_user_and_a_namespace(start: Callable[..., Client]) -> None:
    kfp = start(settings=Settings(users={"ann": ["team-a"], "bob": ["team-b"]}))
    assert kfp.ask("GET", "/healthz")["multi_user"] is True
    body = {"display_name": "x", "namespace": "team-a"}
    assert kfp.ask("POST", "/experiments", 401, json=body)["code"] == 16
    ann, bob = {"kubeflow-userid": "ann"}, {"kubeflow-userid": "bob"}
    assert kfp.ask("POST", "/experiments", 403, json=body, headers=bob)["code"] == 7
    assert "Namespace" in kfp.ask("POST", "/experiments", 400, json={"display_name": "x"}, headers=ann)["message"]
    made = kfp.ask("POST", "/experiments", json=body, headers=ann)
    assert made["namespace"] == "team-a"
    assert kfp.ask("GET", "/experiments?namespace=team-b", headers=bob) == {}
    kfp.ask("GET", f"/experiments/{made['experiment_id']}", 403, headers=bob)


# ML Metadata


def test_ml_metadata_has_the_run_as_kfp_writes_it(start: Callable[..., Client]) -> None:
    kfp = start(metadata=True)
    run = kfp.end(kfp.start("branching"))
    python = environments.ensure("", environments.cache_folder(), packages=["ml-metadata==1.17.1"]).python
    program = """
import http.client, json, sys
from ml_metadata.proto import metadata_store_service_pb2 as messages

def call(method, **given):
    data = getattr(messages, method + "Request")(**given).SerializeToString()
    connection = http.client.HTTPConnection(sys.argv[1])
    connection.request("POST", "/ml_metadata.MetadataStoreService/" + method, b"\\0" + len(data).to_bytes(4, "big")
                       + data, {"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"})
    answer = connection.getresponse()
    body = answer.read()
    length = int.from_bytes(body[1:5], "big")
    assert b"grpc-status: 0" in body[5 + length:], (answer.status, dict(answer.headers), body)
    return getattr(messages, method + "Response").FromString(body[5:5 + length])

context = call("GetContextByTypeAndName", type_name="system.PipelineRun", context_name=sys.argv[2]).context
executions = call("GetExecutionsByContext", context_id=context.id).executions
artifacts = {a.id: a for a in call("GetArtifactsByContext", context_id=context.id).artifacts}
kinds = {t.id: t.name for t in call("GetArtifactTypes").artifact_types}
events = call("GetEventsByExecutionIDs", execution_ids=[e.id for e in executions]).events
assert len(call("GetArtifactsByID", artifact_ids=list(artifacts)).artifacts) == len(artifacts)
assert len(call("GetEventsByArtifactIDs", artifact_ids=list(artifacts)).events) == len(events)
tasks = {e.id: e.custom_properties["task_name"].string_value for e in executions}
print(json.dumps({
    "root": context.custom_properties["pipeline_root"].string_value,
    "executions": sorted([e.type, tasks[e.id], e.last_known_state] for e in executions),
    "pods": [e.custom_properties["pod_name"].string_value for e in executions if e.type.endswith("ContainerExecution")],
    "indices": sorted(e.custom_properties["iteration_index"].int_value for e in executions
                      if "iteration_index" in e.custom_properties),
    "outputs": sorted(dict(e.custom_properties["outputs"].struct_value).get("Output", -1) for e in executions
                      if tasks[e.id].startswith("score")  and "outputs" in e.custom_properties),
    "events": sorted([tasks[e.execution_id], e.type, e.path.steps[0].key, kinds[artifacts[e.artifact_id].type_id]]
                     for e in events if e.path.steps[0].key != "executor-logs"),
}))
"""
    done = subprocess.run(
        [str(python), "-c", program, urlsplit(kfp.url).netloc, run["run_id"]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["root"].endswith(f"/branching/{run['run_id']}")
    complete, canceled = 3, 6
    assert ["system.DAGExecution", "condition-2", canceled] in said["executions"], said["executions"]
    assert ["system.ContainerExecution", "load", complete] in said["executions"]
    assert ["system.DAGExecution", "for-loop-4", complete] in said["executions"]
    made = [pod for n in (0, 1) for pod in kfp.double.pods(run["run_id"], f"executor({n})")]
    assert set(said["pods"]) == set(made)
    assert said["indices"] == [0, 1] and said["outputs"] == [1.0, 2.0, 7.0]
    output = 4
    assert ["score", output, "classes", "system.ClassificationMetrics"] in said["events"]


def test_an_error_of_ml_metadata_is_in_the_headers(start: Callable[..., Client]) -> None:
    kfp = start(metadata=True)
    url = f"{kfp.url}/ml_metadata.MetadataStoreService/GetContextType"
    frame = b"\0\0\0\0\x06\x0a\x04none"  # type_name: "none"
    answer = kfp.http.post(url, data=frame, headers={"Content-Type": "application/grpc-web+proto"}, timeout=10)
    assert (answer.status_code, answer.headers["grpc-status"], answer.content) == (200, "5", b"")


def test_metadata_outlives_its_process_in_a_file(tmp_path: Path) -> None:
    try:
        first = Metadata(tmp_path / "mlmd.sqlite")
    except MetadataUnavailable as error:
        pytest.skip(f"no ml-metadata: {error}")
    made = first.do("PutContextType", context_type={"name": "system.Pipeline"})
    first.close()
    second = Metadata(tmp_path / "mlmd.sqlite")
    assert second.do("GetContextType", type_name="system.Pipeline")["context_type"]["id"] == made["type_id"]
    second.close()


# Faults


def test_requests_fail_as_often_as_asked(kfp: Client) -> None:
    kfp.double.fault("status", path=r"GET .*/experiments", status=429, retry_after=2, times=2)
    for _ in range(2):
        answer = kfp.http.get(f"{kfp.url}{API}/experiments", timeout=10)
        assert answer.status_code == 429 and answer.headers["Retry-After"] == "2"
        kfp.ask("GET", "/healthz")
    kfp.ask("GET", "/experiments")
    kfp.double.fault("html", path="healthz")
    assert kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10).text.startswith("<!doctype html>")
    kfp.double.fault("redirect", path="healthz")
    assert kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10, allow_redirects=False).status_code == 302


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_connections_break(kfp: Client, kind: str) -> None:
    kfp.double.fault(kind, path="healthz")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10)
    kfp.ask("GET", "/healthz")


@pytest.mark.parametrize("kind", ["stall", "trickle"])
def test_connections_stall(kfp: Client, kind: str) -> None:
    kfp.double.fault(kind, path="healthz", seconds=2)
    with pytest.raises((requests.Timeout, requests.ConnectionError)):
        kfp.http.get(f"{kfp.url}{API}/healthz", timeout=0.2)
    kfp.ask("GET", "/healthz")


def test_a_restart_cuts_everybody_and_keeps_the_state(kfp: Client, tmp_path: Path) -> None:
    identity = kfp.start("waiting", file=str(tmp_path / "go"))
    kfp.until(identity, lambda r: "RUNNING" in states(r).get("executor(0)", []))
    kfp.double.fault("restart", seconds=0.3)
    with pytest.raises(requests.ConnectionError):
        kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10)
    (tmp_path / "go").touch()
    while True:
        try:
            kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10)
            break
        except requests.ConnectionError:
            Clock().wait(0.05)
    assert kfp.end(identity)["state"] == "SUCCEEDED"


def test_tokens_are_demanded_and_expire(kfp: Client) -> None:
    kfp.double.fault("token", token="first", seconds=3600)
    assert kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10).status_code == 401
    bearer = {"Authorization": "Bearer first"}
    kfp.ask("GET", "/healthz", headers=bearer)
    kfp.double.fault("clock", seconds=7200)
    assert kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10, headers=bearer).status_code == 401


@pytest.mark.parametrize("outcome", ["image", "unschedulable"])
def test_a_pod_that_cannot_start_is_pending_for_ever(kfp: Client, outcome: str) -> None:
    kfp.double.fault("task", task="load", outcome=outcome)
    identity = kfp.start("training")
    run = kfp.until(identity, lambda r: "PENDING" in states(r).get("executor(0)", []))
    assert run["state"] == "RUNNING"
    assert kfp.log(identity, kfp.double.pods(identity, "executor(0)")[0]).status_code == 500
    kfp.double.fault("terminate", run=identity)
    assert kfp.end(identity)["state"] == "FAILED"


def test_details_may_be_late_double_nameless_or_absent(kfp: Client) -> None:
    identity = kfp.start("training")
    whole = kfp.end(identity)["run_details"]["task_details"]
    kfp.double.fault("details", mode="duplicate")
    assert len(kfp.ask("GET", f"/runs/{identity}")["run_details"]["task_details"]) == 2 * len(whole)
    kfp.double.fault("details", mode="nameless")
    assert "" in {d.get("display_name", "") for d in kfp.ask("GET", f"/runs/{identity}")["run_details"]["task_details"]}
    kfp.double.fault("details", mode="absent")
    assert "run_details" not in kfp.ask("GET", f"/runs/{identity}")
    kfp.double.fault("details", mode="late", seconds=3600)
    assert "run_details" not in kfp.ask("GET", f"/runs/{identity}")
    kfp.double.fault("details", mode="")
    assert kfp.ask("GET", f"/runs/{identity}")["run_details"]["task_details"] == whole


def test_states_may_be_late_or_unknown(kfp: Client) -> None:
    kfp.double.fault("lag", seconds=3600)
    identity = kfp.start("training")
    clock = Clock()
    while kfp.double.at_work:
        clock.wait(0.05)
    assert kfp.ask("GET", f"/runs/{identity}")["state"] == "PENDING"
    kfp.double.fault("clock", seconds=7200)
    assert kfp.ask("GET", f"/runs/{identity}")["state"] == "SUCCEEDED"
    kfp.double.fault("state", task="load", state="CANCELED")
    assert states(kfp.ask("GET", f"/runs/{identity}"))["load"] == ["CANCELED"]
    for state in ("PAUSED", "SKIPPED", "HIBERNATING"):
        kfp.double.fault("state", state=state)
        assert kfp.ask("GET", f"/runs/{identity}")["state"] == state


def test_somebody_else_deletes_and_archives(kfp: Client, tmp_path: Path) -> None:
    identity = kfp.start("waiting", file=str(tmp_path / "never"))
    kfp.double.fault("archive", run=identity)
    assert kfp.ask("GET", f"/runs/{identity}")["storage_state"] == "ARCHIVED"
    kfp.double.fault("delete", run=identity)
    assert f"Run {identity} not found." in kfp.ask("GET", f"/runs/{identity}", 404)["message"]


def test_faults_can_be_asked_for_by_http(kfp: Client) -> None:
    answer = kfp.http.post(f"{kfp.url}/doubles/faults", json={"kind": "status", "path": "healthz"}, timeout=10)
    assert answer.status_code == 200
    assert kfp.http.get(f"{kfp.url}{API}/healthz", timeout=10).status_code == 503
    wrong = kfp.http.post(f"{kfp.url}/doubles/faults", json={"kind": "earthquake"}, timeout=10)
    assert wrong.status_code == 400 and "earthquake" in wrong.json()["message"]
    state = kfp.http.get(f"{kfp.url}/doubles/state", timeout=10).json()
    assert state["struck"] == [f"status: GET {API}/healthz"] and state["violations"] == []


# Recurring runs


def recurring(kfp: Client, trigger: Any, status: int = 200, **fields: Any) -> Any:
    pipeline = next(iter(kfp.ask("GET", "/pipelines").get("pipelines", []))) if fields.pop("again", False) else None
    pipeline = pipeline or kfp.upload("training")
    body = {
        "display_name": "often", "max_concurrency": "10", "mode": "ENABLE", "trigger": trigger,
        "pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]}, **fields,
    }  # fmt: skip
    return kfp.ask("POST", "/recurringruns", status, json=body)


def fired(kfp: Client, identity: str, count: int) -> Sequence[Any]:
    clock, began = Clock(), Clock().now()
    while True:
        runs = [r for r in kfp.ask("GET", "/runs").get("runs", []) if r.get("recurring_run_id") == identity]
        if len(runs) >= count or clock.now() - began > 20:
            return runs
        clock.wait(0.05)


@pytest.mark.parametrize(("no_catchup", "count"), [(False, 3), (True, 1)])
def test_missed_times_are_caught_up_or_not(kfp: Client, no_catchup: bool, count: int) -> None:
    hourly = {"periodic_schedule": {"interval_second": "3600"}}
    made = recurring(kfp, hourly, no_catchup=no_catchup)
    kfp.double.fault("clock", seconds=3 * 3600 + 60)
    runs = fired(kfp, made["recurring_run_id"], count)
    assert len(runs) == count
    assert all(kfp.end(run["run_id"])["state"] == "SUCCEEDED" for run in runs)
    assert len(fired(kfp, made["recurring_run_id"], count)) == count


def test_only_so_many_run_at_a_time_and_none_when_disabled(kfp: Client, tmp_path: Path) -> None:
    pipeline = kfp.upload("waiting")
    reference = {"pipeline_id": pipeline["pipeline_id"]}
    config = {"parameters": {"file": str(tmp_path / "go")}}
    cron = {"cron_schedule": {"cron": "0 0 * * * *"}}
    made = recurring(
        kfp, cron, again=True, max_concurrency="2", runtime_config=config, pipeline_version_reference=reference
    )
    one = f"/recurringruns/{made['recurring_run_id']}"
    kfp.double.fault("clock", seconds=5 * 3600)
    assert len(fired(kfp, made["recurring_run_id"], 2)) == 2
    kfp.ask("POST", f"{one}:disable")
    assert kfp.ask("GET", one)["status"] == "DISABLED"
    (tmp_path / "go").touch()
    for run in fired(kfp, made["recurring_run_id"], 2):
        kfp.end(run["run_id"])
    assert len(fired(kfp, made["recurring_run_id"], 2)) == 2
    kfp.ask("POST", f"{one}:enable")
    assert len(fired(kfp, made["recurring_run_id"], 3)) >= 3
    kfp.ask("DELETE", one)
    assert kfp.ask("GET", one, 404)["code"] == 5


def test_triggers_are_checked(kfp: Client) -> None:
    ok = {"cron_schedule": {"cron": "0 * * * * *"}}
    kfp.upload("training")
    for trigger, fields, message in (
        ({"cron_schedule": {"cron": "often"}}, {}, "Schedule cron is not a supported format"),
        ({"periodic_schedule": {"interval_second": "0"}}, {}, "Found invalid period schedule interval 0"),
        (ok, {"max_concurrency": "11"}, "at leas 1 and at most 10. Received 11"),
        (ok, {"display_name": ""}, "name cannot be empty"),
        (ok, {"runtime_config": {"parameters": {"row": 1}}}, "parameter row is not defined"),
    ):
        assert message in recurring(kfp, trigger, 400, again=True, **fields)["message"]


def test_cron_is_read_as_kfp_reads_it() -> None:
    assert cron_fields("0 30 2 * * 1") == "0 30 2 * * 1"
    assert cron_fields("30 2 * * 1") == "30 2 * * 1 *", "of five fields the first is the second, not the minute"
    assert cron_fields("@daily") == "0 0 0 * * *"
    noon = 12 * 3600.0
    assert next_time({"cron_schedule": {"cron": "0 30 * * * *"}}, noon) == noon + 1800
    assert next_time({"cron_schedule": {"cron": "@every 1h30m"}}, noon) == noon + 5400
    ending = {"interval_second": "3600", "end_time": "1970-01-01T12:30:00Z"}
    assert next_time({"periodic_schedule": ending}, noon) == 0
    late = {"cron": "0 0 0 * * *", "start_time": "1970-01-05T00:00:00Z"}
    assert next_time({"cron_schedule": late}, noon) == 4 * 86400


# Without executing, and as a program


def test_a_synthetic_run_follows_its_script(kfp: Client) -> None:
    steps = [Step(f"task-{n}", n * 1000, n * 1000 + 1500, lines=[f"line {n}"]) for n in range(500)]
    identity = kfp.double.synthetic_run([*steps, Step("broken", 0, 600_000, "Failed")])
    kfp.double.fault("clock", seconds=200_000 + 2)
    run = kfp.ask("GET", f"/runs/{identity}")
    found = states(run)
    assert run["state"] == "RUNNING" and "task-201" not in found
    assert found["task-198"] == ["SUCCEEDED"] and found["task-199"] == found["task-200"] == ["RUNNING"]
    pod = kfp.double.pods(identity, "executor(0)")[201]
    assert kfp.lines(identity, pod) == ["line 200"]
    kfp.double.fault("clock", seconds=700_000)
    ended = kfp.ask("GET", f"/runs/{identity}")
    assert ended["state"] == "FAILED" and len(ended["run_details"]["task_details"]) == 2 * (3 * 501 + 3)


def test_it_runs_beside_other_processes() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "doubles.kfp", "--port", str(port), "--no-metadata", "--users", "ann=a,b;bob=b"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(60, process.kill)
    guard.start()
    assert process.stdout
    url = process.stdout.readline().strip()
    http = requests.Session()
    http.trust_env = False
    assert http.get(f"{url}{API}/healthz", timeout=10).json() == {"multi_user": True, "pipeline_store": "database"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()
    guard.cancel()
