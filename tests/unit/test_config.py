"""mlops.yaml: what is refused and where, and which value wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field

from mlops_actions import cli
from mlops_actions.actions import evaluate_model
from mlops_actions.errors import BadInput, Place
from mlops_actions.inputs import CodeInputs, Outputs, is_secret
from mlops_actions.project import Project
from mlops_actions.runtime import chain, config
from mlops_actions.runtime.action import Action
from mlops_actions.runtime.result import Result
from mlops_actions.values import Lines, Values
from mlops_actions.workspace import HIDDEN


class PaintInputs(CodeInputs):
    colour: str = Field("red", description="The colour.")
    layers: int = Field(1, description="How many.")
    walls: Lines = Field(default=[], description="Which.")
    mix: Values = Field(default={}, description="Of what.")


PAINT: Action[PaintInputs, Outputs] = Action(
    "run-pipeline", "core", PaintInputs, Outputs, lambda inputs, job: Result(Outputs())
)


def project(tmp_path: Path, text: str) -> config.Project:
    path = tmp_path / "mlops.yaml"
    path.write_text(text)
    return config.read_project(path)


def test_absent_file_is_an_empty_configuration(tmp_path: Path) -> None:
    assert config.read_project(tmp_path / "mlops.yaml").values == {}


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"other\.yaml does not exist"):
        config.read_project(tmp_path / "other.yaml", required=True)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("model: m\nrun-pipelin:\n  pipeline: p.py\n", 2, "Did you mean `run-pipeline`?"),
        ("run-pipeline:\n  pipelin: p.py\n", 2, "Did you mean `pipeline`?"),
        ("environments:\n  staging:\n    stor: s3://b\n", 3, "Did you mean `store`?"),
        ("model: Über\n", 1, "`model`"),
        ("promote-model:\n  policy:\n", 2, "`promote-model.policy` has no value: give it one, or take it out"),
        ("evaluate-model:\n  thresholds: ~\n", 2, "`evaluate-model.thresholds` has no value"),
        ("validate-data:\n  contract:\n", 2, "`validate-data.contract` has no value"),
        ("environments:\n  production:\n    deploy-model:\n      policy:\n", 4, "`environments.production.dep"),
        ("model:\n", 1, "`model` has no value"),
        ("test-model:\n  matrix:\n    a: {python: }\n", 3, "python` has no value"),
        ("test-model:\n  expectations:\n    a: {change: {b: 1}, tolerance: }\n", 3, "tolerance` has no value"),
        ("run-pipeline: [a\n", 2, "not valid YAML"),
        ("- a\n- b\n", 1, "`mlops.yaml` must be a mapping"),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        project(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.line) == ("mlops.yaml", line)


def test_a_variable_gives_only_what_several_actions_share(tmp_path: Path) -> None:
    """`MLOPS_STORE` is of all of them; `MLOPS_COLOUR` may be anybody's."""
    environ = {"MLOPS_STORE": "file:///variable", "MLOPS_COLOUR": "blue", "MLOPS_LAYERS": "7"}
    found = config.resolve(PAINT, {}, environ, project(tmp_path, "run-pipeline: {}\n"))
    assert (found.inputs.store, found.inputs.colour, found.inputs.layers) == ("file:///variable", "red", 1)
    assert (found.origins["store"], found.origins["colour"]) == ("variable MLOPS_STORE", "default")


def test_order_is_input_then_variable_then_environment_then_section_then_top_then_default(tmp_path: Path) -> None:
    file = project(
        tmp_path,
        "store: file:///top\nrequirements: top.txt\npython: '3.12'\n"
        "run-pipeline: {requirements: section.txt}\n"
        "environments:\n  staging:\n    requirements: staging.txt\n",
    )

    def resolved(environment: str = "", **given: str) -> config.Resolved[PaintInputs]:
        return config.resolve(PAINT, given, {"MLOPS_STORE": "file:///variable"}, file, environment)

    assert resolved(store="file:///input").inputs.store == "file:///input"
    assert resolved().inputs.store == "file:///variable"
    assert resolved("staging").inputs.requirements == "staging.txt"
    assert resolved().inputs.requirements == "section.txt"
    assert resolved().inputs.python == "3.12"
    assert resolved().inputs.colour == "red"
    assert resolved("staging").origins["requirements"] == "mlops.yaml:7:5"
    assert resolved().origins["colour"] == "default"


def test_unknown_environment_lists_the_known_ones(tmp_path: Path) -> None:
    file = project(tmp_path, "environments: {staging: {}, production: {}}\n")
    with pytest.raises(BadInput, match="It has: staging, production"):
        config.resolve(PAINT, {}, {}, file, "stagin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb=x y\nc=[1, 2]", {"a": "1", "b": "x y", "c": "[1, 2]"}),
        ("{a: 1, b: {c: 2.5}}", {"a": 1, "b": {"c": 2.5}}),
        ("a: true\nb: null", {"a": True, "b": None}),
        ("a=", {"a": ""}),
    ],
)
def test_values_are_read_from_lines_or_yaml(text: str, expected: object) -> None:
    assert PaintInputs(mix=text).mix == expected  # type: ignore[arg-type]


def test_lines_are_read_from_text_or_list() -> None:
    assert PaintInputs(walls="a\n b ,c\n").walls == ["a", "b", "c"]  # type: ignore[arg-type]
    assert PaintInputs(walls='["a,b"]').walls == ["a,b"]  # type: ignore[arg-type]


def test_wrong_type_names_the_input_and_the_value() -> None:
    with pytest.raises(BadInput, match=r"`layers` \(input\) must be an integer.*not 'two'"):
        config.resolve(PAINT, {"layers": "two"}, {}, Project())


def test_wrong_value_inside_an_input_is_told_with_its_name() -> None:
    given = {"metrics": "accuracy=0.5\naccuracyX=abc"}
    with pytest.raises(BadInput, match=r"`metrics\.accuracyX` \(input\) must be a number, not 'abc'"):
        config.resolve(evaluate_model.ACTION, given, {}, Project())
    with pytest.raises(BadInput, match=r"`max-regression` \(input\) must be greater than or equal to 0, not -1"):
        config.resolve(evaluate_model.ACTION, {"max_regression": "-1"}, {}, Project())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "test-model: {python: 3.10}",
            "`test-model.python` must be text, in quotes where it looks like a number, not 3.1",
        ),
        ("run-pipeline: [a]", "`run-pipeline` must be a mapping"),
        ("validate-data: {data: 3}", "`validate-data.data` must be a list, not 3"),
        ("run-pipeline: {timeout: '1:30'}", "`run-pipeline.timeout` must be a number, not '1:30'"),
        ("run-pipeline: {cache: maybe}", "`run-pipeline.cache` must be true or false, not 'maybe'"),
        ("evaluate-model:\n  thresholds:", "`evaluate-model.thresholds` has no value"),
        ("evaluate-model:\n  slices: ~", "`evaluate-model.slices` has no value"),
        ("evaluate-model: {thresholds: '# auc>=1'}", "`evaluate-model.thresholds` has no value"),
        ("environments: {staging: {store: }}", "`environments.staging.store` has no value"),
    ],
)
def test_wrong_type_in_the_file_is_told_in_the_words_of_yaml(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mlops.yaml").write_text(text)
    with pytest.raises(BadInput) as raised:
        config.read_project(tmp_path / "mlops.yaml")
    assert words in str(raised.value)


def test_a_section_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text("evaluate-model:\n  # thresholds: auc>=0.7\nenvironments:\n  staging:\n")
    assert config.read_project(tmp_path / "mlops.yaml").environments() == ["staging"]


def test_empty_input_counts_as_not_given() -> None:
    assert config.resolve(PAINT, {"colour": ""}, {}, Project()).inputs.colour == "red"


def test_schema_knows_every_action_and_no_secret() -> None:
    text = json.dumps(config.schema())
    assert '"run-pipeline"' in text
    assert '"registry-password"' not in text


def test_key_that_stands_twice_is_refused_at_its_second_line(tmp_path: Path) -> None:
    file = tmp_path / "mlops.yaml"
    file.write_text("model: a\nrun-pipeline:\n  pipeline: a.py\nmodel: b\n")
    with pytest.raises(BadInput, match="he key 'model' appears twice") as caught:
        config.read_project(file)
    assert caught.value.place == Place("mlops.yaml", 4, 1)


def test_secret_comes_from_a_variable_and_never_from_the_file_or_an_option() -> None:
    action = chain.load("run-pipeline")
    resolved = config.resolve(action, {}, {"MLOPS_KFP_TOKEN": "hush"}, Project("mlops.yaml", {"kfp-token": "x"}))
    assert resolved.inputs.kfp_token.get_secret_value() == "hush"
    assert resolved.origins["kfp_token"] == "variable MLOPS_KFP_TOKEN"
    assert "hush" not in repr(resolved.inputs)
    names = {name for option in cli.command(action).params for name in option.opts}
    assert "--kfp-host" in names and "--kfp-token" not in names and "--kubeconfig" not in names


def test_every_secret_of_an_action_is_hidden_from_the_consumers_code() -> None:
    for name in chain.NAMES:
        for field, info in chain.load(name).inputs.model_fields.items():
            if is_secret(info.annotation):
                assert f"MLOPS_{field.upper()}" in HIDDEN


@pytest.mark.parametrize("run", ["../../x", "a/b", "..", ".hidden", "a\\b", "a\nb", "x" * 201])
def test_run_is_one_part_of_a_path(run: str) -> None:
    with pytest.raises(BadInput, match=r"^`run` \(input\)"):
        config.resolve(PAINT, {"run": run}, {}, Project())


@pytest.mark.parametrize("run", ["1234-1", "local-my project-1f", "Über_2.b"])
def test_runs_may_be_called_as_folders_are(run: str) -> None:
    assert config.resolve(PAINT, {"run": run}, {}, Project()).inputs.run == run


def test_variables_are_secret_by_their_names() -> None:
    secret = {
        "AWS_SECRET_ACCESS_KEY": "a-secret-1", "AWS_SESSION_TOKEN": "a-secret-2", "GITHUB_TOKEN": "a-secret-3",
        "AZURE_STORAGE_ACCOUNT_KEY": "a-secret-4", "WANDB_API_KEY": "a-secret-5", "PASSWORD": "a-secret-6",
        "DB_PASSWORD": "a-secret-7", "CLIENT_SECRET": "a-secret-8",
    }  # fmt: skip
    open_ = {
        "AWS_ACCESS_KEY_ID": "not-secret",
        "CACHE_KEY": "linux-py3.11",
        "MAX_TOKENS": "123456789",
        "A_TOKEN": "true",
    }
    assert set(config.secrets_in({**secret, **open_})) == set(secret.values())
