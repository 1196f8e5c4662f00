"""`mlops init`, `config`, `schema`, `doctor` and `--help`, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conftest import Run
from mlops_actions.inputs import is_secret
from mlops_actions.runtime import chain

PIPELINE = "from kfp import dsl\n\n@dsl.pipeline\ndef train():\n    pass\n"


def test_init_writes_a_workflow_a_configuration_and_its_schema(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PIPELINE)
    (tmp_path / "requirements.txt").write_text("")
    done = mlops("init", "--model", "mine")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "mlops.yaml").read_text()
    assert "pipeline: train.py" in text and "requirements: requirements.txt" in text and "model: mine" in text
    assert json.loads((tmp_path / "mlops.schema.json").read_text())["title"] == "mlops.yaml"
    workflow = (tmp_path / ".github" / "workflows" / "mlops.yml").read_text()
    assert "mlops-actions/mlops-actions/.github/workflows/mlops.yml@v1" in workflow
    again = mlops("init")
    assert again.returncode == 2 and "Nothing was written" in again.stderr
    shown = mlops("config", "run-pipeline")
    assert "train.py" in shown.stdout and "(mlops.yaml:6:3)" in shown.stdout, shown.stdout


def test_init_says_when_there_is_no_or_more_than_one_pipeline(mlops: Run, tmp_path: Path) -> None:
    none = mlops("init")
    assert none.returncode == 2 and "has a @dsl.pipeline" in none.stderr
    (tmp_path / "a.py").write_text(PIPELINE)
    (tmp_path / "b.py").write_text(PIPELINE)
    several = mlops("init")
    assert several.returncode == 2 and "a.py, b.py" in several.stderr
    assert not (tmp_path / "mlops.yaml").exists()


def test_help_lists_the_actions_in_the_order_of_the_chain(mlops: Run) -> None:
    text = mlops("--help").stdout
    places = [text.index(f"  {name}  ") for name in chain.NAMES]
    assert places == sorted(places)


@pytest.mark.parametrize("name", chain.NAMES)
def test_help_of_each_action_names_its_inputs(mlops: Run, name: str) -> None:
    done = mlops(name, "--help")
    assert done.returncode == 0, done.stderr
    for field, info in chain.load(name).inputs.model_fields.items():
        option, variable = "--" + field.replace("_", "-"), f"MLOPS_{field.upper()}"
        if is_secret(info.annotation):
            assert variable in done.stdout and f"{option} " not in done.stdout
        else:
            assert option in done.stdout


def test_help_keeps_the_items_of_a_list_apart(mlops: Run) -> None:
    lines = mlops("run-pipeline", "--help").stdout.splitlines()
    for engine in ("local", "kfp"):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  - engine: {engine} "))
        assert not lines[start - 1].strip()


def test_help_keeps_the_lines_of_a_block_of_code(mlops: Run) -> None:
    lines = mlops("validate-data", "--help").stdout.splitlines()
    start = lines.index("    table:")
    assert lines[start + 1].startswith("      rows: {")
    assert "```" not in "".join(lines)


def test_unknown_option_and_command_are_bad_input_with_the_nearest_name(mlops: Run) -> None:
    done = mlops("run-pipelin")
    assert done.returncode == 2 and "Did you mean `run-pipeline`?" in done.stderr
    done = mlops("doctor", "--stor", "x")
    assert done.returncode == 2 and "--store" in done.stderr


def test_mistake_in_the_configuration_is_placed(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text("model: m\nrun-pipeline:\n  pipelin: p.py\n")
    done = mlops("doctor")
    assert done.returncode == 2
    assert "mlops.yaml:3:3" in done.stderr and "Did you mean `pipeline`?" in done.stderr


def test_plan_on_machines_that_share_nothing_asks_for_a_store(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    runner = {"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "github-hosted"}
    done = mlops("plan", **runner)
    assert done.returncode == 2 and "::error title=Bad input::No `store` is given" in done.stdout
    assert mlops("plan", "--store", (tmp_path / "store").as_uri(), **runner).returncode == 0
    assert mlops("plan").returncode == 0


def test_doctor_names_what_is_missing_and_the_remedy(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text("run-pipeline: {pipeline: gone.py}\n")
    done = mlops("doctor", "--json")
    assert done.returncode == 1
    outputs = json.loads(done.stdout)
    assert outputs["missing"] == ["run-pipeline: pipeline"] and outputs["ready"] is False
    assert "Write it, or correct `pipeline`" in done.stderr
    (tmp_path / "gone.py").touch()
    assert mlops("doctor").returncode == 0


def test_doctor_says_when_the_store_cannot_be_reached(mlops: Run) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    done = mlops("doctor", "--store", "s3://b/p", "--store-endpoint", "http://127.0.0.1:9", **keys)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr and "Check `store-endpoint`" in done.stderr


def test_rbac_prints_a_manifest_for_the_namespace_and_only_the_parts_that_were_asked_for(mlops: Run) -> None:
    done = mlops("rbac", "--namespace", "team-a", "--service-account", "robot")
    assert done.returncode == 0, done.stderr
    objects = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert {item["kind"] for item in objects} >= {"ServiceAccount", "Role", "RoleBinding"}
    assert {item["metadata"]["namespace"] for item in objects if "namespace" in item["metadata"]} == {"team-a"}
    assert "experiments" in done.stdout
    done = mlops("rbac", "--namespace", "team-a", "--for", "kfp")
    assert done.returncode == 0 and "experiments" not in done.stdout
    done = mlops("rbac", "--namespace", "team-a", "--for", "katip")
    assert done.returncode == 2 and "Known: katib, kfp" in done.stderr
