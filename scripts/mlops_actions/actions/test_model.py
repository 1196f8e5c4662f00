"""Load the model in an environment of the matrix and compare its golden predictions and latency.

The environment has the requirements and the Python that are given; without any, the packages that the model was
trained with. The model is loaded by its kind: scikit-learn (`.joblib`, `.pkl`, `.pickle`), skops, XGBoost (`.json`,
`.ubj`), LightGBM (`.txt`), CatBoost (`.cbm`), ONNX, a folder of MLflow's; or by code of yours, which `predict` names.

All of this must hold: every golden row is predicted within the tolerance; so are single rows, compared with all rows at
once, and all rows in several threads; the expectations hold; and the limits of latency, cold start and memory are kept.
The record says on which processor, system, Python and packages, and each environment's record is evidence of its own.

The matrix stands in `mlops.yaml`:

```yaml
test-model:
  matrix:
    training: {requirements: requirements.txt}
    locked: {requirements: requirements.txt, dependencies: locked}
    lowest: {requirements: pyproject.toml, dependencies: lowest, python: "3.10"}
    newest: {requirements: pyproject.toml, dependencies: newest, python: "3.13"}
    image: {image: built}
    arm: {runs-on: ubuntu-24.04-arm}
    windows: {runs-on: windows-2025}
    gpu: {runs-on: [self-hosted, gpu], gpu: true}
    group: {runs-on: {group: big-machines, labels: [linux]}}
  expectations:
    carrier-does-not-matter: {change: {carrier: "'AA'"}, expect: unchanged, tolerance: 0.01}
    later-is-worse: {change: {hour: hour + 1}, where: hour < 22, expect: increasing, max-failures: 0.05}
```

The workflow makes a job of each; `mlops run` tests those that can be tested on this machine, one after the other, and
`mlops test-model --variant NAME` tests one. `dependencies` has uv choose the versions, pinned by hashes: `locked`
keeps what is pinned, `lowest` takes the lowest version that is allowed of each package that is named (and so needs
lower bounds), `newest` the newest. An `image` is run by Docker; it needs a `python3` with the model's packages, and for
one of a private registry `registry-username` and `registry-password` are given, or `docker login` was there before.

An expectation changes golden rows by SQL and predicts them again (invariance and direction, as in CheckList by Ribeiro
et al., ACL 2020).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..evaluation.expectations import Expectations
from ..evaluation.matrix import BUILT, Leg, Legs, leg_of
from ..inputs import PATH_PART, CodeInputs, GoldenInputs, Outputs, RegistryInputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines

if TYPE_CHECKING:
    from ..evaluation.expectations import Found
    from ..evaluation.golden import DoesNotWork, GoldenRequest, Tested
    from ..runtime.step import Step


class TestModelInputs(GoldenInputs, RegistryInputs):
    """What `test-model` takes."""

    __test__ = False  # not for pytest

    model_uri: str = Field("", description="URI or path of the model. By default run-pipeline's in this run.")
    golden: str = Field(
        "",
        description="URI or path of the golden predictions: Parquet or CSV with the model's features and the expected"
        " `score`. By default run-pipeline's in this run.",
    )
    matrix: Legs = Field(
        default_factory=dict,
        description="The environments to test in, by name. Each may have `runs-on` (a label, a list of labels, or a"
        " mapping of `group` and `labels`), `python`, `requirements`, `packages`, `dependencies` (`locked`, `lowest` or"
        " `newest`), `image` (a name, or `built`) and `gpu`, which come before the inputs.",
    )
    variant: str = Field(
        "",
        description="The environment of `matrix` that is tested; without a matrix, what this one is called. By default"
        " the Python version and the requirements file's name.",
        pattern=PATH_PART,
        examples=["py3.12"],
    )
    packages: Lines = Field(
        default_factory=list,
        description="Packages of the environment, beside `requirements`. By default, without `requirements`, those that"
        " the component that made the model installs.",
    )
    expectations: Expectations = Field(
        default_factory=dict,
        description="What must hold when golden rows are changed, by name. Each has `change` (columns with a number or"
        " an expression in SQL), and may have `where` (a condition in SQL), `expect` (`unchanged`, `increasing`: the"
        " prediction must not go down, `decreasing`), `tolerance`, and `max-failures` (the share of rows that may"
        " fail).",
    )
    threads: int = Field(4, ge=0, le=64, description="How many threads predict at the same time. `0` for none.")
    max_latency_ms: float | None = Field(
        None, gt=0, description="Limit of the 95th percentile of single-row predictions when warm, in milliseconds."
    )
    max_cold_ms: float | None = Field(
        None,
        gt=0,
        description="Limit of the time until a new process has predicted its first row, in milliseconds: imports,"
        " loading, predicting.",
    )
    max_memory_mb: float | None = Field(
        None, gt=0, description="Limit of the most memory that the process has, in MB (10⁶ bytes)."
    )
    repeats: int = Field(200, ge=1, description="How many single-row predictions are timed (for at most 10 s).")
    timeout: float = Field(600.0, gt=0, description="Seconds for loading and predicting.")


_NOT_ASKED = {*CodeInputs.model_fields, *RegistryInputs.model_fields, "model_uri", "golden", "matrix", "packages"}


class TestModelOutputs(Outputs):
    """What `test-model` gives."""

    __test__ = False

    verdict: str = Field(description="`passed` or `rejected`.")
    variant: str = Field(description="Name of the environment.")
    rows: int = Field(description="Number of golden rows.")
    mismatches: int = Field(description="Rows whose prediction is out of tolerance.")
    worst_difference: float | None = Field(description="The largest difference; empty when there is no number for it.")
    latency_p50_ms: float | None = Field(description="Median of single-row predictions when warm, in milliseconds.")
    latency_p95_ms: float | None = Field(
        description="95th percentile of single-row predictions when warm, in milliseconds."
    )
    cold_ms: float | None = Field(
        None,
        description="Until a new process has predicted its first row, in milliseconds: imports, loading, predicting.",
    )
    throughput: float | None = Field(description="Rows a second when all are predicted at once.")
    peak_memory_mb: float | None = Field(description="The most memory that the process had, in MB (10⁶ bytes).")


def run(inputs: TestModelInputs, step: Step) -> Result[TestModelOutputs]:
    """Test the model."""
    from ..errors import MlopsError
    from ..evaluation.side_by_side import shown

    name, leg = leg_of(inputs.matrix, inputs.variant)
    of_leg = {field: value for field in ("python", "requirements", "packages") if (value := getattr(leg, field))}
    inputs = inputs.model_copy(update={"variant": name, **of_leg})
    try:
        result = _run(inputs, leg, step)
    except MlopsError as error:
        error.details |= {"variant": _variant(inputs, {})}  # each leg of the matrix has its own record
        raise
    others = [record for record in step.records() if record.action == "test-model"]
    if others and (table := shown([*others, result])):
        step.console.table(*table)
    return result


def _run(inputs: TestModelInputs, leg: Leg, step: Step) -> Result[TestModelOutputs]:
    import platform

    from ..evaluation import golden
    from ..evaluation.golden_rows import read_golden
    from ..models.checks import check_loadable, code_digest
    from ..stores.digests import file_digest, tree_digest
    from ..stores.store import fetch

    workspace, trained = step.workspace, step.previous("run-pipeline")
    given = trained.outputs if trained else {}
    model_uri = inputs.model_uri or str(given.get("model-uri") or "")
    golden_uri = inputs.golden or str(given.get("golden-uri") or "")
    for name, what, value in (("model-uri", "model", model_uri), ("golden", "golden predictions", golden_uri)):
        if not value:
            raise step.lacks(f"{what} to test", "run-pipeline", f"`{name}`")
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
        changed = _changed(inputs, rows.features, step)
        image = _image(leg, step)
        environment = (
            None if image else workspace.environment("", inputs, inputs.packages or trained_with, leg.dependencies)
        )
        subject = {"model": tree_digest(model)}
        key = step.key(
            model=subject,
            golden=file_digest(path),
            environment=environment.name if environment else image,
            code=code_digest(inputs.predict, workspace.root),
            machine=[platform.machine(), platform.system(), platform.python_version()],
            asked=inputs.model_dump(mode="json", exclude=_NOT_ASKED),
            gpu=leg.gpu,
        )
        request = golden.GoldenRequest(
            python=environment.python if environment else inputs.python or "python3",
            model=model,
            golden=rows,
            predict=inputs.predict,
            root=workspace.root,
            environ=workspace.child_environ(),
            tolerance=golden.Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance),
            repeats=inputs.repeats,
            timeout=inputs.timeout,
            changed={name: one.inputs for name, one in changed.items() if one.rows},
            threads=inputs.threads,
            gpu=leg.gpu,
            image=image,
        )
        places = {name: one.rows for name, one in changed.items()}
        return step.once(
            key, TestModelOutputs, lambda: _test(request, inputs, places, subject, kind, step), of=inputs.variant
        )


def _changed(inputs: TestModelInputs, features: Any, step: Step) -> dict[str, Any]:
    """The golden rows as each expectation changes them."""
    from ..errors import BadInput
    from ..evaluation.expectations import change
    from ..runtime.config import place_of

    try:
        return {name: change(features, name, one) for name, one in inputs.expectations.items()}
    except BadInput as error:
        error.place = error.place or place_of(step.project, "test-model", "expectations", inputs.environment)
        raise


def _image(leg: Leg, step: Step) -> str:
    """The image that a leg is tested in; "" for none.

    Raises:
        BadInput: it is to be the built one, and none was built.
    """
    if leg.image != BUILT:
        return leg.image
    found = str(step.output_of("build-image", "image-ref"))
    if not found:
        raise step.lacks("image to test in", "build-image", "the environment another `image`")
    return found


def _test(
    request: GoldenRequest,
    inputs: TestModelInputs,
    places: dict[str, list[int]],
    subject: dict[str, str],
    kind: str,
    step: Step,
) -> Result[TestModelOutputs]:
    from ..evaluation import golden
    from ..evaluation.expectations import judge
    from ..images.login import docker_config, given_credentials
    from ..images.names import registry_of

    try:
        if request.image:
            with docker_config(request.environ, registry_of(request.image), given_credentials(inputs)) as config:
                found = golden.test(replace(request, environ={**request.environ, "DOCKER_CONFIG": str(config)}))
        else:
            found = golden.test(request)
    except golden.DoesNotWork as error:
        return _does_not_work(error, inputs, step, subject)
    if found.warnings:
        more = f" ({len(found.warnings) - 1} more in the record)" if len(found.warnings) > 1 else ""
        step.console.warning(found.warnings[0].split("\n")[0] + more)
    held = [
        judge(name, one, places[name], found.predictions, found.changed.get(name, []), request.tolerance)
        for name, one in inputs.expectations.items()
    ]
    return _result(found, held, request.golden.scores, inputs, subject, kind)


def _does_not_work(
    error: DoesNotWork, inputs: TestModelInputs, step: Step, subject: dict[str, str]
) -> Result[TestModelOutputs]:
    """A result, not an exception: each leg of the matrix has a record under its own name."""
    step.console.say(error.log)
    variant = _variant(inputs, error.facts)
    outputs = TestModelOutputs(
        verdict="rejected", variant=variant, rows=0, mismatches=0, worst_difference=None, latency_p50_ms=None,
        latency_p95_ms=None, cold_ms=None, throughput=None, peak_memory_mb=None,
    )  # fmt: skip
    details = {"variant": variant, "facts": error.facts, "log": error.log}
    return Result(outputs, details, passed=False, reason=str(error), subject=subject)


def _checks(found: Tested, held: list[Found], inputs: TestModelInputs) -> list[dict[str, Any]]:
    """Each question with its answer; `passed` is None of what is only told."""
    from ..evaluation.golden import Agreement, Tolerance

    allowed = f"(allowed: {Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance)})"

    def agree(name: str, of: Agreement, rows: int, what: str) -> dict[str, Any]:
        wrong = len(of.mismatches)
        said = f"{wrong} of {rows} {what} differ, by {of.worst:.3g} at worst {allowed}" if wrong else f"{rows} agree"
        return {"name": name, "passed": not wrong, "said": said}

    def limit(name: str, value: float, most: float | None, unit: str, what: str) -> dict[str, Any]:
        said = f"{what} is {value:,.1f} {unit}" + ("" if most is None or value <= most else f", over {most:g}")
        return {"name": name, "passed": None if most is None else value <= most, "said": said}

    checks = [agree("golden", found.agreement, found.rows, "golden predictions")]
    single = min(found.rows, inputs.repeats)
    checks.append(agree("single rows", found.single, single, "rows predicted by themselves and together"))
    if found.threaded is not None:
        checks.append(
            agree("threads", found.threaded, found.rows, f"rows predicted in {inputs.threads} threads at once")
        )
    checks += [
        {"name": one.name, "passed": one.passed, "said": f"{one.name}: {one.said}", "failures": one.failures[:5]}
        for one in held
    ]
    checks.append(limit("latency", found.p95, inputs.max_latency_ms, "ms", "The 95th percentile of latency"))
    checks.append(limit("cold start", found.cold_ms, inputs.max_cold_ms, "ms", "The time to the first prediction"))
    checks.append(limit("memory", found.memory_mb, inputs.max_memory_mb, "MB", "The most memory"))
    return checks


def _result(
    found: Tested,
    held: list[Found],
    expected: Sequence[Any],
    inputs: TestModelInputs,
    subject: dict[str, str],
    kind: str,
) -> Result[TestModelOutputs]:
    from ..evaluation.golden import Tolerance
    from ..evaluation.side_by_side import apart

    checks = _checks(found, held, inputs)
    wrong = [check["said"] for check in checks if check["passed"] is False]
    agreed = f"{found.rows} of {found.rows} golden predictions agree; {found.p95:,.1f} ms a row (p95)"
    reason = "; ".join(wrong) or agreed
    variant = _variant(inputs, found.facts)
    worst = found.agreement.worst if found.agreement.worst != float("inf") else None
    details: dict[str, Any] = {
        "variant": variant,
        "kind": kind,
        "facts": found.facts,
        "checks": checks,
        "mismatches": [{"row": r, "expected": e, "is": g} for r, e, g in found.agreement.mismatches[:20]],
        "apart": apart(expected, found.predictions),
        "worst": worst,
        "tolerance": str(Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance)),
        "max_latency_ms": inputs.max_latency_ms,
        "load_seconds": round(found.load_seconds, 3),
        "model_mb": round(found.model_mb, 1),
        "warnings": found.warnings,
    }
    return Result(
        TestModelOutputs(
            verdict="rejected" if wrong else "passed",
            variant=variant,
            rows=found.rows,
            mismatches=len(found.agreement.mismatches),
            worst_difference=worst,
            latency_p50_ms=round(found.p50, 4),
            latency_p95_ms=round(found.p95, 4),
            cold_ms=round(found.cold_ms, 1),
            throughput=round(found.throughput, 1),
            peak_memory_mb=round(found.memory_mb, 1),
        ),
        details=details,
        passed=not wrong,
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
    once=True,
)
