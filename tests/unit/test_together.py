"""The parts of a chain that `mlops run` runs, and their order."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml

from conftest import ROOT
from mlops_actions.commands.progress import Groups, Live
from mlops_actions.commands.run import RunInputs, chosen
from mlops_actions.errors import BadInput
from mlops_actions.inputs import is_secret
from mlops_actions.runtime.chain import NAMES
from mlops_actions.runtime.together import AFTER, LAST, Part, before, parts_of, secrets_of

PLAN: dict[str, Any] = {
    **dict.fromkeys(AFTER, True),
    "environment": "",
    "test-matrix": {"include": [{"name": "training", "runs-on": ""}, {"name": "old", "runs-on": ""}]},
    "deploy-matrix": {"include": [{"name": "staging", "environment": "staging"}, {"name": "p", "environment": "p"}]},
}


def test_each_action_of_the_chain_is_a_part_of_it() -> None:
    assert [*AFTER, LAST] == [name for name in NAMES if name not in ("plan", "promote-model", "doctor")]


def test_order_is_that_of_the_jobs_of_the_workflow() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "mlops.yml").read_text())["jobs"]

    def needs(job: str) -> set[str]:
        direct = jobs[job].get("needs") or []
        direct = [direct] if isinstance(direct, str) else direct
        return set(direct).union(*(needs(one) for one in direct))

    of = {
        step["uses"].rpartition("/")[2]: name
        for name, job in jobs.items()
        for step in job["steps"]
        if "/actions/" in step["uses"]
    }
    for action in AFTER:
        earlier = {one for one in AFTER if of[one] in needs(of[action])}
        assert earlier <= before(action), action
        assert {of[one] for one in before(action)} - {of[action]} <= needs(of[action]), action


def test_several_environments_are_parts_of_their_own() -> None:
    parts = {part.name: part for part in parts_of(PLAN, {"model": "m", "parameters": "a=1"})}
    assert parts["run-pipeline"].options["parameters"] == "a=1"
    assert "parameters" not in parts["test-model (old)"].options
    assert parts["test-model (old)"].options == {"variant": "old"}
    assert parts["deploy-model (staging)"].environment == "staging"
    assert parts["deploy-model (staging)"].options["model"] == "m"


def test_what_the_plan_leaves_out_is_no_part() -> None:
    parts = [part.action for part in parts_of({**PLAN, "deploy-model": False, "run-pipeline": False}, {})]
    assert "deploy-model" not in parts and "evaluate-model" not in parts
    assert parts[-1] == LAST


def test_a_value_goes_to_the_actions_that_it_is_meant_for() -> None:
    given = {"experiment": "experiment.yaml", "data": "d.csv", "python": "3.12", "requirements": "r.txt"}
    parts = {part.name: part.options for part in parts_of(PLAN, given)}
    assert parts["tune-hyperparams"]["experiment"] == "experiment.yaml"
    assert "experiment" not in parts["run-pipeline"], "there it is the name of a group of runs"
    assert parts["validate-data"]["data"] == "d.csv" and "data" not in parts["monitor-model"]
    assert parts["run-pipeline"]["python"] == "3.12" and "python" not in parts["test-model (old)"]
    assert parts["test-model (old)"]["requirements"] == "r.txt"


def test_an_option_that_all_actions_have_reaches_every_part() -> None:
    given = {"store": "s3://b/p", "config": "other.yaml", "store_endpoint": "https://s3", "model": "m"}
    for part in parts_of(PLAN, given):
        assert {name: part.options.get(name) for name in ("store", "config", "store-endpoint")} == {
            "store": "s3://b/p", "config": "other.yaml", "store-endpoint": "https://s3",
        }, part.name  # fmt: skip
    assert "model" not in part.options, "the report does not have it"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("evaluate-model", (), "run-pipeline"), "`--until run-pipeline` does not come after `--from evaluate-model`"),
        (("materialize-features", (), "build-image"), "`--until build-image` does not come after"),
        (("", ("run-pipeline",), "test-model"), "`--only` does not go with `--until`"),
        (("run-pipeline", ("test-model",), ""), "`--only` does not go with `--from`"),
        (("", (), "test-modle"), "'test-modle' is not an action of the chain. Did you mean `test-model`"),
        (("monitor-model", (), ""), "The plan leaves monitor-model out. See above why"),
    ],
)
def test_a_part_of_the_chain_that_contradicts_itself_is_refused(
    asked: tuple[str, tuple[str, ...], str], words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        chosen(parts_of({**PLAN, "monitor-model": False}, {}), *asked)
    assert words in str(refused.value)


def test_a_part_of_the_chain_begins_and_ends_where_it_is_asked_to() -> None:
    def names(*asked: Any) -> list[str]:
        return [part.action for part in chosen(parts_of(PLAN, {}), *asked)]

    assert names("run-pipeline", (), "evaluate-model") == ["run-pipeline", "evaluate-model"]
    assert names("run-pipeline", (), "run-pipeline") == ["run-pipeline"]
    assert names("monitor-model", (), "report") == ["monitor-model", "report"]
    assert names("", ("test-model",), "") == ["test-model", "test-model"], "in each of its environments"


def test_an_action_sees_the_secrets_that_it_declares() -> None:
    cluster = {"MLOPS_KUBECONFIG", "MLOPS_KFP_TOKEN", "MLOPS_KFP_CLIENT_SECRET"}
    assert secrets_of("run-pipeline") == cluster
    assert secrets_of("tune-hyperparams") == cluster, "whole pipelines can be trials"
    assert secrets_of("build-image") == {"MLOPS_REGISTRY_PASSWORD"}
    taken = {f"MLOPS_{name.upper()}" for name, info in RunInputs.model_fields.items() if is_secret(info.annotation)}
    assert set().union(*map(secrets_of, [*AFTER, LAST])) == taken, "what an action needs, `run` must be given"
    assert secrets_of("test-model") == {"MLOPS_REGISTRY_PASSWORD"}
    assert secrets_of("register-model") == {"MLOPS_SIGNING_KEY"}
    for action in ("validate-data", "materialize-features", "evaluate-model", "monitor-model"):
        assert secrets_of(action) == set(), action


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_the_table_of_a_narrow_terminal_has_each_verdict_as_a_whole(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    parts = [
        Part("validate-data", state="done", seconds=312.4, record={"reused": True, "reason": "27 of 27 checks passed"}),
        Part(
            "tune-hyperparams", state="done", seconds=9.0, record={"verdict": "unchecked", "reason": "12 trials " * 9}
        ),
        Part("evaluate-model", state="failed", seconds=1.0, record={"verdict": "rejected", "reason": "too low"}),
        Part("test-model", "lowest", state="failed", code=130, seconds=1.0, record={"verdict": "cancelled"}),
        Part("deploy-model", "production", state="left"),
    ]
    with Live(parts):
        pass
    rows = capsys.readouterr().err.splitlines()
    assert len(rows) == len(parts) and all(len(row.rstrip()) <= columns for row in rows)
    for part, row, verdict in zip(
        parts, rows, ["reused  ", "unchecked  ", "did not pass  ", "cancelled  ", "left out"]
    ):
        assert verdict in row and (columns == 40 or part.name in row)
    assert "5 min 12 s" in rows[0] and ("27 of 27" in rows[0]) == (columns >= 80)


def test_the_log_of_a_job_has_a_group_a_part_and_below_it_how_it_ended() -> None:
    data, image, train = (Part(name) for name in ("validate-data", "build-image", "run-pipeline"))
    log = io.StringIO()
    view = Groups([data, image, train], log)
    with view:
        data.state = image.state = "running"
        view.show()
        view.said(image, "built a layer")
        view.said(data, "::group::Reading")
        view.said(data, "10 rows")
        view.said(data, "::endgroup::")
        view.said(data, "::error file=d.csv::Not a table")
        view.said(image, "::add-mask::hunter2")
        image.state, image.began, image.seconds = "done", 0.0, 1.0
        view.show()
        data.state, data.code, data.began, data.seconds = "failed", 1, 0.0, 2.0
        train.state = "left"
        view.show()
    assert log.getvalue().splitlines() == [
        "::group::validate-data",
        "Reading",
        "10 rows",
        "::add-mask::hunter2",
        "::endgroup::",
        "✗ validate-data: failed in 2.0 s",
        "::error file=d.csv::Not a table",
        "::group::build-image",
        "built a layer",
        "::endgroup::",
        "✓ build-image: done in 1.0 s",
        "– run-pipeline: left out",
    ]


def test_a_part_that_dies_without_a_word_is_told_with_the_end_of_its_log() -> None:
    part = Part("run-pipeline", state="failed", code=137, log=["the last line"])
    log = io.StringIO()
    with Groups([part], log):
        pass
    assert log.getvalue().splitlines()[-1] == "::error::run-pipeline ended with exit code 137%0A%0Athe last line"
