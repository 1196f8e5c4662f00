"""Judge a model by its predictions: thresholds, slices, baselines, fairness, and the champion.

Metrics are computed from the predictions on the test data, as scikit-learn does; thresholds may also be on metrics
that the pipeline logged.

- `binary`: `auc`, `average_precision`, `log_loss`, `brier`, `accuracy`, `precision`, `recall`, `f1`;
  of calibration `ece` and the parts `brier_reliability`, `brier_resolution` and `brier_uncertainty`.
- `multiclass`: `accuracy`, `balanced_accuracy`, `f1_macro`, `f1_weighted`; with probabilities `log_loss`, `auc_macro`,
  `auc_weighted`, `top_accuracy@3`.
- `multilabel`: `accuracy`, `f1_macro`, `f1_micro`, `hamming_loss`; with scores `auc_macro`, `auc_weighted`,
  `average_precision_macro`.
- `regression`: `rmse`, `mae`, `r2`; where a gate names them `mse`, `mape`, `pinball@0.9`.
- `forecasting`: the same, `smape`, and with `history` `mase`. Slices of the horizon's column show each horizon.
- `ranking`: `ndcg`, `ndcg@10`, `map`, `mrr`.
- `scores`: the mean of each column of numbers.

Of the model itself, where `thresholds` name them: `model_mb`, its size; `memory_mb`, the most memory of a process that
loads it and predicts the golden rows; `cold_ms`, the time until a new process has predicted its first row;
`latency_p50_ms` and `latency_p95_ms` of single rows after that.

Of its training, with `training`: `training_loss_ratio`, the last loss as a share of the first (below 1);
`training_overfit_ratio`, the same of a training on `training-rows` rows (at most 0.1: it can learn them by heart);
`training_repeat_difference`, how far a second training of all rows is from the first, as a share of the first loss (at
most 1e-6). A loss that is not a number fails. `thresholds` may set other limits. A pipeline may log the same metrics
itself; they are judged where `thresholds` name them.

The number after `@` is yours. `custom-metrics` are your own.

The champion is the version that the alias names. On the same test rows (in one order, or found by `id-column`: at least
half of those of either) each compared metric gets a 95 % interval of its gain, and one of three verdicts: **better**
when it lies above 0, **worse** when it lies below what `max-regression` allows to be lost, else **cannot tell**, with
how many rows would be enough. At most 2.5 % of models that are equal are called worse. The method is told: DeLong's for
`auc`, McNemar's test (as an interval, by Tango) for `accuracy`, and a paired bootstrap with a fixed seed for all else;
with `block-column` it is a bootstrap of whole blocks. Only *worse* fails, unless `if-cannot-tell` is `fail`: then the
model must be shown to be good enough on every row that the champion was measured on. On other rows the recorded metrics
are compared, which shows a loss but no model to be good enough. Without a champion there is nothing to be worse than.

Thresholds, baselines and fairness are decided by the value, whose interval is shown; slices by the interval, corrected
for how many are looked at. Limits are compared at 12 significant digits, a limit of 0 at 12 decimals. A metric, slice
or group that a gate names and that is not there fails the gate.

Two classes are a binary task, whatever they are called: the positive class is the greater one (`1` of -1 and 1, `yes`
of `no` and `yes`), as of scikit-learn's `predict_proba`. Where no gate is set, or the champion has no such metric, the
verdict is `unchecked`: the step succeeds, and promote-model does not take it for passed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from ..errors import BadInput
from ..evaluation.gates import Allowances, Limits, Slices
from ..evaluation.metric import FOOTPRINT, Task, named
from ..inputs import CodeInputs, ModelInputs, Outputs, PredictInputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..text import many
from ..values import Lines, Mappings, Numbers, parse_lines

if TYPE_CHECKING:
    from ..data.sources import DataSource
    from ..environments import Environment
    from ..evaluation.champion import Champion
    from ..evaluation.custom import CustomMetric
    from ..evaluation.evaluate import Evaluation
    from ..runtime.step import Step


class EvaluateModelInputs(ModelInputs, PredictInputs):
    """What `evaluate-model` takes."""

    predictions: str = Field(
        "",
        description="URI or path of the predictions on test rows: Parquet or CSV with columns of labels and scores."
        " By default those of run-pipeline in this run.",
    )
    metrics: Numbers = Field(
        default_factory=dict, description="Recorded metrics. By default those of run-pipeline in this run."
    )
    task: Literal["auto", Task] = Field(
        "auto",
        description="What is predicted. By default seen from labels and columns. `scores`: columns of scores of each"
        " row, such as of generated text; each is a metric, its mean.",
    )
    label_column: str = Field("label", description="The column of true values.")
    score_column: str = Field(
        "score",
        description="The column of scores. `binary`: the probability of the positive class, from 0 to 1 (other numbers"
        " that rise with it serve for `auc` and `average_precision`). `regression`, `forecasting`, `ranking`: the"
        " predicted number. `multiclass`: the beginning of a column's name for each class, `score_<class>`, with its"
        " probability. `multilabel`: of one for each label, `score_<label>`, beside `label_<label>` of 0 and 1.",
    )
    prediction_column: str = Field(
        "prediction",
        description="The column of predicted classes. By default those with a score of 0.5 or more, or the class"
        " with the highest one. `multilabel`: the beginning of `prediction_<label>`. `regression`: the predicted"
        " number, where there is no score.",
    )
    id_column: str = Field("", description="The column that names a test row, to find it in other predictions.")
    weight_column: str = Field("", description="A column of how much each row counts.")
    block_column: str = Field(
        "",
        description="A column that names what a row is not independent of, such as its day or user. Where chance is"
        " judged, whole blocks are drawn and not rows.",
    )
    query_column: str = Field("", description="The column that names what rows are ranked within: a ranking task.")
    series_column: str = Field("", description="The column that names the series of a forecast, if not one.")
    time_column: str = Field("", description="The column of the time that is forecast.")
    horizon_column: str = Field("", description="The column of how many steps ahead a forecast is. By default 1.")
    history: str = Field(
        "",
        description="URI or path of the labels before the test rows, with the same columns of label, time and series:"
        " what a season-naive forecast and `mase` need.",
    )
    season: int = Field(1, ge=1, description="How many steps a season has.")
    thresholds: Limits = Field(
        {},
        description='Limits of metrics, such as `auc: ">= 0.65"`, or `auc>=0.65` lines; a floor and a ceiling as'
        ' `auc: ">= 0.65, <= 0.99"`, or two lines. The value decides.',
        examples=["auc>=0.7"],
    )
    primary_metric: str = Field(
        "",
        description="The metric that champion and baselines are compared by. By default `auc` (`f1` without scores),"
        " `f1_macro`, `rmse`, `ndcg`, `mase` (`mae` without `history`), or the first column of scores.",
    )
    baselines: Annotated[list[Literal["constant", "linear", "season-naive"]] | None, BeforeValidator(parse_lines)] = (
        Field(
            None,
            description="What the primary metric must be better than; `[]` for nothing. `constant`: a predictor that"
            " knows no features. `linear`: a linear or logistic regression of the other columns of numbers in the"
            " predictions, by cross-validation. `season-naive`: what was one season earlier in `history`. By default"
            " `constant`, where the metric of such a predictor is known.",
        )
    )
    champion: str = Field("champion", description="Alias of the version to compare with.")
    max_regression: Allowances = Field(
        {"*": 0.0},
        description="How much worse than the champion the primary metric may be: a number, or one a metric. On the same"
        " test rows a loss counts only when it is 97.5 % certain that it is larger than this.",
    )
    if_cannot_tell: Literal["pass", "fail"] = Field(
        "pass",
        description="What happens where the rows cannot tell whether the model is worse than the champion, or a slice"
        " beyond its limit. With `fail` the model must be shown to be good enough, on the champion's test rows.",
    )
    slices: Slices = Field(
        [],
        description="Columns of the predictions to break the metrics down by, each value a slice; or `name: expression`"
        " in SQL, such as `night: hour >= 22`.",
    )
    slice_thresholds: Limits = Field(
        {},
        description="Limits of metrics that each slice must keep. A slice fails when its whole 95 % interval, corrected"
        " for how many slices were looked at, is beyond the limit.",
    )
    min_slice_rows: int = Field(
        100, ge=1, description="Slices and groups with fewer rows are not judged; one that is named itself fails."
    )
    slice_max_regression: Allowances = Field(
        {},
        description="How much worse than the champion the primary metric may be in any slice: a number, or one a"
        " metric. Each slice is compared on its rows, corrected for how many are looked at.",
    )
    golden: str = Field(
        "",
        description="URI or path of the golden predictions, whose rows are predicted where `thresholds` name a latency"
        " or the memory. By default run-pipeline's in this run.",
    )
    training: str = Field(
        "",
        description="Code that trains, `module:name` or `file.py:name`, to see whether the training is sane: a function"
        " of the number of rows to train on (None for all) that returns the loss after each step. It runs with"
        " `requirements` and `python`, by default with the packages of the component that made the model.",
        pattern=r"^((?:[A-Za-z_][\w.]*|.+\.py):[A-Za-z_]\w*)?$",
        examples=["train.py:losses"],
    )
    training_rows: int = Field(20, ge=1, description="How many rows a training must be able to learn by heart.")
    training_timeout: float = Field(600.0, gt=0, description="Seconds for the three trainings.")
    custom_metrics: Mappings = Field(
        {},
        description="Metrics of your own by name, each with `function`, `module:name` or `file.py:name`: a function of"
        " the predictions' rows (a pandas DataFrame, or a list of dictionaries where there is no pandas) that returns a"
        " number; and `direction`, `maximize` or `minimize`. They run with `requirements` and `python`, by default with"
        " the packages of the component that made the model.",
    )
    groups: Lines = Field([], description="Columns whose values are the groups that `fairness` compares.")
    fairness: Limits = Field(
        {},
        description="Limits of `demographic_parity_difference`, `demographic_parity_ratio` and"
        " `equalized_odds_difference` between the groups. The value decides.",
        examples=["demographic_parity_difference<=0.1"],
    )


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


@dataclass(frozen=True)
class _Given:
    """What is evaluated, as it was found: files, recorded metrics, the champion, and what the result speaks of."""

    source: DataSource | None
    history: DataSource | None
    recorded: dict[str, float]
    champion: Champion | None
    subject: dict[str, str]
    evidence: str


@dataclass(frozen=True)
class _Own:
    """What runs in the consumer's environment: metrics of its own, its training, and its model to be measured.

    Attributes:
        environment: the environment.
        metrics: by name.
        footprint: those of `FOOTPRINT` that are asked for.
        model, golden: URIs of what is measured, or "".
    """

    environment: Environment
    metrics: Mapping[str, CustomMetric]
    footprint: Sequence[str]
    model: str
    golden: str


def run(inputs: EvaluateModelInputs, step: Step) -> Result[EvaluateModelOutputs]:
    """Evaluate the model."""
    from ..data.sources import digests, find_one
    from ..evaluation.champion import find_champion
    from ..models.checks import code_digest
    from ..registry.registry import Registry

    trained = step.previous("run-pipeline")
    outputs = trained.outputs if trained else {}
    uri = inputs.predictions or str(outputs.get("predictions-uri") or "")
    recorded = inputs.metrics or outputs.get("metrics") or {}
    if not uri and not recorded:
        raise step.lacks("predictions or metrics to evaluate", "run-pipeline", "`predictions` or `metrics`")
    given = _Given(
        source=find_one(step.workspace, uri, "predictions") if uri else None,
        history=find_one(step.workspace, inputs.history, "history") if inputs.history else None,
        recorded=recorded,
        champion=find_champion(Registry(step.workspace.store), step.workspace.cache, inputs.model, inputs.champion),
        subject=trained.subject if trained and not inputs.predictions else {},
        evidence=uri or (f"{step.workspace.store.url}/runs/{trained.run}/run-pipeline.json" if trained else ""),
    )
    champion = given.champion
    # every input but those that say where things are
    own = _own(inputs, outputs, step)
    where = {*ModelInputs.model_fields, *CodeInputs.model_fields, "predictions", "metrics", "history", "golden"}
    asked = inputs.model_dump(mode="json", exclude=where)
    code = [*(one.function for one in own.metrics.values()), inputs.training, inputs.predict] if own else []
    key = step.key(
        predictions=digests([given.source]) if given.source else [],
        history=digests([given.history]) if given.history else [],
        recorded=given.recorded,
        champion=champion and [champion.version, dict(champion.metrics), bool(champion.predictions)],
        asked=asked,
        subject=given.subject,
        own=own
        and [own.environment.name, own.model, own.golden, [code_digest(one, step.workspace.root) for one in code]],
    )
    return step.once(key, EvaluateModelOutputs, lambda: _evaluate(inputs, given, own, step), of=inputs.model)


def _own(inputs: EvaluateModelInputs, trained: Mapping[str, Any], step: Step) -> _Own | None:
    """What is asked of the consumer's environment; None when nothing is.

    Raises:
        BadInput: a metric is not described, or there is no model, or no golden rows, to measure with.
    """
    named_ = {**inputs.thresholds, **inputs.max_regression}
    asked = [name for name in FOOTPRINT if name in named_]
    if not (inputs.custom_metrics or inputs.training or asked):
        return None
    model, golden = str(trained.get("model-uri") or ""), inputs.golden or str(trained.get("golden-uri") or "")
    if asked and not model:
        raise step.lacks(f"model to measure {asked[0]} with", "run-pipeline", "no limit of it")
    if asked and asked != ["model_mb"] and not golden:
        fix = "Let the pipeline have an artifact `golden`, or give `golden`"
        raise BadInput(f"{asked[-1]} cannot be measured: there are no golden rows to predict", fix=fix)
    packages = [] if inputs.requirements else trained.get("packages") or []
    environment = step.workspace.environment("", inputs, packages)
    return _Own(environment, _metrics(inputs), asked, model, golden)


def _metrics(inputs: EvaluateModelInputs) -> dict[str, CustomMetric]:
    from ..evaluation.custom import CustomMetric

    made: dict[str, CustomMetric] = {}
    for name, value in inputs.custom_metrics.items():
        try:
            made[name] = CustomMetric.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in first["loc"])
            fix = "Write `function: module:name` and `direction: maximize` or `minimize`"
            raise BadInput(
                f"The custom metric {name} is not described: {at or value}", why=first["msg"], fix=fix
            ) from None
        if named(name):
            raise BadInput(f"The custom metric {name} has the name of one that is known", fix="Give it another name")
    return made


def _measured(own: _Own, inputs: EvaluateModelInputs, step: Step) -> dict[str, float]:
    """What the model takes: sizes in MB (10⁶ bytes), times in ms.

    Raises:
        Rejected: the model does not load or predict.
    """
    from ..evaluation import golden
    from ..evaluation.golden_rows import read_golden
    from ..models.checks import check_loadable
    from ..stores.store import fetch

    workspace, found = step.workspace, dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="mlops-model-") as scratch:
        model = fetch(workspace.uri(own.model), Path(scratch) / Path(own.model).name, workspace.store_options)
        files = [model] if model.is_file() else [file for file in model.rglob("*") if file.is_file()]
        found["model_mb"] = sum(file.stat().st_size for file in files) / 1e6
        if own.golden and set(own.footprint) - {"model_mb"}:
            check_loadable(model, inputs.predict, workspace.root)
            at = Path(scratch) / "golden" / Path(own.golden).name
            request = golden.GoldenRequest(
                python=own.environment.python,
                model=model,
                golden=read_golden(fetch(workspace.uri(own.golden), at, workspace.store_options), "score"),
                predict=inputs.predict,
                root=workspace.root,
                environ=workspace.child_environ(),
                tolerance=golden.Tolerance(),
                repeats=200,
                timeout=600.0,
                threads=0,
            )
            tested = golden.test(request)
            found |= {"memory_mb": tested.memory_mb, "cold_ms": tested.cold_ms}
            found |= {"latency_p50_ms": tested.p50, "latency_p95_ms": tested.p95}
    return {name: round(found[name], 4) for name in own.footprint}


def _evaluate(inputs: EvaluateModelInputs, given: _Given, own: _Own | None, step: Step) -> Result[EvaluateModelOutputs]:
    # numpy, scipy and polars: not before it is known that they are needed
    from ..evaluation import baselines, custom, evaluate, predictions, training

    consumer = sanity = None
    if own:
        workspace = step.workspace
        consumer = custom.Consumer(own.environment.python, workspace.root, workspace.child_environ())
        if inputs.training:
            within = replace(consumer, timeout=inputs.training_timeout)
            sanity = training.train(inputs.training, inputs.training_rows, within)
    columns = {field.name: getattr(inputs, f"{field.name}_column") for field in fields(predictions.Columns)}
    found = evaluate.evaluate(
        evaluate.EvaluationRequest(
            given.source,
            dict(given.recorded) | (_measured(own, inputs, step) if own and own.footprint else {}),
            predictions.Columns(**columns),
            inputs.task,
            inputs.primary_metric,
            inputs.thresholds,
            inputs.slice_thresholds,
            inputs.slices,
            inputs.min_slice_rows,
            given.champion,
            inputs.max_regression,
            inputs.baselines,
            baselines.History(given.history, inputs.season) if given.history else None,
            inputs.groups,
            inputs.fairness,
            inputs.if_cannot_tell == "pass",
            own.metrics if own else {},
            consumer,
            inputs.slice_max_regression,
            sanity,
        )
    )
    if given.champion is None:
        step.console.say(f"No version is {inputs.champion!r} yet: nothing to compare with")
    if found.predictions:
        step.console.say(f"The task is {found.predictions.task_in_words}")
    for note in found.notes:
        step.console.warning(note)
    for name, parts in found.small.items():
        shown = [f"{value} ({rows:,})" for value, rows in parts.items()]
        listed = ", ".join([*shown[:5], *(["…"] if len(shown) > 5 else [])])
        least = many(inputs.min_slice_rows, "row")
        step.console.say(f"Slices of {name} with fewer than {least} are not judged: {listed}")
    rows = [(g.kind, g.metric, "–" if g.value is None else f"{g.value:.4g}", g.limit, g.answer, g.note)
            for g in found.gates]  # fmt: skip
    if rows:
        step.console.table(["gate", "metric", "value", "must be", "passed", ""], rows)
    return _result(found, inputs, given)


def _result(found: Evaluation, inputs: EvaluateModelInputs, given: _Given) -> Result[EvaluateModelOutputs]:
    from ..evaluation.curves import curves

    champion = given.champion.version if given.champion else None
    failed, total = found.failed, len(found.gates)
    value = found.metrics[found.primary]
    if failed:
        reason = f"{len(failed)} of {many(total, 'gate')} failed: {failed[0].sentence()}"
    else:
        against = f", against version {champion}" if champion else ""
        passed = f"{total} of {many(total, 'gate')} passed{against}" if total else "nothing was checked: no gate is set"
        reason = "; ".join(
            [f"{found.primary} {value:.4g}", passed, *(f"not checked: {why}" for why in found.unchecked)]
        )
    details: dict[str, Any] = {
        "task": found.predictions.task_in_words if found.predictions else "",
        "gates": [{**vars(gate), "margin": gate.margin, "evidence": given.evidence} for gate in found.gates],
        "baseline": found.baseline,
        "comparisons": [{**vars(one), "verdict": one.verdict} for one in found.comparisons],
        "slices": found.slices,
        "small_slices": found.small,
        "notes": found.notes + found.unchecked,
        "rows": len(found.predictions.label) if found.predictions else 0,
        "champion": {"alias": inputs.champion, "version": champion},
        "curves": curves(found.predictions) if found.predictions else {},
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
        subject=given.subject,
    )


ACTION = Action(
    "evaluate-model",
    "data",
    EvaluateModelInputs,
    EvaluateModelOutputs,
    run,
    icon="bar-chart-2",
    once=True,
)
