"""Bring a Feast repository up to date: plan, apply, materialize, and read a sample back.

First the command in `prepare` makes the tables that the feature views read. Then Feast's plan is printed (what is
added, changed and removed), applied, and the views are materialized into the online store: what came since the last
time, or the range that is asked for. A sample of entities is read back from the online store and compared with the
tables. Everything Feast does is done by one process, in the environment of Feast and the consumer's requirements.

An end in the future is taken as now, and an interval is recorded only after its rows are written. Two jobs on one
machine wait for each other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..action import Action, CodeInputs, Lines, Outputs, Result
from ..job import Job

if TYPE_CHECKING:
    from ..features.materialize import Materialized


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
    mode: Literal["incremental", "range", "plan-only"] = Field(
        "incremental",
        description="`incremental`: what came since the last time, or everything at the first. `range`: what lies"
        " between `start` and `end`. `plan-only`: say what applying would change, and change nothing.",
    )
    start: str = Field(
        "", description="Beginning of the range, ISO 8601; UTC when it names no zone. Only with `mode: range`."
    )
    end: str = Field(
        "",
        description="End of what is materialized, ISO 8601; UTC when it names no zone. By default, and at most, now.",
    )
    sample: int = Field(
        20, ge=0, description="Entities a view that are read back from the online store and compared with the source."
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
        description="Every view: its `name`, the `rows` that were written now (an entity each), and its `watermark`,"
        " the time until which it is materialized.",
    )
    features_digest: str = Field(
        "",
        description="Digest of the views' definitions, watermarks and source rows until there. A model is to be"
        " trained again when it changes.",
    )
    registry: str = Field("", description="URI of Feast's registry.")
    plan: dict[str, list[str]] = Field(
        default_factory=dict,
        description="What applying `added`, `changed`, `removed` and left `unchanged` in the registry.",
    )


def run(inputs: MaterializeFeaturesInputs, job: Job) -> Result[MaterializeFeaturesOutputs]:
    """Bring the features up to date, or find that they are."""
    from ..features.materialize import Request, find_repository, key_parts, materialize, times

    folder = find_repository(job.root, inputs.repository)
    start, end = times(inputs.mode, inputs.start, inputs.end, job.console.notice)
    environment = job.environment("features", inputs)
    request = Request(
        root=job.root,
        folder=folder,
        python=environment.python,
        environ=job.child_environ(),
        prepare=inputs.prepare,
        views=tuple(inputs.views),
        mode=inputs.mode,
        start=start,
        end=end,
        sample=inputs.sample,
        scratch=job.home / "features",
    )
    data = inputs.data_fingerprint or job.earlier("validate-data", "fingerprint")
    key = job.key(data=data, environment=environment.name, store=job.store_url, **key_parts(request))
    reusable = bool(data) and inputs.mode != "plan-only"
    with job.lock(f"the features in {job.store_url}"):
        if reusable and (found := job.finished(key, MaterializeFeaturesOutputs)):
            if not (gone := _gone(found, job)):
                return found
            job.console.say(f"Done before, but {gone}: doing it again")
        return job.kept(_result(inputs, materialize(request, job.console), key if reusable else "", job))


def _gone(found: Result[MaterializeFeaturesOutputs], job: Job) -> str:
    """Why earlier work does not hold any more; "" when it does."""
    online = str(found.details.get("online", ""))
    if online and not Path(online).exists():
        return "this machine has no online store of it"
    if found.details.get("registry_state") != _registry_state(found.outputs.registry, job):
        return "the registry was changed since"  # by another branch, for one
    return ""


def _registry_state(uri: str, job: Job) -> str:
    """Digest of the registry's bytes, if it is in the store."""
    prefix = job.store.url + "/"
    if not uri.startswith(prefix):
        return ""
    return hashlib.sha256(job.store.get(uri[len(prefix) :])).hexdigest()


def _result(
    inputs: MaterializeFeaturesInputs, done: Materialized, key: str, job: Job
) -> Result[MaterializeFeaturesOutputs]:
    outputs = MaterializeFeaturesOutputs(
        views=[{"name": view.name, "rows": view.rows, "watermark": view.watermark} for view in done.views],
        features_digest=done.digest,
        registry=done.registry,
        plan=done.plan.model_dump(),
    )
    state = _registry_state(done.registry, job) if key else ""
    details = {**done.model_dump(mode="json"), "mode": inputs.mode, "registry_state": state}
    return Result(outputs, details, passed=not done.differing, reason=done.headline(inputs.mode), key=key)


ACTION = Action(
    "materialize-features",
    "core",
    MaterializeFeaturesInputs,
    MaterializeFeaturesOutputs,
    run,
    icon="layers",
)
