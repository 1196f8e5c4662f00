"""Serve a version with the Open Inference Protocol, ask it golden requests, roll back if it gives wrong answers.

The engine `local` is an MLServer on this machine, in the environment of the model's requirements. A new version is
loaded beside the one that serves and asked the golden rows; only when it answers right does it take over, so a
version that fails leaves the old one serving, and the alias that promote-model moved to it in this run goes back.
`mlops deploy-model --stop` ends what serves the model.

Models are loaded and asked as test-model does it. The metadata (`GET` of the URL) names the inputs and outputs with
their types and shapes, as the golden rows show them; a request that does not fit is refused with status 400 and the
reason. A request that names no output is given all: `predict`, and what else the model has of `predict_proba` and
`decision_function`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ..engines import engines, with_engines
from ..errors import MlopsError, RemoteFailed
from ..inputs import GoldenInputs, ModelInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result

if TYPE_CHECKING:
    from ..environments import Environment
    from ..evaluation.golden_rows import Golden
    from ..registry.manifest import Manifest
    from ..registry.registry import Registry
    from ..runtime.step import Step
    from ..serving.engine import DeployRequest, Served, ServingEngine

_ENGINES = "mlops_actions.serving.engines"
_MOST = 1000  # golden rows that a server is asked


class DeployModelInputs(ModelInputs, GoldenInputs):
    """What `deploy-model` takes."""

    version: str = Field(
        "",
        description="The version's number, or an alias that names it. By default the one that was registered or"
        " promoted last in this run, else `champion`.",
    )
    engine: str = "local"
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(
        0, ge=0, le=65535, description="The port to listen on. By default one that stays the same for the model."
    )
    timeout: float = Field(120.0, gt=0, description="Seconds until the model must be ready.")
    golden: str = Field(
        "",
        description="URI or path of rows with the features and the `score` that the model must give."
        " By default the version's own.",
    )
    stop: bool = Field(False, description="End what serves the model instead.")


class DeployModelOutputs(Outputs):
    """What `deploy-model` gives."""

    url: str = Field(description="URL of the model; `/infer` after it takes requests. Empty when nothing serves.")
    version: int | None = Field(description="The version that serves now; empty if none.")
    previous_version: int | None = Field(description="The version that served before; empty if none.")
    rolled_back: bool = Field(description="Whether the earlier version serves because the new one failed.")
    curl: str = Field(description="A command that asks the model for one of its golden rows.")


def run(inputs: DeployModelInputs, step: Step) -> Result[DeployModelOutputs]:
    """Deploy the version, or stop."""
    from ..registry.promoting import name_of, to_deploy
    from ..registry.registry import Registry
    from ..serving.engine import folder_of

    engine: ServingEngine = engines(_ENGINES)[inputs.engine].make(inputs, step.workspace)
    records = step.records()
    name = name_of(records, inputs.model)
    lock = f"the server of {folder_of(step.workspace, name).name}"
    if inputs.stop:
        with step.workspace.lock(lock):
            return _stopped(name, engine.stop(name))
    registry = Registry(step.workspace.store)
    manifest, why = to_deploy(registry, records, name, inputs.version)
    step.console.say(f"Version {manifest.version} of {name}: {why}")
    try:
        environment = _environment(inputs, manifest, step)
        with step.workspace.lock(lock):
            request = _request(inputs, step, registry, manifest, environment)
            served = engine.deploy(request)
            curl = _curl(step, served, request.golden)
    except MlopsError:
        _take_back(registry, manifest, step)
        raise
    if not served.passed:
        step.console.say(served.log)
        _take_back(registry, manifest, step)
    return _result(manifest, served, curl, inputs)


def _take_back(registry: Registry, manifest: Manifest, step: Step) -> None:
    """An alias names what serves: one that was moved for this deployment goes back."""
    from ..registry.promoting import take_back

    if done := take_back(registry, step.records(), manifest, step.context.actor, step.run):
        step.console.warning(done)


def _environment(inputs: DeployModelInputs, manifest: Manifest, step: Step) -> Environment:
    """The lock `serving` with the consumer's requirements, or what the model was trained with.

    MLServer has no release for Python 3.13 yet.
    """
    if not inputs.python and not step.workspace.environ.get("MLOPS_PYTHON") and sys.version_info >= (3, 13):
        inputs = inputs.model_copy(update={"python": "3.12"})
    made = step.workspace.environment(
        "serving", inputs, [] if inputs.requirements else manifest.lineage.environment.requested
    )
    if "mlserver==" not in made.frozen():
        raise RemoteFailed("MLServer does not run on this Python", fix="Set `python` to 3.12 or older")
    return made


def _request(
    inputs: DeployModelInputs, step: Step, registry: Registry, manifest: Manifest, environment: Environment
) -> DeployRequest:
    from ..evaluation.golden import Tolerance
    from ..models.checks import check_loadable, code_digest
    from ..serving.engine import DeployRequest, folder_of

    folder = folder_of(step.workspace, manifest.name) / "versions" / str(manifest.version)
    model = registry.fetch(manifest, folder / "model")
    check_loadable(model, inputs.predict, step.workspace.root)
    return DeployRequest(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        model=model,
        golden=_golden(inputs, step, registry, manifest, folder),
        tolerance=Tolerance(inputs.absolute_tolerance, inputs.relative_tolerance),
        predict=inputs.predict,
        root=step.workspace.root,
        code=code_digest(inputs.predict, step.workspace.root),
        python=environment.python,
        environment=environment.name,
        environ=step.workspace.child_environ(),
        host=inputs.host,
        port=inputs.port,
        timeout=inputs.timeout,
    )


def _golden(
    inputs: DeployModelInputs, step: Step, registry: Registry, manifest: Manifest, folder: Path
) -> Golden | None:
    from ..evaluation.golden_rows import read_golden
    from ..stores.store import fetch

    if inputs.golden:
        uri = step.workspace.uri(inputs.golden)
        path = fetch(uri, folder / "asked" / uri.rpartition("/")[2], step.workspace.store_options)
    elif manifest.golden:
        path = registry.fetch_file(manifest.golden, folder / "golden" / manifest.golden.path)
    else:
        step.console.warning(
            f"Version {manifest.version} has no golden rows: it is only asked whether it is ready, and its metadata"
            " does not say what its inputs are"
        )
        return None
    return read_golden(path, inputs.score_column, _MOST)


def _curl(step: Step, served: Served, golden: Golden | None) -> str:
    """A command to try; the request is in a file, since a row has many columns."""
    from ..models.tensors import rows_of
    from ..serving.engine import folder_of
    from ..serving.protocol import body

    if not served.passed or golden is None:
        return ""
    path = folder_of(step.workspace, served.url.rpartition("/")[2]) / "request.json"
    path.write_text(json.dumps(body(rows_of(golden.inputs, 0, 1), served.output), indent=2))
    return f"curl -s -H 'Content-Type: application/json' -d @{path} {served.url}/infer"


def _stopped(name: str, version: int | None) -> Result[DeployModelOutputs]:
    outputs = DeployModelOutputs(url="", version=None, previous_version=version, rolled_back=False, curl="")
    reason = f"Version {version} of {name} was stopped" if version else f"Nothing served {name}"
    return Result(outputs, details={"name": name, "how": "stopped"}, reason=reason)


def _result(manifest: Manifest, served: Served, curl: str, inputs: DeployModelInputs) -> Result[DeployModelOutputs]:
    title = f"Version {manifest.version} of {manifest.name}"
    if not served.passed:
        after = f"; version {served.version} serves as before" if served.version else "; nothing serves"
        reason = f"{title} was not deployed: {served.reason}{after}"
    else:
        asked = f"; {served.rows} golden predictions were right" if served.rows else ""
        reason = f"{title} {'already serves' if served.how == 'reused' else 'serves'} at {served.url}{asked}"
    return Result(
        DeployModelOutputs(
            url=served.url,
            version=served.version,
            previous_version=served.previous,
            rolled_back=served.how == "rolled back",
            curl=curl,
        ),
        details={
            "name": manifest.name,
            "wanted": manifest.version,
            "how": served.how,
            "engine": inputs.engine,
            "rows": served.rows,
            "max_difference": served.max_difference,
            "latency": served.latency,
            "log": served.log,
        },
        passed=served.passed,
        reason=reason,
        subject={"model": manifest.digest, "name": manifest.name, "version": str(manifest.version)},
        reused=served.how == "reused",
    )


ACTION = Action(
    "deploy-model",
    "data",
    with_engines(DeployModelInputs, _ENGINES, "Where it is served."),
    DeployModelOutputs,
    run,
    icon="upload-cloud",
    shared=True,
    engines=_ENGINES,
)
