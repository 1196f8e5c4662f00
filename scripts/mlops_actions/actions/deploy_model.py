"""Let a version serve, step by step, as it proves itself by its own answers; go back by itself when it does not.

The version is brought up beside the one that serves. What it has loaded must have the digest of its manifest, its
golden rows must be right, a wrong request must be refused, and it must not be slower than the one that serves (`max-
slowdown`) or than a limit (`max-latency-ms`): both are asked in turn until that is clear. Then it gets a share of the
requests (`steps`) where the engine can split them, and all of them in the end. A step passes on right answers that the
version itself gave at the model's own address, never on time alone. A fault at any point goes back to the version that
served, which answered all the while, and is told with what the server or its pods say. Only then does `alias` move;
`requires` and `policy` are judged before anything starts, as promote-model does. A job that is killed and run again
goes on where it was, or goes back first if it brings another version. One rollout of a model to a place runs at a time.

Every deployment is kept in the store (`mlops history`). `rollback` lets the last good version serve again by the same
checks, with the packages that it had; its alias goes back, too. Where the policy has `signed-by`, it must be signed,
and takes the code and packages of now, as what the history has is signed by nobody. `drill` lets a version that is made
wrong on purpose take requests, and measures the seconds until only right answers come. `stop` ends what serves.

Models are loaded and asked as test-model does it. The metadata (`GET` of the URL) names the inputs and outputs with
their types and shapes, as the golden rows show them; a request that does not fit is refused with status 400 and the
reason. A request that names no output is given all: `predict`, and what else the model has of `predict_proba` and
`decision_function`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..engines import engines, with_engines
from ..errors import BadInput, Rejected
from ..inputs import GoldenInputs, Outputs, PromotionInputs
from ..runtime.action import Action
from ..runtime.chain import NAMES
from ..runtime.result import Result
from ..values import Lines

if TYPE_CHECKING:
    from ..registry.manifest import Manifest
    from ..registry.policy import Answer, Policy
    from ..registry.registry import Registry
    from ..runtime.step import Step
    from ..serving.deploying import Deployed, Place
    from ..serving.drill import Drilled
    from ..serving.engine import Serving
    from ..serving.history import Kind

_ENGINES = "mlops_actions.serving.engines"


class DeployModelInputs(PromotionInputs, GoldenInputs):
    """What `deploy-model` takes."""

    version: str = Field(
        "",
        description="The version's number, or an alias that names it. By default the one that was registered or"
        " promoted last in this run, else `champion`; with `rollback` the last good one.",
    )
    engine: str = "local"
    golden: str = Field(
        "",
        description="URI or path of rows with the features and the `score` that the model must give."
        " By default the version's own.",
    )
    steps: Lines = Field(
        default_factory=list,
        description="Shares of the requests in per cent that the version is given one after the other, such as"
        " `10, 50, 100`. By default these where the engine can split requests, else `100`.",
    )
    answers: int = Field(20, ge=1, le=10_000, description="Right answers of its own with which it passes a step.")
    step_timeout: float = Field(300.0, gt=0, description="Seconds for a step; then it has failed.")
    max_error_rate: float = Field(0.0, ge=0, lt=1, description="Share of the requests of a step that may fail.")
    max_slowdown: float = Field(
        2.0,
        gt=0,
        description="How many times as long as those of the version that serves its answers may take: their median and"
        " their 95th percentile.",
    )
    max_latency_ms: float | None = Field(
        None,
        gt=0,
        description="Limit of a percentile of the times of its answers for one row, in milliseconds, as this action"
        " measures them. By default there is none.",
    )
    latency_percentile: Literal["95", "99"] = Field("95", description="Which percentile `max-latency-ms` is for.")
    measure: float = Field(60.0, gt=0, description="Seconds at most for measuring these times.")
    undecided_latency: Literal["fail", "pass"] = Field(
        "fail", description="What it is when the times cannot tell whether the version is too slow."
    )
    shadow: int = Field(
        0,
        ge=0,
        description="Before the first step copies of all requests are sent to the version, and this many rows are asked"
        " of both and compared; the engine `local` compares the copies, too. For engines that can mirror requests.",
    )
    wait: float = Field(600.0, ge=0, description="Seconds to wait for another rollout of the model to the same place.")
    rollback: bool = Field(False, description="Let the last good version serve again instead, or `version`.")
    drill: bool = Field(
        False,
        description="Instead let a version that is made wrong on purpose take requests, and measure how long wrong"
        " answers come. Users get these.",
    )
    stop: bool = Field(False, description="End what serves the model instead.")


class DeployModelOutputs(Outputs):
    """What `deploy-model` gives."""

    url: str = Field(description="URL of the model; `/infer` after it takes requests. Empty when nothing serves.")
    version: int | None = Field(description="The version that serves now; empty if none.")
    release: str = Field(description="The name that its answers have in the header `mlops-release`.")
    previous_version: int | None = Field(description="The version that served before; empty if none.")
    rolled_back: bool = Field(description="Whether the earlier version serves because the new one failed.")
    promoted: bool = Field(description="Whether the alias was moved.")
    curl: str = Field(description="A command that asks the model for one of its golden rows.")


def run(inputs: DeployModelInputs, step: Step) -> Result[DeployModelOutputs]:
    """Deploy the version, go back to one, try how that works, or stop."""
    from ..registry.policy import read_policy
    from ..registry.promoting import name_of, refusal, to_deploy
    from ..registry.registry import Registry
    from ..serving.engine import HandedOver, Serving
    from ..serving.history import places

    kind = _kind(inputs)
    registry, records = Registry(step.workspace.store), step.records()
    name = name_of(records, inputs.model)
    policy = read_policy(step.workspace.path(inputs.policy), NAMES) if inputs.policy else None
    if kind in ("rollback", "drill"):
        registry.known(name)
    place = _place(kind, inputs, step, name, policy)
    if kind == "stop":
        if not places(registry.store, name) and place.engine.serving(name) is None:
            registry.known(name)
        try:
            was = place.stop()
        except HandedOver as given:
            reason = f"What serves {name} goes on until its end is applied: {given}"
            return Result(_outputs(None, None), {"name": name, "how": "stopped"}, reason=reason)
        return _stopped(name, was)
    if kind == "drill":
        return _drilled(place, *place.drill())
    if kind == "rollback":
        return _deployed(inputs, step, place, place.go_back(inputs.version), ())
    manifest, why = to_deploy(registry, records, name, inputs.version)
    step.console.say(f"Version {manifest.version} of {name}: {why}")
    answers = _judged(inputs, step, registry, manifest, policy)
    if no := refusal(manifest, f"become {inputs.alias}" if inputs.alias else "be deployed", answers):
        live = place.history.read().live
        now = Serving("", live.release, live.version, live.digest) if live else None
        outputs = _outputs(now, now.version if now else None)
        return Result(outputs, _details(place, manifest, "refused", answers), False, no, _subject(manifest))
    if place.engine.lasting:
        step.console.warning(place.engine.lasting)
    return _deployed(inputs, step, place, place.deploy(manifest), answers)


def _kind(inputs: DeployModelInputs) -> Kind:
    asked: list[Kind] = [kind for kind in ("stop", "rollback", "drill") if getattr(inputs, kind)]
    if len(asked) > 1:
        raise BadInput(f"`{asked[0]}` and `{asked[1]}` do not go together", fix="Give one of them")
    return asked[0] if asked else "deploy"


def _place(kind: Kind, inputs: DeployModelInputs, step: Step, name: str, policy: Policy | None) -> Place:
    from ..registry.promoting import refusal, signature
    from ..registry.registry import Registry
    from ..serving.deploying import Place
    from ..serving.history import Deployment, now
    from ..serving.latency import Limit
    from ..serving.releases import Releases
    from ..serving.rollout import Rules

    workspace, context, registry = step.workspace, step.context, Registry(step.workspace.store)

    def check(manifest: Manifest) -> None:
        if no := refusal(manifest, "serve", signature(registry, manifest, policy, workspace)):
            raise Rejected(no, fix="Only `signed-by` of the policy may sign it: register it again with that key")

    rules = Rules(
        steps=_shares(inputs.steps),
        answers=inputs.answers,
        error_rate=inputs.max_error_rate,
        slowdown=inputs.max_slowdown,
        limit=Limit(inputs.max_latency_ms / 1000, int(inputs.latency_percentile)) if inputs.max_latency_ms else None,
        measure=inputs.measure,
        undecided=inputs.undecided_latency == "pass",
        shadow=inputs.shadow,
        patience=inputs.step_timeout,
        drill=kind == "drill",
    )
    usual = f"{sys.version_info.major}.{sys.version_info.minor}"
    who = Deployment(
        kind=kind,
        version=0,
        python=inputs.python or workspace.environ.get("MLOPS_PYTHON") or usual,
        at=now(),
        by=context.actor,
        run=step.run,
        url=context.url,
        commit=context.commit,
        reason=inputs.reason,
    )
    return Place(
        name,
        engines(_ENGINES)[inputs.engine].make(inputs, workspace),
        registry,
        Releases(workspace, registry, inputs, inputs.golden),
        rules,
        who,
        inputs.alias,
        inputs.wait,
        step.console,
        check if policy and policy.signed_by else None,
    )


def _shares(steps: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(str(one).rstrip("% ")) for one in steps)
    except ValueError:
        raise BadInput(f"`steps` is {', '.join(steps)}", fix="Give shares in per cent, such as 10, 50, 100") from None


def _judged(
    inputs: DeployModelInputs, step: Step, registry: Registry, manifest: Manifest, policy: Policy | None
) -> Sequence[Answer]:
    """What is required of a version, and whether it meets it."""
    from ..registry.promoting import judged

    requires = inputs.requires if "requires" in inputs.model_fields_set else None
    return judged(registry, step.records(), manifest, policy, requires, step.workspace)


def _deployed(
    inputs: DeployModelInputs, step: Step, place: Place, done: Deployed, answers: Sequence[Answer]
) -> Result[DeployModelOutputs]:
    outcome, manifest, now = done.outcome, done.manifest, done.outcome.serving
    title, how = f"Version {manifest.version} of {place.name}", str(outcome.how)
    if outcome.how == "failed":
        after = f"version {now.version} serves as before" if now else "nothing serves"
        reason, how = f"{title} was not deployed: {outcome.reason}; {after}", "rolled back" if now else "failed"
    elif outcome.how == "handed over":
        reason = f"{title} is handed over and was not asked anything: {outcome.reason}"
        if inputs.alias:
            step.console.warning(
                f"`{inputs.alias}` stays where it is: nothing here sees that {title[0].lower()}{title[1:]} serves"
            )
    else:
        asked = f"; {outcome.answered.rows} golden predictions were right" if outcome.answered.rows else ""
        serves = "already serves" if how == "reused" else "serves again" if inputs.rollback else "serves"
        reason = f"{title} {serves} at {now.url if now else ''}{asked}"
    outputs = _outputs(now, outcome.previous).model_copy(
        update={"rolled_back": how == "rolled back", "promoted": done.promoted, "curl": _curl(step, place, done)}
    )
    details = {
        **_details(place, manifest, how, answers),
        "rows": outcome.answered.rows,
        "max_difference": outcome.answered.max_difference,
        "latency": outcome.answered.latency,
        "log": outcome.log,
        "steps": [one.model_dump() for one in outcome.steps],
    }
    return Result(
        outputs,
        details,
        passed=outcome.how != "failed",
        reason=reason,
        subject=_subject(manifest),
        reused=how == "reused",
        fix=outcome.fix,
        log=outcome.log,
    )


def _drilled(place: Place, manifest: Manifest, drilled: Drilled) -> Result[DeployModelOutputs]:
    now = drilled.serving
    details = {
        **_details(place, manifest, "gone back from" if drilled.passed else "failed"),
        "variant": "drill",
        "drill": drilled.measured(),
        "steps": [one.model_dump() for one in drilled.steps],
    }
    outputs = _outputs(now, manifest.version)
    return Result(outputs, details, drilled.passed, drilled.reason, _subject(manifest), log=drilled.log)


def _stopped(name: str, was: Serving | None) -> Result[DeployModelOutputs]:
    version = was.version if was else None
    reason = f"Version {version} of {name} was stopped" if version else f"Nothing served {name}"
    return Result(_outputs(None, version), {"name": name, "how": "stopped"}, reason=reason)


def _details(place: Place, manifest: Manifest, how: str, answers: Sequence[Answer] = ()) -> dict[str, Any]:
    return {
        "name": place.name,
        "wanted": manifest.version,
        "kind": place.who.kind,
        "how": how,
        "place": place.engine.place,
        "alias": place.alias,
        "answers": [vars(answer) for answer in answers],
    }


def _subject(manifest: Manifest) -> dict[str, str]:
    return {"model": manifest.digest, "name": manifest.name, "version": str(manifest.version)}


def _outputs(now: Serving | None, previous: int | None) -> DeployModelOutputs:
    return DeployModelOutputs(
        url=now.url if now else "",
        version=now.version if now else None,
        release=(now.release or "") if now else "",
        previous_version=previous,
        rolled_back=False,
        promoted=False,
        curl="",
    )


def _curl(step: Step, place: Place, done: Deployed) -> str:
    """A command to try; the request is in a file, since a row has many columns."""
    from ..models.tensors import rows_of
    from ..serving.engine import folder_of
    from ..serving.protocol import body

    outcome = done.outcome
    if outcome.how == "failed" or outcome.serving is None or done.golden is None:
        return ""
    path = folder_of(step.workspace, place.name) / "request.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body(rows_of(done.golden.inputs, 0, 1), outcome.answered.output), indent=2))
    return f"curl -s -H 'Content-Type: application/json' -d @{path} {outcome.serving.url}/infer"


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
