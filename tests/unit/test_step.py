"""A run of an action: reuse, records, and how it ends."""

from __future__ import annotations

import errno
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from mlops_actions import RESULTS
from mlops_actions.context import Context
from mlops_actions.errors import BadInput, Place
from mlops_actions.github.console import ActionsConsole
from mlops_actions.inputs import Inputs, Outputs
from mlops_actions.records import Record
from mlops_actions.runtime.action import Action
from mlops_actions.runtime.execute import execute
from mlops_actions.runtime.result import Result
from mlops_actions.runtime.step import Step
from mlops_actions.stores.store import Store


class SumInputs(Inputs):
    a: int = Field(0, description="One.")
    password: SecretStr = Field(SecretStr(""), description="Secret.")
    b: int = Field(0, description="Another.", deprecated="Use `a`; it goes in 9.9")


class SumOutputs(Outputs):
    total: int = Field(description="The sum.")
    uri: str = Field("", description="Where.")


calls: list[int] = []


def add(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
    def work() -> Result[SumOutputs]:
        calls.append(inputs.a)
        if inputs.a < 0:
            raise BadInput("a is negative", place=Place("x.yaml", 2))
        store = step.workspace.store
        store.put("sums/one", b"1")
        outputs = SumOutputs(total=inputs.a + 1, uri=store.uri("sums/one"))
        return Result(outputs, {"n": 1}, inputs.a < 100, "too much", {"sum": str(inputs.a)})

    return step.once(step.key(a=inputs.a), SumOutputs, work)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    calls.clear()
    monkeypatch.chdir(tmp_path)
    store = (tmp_path / "store").as_uri()

    def call(function: Any = add, **given: Any) -> tuple[int, str]:
        stream = io.StringIO()
        console = ActionsConsole(stream, tmp_path / "output", None)
        action = Action("doctor-sum", "core", SumInputs, SumOutputs, function)
        code = execute(action, {"store": store, **given}, Context(run="r1", commit="c0ffee"), console)
        return code, stream.getvalue()

    call.store = Store(store)  # type: ignore[attr-defined]
    return call


def test_same_work_is_found_again_and_says_so(run: Any) -> None:
    assert run(a=1)[0] == 0
    code, text = run(a=1)
    assert code == 0 and "Reused" in text
    assert calls == [1]
    record = Record.model_validate(run.store.get_json("runs/r1/doctor-sum.json"))
    assert record.reused and record.outputs["total"] == 2 and record.source["commit"] == "c0ffee"


def test_who_waited_for_another_run_is_told_which_one_did_the_work(run: Any) -> None:
    def meanwhile(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        done = add(inputs, step)
        add(inputs, replace(step, run="r2"))  # before the one that did it has come to its end
        return done

    assert "Reused: the same work was done in run r1 at" in run(meanwhile, a=1)[1]
    assert calls == [1]


def test_work_is_done_again_by_a_release_whose_results_may_be_others(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(a=1)
    monkeypatch.setattr("mlops_actions.runtime.step.RESULTS", "99.0")
    run(a=1)
    assert calls == [1, 1]
    assert re.fullmatch(r"\d+\.\d+", RESULTS), "a patch release takes the work of the one before it"


def test_finished_work_is_kept_as_it_was_made_however_often_it_is_found(run: Any) -> None:
    run(a=1)
    path = next(entry.path for entry in run.store.list("work/"))
    made = run.store.get(path)
    run(a=1)
    assert run.store.get(path) == made
    assert not Record.model_validate_json(made).reused


def test_a_dry_run_keeps_its_records_in_its_own_folder_and_nothing_in_the_store(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(a=1)
    monkeypatch.setenv("MLOPS_DRY_RUN", str(tmp_path / "dry"))
    before = [entry.path for entry in run.store.list("")]
    assert run(a=1, run="r2")[0] == 0 and run(a=2, run="r2")[0] == 0
    assert calls == [1] and [entry.path for entry in run.store.list("")] == before
    assert Record.model_validate_json((tmp_path / "dry/runs/r2/doctor-sum.json").read_text()).reused


def test_what_has_changed_is_told_of_the_same_project_alone(run: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run(a=1)
    assert "Changed since run r1" in run(a=2)[1]
    assert "Changed since" not in run(a=3, working_directory=str(other))[1]
    assert "Changed since run r1" in run(a=4, working_directory=str(other))[1]


def test_no_reuse_does_the_work_again(run: Any) -> None:
    run(a=1)
    run(a=1, reuse=False)
    assert calls == [1, 1]


def test_an_input_that_will_go_is_told_where_it_is_used(run: Any, tmp_path: Path) -> None:
    code, text = run(a=1)
    assert code == 0 and "deprecated" not in text
    code, text = run(a=2, b=1)
    assert code == 0 and "`b` (input) is deprecated: Use `a`; it goes in 9.9" in text


def test_work_whose_result_is_gone_is_done_again(run: Any) -> None:
    run(a=1)
    run.store.delete("sums/one")
    code, text = run(a=1)
    assert code == 0 and calls == [1, 1] and "is gone" in text


def test_kept_work_is_found_before_the_action_has_ended(run: Any) -> None:
    found: list[Any] = []

    def keep(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        result = step.once("k", SumOutputs, lambda: Result(SumOutputs(total=4), {"n": 1}, reason="kept"))
        found.append(step.once("k", SumOutputs, lambda: pytest.fail("it is done already")))
        return result

    assert run(keep)[0] == 0
    assert found[0].reused and found[0].outputs.total == 4 and found[0].reason == "kept"


def test_work_that_is_not_reusable_is_done_again(run: Any) -> None:
    done: list[int] = []

    def half(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        def work() -> Result[SumOutputs]:
            done.append(1)
            return Result(SumOutputs(total=4), reusable=False)

        return step.once("k", SumOutputs, work)

    assert [run(half)[0], run(half)[0]] == [0, 0]
    assert done == [1, 1]


def test_earlier_work_that_does_not_hold_any_more_is_done_again_and_says_why(run: Any) -> None:
    def stale(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        work = lambda: Result(SumOutputs(total=len(calls)), reason=str(calls.append(0)))  # noqa: E731
        return step.once("k", SumOutputs, work, gone=lambda found: f"{found.outputs.total} is old")

    run(stale)
    code, text = run(stale)
    assert code == 0 and calls == [0, 0] and "Done before, but 0 is old" in text


def test_half_written_record_is_not_believed(run: Any) -> None:
    run(a=1)
    path = next(e.path for e in run.store.list("work/"))
    run.store.put(path, b'{"action": "doctor-')
    assert run(a=1)[0] == 0
    assert calls == [1, 1]


def test_no_is_exit_code_1_keeps_outputs_and_is_not_reused(run: Any, tmp_path: Path) -> None:
    code, text = run(a=200)
    assert code == 1
    assert "::error title=Rejected::too much." in text
    assert "total<<" in (tmp_path / "output").read_text()
    run(a=200)
    assert calls == [200, 200]


def test_bad_input_is_one_annotation_and_leaves_a_record(run: Any) -> None:
    code, text = run(a=-1)
    assert code == 2
    assert text.count("::error") == 1 and "file=x.yaml,line=2" in text and "Traceback" not in text
    record = Record.model_validate(run.store.get_json("runs/r1/doctor-sum.json"))
    assert record.verdict == "bad-input" and record.problem is not None and record.problem.place == "x.yaml:2"


def test_secret_is_in_no_record(run: Any, tmp_path: Path) -> None:
    run(a=1, password="hunter2-hunter2")
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*.json"))
    assert b"hunter2" not in written
    assert "hunter2" not in (tmp_path / "output").read_text()


def test_full_disk_is_said_in_words(run: Any) -> None:
    def full(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    code, text = run(full)
    assert code == 3 and "No space left on device: /data/x" in text and "Free some space" in text


def test_bug_is_no_traceback_on_the_log(run: Any) -> None:
    def bug(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        raise KeyError("x")

    code, text = run(bug)
    assert code == 3 and "this is a bug in mlops-actions" in text and "Traceback" not in text


def test_previous_is_matched_by_subject(run: Any) -> None:
    run(a=5)
    found: list[Any] = []

    def look(inputs: SumInputs, step: Step) -> Result[SumOutputs]:
        found.append(step.previous("doctor-sum", sum="5"))
        found.append(step.previous("doctor-sum", sum="6"))
        return Result(SumOutputs(total=0))

    run(look)
    assert found[0].outputs["total"] == 6 and found[1] is None
