"""Load the model in an environment of the matrix and compare its golden predictions and latency.

The environment has the requirements and the Python that are given; without any, the packages that the model was
trained with. The model is loaded by its kind: scikit-learn (`.joblib`, `.pkl`, `.pickle`), skops, XGBoost (`.json`,
`.ubj`), LightGBM (`.txt`), CatBoost (`.cbm`), ONNX, a folder of MLflow's; or by code of yours, which `predict` names.
Every golden row must be predicted within the tolerance; single rows and the whole are timed. The record
says on which processor, system, Python and packages, and each environment's record is evidence of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..inputs import PATH_PART, CodeInputs, GoldenInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines

if TYPE_CHECKING:
    from ..evaluation.golden import DoesNotWork, GoldenRequest, Tested
    from ..runtime.step import Step


class TestModelInputs(GoldenInputs):
    """What `test-model` takes."""

    __test__ = False  # not for pytest

    model_uri: str = Field("", description="URI or path of the model. By default run-pipeline's in this run.")
    golden: str = Field(
        "",
        description="URI or path of the golden predictions: Parquet or CSV with the model's features and the expected"
        " `score`. By default run-pipeline's in this run.",
    )
    variant: str = Field(
        "",
        description="Name of the environment under test, such as `py3.11-sklearn-1.7`. By default the Python version"
        " and the requirements file's name.",
        pattern=PATH_PART,
        examples=["py3.12"],
    )
    packages: Lines = Field(
        default_factory=list,
        description="Packages of the environment, beside `requirements`. By default, without `requirements`, those that"
        " the component that made the model installs.",
    )
    max_latency_ms: float | None = Field(
        None, gt=0, description="Limit of the 95th percentile of single-row predictions, in milliseconds."
    )
    repeats: int = Field(200, ge=1, description="How many single-row predictions are timed (for at most 10 s).")
    timeout: float = Field(600.0, gt=0, description="Seconds for loading and predicting.")


class TestModelOutputs(Outputs):
    """What `test-model` gives."""

    __test__ = False

    verdict: str = Field(description="`passed` or `rejected`.")
    variant: str = Field(description="Name of the environment.")
    rows: int = Field(description="Number of golden rows.")
    mismatches: int = Field(description="Rows whose prediction is out of tolerance.")
    worst_difference: float | None = Field(description="The largest difference; empty when there is no number for it.")
    latency_p50_ms: float | None = Field(description="Median of single-row predictions, in milliseconds.")
    latency_p95_ms: float | None = Field(description="95th percentile of single-row predictions, in milliseconds.")
    throughput: float | None = Field(description="Rows a second when all are predicted at once.")


def run(inputs: TestModelInputs, step: Step) -> Result[TestModelOutputs]:
    """Test the model."""
    import platform

    from ..errors import BadInput
    from ..evaluation import golden
    from ..evaluation.golden_rows import read_golden
    from ..models.checks import check_loadable, code_digest
    from ..stores.digests import file_digest, tree_digest
    from ..stores.store import fetch

    workspace, trained = step.workspace, step.previous("run-pipeline")
    given = trained.outputs if trained else {}
    model_uri = inputs.model_uri or str(given.get("model-uri") or "")
    golden_uri = inputs.golden or str(given.get("golden-uri") or "")
    for name, value in (("model-uri", model_uri), ("golden", golden_uri)):
        if not value:
            raise BadInput(f"No `{name}` is given, and run-pipeline gave none in this run", fix=f"Give `{name}`")
    trained_with = [] if inputs.requirements else given.get("packages") or []
    with tempfile.TemporaryDirectory(prefix="mlops-model-") as scratch:
        model = fetch(workspace.uri(model_uri), Path(scratch) / Path(model_uri).name, workspace.store_options)
        path = fetch(
            workspace.uri(golden_uri),
            Path(scratch) / "golden" / Path(golden_uri).name,
            workspace.store_options,
        )
        kind = check_loadable(model, inputs.predict, workspace.root)
        rows = read_golden(path, inputs.score_column)
        environment = workspace.environment("", inputs, inputs.packages or trained_with)
        subject = {"model": tree_digest(model)}
        key = step.key(
            model=subject,
            golden=file_digest(path),
            environment=environment.name,
            code=code_digest(inputs.predict, workspace.root),
            machine=[platform.machine(), platform.system(), platform.python_version()],
            asked=inputs.model_dump(mode="json", exclude=set(CodeInputs.model_fields) | {"model_uri", "golden"}),
        )
        request = golden.GoldenRequest(
            python=environment.python,
            model=model,
            golden=rows,
            predict=inputs.predict,
            root=workspace.root,
            environ=workspace.child_environ(),
            tolerance=golden.Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance),
            repeats=inputs.repeats,
            timeout=inputs.timeout,
        )
        return step.once(key, TestModelOutputs, lambda: _test(request, inputs, subject, kind, step))


def _test(
    request: GoldenRequest, inputs: TestModelInputs, subject: dict[str, str], kind: str, step: Step
) -> Result[TestModelOutputs]:
    from ..errors import MlopsError
    from ..evaluation import golden

    try:
        found = golden.test(request)
    except golden.DoesNotWork as error:
        return _does_not_work(error, inputs, step, subject)
    except MlopsError as error:
        error.details |= {"variant": _variant(inputs, {})}  # each leg of the matrix has its own record
        raise
    if found.warnings:
        more = f" ({len(found.warnings) - 1} more in the record)" if len(found.warnings) > 1 else ""
        step.console.warning(found.warnings[0].split("\n")[0] + more)
    return _result(found, inputs, subject, kind)


def _does_not_work(
    error: DoesNotWork, inputs: TestModelInputs, step: Step, subject: dict[str, str]
) -> Result[TestModelOutputs]:
    """A result, not an exception: each leg of the matrix has a record under its own name."""
    step.console.say(error.log)
    variant = _variant(inputs, error.facts)
    outputs = TestModelOutputs(
        verdict="rejected", variant=variant, rows=0, mismatches=0, worst_difference=None, latency_p50_ms=None,
        latency_p95_ms=None, throughput=None,
    )  # fmt: skip
    details = {"variant": variant, "facts": error.facts, "log": error.log}
    return Result(outputs, details, passed=False, reason=str(error), subject=subject)


def _result(found: Tested, inputs: TestModelInputs, subject: dict[str, str], kind: str) -> Result[TestModelOutputs]:
    from ..evaluation.golden import Tolerance

    wrong, slow = (
        len(found.agreement.mismatches),
        inputs.max_latency_ms is not None and found.p95 > inputs.max_latency_ms,
    )
    limits = str(Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance))
    if wrong:
        by = f"by {found.agreement.worst:.3g} at worst (allowed: {limits})"
        reason = f"{wrong} of {found.rows} golden predictions differ, {by}"
    elif slow:
        reason = f"The 95th percentile of latency is {found.p95:,.1f} ms, over {inputs.max_latency_ms:g} ms"
    else:
        reason = f"{found.rows} of {found.rows} golden predictions agree; {found.p95:,.1f} ms a row (p95)"
    variant = _variant(inputs, found.facts)
    worst = found.agreement.worst if found.agreement.worst != float("inf") else None
    details: dict[str, Any] = {
        "variant": variant,
        "kind": kind,
        "facts": found.facts,
        "mismatches": [{"row": r, "expected": e, "is": g} for r, e, g in found.agreement.mismatches[:20]],
        "worst": worst,
        "tolerance": limits,
        "max_latency_ms": inputs.max_latency_ms,
        "load_seconds": round(found.load_seconds, 3),
        "warnings": found.warnings,
    }
    return Result(
        TestModelOutputs(
            verdict="rejected" if wrong or slow else "passed",
            variant=variant,
            rows=found.rows,
            mismatches=wrong,
            worst_difference=worst,
            latency_p50_ms=round(found.p50, 4),
            latency_p95_ms=round(found.p95, 4),
            throughput=round(found.throughput, 1),
        ),
        details=details,
        passed=not wrong and not slow,
        reason=reason,
        subject=subject,
    )


def _variant(inputs: TestModelInputs, facts: dict[str, Any]) -> str:
    if inputs.variant:
        return inputs.variant
    version = str(facts.get("python") or inputs.python)
    name = "py" + ".".join(version.split(".")[:2])
    stem = Path(inputs.requirements).stem if inputs.requirements else ""
    return f"{name}-{stem}" if stem not in ("", "requirements") else name


ACTION = Action(
    "test-model",
    "data",
    TestModelInputs,
    TestModelOutputs,
    run,
    icon="check-circle",
)
