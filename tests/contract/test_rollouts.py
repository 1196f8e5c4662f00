"""Rollouts as a person makes them, on this machine: what goes live, what goes back, the alias, the history, a drill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import MLOPS
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.serving.history import Deployments, places
from mlops_actions.stores.store import Store
from mlops_actions.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="models are served on Linux and macOS")
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CODE = '''
import json, os, time


class Model:
    """Adds a number to x, and has the faults that its file says."""

    def load(self, path):
        self.how, self.asked = json.loads(path.read_text()), 0
        time.sleep(self.how.get("loading", 0))
        if "fault" in self.how:
            raise RuntimeError(self.how["fault"])

    def predict(self, rows):
        self.asked += 1
        if self.asked > self.how.get("crash", 1e9):
            os._exit(7)
        time.sleep(self.how.get("sleep", 0))
        x = list(rows["x"]) if hasattr(rows, "columns") else [row["x"] for row in rows]
        values = [one + self.how["offset"] for one in x]
        if len(values) > 1:
            time.sleep(self.how.get("hang", 0))
            values = values[self.how.get("fewer", 0) :]
        return [[one, one] for one in values] if self.how.get("wide") else values
'''
VERSIONS: list[tuple[dict[str, Any], float]] = [
    ({"offset": 1}, 1),
    ({"offset": 2}, 2),
    ({"offset": 3}, 30),  # version 3: its golden scores are another model's
    ({"offset": 4, "sleep": 0.1}, 4),
    ({"offset": 5, "crash": 10}, 5),
    ({"offset": 6, "fault": "no such weights"}, 6),
    ({"offset": 7, "loading": 8}, 7),
    ({"offset": 8, "wide": True}, 8),
    ({"offset": 9, "fewer": 1}, 9),
    ({"offset": 10, "hang": 60}, 10),
]
"""What each version does, and the number that its golden scores say it adds."""


@dataclass
class World:
    """A consumer's folder with a registry of the versions above."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.environ["MLOPS_STORE"])

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(MLOPS), *arguments], env={**self.environ, **environ}, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, **environ: str) -> tuple[int, dict[str, Any], str]:
        """Call a command: exit code, outputs, what it said."""
        job = self.start(*arguments, "--json", **environ)
        out, err = job.communicate(timeout=240)
        return job.returncode, json.loads(out or "{}"), err

    def deploy(self, version: int, *arguments: str) -> tuple[int, dict[str, Any], str]:
        return self.run("deploy-model", "--version", str(version), *arguments)

    @property
    def deployments(self) -> Deployments:
        (found,) = places(self.store, "adder")
        return found

    @property
    def champion(self) -> int | None:
        named = Registry(self.store).alias("adder", "champion")
        return named.version if named else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    try:
        environments.ensure("serving", environments.cache_folder())
    except EnvironmentFailed as error:
        pytest.skip(f"no model server: {error}")
    folder = tmp_path_factory.mktemp("rollouts")
    (folder / "own.py").write_text(CODE)
    (folder / "mlops.yaml").write_text(
        "model: adder\ndeploy-model: {predict: 'own:Model', alias: champion, requires: [], measure: 20}\n"
    )
    registry = Registry(Store((folder / "store").as_uri()))
    for number, (how, adds) in enumerate(VERSIONS, 1):
        (folder / f"{number}.json").write_text(json.dumps(how))
        rows = "".join(f"{x}.5,{x + 0.5 + adds}\n" for x in range(8))
        (folder / f"{number}.csv").write_text(f"x,score\n{rows}")
        register(registry, Registration("adder", folder / f"{number}.json", golden=folder / f"{number}.csv"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_", "MLOPS_"))}
    cache = {"MLOPS_CACHE": os.environ["MLOPS_CACHE"]} if "MLOPS_CACHE" in os.environ else {}
    made = World(folder, {**kept, **cache, "MLOPS_STORE": registry.store.url, "MLOPS_HOME": str(folder / "home")})
    yield made
    code, _, log = made.run("deploy-model", "--stop")
    assert code == 0, log


@pytest.fixture
def first(world: World) -> World:
    """Version 1 serves and is the champion."""
    code, outputs, log = world.deploy(1)
    assert (code, outputs["version"], world.champion) == (0, 1, 1), log
    return world


class User:
    """Asks without a pause, and keeps what went wrong and which versions answered."""

    def __init__(self, url: str) -> None:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}
        self._url, self._data = f"{url}/infer", json.dumps({"inputs": [tensor]}).encode()
        self._stopping, self._thread = threading.Event(), threading.Thread(target=self._ask)
        self.failures: list[str] = []
        self.answers: list[tuple[str, float]] = []

    def __enter__(self) -> User:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _ask(self) -> None:
        request = urllib.request.Request(self._url, self._data, {"Content-Type": "application/json"})
        while not self._stopping.is_set():
            try:
                with OPEN.open(request, timeout=20) as response:
                    found = json.loads(response.read())
                    self.answers.append((found["model_version"], found["outputs"][0]["data"][0]))
            except OSError as error:
                self.failures.append(str(error))


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith(("Rejected:", "Failed:", "Bad input:"))]


def test_a_version_goes_live_and_then_the_alias_moves(first: World) -> None:
    _, outputs, _ = first.deploy(1)
    with User(outputs["url"]) as user:
        code, after, log = first.deploy(2, "--reason", "it is better", "--shadow", "8")
    assert code == 0, log
    assert (after["version"], after["previous-version"], after["promoted"], first.champion) == (2, 1, True, 2)
    assert user.failures == [] and {version for version, _ in user.answers} == {"1", "2"}
    assert all(value == 1.0 + int(version) for version, value in user.answers)
    now = first.deployments
    assert now.live and now.live == now.history[0] and now.under_way is None
    assert (now.live.version, now.live.previous, now.live.reason) == (2, 1, "it is better")
    assert (now.live.alias, now.live.alias_before, now.live.release) == ("champion", 1, after["release"])
    steps = {step.name: step for step in now.live.steps}
    assert steps["100 %"].measured["answers"] >= 20 and steps["latency"].measured["pairs"] >= 120
    shadow = steps["shadow"].measured
    assert (shadow["rows"], shadow["differ"]) == (8, 8) and shadow["copies_differ"] == shadow["copies"] >= 8
    code, again, log = first.deploy(2)
    assert code == 0 and "already serves" in log and again["promoted"] is False


@pytest.mark.parametrize(
    ("version", "arguments", "exit_code", "said"),
    [
        (3, (), 1, "8 of 8 golden predictions differ"),
        (4, (), 1, "it is too slow: median "),
        (5, (), 1, "version 1 serves as before"),
        (6, (), 1, "no such weights"),
        (8, (), 1, "predict has 2 values for each row, and a golden score is one"),
        (9, (), 1, "The model gave 7 predictions for 8 rows"),
        (10, ("--timeout", "5"), 1, "did not respond within 5 s"),
        (2, ("--max-latency-ms", "0.001"), 1, "took longer than the limit of 0.001 ms"),
        (2, ("--requires", "evaluate-model"), 1, "may not become champion: evaluate-model: it was never run"),
        (2, ("--steps", "100, 10"), 2, "`steps` is 100, 10"),
        (99, (), 2, "has no version 99"),
        (2, ("--predict", "predict"), 2, "The model 2.json cannot be loaded"),
    ],
)
def test_what_is_wrong_is_one_error_and_the_old_version_answers(
    first: World, version: int, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    _, outputs, _ = first.deploy(1)
    before = len(first.deployments.history)
    with User(outputs["url"]) as user:
        code, after, log = first.deploy(version, *arguments)
    assert code == exit_code, log
    (error,) = errors(log)
    assert said in log and "Traceback" not in error
    assert user.failures == [] and set(user.answers) == {("1", 2.0)}
    assert first.champion == 1
    failed = first.deployments.history[: len(first.deployments.history) - before]
    rolled = exit_code == 1 and "--requires" not in arguments
    assert [one.ended for one in failed] == (["failed"] if rolled or "cannot be loaded" in said else [])
    assert not rolled or (after["version"], after["rolled-back"], after["url"]) == (1, True, outputs["url"])


def test_the_last_good_version_comes_back_with_its_alias(first: World) -> None:
    assert first.deploy(2)[0] == 0
    assert first.deploy(3)[0] == 1
    code, outputs, log = first.run("rollback")
    assert code == 0 and "Version 1 of adder serves again" in log, log
    assert (outputs["version"], outputs["previous-version"], first.champion) == (1, 2, 1)
    now = first.deployments
    assert now.live and (now.live.kind, now.live.reason) == ("rollback", "rollback from version 2")
    code, outputs, log = first.run("rollback", "adder", "--to", "2", "--reason", "after all")
    assert (code, outputs["version"], first.champion) == (0, 2, 2), log
    code, _, log = first.run("rollback", "--to", "3")
    assert code == 2 and "Version 3 of adder has not served at" in log
    listed = first.start("history").communicate(timeout=60)[0]
    assert "version 2 serves since" in listed.splitlines()[0]
    assert "after all" in listed and "1 → 2" in listed and "golden predictions differ" in listed
    (place,) = json.loads(first.start("history", "adder", "--json").communicate(timeout=60)[0])
    assert place["live"]["version"] == 2 and place["history"][0]["kind"] == "rollback"


def test_a_drill_ends_with_right_answers_only(first: World) -> None:
    _, outputs, _ = first.deploy(1)
    with User(outputs["url"]) as user:
        code, after, log = first.run("drill")
    assert code == 0 and "Wrong answers came for " in log, log
    assert (after["version"], after["url"]) == (1, outputs["url"])
    assert user.failures == [] and user.answers[-1] == ("1", 2.0)
    assert first.deployments.history[0].kind == "drill" and first.champion == 1
    assert first.deploy(1)[2].count("already serves") == 1


def test_a_second_rollout_is_told_which_run_is_under_way(first: World) -> None:
    job = first.start("deploy-model", "--version", "7", "--run", "the-first-run")
    assert wait_until(lambda: first.deployments.under_way is not None, 60)
    code, _, log = first.run("deploy-model", "--version", "2", "--wait", "0")
    assert code == 3 and "Another rollout of adder is under way. It is run the-first-run" in log, log
    code, _, log = first.deploy(2)
    job.communicate(timeout=120)
    assert job.returncode == 0 and code == 0, log
    assert "Waiting for another rollout of adder: run the-first-run" in log
    assert [one.version for one in first.deployments.history[:2]] == [2, 7]


@pytest.mark.parametrize("again", [7, 2])
def test_a_killed_rollout_goes_on_or_back_when_it_is_run_again(first: World, again: int) -> None:
    _, outputs, _ = first.deploy(1)
    with User(outputs["url"]) as user:
        job = first.start("deploy-model", "--version", "7", "--run", "killed")
        assert wait_until(lambda: first.deployments.under_way is not None, 60)
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        code, after, log = first.deploy(again)
    assert (code, after["version"], first.champion) == (0, again, again), log
    assert user.failures == []
    now = first.deployments
    assert now.under_way is None and now.live and now.live.version == again


def test_a_cancelled_rollout_goes_back_at_once(first: World) -> None:
    job = first.start("deploy-model", "--version", "7")
    assert wait_until(lambda: first.deployments.under_way is not None, 60)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=7.5)  # then GitHub kills it
    assert job.returncode == 143
    now = first.deployments
    assert now.under_way is None and now.history[0].ended == "cancelled" and now.live and now.live.version == 1


def test_a_port_that_is_taken_is_bad_input(world: World) -> None:
    assert world.run("deploy-model", "--stop")[0] == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, log = world.deploy(1, "--port", str(taken.getsockname()[1]))
    assert code == 2 and "is used by another process" in log
    assert len(errors(log)) == 1


def test_nothing_to_go_back_to_and_nothing_to_drill_is_bad_input(world: World, tmp_path: Path) -> None:
    store = {"MLOPS_STORE": (tmp_path / "store").as_uri()}
    register(Registry(Store(store["MLOPS_STORE"])), Registration("adder", world.folder / "1.json"))
    code, _, log = world.run("rollback", **store)
    assert code == 2 and "No version of adder has served at" in log
    code, _, log = world.run("drill", **store)
    assert code == 2 and "Nothing serves adder" in log
    code, _, log = world.run("deploy-model", "--drill", "--rollback", **store)
    assert code == 2 and "`rollback` and `drill` do not go together" in log
    done = world.start("history", **store).communicate(timeout=60)
    assert "adder has not been deployed yet" in done[1]
    event = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_RUN_ID": "1"}
    for command in ("rollback", "drill"):
        job = world.start(command, **event, **store)
        assert "A pull request may not run deploy-model" in job.communicate(timeout=60)[0]
        assert job.returncode == 2
