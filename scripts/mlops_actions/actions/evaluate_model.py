"""Judge a model by its predictions: thresholds, slices, a baseline, and the champion.

Metrics are computed from the predictions on the test data; thresholds may also be on metrics that the pipeline
logged. The champion is the version that the alias names: on the same test rows the difference is judged with a
paired bootstrap, and the challenger is refused when the whole 95 % interval is worse than `max-regression` allows;
on other rows the recorded metrics are compared. Without a champion there is nothing to be worse than.

Two classes are a binary task, whatever they are called: the positive class is the greater one (`1` of -1 and 1, `yes`
of `no` and `yes`), as of scikit-learn's `predict_proba`. Where no gate is set, or one cannot be checked, the verdict is
`unchecked`: the step succeeds, and promote-model does not take it for passed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..evaluation.gates import Allowances, Limits
from ..inputs import ModelInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines, Numbers

if TYPE_CHECKING:
    from ..data.sources import DataSource
    from ..evaluation.champion import Champion
    from ..evaluation.evaluate import Evaluation
    from ..runtime.step import Step


class EvaluateModelInputs(ModelInputs):
    """What `evaluate-model` takes."""

    predictions: str = Field(
        "",
        description="URI or path of the predictions on test rows: Parquet or CSV with columns of labels and scores."
        " By default those of run-pipeline in this run.",
    )
    metrics: Numbers = Field(
        default_factory=dict, description="Recorded metrics. By default those of run-pipeline in this run."
    )
    task: Literal["auto", "binary", "multiclass", "regression"] = Field(
        "auto", description="What is predicted. By default seen from the labels."
    )
    label_column: str = Field("label", description="The column of true values.")
    score_column: str = Field(
        "score",
        description="The column of scores. `binary`: the probability of the positive class, from 0 to 1 (other numbers"
        " that rise with it serve for `auc` and `average_precision`). `regression`: the predicted number. `multiclass`:"
        " not needed, `prediction-column` is.",
    )
    prediction_column: str = Field(
        "prediction",
        description="The column of predicted classes. `binary`: by default those with a score of 0.5 or more."
        " `regression`: the predicted number, where there is no score.",
    )
    id_column: str = Field("", description="The column that names a test row, to find it in other predictions.")
    thresholds: Limits = Field(
        {}, description='Limits of metrics, such as `auc: ">= 0.65"`, or `auc>=0.65` lines.', examples=["auc>=0.7"]
    )
    primary_metric: str = Field(
        "",
        description="The metric that the champion is compared by. By default `auc` (`f1` without scores), `f1_macro` or"
        " `rmse`.",
    )
    baseline_gate: bool = Field(True, description="Fail unless the model beats a predictor that knows no features.")
    champion: str = Field("champion", description="Alias of the version to compare with.")
    max_regression: Allowances = Field(
        {"*": 0.0},
        description="How much worse than the champion the primary metric may be: a number, or one a metric. On the same"
        " test rows a loss counts only when a paired bootstrap is 97.5 % sure that it is larger than this.",
    )
    slices: Lines = Field([], description="Columns of the predictions to break the metrics down by.")
    slice_thresholds: Limits = Field({}, description="Limits of metrics that each slice must keep.")
    min_slice_rows: int = Field(100, ge=1, description="Slices with fewer rows are not judged.")


class EvaluateModelOutputs(Outputs):
    """What `evaluate-model` gives."""

    verdict: str = Field(
        description="`passed`, `rejected`, or `unchecked`: no gate failed, but there was none, or nothing to check."
    )
    metrics: dict[str, float] = Field(description="All metrics, as JSON.")
    primary_metric: str = Field(description="Name of the metric that is compared.")
    primary_value: float = Field(description="The value of that metric.")
    champion_version: int | None = Field(description="The version that it was compared with; empty if there is none.")
    gates_passed: int = Field(description="Number of gates passed.")
    gates_failed: int = Field(description="Number of gates failed.")


def run(inputs: EvaluateModelInputs, step: Step) -> Result[EvaluateModelOutputs]:
    """Evaluate the model."""
    from ..data.sources import digests, find
    from ..evaluation.champion import find_champion
    from ..registry.registry import Registry

    trained = step.previous("run-pipeline")
    given = trained.outputs if trained else {}
    uri = inputs.predictions or str(given.get("predictions-uri") or "")
    source = find(step.workspace, [uri])[0] if uri else None
    recorded = inputs.metrics or given.get("metrics") or {}
    champion = find_champion(Registry(step.workspace.store), step.workspace.cache, inputs.model, inputs.champion)
    subject = trained.subject if trained and not inputs.predictions else {}
    # every input but those that say where things are
    asked = inputs.model_dump(mode="json", exclude=set(ModelInputs.model_fields) | {"predictions", "metrics"})
    key = step.key(
        predictions=digests([source]) if source else [],
        recorded=recorded,
        champion=champion and [champion.version, dict(champion.metrics), bool(champion.predictions)],
        asked=asked,
        subject=subject,
    )
    return step.once(
        key, EvaluateModelOutputs, lambda: _evaluate(inputs, source, recorded, champion, key, subject, step)
    )


def _evaluate(
    inputs: EvaluateModelInputs,
    source: DataSource | None,
    recorded: dict[str, float],
    champion: Champion | None,
    key: str,
    subject: dict[str, str],
    step: Step,
) -> Result[EvaluateModelOutputs]:
    # numpy, scipy and polars: not before it is known that they are needed
    from ..evaluation import evaluate, predictions

    found = evaluate.evaluate(
        evaluate.EvaluationRequest(
            source,
            recorded,
            predictions.Columns(inputs.label_column, inputs.score_column, inputs.prediction_column, inputs.id_column),
            inputs.task,
            inputs.primary_metric,
            inputs.thresholds,
            inputs.slice_thresholds,
            inputs.slices,
            inputs.min_slice_rows,
            champion,
            inputs.max_regression,
            inputs.baseline_gate,
        )
    )
    if champion is None:
        step.console.say(f"No version is {inputs.champion!r} yet: nothing to compare with")
    if found.predictions:
        step.console.say(f"The task is {found.predictions.task_in_words}")
    for note in found.notes:
        step.console.warning(note)
    rows = [(g.kind, g.metric, "–" if g.value is None else f"{g.value:.4g}", g.limit, "yes" if g.passed else "NO")
            for g in found.gates]  # fmt: skip
    if rows:
        step.console.table(["gate", "metric", "value", "must be", "passed"], rows)
    return _result(found, champion.version if champion else None, inputs, step, key, subject)


def _result(
    found: Evaluation, champion: int | None, inputs: EvaluateModelInputs, step: Step, key: str, subject: dict[str, str]
) -> Result[EvaluateModelOutputs]:
    failed, total = found.failed, len(found.gates)
    value = found.metrics[found.primary]
    if failed:
        reason = f"{len(failed)} of {total} gates failed: {failed[0].sentence()}"
    else:
        against = f", against version {champion}" if champion else ""
        passed = f"{total} of {total} gates passed{against}" if total else "nothing was checked: no gate is set"
        reason = "; ".join(
            [f"{found.primary} {value:.4g}", passed, *(f"not checked: {why}" for why in found.unchecked)]
        )
    details: dict[str, Any] = {
        "task": found.predictions.task_in_words if found.predictions else "",
        "gates": [vars(gate) for gate in found.gates],
        "baseline": found.baseline,
        "comparisons": [vars(comparison) for comparison in found.comparisons],
        "slices": found.slices,
        "notes": found.notes + found.unchecked,
        "rows": len(found.predictions.label) if found.predictions else 0,
        "champion": {"alias": inputs.champion, "version": champion},
        "pictures": _pictures(found, step, key),
    }
    return Result(
        EvaluateModelOutputs(
            verdict="rejected" if failed else "passed" if found.checked else "unchecked",
            metrics=found.metrics,
            primary_metric=found.primary,
            primary_value=value,
            champion_version=champion,
            gates_passed=total - len(failed),
            gates_failed=len(failed),
        ),
        details=details,
        passed=not failed,
        checked=found.checked,
        reason=reason,
        subject=subject,
    )


def _pictures(found: Evaluation, step: Step, key: str) -> list[dict[str, str]]:
    if found.predictions is None:
        return []
    from ..evaluation.pictures import draw

    with tempfile.TemporaryDirectory() as scratch:
        picture = draw(found.predictions, Path(scratch) / "evaluation.png")
        if picture is None:
            return []
        uri = step.workspace.store.put_file(picture, step.workspace.kept(f"reports/{key}/evaluation.png"))
    return [
        {"title": f"The {found.predictions.task} predictions on {len(found.predictions.label):,} test rows", "uri": uri}
    ]


ACTION = Action(
    "evaluate-model",
    "data",
    EvaluateModelInputs,
    EvaluateModelOutputs,
    run,
    icon="bar-chart-2",
    once=True,
)
