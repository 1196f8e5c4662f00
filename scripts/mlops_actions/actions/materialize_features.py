"""Bring a Feast repository up to date: plan, apply, materialize, and read a sample back.

First the command in `prepare` makes the tables that the feature views read. Then Feast's plan is printed (what is
added, changed and removed), applied, and the views are materialized into the online store: what came since the last
time, or the range that is asked for. A sample of entities is read back from the online store, compared with the tables,
and kept as a Parquet file for validate-data. Everything Feast does is done by one process, in the environment of Feast
and the consumer's requirements.

A plan that takes away what is served online (a view or a feature that is removed, a type or join key that changes) is
refused without `allow-destructive`, before anything is changed. A view with a new feature or another source is written
again from the beginning. An interval is recorded only after its rows are written; one of a view that applying leaves as
it was is never lost. An end in the future is taken as now. A lock in the store lets one job at a time change a
registry, on whatever machine; that of a killed job is free after half a minute. On a pull request the plan is all that
is made, and `prepare` is not run, unless its store is one that `environments.pull-request` in `mlops.yaml` names.

Parquet files go to a SQLite, Redis or Postgres online store by a way of our own that is many times faster than Feast's
and leaves the same bytes; every other source, engine and store goes Feast's way. The log says which way each view took.

A range never replaces newer values that are served: they stay, as they do in Feast with Redis alone. Where Feast itself
writes and could not know, the range is refused. `allow-destructive` replaces them.

To hand the work to Spark or Ray, set Feast's `batch_engine` in `feature_store.yaml` (`spark.engine`, `ray.engine`) and
name the package in `requirements` (tested with `pyspark==4.3.0`, which needs Java 17, and `ray[data]==2.60.0`). Feast's
Ray engine leaves out rows that are older than a view's ttl, counted from now, and hides what its workers could not
write; rows that are missing afterwards are an error here. The registry may be a file, SQL, or a server (`remote`: name
`grpcio`, `grpcio-health-checking` and `grpcio-reflection` in `requirements`). With an online store of type `remote` the
server materializes, from the sources that it reaches and with the registry that it has: both must be the same as here.
In a SQL registry a view that is written again is absent for the moment between two statements; in a file never.
Another version of Feast, from 0.60 on, is used when `requirements` names it, and goes Feast's way.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..inputs import CodeInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..stores.digests import file_digest
from ..stores.store import file_path
from ..values import Lines

if TYPE_CHECKING:
    from ..features.results import Materialized
    from ..runtime.step import Step

Mode = Literal["incremental", "range", "plan-only"]


class MaterializeFeaturesInputs(CodeInputs):
    """What `materialize-features` takes."""

    repository: Path = Field(
        Path("features"),
        description="The Feast repository: the folder that holds `feature_store.yaml`.",
        examples=["features"],
    )
    prepare: str = Field(
        "",
        description="A command to run first, in the consumer's environment, that makes the tables which the feature"
        " views read, such as `python features/build.py`. No shell is between.",
    )
    views: Lines = Field(default_factory=list, description="The feature views to materialize; by default all.")
    mode: Mode = Field(
        "incremental",
        description="`incremental`: what came since the last time, or everything at the first. `range`: what lies"
        " between `start` and `end`. `plan-only`: say what applying would change, and change nothing.",
    )
    start: str = Field(
        "",
        description="Beginning of the range: a date, which begins in UTC, or an ISO 8601 time with its zone, such as"
        " `2013-06-01T12:00:00Z`. Only with `mode: range`.",
    )
    end: str = Field(
        "",
        description="End of what is materialized: a date, or a time with its zone, as in `start`. By default, and at"
        " most, now.",
    )
    chunk: str = Field(
        "",
        description="Cut what is materialized into intervals of this length, such as `7d`, each recorded when its rows"
        " are written. A job that was killed goes on with the first that is not. By default one interval.",
        examples=["7d"],
    )
    allow_destructive: bool = Field(
        False,
        description="Apply changes that take away what is served online; the plan says which those are. In `mode:"
        " range` it also lets older rows of the range replace newer ones that are served, which otherwise stay.",
    )
    max_age: str = Field(
        "",
        description="How old a view's newest row may be, such as `36h`: with an older one, the action fails.",
        examples=["36h"],
    )
    parallel: int = Field(2, ge=1, description="Feature views that are materialized at once.")
    sample: int = Field(
        20, ge=0, description="Entities a view that are read back from the online store and compared with the source."
    )
    store_timeout: str = Field(
        "10min",
        description="How long the registry or the online store may take for one response, such as accepting 100,000"
        " rows, before the action gives up. Feast's own way of writing is not timed.",
    )
    data_fingerprint: str = Field(
        "",
        description="Fingerprint of the data that `prepare` and the feature views read. Without one, earlier work is"
        " not reused. By default the one that validate-data gave in this run.",
    )


class MaterializeFeaturesOutputs(Outputs):
    """What `materialize-features` gives."""

    views: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Every view: its `name`, the `rows` that were written now (an entity each), its `watermark`, the"
        " time until which it is materialized, and its `age`, the seconds since then (null when it never was).",
    )
    features_digest: str = Field(
        "",
        description="Digest of the views' definitions, watermarks and source rows until there. A model is to be"
        " trained again when it changes.",
    )
    served: dict[str, str] = Field(
        default_factory=dict,
        description="What was read back of each view, as the URI of a Parquet file: entity keys, features, and"
        " `event_timestamp`, a row an entity, `sample` of them at most. A contract of validate-data names it as"
        " `serving: {data: store:features/served/PROJECT/VIEW.parquet, keys: [ENTITY, event_timestamp]}`.",
    )
    registry: str = Field("", description="URI of Feast's registry.")
    plan: dict[str, list[str]] = Field(
        default_factory=dict,
        description="What applying `added`, `changed`, `removed` and left `unchanged` in the registry, and what of it"
        " is `destructive`, a sentence each.",
    )


def run(inputs: MaterializeFeaturesInputs, step: Step) -> Result[MaterializeFeaturesOutputs]:
    """Bring the features up to date, or find that they are."""
    from ..features.materialize import MaterializeRequest, find_repository, key_parts, lock_path, materialize
    from ..features.times import length, times
    from ..stores.lease import lease

    workspace = step.workspace
    folder = find_repository(workspace.root, inputs.repository)
    mode = _mode(inputs, step)
    start, end = times(mode, inputs.start, inputs.end, step.console.notice)
    max_age = length("max-age", inputs.max_age)
    chunk = length("chunk", inputs.chunk)
    environment = workspace.environment("features", inputs)
    request = MaterializeRequest(
        root=workspace.root,
        folder=folder,
        python=environment.python,
        environ=workspace.child_environ(),
        prepare=inputs.prepare if mode == inputs.mode else "",
        views=tuple(inputs.views),
        mode=mode,
        start=start,
        end=end,
        chunk=chunk,
        redo=not step.reuse,
        allow_destructive=inputs.allow_destructive,
        parallel=inputs.parallel,
        sample=inputs.sample,
        store_timeout=length("store-timeout", inputs.store_timeout) or timedelta(minutes=10),
        scratch=workspace.home / "features",
    )
    data = inputs.data_fingerprint or step.output_of("validate-data", "fingerprint")
    key = step.key(data=data, environment=environment.name, store=workspace.store_url, **key_parts(request))
    reusable = bool(data) and mode != "plan-only"
    holder = step.context.url or f"a run of {workspace.root}"
    waiting = f"Waiting for {{}}, which works on the features in {workspace.store_url}"
    held_by = lease(
        workspace.store,
        lock_path(workspace.root, folder, request.environ),
        holder,
        lambda who: step.console.say(waiting.format(who)),
    )
    with held_by if mode != "plan-only" else nullcontext() as held:  # a plan writes nothing, and may not be able to
        result = step.once(
            key if reusable else "",
            MaterializeFeaturesOutputs,
            lambda: _result(mode, materialize(request, step.console, workspace.store, held), step),
            gone=lambda found: _gone(found, step),
        )
    return _judged(result, max_age)


def _mode(inputs: MaterializeFeaturesInputs, step: Step) -> Mode:
    """What is asked for; on a pull request only the plan, unless its environment has a store of its own."""
    if step.may_change(inputs) or inputs.mode == "plan-only":
        return inputs.mode
    step.console.notice(
        "A pull request changes no shared features: they are planned, not applied. To build them too, give"
        " `environments.pull-request` in mlops.yaml a `store` of its own, and name no other as an input"
    )
    return "plan-only"


def _gone(found: Result[MaterializeFeaturesOutputs], step: Step) -> str:
    """Why earlier work does not hold any more; "" when it does."""
    online = str(found.details.get("online", ""))
    if online and not Path(online).exists():
        return "this machine has no online store of it"
    if found.details.get("registry_state") != _registry_state(found.outputs.registry, step):
        return "the registry was changed since"  # by another branch, for one
    return ""


def _registry_state(uri: str, step: Step) -> str:
    """Digest of the registry's bytes, if it is a file or in the store."""
    prefix = step.workspace.store.url + "/"
    try:
        if uri.startswith("file://"):
            return file_digest(file_path(uri))
        return (
            hashlib.sha256(step.workspace.store.get(uri.removeprefix(prefix))).hexdigest()
            if uri.startswith(prefix)
            else ""
        )
    except FileNotFoundError:
        return "missing"


def _result(mode: Mode, done: Materialized, step: Step) -> Result[MaterializeFeaturesOutputs]:
    outputs = MaterializeFeaturesOutputs(
        views=[{"name": view.name, "rows": view.rows, "watermark": view.watermark} for view in done.views],
        features_digest=done.digest,
        served={view.name: view.served for view in done.views if view.served},
        registry=done.registry,
        plan=done.plan.model_dump(),
    )
    state = _registry_state(done.registry, step)
    details = {**done.model_dump(mode="json"), "mode": mode, "registry_state": state}
    passed = not done.differing and not done.refused
    return Result(outputs, details, passed=passed, reason=done.headline(mode))


def _judged(
    result: Result[MaterializeFeaturesOutputs], max_age: timedelta | None
) -> Result[MaterializeFeaturesOutputs]:
    """The result with the ages of now; a view that is older than it may be makes it a no."""
    from ..features.results import Materialized

    known = {name: value for name, value in result.details.items() if name in Materialized.model_fields}
    done, now = Materialized.model_validate(known), datetime.now(timezone.utc)
    ages = [view.age(now) for view in done.views]
    views = [
        {**view, "age": None if age is None else round(age.total_seconds())}
        for view, age in zip(result.outputs.views, ages)
    ]
    judged = replace(result, outputs=result.outputs.model_copy(update={"views": views}))
    stale = done.stale(max_age, now) if max_age and done.views and judged.passed else ""
    return replace(judged, passed=False, reason=stale) if stale else judged


ACTION = Action(
    "materialize-features",
    "core",
    MaterializeFeaturesInputs,
    MaterializeFeaturesOutputs,
    run,
    icon="layers",
)
