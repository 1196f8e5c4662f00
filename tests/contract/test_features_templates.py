"""The repositories that `feast init` creates from its templates, for those that can run here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from feast_worlds import Run
from mlops_actions import environments


@pytest.fixture(scope="module")
def feast() -> Path:
    python = environments.ensure("features", environments.cache_folder()).python
    return python.with_name("feast")


def test_the_local_template_with_push_on_demand_and_label_views(tmp_path: Path, mlops: Run, feast: Path) -> None:
    """Maps, JSON and structs; a push source; on-demand and label views; services; created timestamps; tags."""
    subprocess.run(
        [str(feast), "init", "-t", "local", "drivers"], cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    root = tmp_path / "drivers"
    (root / "feature_repo" / "test_workflow.py").unlink()  # it applies and tears down what it is imported into
    environ = {"MLOPS_STORE": (tmp_path / "store").as_uri(), "MLOPS_HOME": str(tmp_path / "home")}
    done = mlops("materialize-features", "--json", "--repository", "feature_repo", cwd=root, **environ)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    views = {view["name"]: view for view in outputs["record"]["details"]["views"]}
    assert set(views) == {"driver_hourly_stats", "driver_hourly_stats_fresh"}, "a label view is pushed to"
    assert {view["rows"] for view in views.values()} == {5}
    assert {view["compared"] for view in views.values()} == {5}
    assert views["driver_hourly_stats_fresh"]["way"] == "fast"
    assert "validation" in views["driver_hourly_stats"]["way"]
    kinds = {name.rsplit(" ", 1)[0] for name in outputs["plan"]["added"]}
    assert {"entity", "feature view", "on demand feature view", "feature service"} <= kinds

    again = mlops("materialize-features", "--json", "--repository", "feature_repo", cwd=root, **environ)
    assert again.returncode == 0, again.stderr
    plan = json.loads(again.stdout)["plan"]
    assert not plan["added"] and not plan["removed"] and not plan["destructive"], again.stderr


@pytest.mark.parametrize(
    ("template", "packages", "views"),
    [
        ("ray", ["ray[data]==2.60.0"], {"driver_hourly_stats", "customer_daily_profile"}),
        ("pytorch_nlp", [], {"text_features", "user_stats"}),
    ],
    ids=["ray", "pytorch_nlp"],
)
def test_a_template_is_materialized(
    tmp_path: Path, mlops: Run, feast: Path, template: str, packages: list[str], views: set[str]
) -> None:
    """Of the others Feast 0.67 cannot make a working repository here.

    The Spark template's tables have no columns of its entities' names, and nanoseconds, which Spark does not read; the
    Postgres template's table has maps, which its own upload cannot write. The rest need a cloud or a server that cannot
    be had here.
    """
    subprocess.run(
        [str(feast), "init", "-t", template, "made"], cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    root = tmp_path / "made"
    for script in root.rglob("test_workflow.py"):
        script.unlink()
    (root / "requirements.txt").write_text("\n".join(packages) + "\n")
    options = ["--requirements", "requirements.txt"] if packages else []
    environ = {"MLOPS_STORE": (tmp_path / "store").as_uri(), "MLOPS_HOME": str(tmp_path / "home")}
    done = mlops("materialize-features", "--json", "--repository", "feature_repo", *options, cwd=root, **environ)
    assert done.returncode == 0, done.stderr
    found = {view["name"]: view for view in json.loads(done.stdout)["record"]["details"]["views"]}
    assert set(found) == views
    assert all(view["rows"] and view["compared"] for view in found.values()), found


def test_the_minimal_template_has_nothing_to_do(tmp_path: Path, mlops: Run, feast: Path) -> None:
    subprocess.run(
        [str(feast), "init", "--minimal", "empty"], cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    environ = {"MLOPS_STORE": (tmp_path / "store").as_uri(), "MLOPS_HOME": str(tmp_path / "home")}
    done = mlops("materialize-features", "--json", "--repository", "feature_repo", cwd=tmp_path / "empty", **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["views"] == []
