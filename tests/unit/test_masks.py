"""What must not be seen is taken out of values, and what they are stays."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_actions.console import Masks, hidden
from mlops_actions.context import Context
from mlops_actions.inputs import Outputs
from mlops_actions.project import Project
from mlops_actions.records import Problem, Record
from mlops_actions.runtime.chain import load
from mlops_actions.runtime.config import secrets_in, secrets_of
from mlops_actions.runtime.result import Result
from mlops_actions.runtime.step import Step
from workspaces import workspace

SECRETS = ['pa"ss\\w', "true", "null", "passed", "run-pipeline", "metrics", "1234", "tasks", "{}[]"]


def record(secret: str) -> Record:
    return Record(
        action="run-pipeline", started="2026-01-01T00:00:00+00:00", seconds=1234.5, reason=f"r {secret}", key="k",
        inputs={"parameters": {"n": 1234, "p": secret}},
        outputs={"metrics": {f"m_{secret}": 1234.0, "ok": True}, "tasks": [None, secret]},
        details={"tasks": [{"name": secret, "log": f"a {secret} b"}]},
        problem=Problem(exit_code=1, what=secret, log=f"line {secret}"),
    )  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_a_mask_never_breaks_a_record(secret: str) -> None:
    masks = Masks()
    masks.add(secret)
    made = record(secret).hidden(masks.hide)
    again = Record.model_validate_json(made.model_dump_json())
    assert (again.action, again.verdict, again.seconds) == ("run-pipeline", "passed", 1234.5)
    assert list(again.outputs) == ["metrics", "tasks"] and again.outputs["metrics"]["ok"] is True
    assert again.reason == "r ***" and again.outputs["tasks"] == [None, "***"]
    assert again.outputs["metrics"]["m_***"] == 1234.0
    assert again.problem and again.problem.log == "line ***"


@pytest.mark.parametrize("user", ["u", "bob", "team", "robot$x"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("after", ["", "@registry", "\n"])
def test_a_secret_in_the_base64_of_a_longer_text_is_masked(
    user: str, encode: Callable[[bytes], bytes], after: str
) -> None:
    secret = "s3cret?value~~>>end"
    masks = Masks()
    masks.add(secret)
    sent = encode(f"{user}:{secret}{after}".encode()).decode()
    first, last = -(-(len(user) + 1) * 4 // 3), (len(user) + 1 + len(secret)) * 4 // 3
    assert masks.hide(f'{{"auth": "{sent}"}}') == f'{{"auth": "{sent[:first]}***{sent[last:]}"}}'
    other = encode(b"user:another value").decode()
    assert masks.hide(other) == other


def test_numbers_and_truth_values_are_no_texts() -> None:
    value = {"a": [1234, 12.34, True, None], "b": "x1234"}
    assert hidden(value, lambda text: text.replace("1234", "***")) == {"a": [1234, 12.34, True, None], "b": "x***"}


def test_result_with_a_secret_is_not_kept_for_reuse(tmp_path: Path) -> None:
    class Gives(Outputs):
        text: str = ""

    space = workspace(tmp_path)
    step = Step("x", space.console, Context(), space, "run", Project(), True)
    step.console.mask("s3cret")
    runs = []

    def work(text: str) -> Result[Gives]:
        runs.append(text)
        return Result(Gives(text=text))

    for text in ("s3cret", "open"):
        for _ in range(2):
            assert step.once(f"key-{text}", Gives, lambda text=text: work(text)).outputs.text == text  # type: ignore[misc]
    assert runs == ["s3cret", "s3cret", "open"]
    assert not any(b"s3cret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_the_secrets_in_a_kubeconfig_are_masked_one_by_one_and_its_words_are_not() -> None:
    text = "apiVersion: v1\nkind: Config\nusers: [{name: a, user: {token: kubesecrettoken42}}]\n"
    assert list(secrets_in({"MLOPS_KUBECONFIG": text})) == ["kubesecrettoken42"]
    assert list(secrets_of(load("run-pipeline"), {"kubeconfig": text}, {})) == ["kubesecrettoken42"], "as an input, too"
