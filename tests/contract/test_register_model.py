"""register-model as it is called, on a folder and on real S3 servers, alone and several at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import servers
from conftest import MLOPS, Run
from mlops_actions.records import Record
from mlops_actions.registry import registering
from mlops_actions.registry.manifest import Manifest
from mlops_actions.registry.promoting import move_now
from mlops_actions.registry.registering import Registration
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.digests import file_digest, tree_digest
from mlops_actions.stores.store import Store, blob_path


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, dict[str, str]]:
    """A new store of each kind, and the variables with which an action finds it."""
    if request.param == "folder":
        url = (tmp_path / "store").as_uri()
        return Store(url), {"MLOPS_STORE": url, "MLOPS_RUN": "here"}
    server: servers.S3 = getattr(servers, request.param)()
    url = server.new_store()
    return Store(url, server.options()), {**server.environ(url), "MLOPS_RUN": "here"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, dict[str, str]]:
    url = (tmp_path / "store").as_uri()
    return Store(url), {"MLOPS_STORE": url}


def trained(store: Store, model: Path, key: str = "k1") -> None:
    """What run-pipeline leaves behind: the model in the store, and its record."""
    uri = store.put_file(model, f"artifacts/{key}/train/model")
    record = Record(
        action="run-pipeline", run="here", started="2026-01-01T00:00:00", seconds=1.0,
        subject={"model": tree_digest(model)},
        outputs={"model-uri": uri, "pipeline-key": key, "pipeline": "train", "metrics": {"auc": 0.75}},
    )  # fmt: skip
    store.put_json("runs/here/run-pipeline.json", record.model_dump(mode="json"))


def outputs(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_the_runs_model_becomes_a_version_once(world: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path) -> None:
    store, environ = world
    model = tmp_path / "model.joblib"
    model.write_bytes(b"weights")
    trained(store, model)
    first = outputs(mlops("register-model", "--model", "flights", "--json", **environ))
    again = outputs(mlops("register-model", "--model", "flights", "--json", **environ))
    assert (first["version"], first["created"]) == (1, True)
    assert (again["version"], again["created"]) == (1, False)
    assert first["digest"] == file_digest(model)
    assert first["model-uri"] == store.uri(blob_path(first["digest"]))
    assert store.get(first["model-uri"][len(store.url) + 1 :]) == b"weights"
    manifest = store.get_json(first["manifest-uri"][len(store.url) + 1 :])
    assert manifest["metrics"] == {"auc": 0.75} and manifest["lineage"]["pipeline"]["key"] == "k1"
    assert store.get(first["card-uri"][len(store.url) + 1 :]).startswith(b"---\n")


def register(environ: dict[str, str], home: Path, model: Path, name: str = "flights") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(MLOPS), "register-model", "--model", name, "--model-uri", str(model), "--json"],
        env={**os.environ, **environ, "MLOPS_HOME": str(home)}, cwd=model.parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_registrations_at_once_never_overwrite(world: tuple[Store, dict[str, str]], tmp_path: Path) -> None:
    """Two of the same model and three of others: four versions, numbered in a row, each with its own bytes."""
    store, environ = world
    models = []
    for i, content in enumerate((b"same", b"same", b"a", b"b", b"c")):
        path = tmp_path / str(i) / "model.joblib"
        path.parent.mkdir()
        path.write_bytes(content)
        models.append(path)
    jobs = [register(environ, tmp_path / f"home{i}", model) for i, model in enumerate(models)]
    ends = [job.communicate(timeout=240) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 5, ends
    given = [json.loads(out) for out, _ in ends]
    registry = Registry(store)
    assert registry.versions("flights") == [1, 2, 3, 4]
    assert given[0]["version"] == given[1]["version"]
    assert sorted(one["created"] for one in given[:2]) == [False, True]
    for one, model in zip(given, models):
        found = registry.manifest("flights", int(one["version"]))
        assert found.digest == file_digest(model) and store.get(blob_path(found.digest)) == model.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_at_any_moment_leaves_no_half_version(
    folder: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path
) -> None:
    store, environ = folder
    model = tmp_path / "model"
    model.mkdir()
    for i in range(30):
        (model / f"{i}.bin").write_bytes(os.urandom(200_000))
    seen = set()
    for wait in (0.0, 0.002, 0.01, 0.03, 0.1):  # after it is seen to write
        before = len(list(store.list("blobs/")))
        job = register(environ, tmp_path / "home", model)
        while job.poll() is None and len(list(store.list("blobs/"))) == before:
            time.sleep(0.002)
        time.sleep(wait)
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        seen.add(len(list(store.list("blobs/"))))
        registry = Registry(store)
        for version in registry.versions("flights"):
            registry.fetch(registry.manifest("flights", version), tmp_path / "whole")
    assert seen - {0}, "no run was killed after it had begun to write"
    done = outputs(mlops("register-model", "--model", "flights", "--model-uri", model, "--json", **environ))
    assert done["version"] == 1
    got = Registry(store).fetch(Registry(store).manifest("flights", 1), tmp_path / "got")
    assert tree_digest(got) == tree_digest(model)


def test_folder_models_are_fetched_by_the_documented_recipe(
    folder: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path
) -> None:
    """The registry's docstring promises that `cp` and jq are enough."""
    if not shutil.which("jq"):
        pytest.skip("no jq: `apt-get install jq`")
    store, environ = folder
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "model.joblib").write_bytes(b"1")
    (model / "deep" / "words.txt").write_bytes(b"2")
    done = outputs(mlops("register-model", "--model", "m", "--model-uri", "model", "--json", **environ))
    assert done["model-uri"] == done["manifest-uri"]
    root = store.url.removeprefix("file://")
    script = f"""jq -r '.files[] | "\\(.digest | sub("sha256:"; "")) \\(.path)"' {root}/models/m/versions/1.json |
      while read -r hex path; do mkdir -p got/$(dirname $path); cp {root}/blobs/sha256/$hex got/$path; done"""
    subprocess.run(["bash", "-ec", script], check=True, cwd=tmp_path)
    assert tree_digest(tmp_path / "got") == done["digest"]


def test_aliases_and_description(folder: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path) -> None:
    store, environ = folder
    (tmp_path / "model.joblib").write_bytes(b"1")
    (tmp_path / "card.md").write_text("For *dispatchers*.")
    done = outputs(mlops(
        "register-model", "--model", "m", "--model-uri", "model.joblib",
        "--aliases", "candidate", "--aliases", "shadow", "--description", "card.md", "--tags", "license=mit", "--json",
        **environ,
    ))  # fmt: skip
    found = Registry(store).alias("m", "shadow")
    assert found and found.version == 1 and Registry(store).alias("m", "candidate")
    card = store.get(done["card-uri"][len(store.url) + 1 :]).decode()
    assert "license: mit" in card and "For *dispatchers*." in card


def test_a_version_says_whether_it_is_the_code_of_its_commit(
    folder: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path
) -> None:
    store, environ = folder
    code = tmp_path / "repository" / "project"
    code.mkdir(parents=True)

    def git(*command: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(code), *who, *command], check=True, capture_output=True)

    def register(number: int) -> tuple[bool | None, str]:
        (tmp_path / "model.joblib").write_bytes(b"%d" % number)
        options = ("--model", "m", "--model-uri", tmp_path / "model.joblib", "--json")
        done = mlops("register-model", *options, cwd=code, **environ)
        assert outputs(done)["version"] == number
        return Registry(store).manifest("m", number).lineage.source.dirty, done.stderr

    dirty, said = register(1)
    assert dirty is None and "No commit is known" in said
    (code / "train.py").write_text("1\n")
    git("init", "-b", "main", str(code.parent))
    git("add", ".")
    git("commit", "-m", "one")
    (code.parent / "other.py").write_text("another project's\n")
    dirty, said = register(2)
    assert dirty is False and "uncommitted" not in said
    (code / "train.py").write_text("2\n")
    dirty, said = register(3)
    assert dirty is True and "There are uncommitted changes" in said
    git("checkout", "train.py")
    (code / "new.py").write_text("3\n")
    assert register(4)[0] is True, "a file that is not in the commit may have been read"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model-uri", "x"), "The model has no name"),
        (("--model", "m"), "No model to register"),
        (("--model", "m", "--model-uri", "nope.joblib"), "Nothing found at"),
        (("--model", "Not A Name", "--model-uri", "x"), "model"),
        (("--model", "m", "--model-uri", "model.joblib", "--description", "nope.md"), "The description"),
    ],
)
def test_what_cannot_be_registered(
    folder: tuple[Store, dict[str, str]], mlops: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    store, environ = folder
    (tmp_path / "model.joblib").write_bytes(b"1")
    done = mlops("register-model", *arguments, **environ)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert list(store.list("models/")) == []


def test_of_16_that_move_an_alias_at_once_all_do(world: tuple[Store, dict[str, str]], tmp_path: Path) -> None:
    store, _ = world
    manifests = []
    for number in range(16):
        (tmp_path / "model").write_text(str(number))
        asked = Registration("m", tmp_path / "model")
        manifests.append(registering.register(Registry(store), asked).manifest)
    ready = threading.Barrier(16)

    def move(manifest: Manifest) -> None:
        registry = Registry(store)
        ready.wait()
        assert registry.move_alias(manifest, "champion", move_now(manifest, "", "", ""))[1]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(move, manifests))
    alias = Registry(store).alias("m", "champion")
    assert alias and sorted(move.version for move in alias.history) == [manifest.version for manifest in manifests]
    assert [move.previous for move in alias.history] == [*(move.version for move in alias.history[1:]), None]
