"""Compare later data with what the model was trained on, and say what a retraining would be given.

Each column's population stability index against the reference counts when it is over the limit and over what chance
gives in samples of that size. The reference is the data that the version's lineage names, unless another is given.
With `predictions` that labels have come for, the quality in use is compared with the registered one.
`retrain-parameters` is what to start a retraining with; in `retrain`, `$files` and the like stand for what the new
data is.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..inputs import ModelInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines, Values

if TYPE_CHECKING:
    from ..data.sources import DataSource
    from ..monitoring.monitor import Observation
    from ..registry.manifest import Manifest
    from ..runtime.step import Step


class MonitorModelInputs(ModelInputs):
    """What `monitor-model` takes."""

    version: str = Field("champion", description="The version to watch: an alias or a number.")
    data: Lines = Field(
        [],
        description="The data that comes now: paths, globs, URIs or `store:path/*.parquet`.",
        examples=["data/2013-07.parquet"],
    )
    reference: Lines = Field(
        [],
        description="The data that the version was trained on. By default found by its fingerprint among what"
        " validate-data has seen.",
    )
    columns: Lines = Field([], description="Columns to compare. By default all that can be.")
    max_psi: float = Field(0.2, gt=0, description="A column whose population stability index is over this has drifted.")
    min_drifted_share: float = Field(
        0.0, ge=0, le=1, description="The least share of columns that must have drifted. At 0 one is enough."
    )
    time_column: str = Field("", description="The column of times that says how old the data is.")
    max_age: str = Field("", description="How old the newest row may be: `36h`, `7d` or `4w`.")
    as_of: datetime | None = Field(None, description="The time that age is measured against. By default now.")
    predictions: str = Field("", description="Predictions made in use, with the labels that came since.")
    label_column: str = Field("label", description="Their column of true values.")
    score_column: str = Field("score", description="Their column of probabilities, or of predicted numbers.")
    prediction_column: str = Field("prediction", description="Their column of predicted classes, if there is one.")
    metric: str = Field("", description="The metric of them to compare with the registered one. By default the task's.")
    max_regression: float = Field(0.05, ge=0, description="How much worse than registered that metric may be.")
    retrain: Values = Field(
        {},
        description="Parameters that a retraining is started with, over the version's own. `$files`, `$fingerprint`,"
        " `$version` and `$as_of` are filled in.",
    )
    on_drift: Literal["fail", "report"] = Field("fail", description="Whether drift fails the step (exit code 1).")


class MonitorModelOutputs(Outputs):
    """What `monitor-model` gives."""

    drift: bool = Field(description="Whether the model should be trained again.")
    drifted: list[str] = Field(description="The columns that drifted, as JSON, the worst first.")
    score: float = Field(description="The largest population stability index.")
    version: int = Field(description="The version that was watched.")
    fingerprint: str = Field(description="Of the new data.")
    retrain_parameters: dict[str, Any] = Field(description="What a retraining is started with, as JSON.")
    reason: str = Field(description="Why, in one sentence.")


def run(inputs: MonitorModelInputs, step: Step) -> Result[MonitorModelOutputs]:
    """Watch the model."""
    from ..data.sources import digests, find, find_one
    from ..errors import BadInput
    from ..evaluation.champion import find_version
    from ..registry.registry import Registry

    if not inputs.data:
        raise BadInput("No data is named", fix="Give `data`: the newer data to compare with the training data")
    manifest = find_version(Registry(step.workspace.store), inputs.model, inputs.version)
    sources = find(step.workspace, inputs.data)
    given = find(step.workspace, inputs.reference) if inputs.reference else []
    live = find_one(step.workspace, inputs.predictions, "predictions") if inputs.predictions else None
    as_of = inputs.as_of or datetime.now(timezone.utc)
    elsewhere = set(ModelInputs.model_fields) | {"version", "as_of", "predictions"}
    key = step.key(
        version=[manifest.name, manifest.version, manifest.digest],
        data=digests(sources),
        reference=digests(given),
        predictions=digests([live]) if live else [],
        as_of=f"{as_of:%Y-%m-%dT%H}" if inputs.time_column or "as_of" in str(inputs.retrain) else "",
        asked=inputs.model_dump(mode="json", exclude=elsewhere),
    )
    return step.once(
        key,
        MonitorModelOutputs,
        lambda: _observe(inputs, manifest, sources, given, live, as_of, step),
        of=inputs.model,
    )


def _observe(
    inputs: MonitorModelInputs,
    manifest: Manifest,
    sources: list[DataSource],
    given: list[DataSource],
    live: DataSource | None,
    as_of: datetime,
    step: Step,
) -> Result[MonitorModelOutputs]:
    from ..data.rules import parse_duration
    from ..errors import BadInput
    from ..evaluation.predictions import Columns
    from ..monitoring import monitor
    from ..monitoring.reference import Reference, training_data

    try:
        max_age = parse_duration(inputs.max_age) if inputs.max_age else None
    except ValueError as error:
        raise BadInput(f"max-age: {error}, not {inputs.max_age!r}", fix="Correct it") from None
    facts = {
        "files": ",".join(source.name for source in sources),
        "version": str(manifest.version),
        "as_of": as_of.date().isoformat(),
        "fingerprint": "",
    }
    monitor.retrain_parameters(inputs.retrain, {}, facts)  # a wrong template is said before the work is done
    reference = Reference(given) if given else training_data(step.workspace, manifest, step.console.say)
    found = monitor.observe(
        monitor.MonitorRequest(
            data=sources,
            reference=reference.sources,
            as_of=as_of if as_of.tzinfo else as_of.replace(tzinfo=timezone.utc),
            types=reference.types,
            columns=inputs.columns,
            max_psi=inputs.max_psi,
            min_drifted_share=inputs.min_drifted_share,
            time_column=inputs.time_column,
            max_age=max_age,
            predictions=live,
            prediction_columns=Columns(inputs.label_column, inputs.score_column, inputs.prediction_column),
            registered=manifest.metrics,
            metric=inputs.metric,
            max_regression=inputs.max_regression,
        )
    )
    if found.quality:
        step.console.say(f"The task of the predictions is {found.quality.task}")
    facts["fingerprint"] = found.fingerprint
    parameters = monitor.retrain_parameters(inputs.retrain, manifest.lineage.parameters, facts)
    step.console.table(
        ["column", "PSI", "p", "drifted"],
        [(c.column, f"{c.psi:.3f}", f"{c.p:.3g}", "yes" if c.drifted else "") for c in found.drift.columns[:12]],
    )
    return _result(found, manifest, parameters, inputs)


def _result(
    found: Observation, manifest: Manifest, parameters: dict[str, Any], inputs: MonitorModelInputs
) -> Result[MonitorModelOutputs]:
    from ..data.validate import distributions

    moved = bool(found.reasons)
    who = f"{manifest.name} version {manifest.version}"
    if moved:
        text = "; ".join(found.reasons)
        reason = f"{who} should be trained again: {text}"
    elif found.drift.drifted:
        reason = f"{who}: only {found.drift.share:.0%} of the columns have drifted"
    else:
        reason = f"{who}: none of {len(found.drift.columns)} columns has drifted (largest PSI {found.score:.3g})"
    outputs = MonitorModelOutputs(
        drift=moved,
        drifted=[column.column for column in found.drift.drifted],
        score=round(found.score, 6),
        version=manifest.version,
        fingerprint=found.fingerprint,
        retrain_parameters=parameters if moved else {},
        reason=reason,
    )
    details: dict[str, Any] = {
        "columns": [column.as_json() for column in found.drift.columns],
        "skipped": found.drift.skipped,
        "rows": found.rows,
        "max_psi": inputs.max_psi,
        "age_hours": found.age_hours,
        "quality": vars(found.quality) if found.quality else None,
        "retrain_parameters": parameters,
        "distributions": distributions(found.drift, "training data", "now"),
    }
    return Result(
        outputs,
        details=details,
        passed=not moved or inputs.on_drift == "report",
        reason=reason,
        subject={"model": manifest.digest, "data": found.fingerprint},
    )


ACTION = Action(
    "monitor-model",
    "data",
    MonitorModelInputs,
    MonitorModelOutputs,
    run,
    icon="activity",
    once=True,
)
