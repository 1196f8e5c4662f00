"""Views of every kind are as Feast leaves them: compared with what its own `apply` and `materialize` make."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import feast_kinds
from feast_worlds import Run
from mlops_actions import environments

REGISTRY = """
import json, sys
from google.protobuf.json_format import MessageToDict
from feast.protos.feast.core.Registry_pb2 import Registry
found = MessageToDict(Registry.FromString(open(sys.argv[1], "rb").read()))
def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("meta", "lastUpdated", "versionId", "projectUuid",
                "createdTimestamp", "lastUpdatedTimestamp", "uri", "body", "bodyText")}
    return sorted(map(plain, value), key=lambda v: json.dumps(v, sort_keys=True)) if isinstance(value, list) else value
intervals = {v["spec"]["name"]: v["meta"].get("materializationIntervals", [])
             for kind in ("featureViews", "streamFeatureViews") for v in found.get(kind, [])}
del found["featureViewVersionHistory"]
print(json.dumps({"objects": plain(found), "intervals": intervals}))
"""

BARE = """
import sys
from datetime import datetime
from pathlib import Path
from feast import FeatureStore
from feast.repo_operations import parse_repo
store = FeatureStore(repo_path=".")
store.apply([each for kind in parse_repo(Path(".").resolve()) for each in kind])
store.materialize(*map(datetime.fromisoformat, sys.argv[1:]))
"""
"""`feast apply` itself makes no table for an on-demand view that is kept online, where the store is SQLite."""


def registry(python: Path, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-c", REGISTRY, str(folder / "registry.db")], capture_output=True, text=True, check=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.replace(str(folder), "FOLDER"))
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What bare Feast makes of the repository."""
    folder = feast_kinds.make(tmp_path_factory.mktemp("bare") / "kinds")
    python = environments.ensure("features", environments.cache_folder()).python
    times = [moment.isoformat() for moment in (feast_kinds.START, feast_kinds.END)]
    done = subprocess.run(
        [str(python), "-c", BARE, *times], cwd=folder / "features", capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_kind_of_view_is_as_feast_leaves_it(tmp_path: Path, mlops: Run, bare: Path) -> None:
    folder = feast_kinds.make(tmp_path / "kinds")
    environ = {"MLOPS_STORE": (tmp_path / "store").as_uri(), "MLOPS_HOME": str(tmp_path / "home")}
    done = mlops("materialize-features", "--json", cwd=folder, **environ)
    assert done.returncode == 0, done.stderr
    ways = {view["name"]: view["way"] for view in json.loads(done.stdout)["record"]["details"]["views"]}
    assert set(ways) == feast_kinds.VIEWS
    assert {name for name, way in ways.items() if way != "fast"} == {"transformed"}

    ours, theirs = feast_kinds.online(folder), feast_kinds.online(bare)
    assert ours.keys() == theirs.keys()
    for name, rows in theirs.items():
        until = 5 if name == "kinds_halved" else None  # Feast gives these rows the time at which they are written
        assert [row[:until] for row in ours[name]] == [row[:until] for row in rows], name
        assert rows, name

    python = environments.ensure("features", environments.cache_folder()).python
    mine, its = registry(python, folder), registry(python, bare)
    assert mine["objects"] == its["objects"], "entities, views, services, their tags and mappings"
    assert mine["intervals"] == its["intervals"]
