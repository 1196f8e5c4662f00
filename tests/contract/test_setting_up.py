"""`mlops init`, `config`, `schema`, `doctor` and `--help`, as a person meets them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Run
from mlops_actions.doctor import finding_of_docker
from mlops_actions.environments import cache_folder
from mlops_actions.errors import BadInput
from mlops_actions.images.buildkit import Builder, find_builder
from mlops_actions.images.engine import EngineUnavailable
from mlops_actions.inputs import is_secret
from mlops_actions.runtime import chain

CACHE = str(cache_folder())
PIPELINE = "from kfp import dsl\n\n@dsl.pipeline\ndef train():\n    pass\n"


def test_init_writes_a_workflow_and_a_configuration_that_names_its_schema(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PIPELINE)
    (tmp_path / "requirements.txt").write_text("")
    done = mlops("init", "--model", "mine")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "mlops.yaml").read_text()
    assert "pipeline: train.py" in text and "requirements: requirements.txt" in text and "model: mine" in text
    address = json.loads((ROOT / "scripts" / "mlops.schema.json").read_text())["$id"]
    assert text.startswith(f"# yaml-language-server: $schema={address}\n")
    assert not (tmp_path / "mlops.schema.json").exists()
    workflow = (tmp_path / ".github" / "workflows" / "mlops.yml").read_text()
    assert "mlops-actions/mlops-actions/.github/workflows/mlops.yml@v1" in workflow
    again = mlops("init")
    assert again.returncode == 2 and "Nothing was written" in again.stderr
    shown = mlops("config", "run-pipeline")
    assert "train.py" in shown.stdout and "(mlops.yaml:6:3)" in shown.stdout, shown.stdout


def test_init_in_a_folder_of_a_repository_writes_the_workflow_where_github_looks_for_it(
    mlops: Run, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name in ("churn", "prices"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "pipeline.py").write_text(PIPELINE)
        assert mlops("init", cwd=folder).returncode == 0
        assert f"model: {name}" in (folder / "mlops.yaml").read_text()
    workflows = {path.name: yaml.safe_load(path.read_text()) for path in (tmp_path / ".github/workflows").iterdir()}
    assert set(workflows) == {"mlops-models-churn.yml", "mlops-models-prices.yml"}
    churn = workflows["mlops-models-churn.yml"]
    assert churn["name"] == "mlops models/churn"
    assert churn["jobs"]["mlops"]["with"]["working-directory"] == "models/churn"
    assert not list(tmp_path.rglob("churn/.github"))


@pytest.mark.parametrize("name", ["Bad Name!", "a/b", "-a", "a" * 129])
def test_init_refuses_a_name_that_the_registry_would_refuse(mlops: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "train.py").write_text(PIPELINE)
    done = mlops("init", f"--model={name}")
    assert done.returncode == 2 and "lower-case letters" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"], "nothing is written"
    register = mlops("register-model", f"--model={name}")
    assert register.returncode == 2 and "lower-case letters" in register.stderr


def test_init_says_when_there_is_no_or_more_than_one_pipeline(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("")
    none = mlops("init")
    assert none.returncode == 2 and "has a @dsl.pipeline" in none.stderr and "--example" in none.stderr
    (tmp_path / "a.py").write_text(PIPELINE)
    (tmp_path / "b.py").write_text(PIPELINE)
    several = mlops("init")
    assert several.returncode == 2 and "a.py, b.py" in several.stderr
    assert not (tmp_path / "mlops.yaml").exists()


def test_commands_work_in_a_folder_of_the_project(mlops: Run, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "mlops.yaml").write_text("model: m\nstore: kept\nrun-pipeline: {pipeline: pipeline.py}\n")
    deep = tmp_path / "src" / "deep"
    deep.mkdir(parents=True)
    done = mlops("doctor", "--json", cwd=deep)
    assert done.returncode == 0 and f"The project is {tmp_path}" in done.stderr, done.stderr
    assert (tmp_path / "kept").is_dir() and not (deep / "kept").exists(), "a path is the project's, wherever we are"
    assert "pipeline.py" in mlops("config", "run-pipeline", cwd=deep).stdout
    inner = tmp_path / "src" / "inner"
    subprocess.run(["git", "init", "--quiet", str(inner)], check=True)
    assert "The project is" not in mlops("doctor", cwd=inner).stderr, "another repository is another project"
    home = tmp_path / "src" / "person"
    (home / "work").mkdir(parents=True)
    assert "The project is" not in mlops("doctor", cwd=home / "work", HOME=str(home), MLOPS_CACHE=CACHE).stderr


def test_all_mistakes_are_told_at_once_each_with_its_place(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "model: Bad Name\nstore: s3:/x\nrun-pipeline:\n  engine: nope\n  pipelin: x\nevaluate-model:\n  thresholds: 3\n"
    )
    done = mlops("run-pipeline", "--retries", "many", MLOPS_STORE_ENDPOINT="", MLOPS_REUSE="perhaps")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[0].endswith("7 mistakes:")
    for start in (
        "mlops.yaml:1:1: `model` must be lower-case letters",
        "mlops.yaml:2:1: `store` is not a URL: write `s3://x`",
        "mlops.yaml:4:3: `run-pipeline.engine` must be 'local' or 'kfp', not 'nope'",
        "mlops.yaml:5:3: Unknown key `run-pipeline.pipelin` in mlops.yaml. Did you mean `pipeline`?",
        "mlops.yaml:7:3: `evaluate-model.thresholds` ",
        "`retries` (input) must be an integer",
        "`reuse` (variable MLOPS_REUSE) must be true or false",
    ):
        assert len([line for line in lines if line.startswith(start)]) == 1, (start, lines)
    on_runner = mlops("run-pipeline", GITHUB_ACTIONS="true", INPUT_RETRIES="many")
    assert on_runner.stdout.count("::error") == 1, "one annotation"


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


def on_github(tmp_path: Path, event: str, *, fork: bool = False, actor: str = "octocat") -> dict[str, str]:
    """The variables of a step as GitHub sets them, of a repository with the default branch main."""
    payload: dict[str, object] = {"repository": {"default_branch": "main", "full_name": "o/r"}}
    variables = {"GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch"}
    if event == "pull_request":
        head = {"ref": "change", "sha": "1" * 40, "repo": {"full_name": "someone/r" if fork else "o/r"}}
        payload["pull_request"] = {"number": 7, "head": head, "base": {"ref": "main"}}
        variables = {"GITHUB_REF_NAME": "7/merge", "GITHUB_HEAD_REF": "change", "GITHUB_BASE_REF": "main"}
    file = tmp_path / "event.json"
    file.write_text(json.dumps(payload))
    return {
        "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(file),
        "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "1", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_ACTOR": actor,
        "RUNNER_ENVIRONMENT": "github-hosted", "GITHUB_OUTPUT": str(tmp_path / "output"), **variables,
    }  # fmt: skip


def test_the_plan_refuses_a_policy_that_nothing_would_follow(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    both = "model: m\ndeploy-model: {{{}}}\npromote-model:\n  requires: [test-model]\n"
    (tmp_path / "mlops.yaml").write_text(both.format(""))
    done = mlops("plan", "--deploy", "always")
    assert done.returncode == 2, done.stderr
    assert "mlops.yaml:4:3" in done.stderr and "Move `requires` to the section `deploy-model`" in done.stderr
    assert mlops("plan", "--deploy", "never").returncode == 0
    (tmp_path / "mlops.yaml").write_text(both.format("requires: [test-model]"))
    assert mlops("plan", "--deploy", "always").returncode == 0


def test_the_plan_says_when_what_is_deployed_ends_with_the_job(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "mlops.yaml").write_text("model: m\ndeploy-model: {}\n")
    store = ("--store", (tmp_path / "store").as_uri())
    ends = "What is started on a GitHub-hosted runner ends with the job"
    assert ends in mlops("plan", *store, RUNNER_ENVIRONMENT="github-hosted").stderr
    assert ends not in mlops("plan", *store).stderr


def test_the_plan_has_the_alias_of_each_environment(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "mlops.yaml").write_text(
        "model: m\nplan: {deploy-to: [staging, production, canary]}\ndeploy-model: {alias: live}\nenvironments:\n"
        "  staging: {deploy-model: {alias: challenger}}\n  production: {}\n  canary: {deploy-model: {alias: ''}}\n"
    )
    done = mlops("plan", "--json")
    assert done.returncode == 0, done.stderr
    matrix = json.loads(done.stdout)["deploy-matrix"]["include"]
    assert {one["name"]: one["alias"] for one in matrix} == {
        "staging": "challenger",
        "production": "live",
        "canary": "",
    }


@pytest.mark.parametrize("store", ["s3://bucket/prefix", ""])
def test_a_pull_request_without_keys_plans_what_needs_only_the_repository(
    mlops: Run, tmp_path: Path, store: str
) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "data.csv").write_text("x\n1\n")
    (tmp_path / "mlops.yaml").write_text(f"store: {json.dumps(store)}\nmodel: m\nvalidate-data: {{data: data.csv}}\n")
    for who in ({"fork": True}, {"actor": "dependabot[bot]"}):
        github = on_github(tmp_path, "pull_request", **who)
        done = mlops("plan", "--json", **github)
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        runs = {name for name in ("validate-data", "run-pipeline", "test-model", "register-model") if plan[name]}
        assert runs == {"validate-data", "run-pipeline"}
        assert "GitHub gives no secrets to this pull request" in done.stderr
        done = mlops("validate-data", "--json", **github)
        assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 1, done.stderr
    (tmp_path / "mlops.yaml").write_text("store: s3://bucket\nvalidate-data: {data: 's3://bucket/a.csv'}\n")
    done = mlops("plan", "--json", **on_github(tmp_path, "pull_request", fork=True))
    assert json.loads(done.stdout)["validate-data"] is False and "no keys for the data s3://bucket/a.csv" in done.stderr


def test_keys_that_are_missing_are_bad_input(mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x\n1\n")
    for event in ("push", "pull_request"):
        done = mlops("validate-data", "--data", "data.csv", "--store", "s3://bucket", **on_github(tmp_path, event))
        assert done.returncode == 2 and "No keys for the store s3://bucket" in done.stdout, done.stdout


def test_an_empty_folder_is_told_so(mlops: Run) -> None:
    assert "Run `mlops init`" in mlops("doctor").stderr
    shown = mlops("config", "test-model", MLOPS_STORE="", MLOPS_STORE_ENDPOINT="")
    assert shown.returncode == 0 and not shown.stdout
    assert "Nothing is set for test-model in mlops.yaml" in shown.stderr


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


def test_doctor_asks_for_docker_only_where_the_chain_fails_without(mlops: Run, tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": "tcp://127.0.0.1:9"}
    assert mlops("doctor", **nowhere).returncode == 0
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    seen = mlops("doctor", "--json", **nowhere)
    assert seen.returncode == 1 and json.loads(seen.stdout)["missing"] == ["Docker"], seen.stderr
    (tmp_path / "mlops.yaml").write_text("build-image: {if-unavailable: skip}\n")
    assert mlops("build-image", **nowhere).returncode == 0
    assert mlops("doctor", **nowhere).returncode == 0, "what may be skipped is not missing"


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ("deploy-model: {container: true, image-repository: registry.test/models}", ["Docker"]),
        ("deploy-model: {engine: git, gitops-repository: nowhere.git}", ["deployments' repository"]),
        ("test-model: {matrix: {slim: {image: '127.0.0.1:9/m:1'}}}", ["Docker", "image 127.0.0.1:9/m:1"]),
        ("promote-model: {policy: gone.yaml}", ["promote-model: policy"]),
    ],
)
def test_doctor_looks_for_what_the_configuration_asks_for(
    mlops: Run, tmp_path: Path, settings: str, missing: list[str]
) -> None:
    (tmp_path / "mlops.yaml").write_text(settings)
    seen = mlops("doctor", "--json", DOCKER_HOST="tcp://127.0.0.1:9")
    assert json.loads(seen.stdout)["missing"] == missing, seen.stderr


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


def test_doctor_finds_what_build_image_would_build_with(tmp_path: Path) -> None:
    command = tmp_path / "docker"
    command.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Docker version 28.1.0, build 1"\n')
    command.chmod(0o755)
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(EngineUnavailable) as raised:
        find_builder(environ)
    for wanted, state in ((True, "missing"), (False, "optional")):
        found = finding_of_docker(environ, wanted, [])
        assert (found.state, found.found) == (state, f"{raised.value.what}: {raised.value.why}")
    with pytest.raises(BadInput, match="buildx is not installed"):
        Builder("/usr/bin/docker", buildx=False).check(["linux/arm64"])
