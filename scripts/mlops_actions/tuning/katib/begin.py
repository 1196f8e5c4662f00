"""The Experiment of a request in the cluster: found and taken up, or created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import BadInput, RemoteFailed
from ...kubernetes.failures import ClusterFailed, Refused
from ...kubernetes.objects import EXPERIMENT, INJECTION_LABEL, NAMESPACE, SUGGESTION, TRIAL, Cluster
from ..engine import TuneRequest
from ..experiment import Experiment
from . import manifest
from .context import KatibContext
from .status import Object, completed
from .troubles import CONTROLLER, RETAIN

EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
_REMOVAL = 120.0
"""Seconds that Katib has to let go of an Experiment that is deleted."""
_SLOW = 10.0
"""Seconds after which that is worth a word."""
_RESTART = 30.0
"""Seconds that Katib's webhook has to come back, as after a restart of its controller."""
NO_WEBHOOK = "failed calling webhook"
"""The API server's words when a webhook does not respond, and none may be left out."""


@dataclass(frozen=True)
class Begun:
    """An Experiment that goes on or is complete.

    Attributes:
        body: the object.
        found: whether it was there before.
        before: the condition with which it had ended before it was asked for more trials.
    """

    body: Object
    found: bool
    before: Object | None = None


def begin(cluster: Cluster, request: TuneRequest, context: KatibContext) -> Begun:
    """Find the Experiment of the request's key, or apply it.

    One that failed, or is not to be reused, is deleted first, with its trials.

    Raises:
        BadInput: Katib or the API server refuses it (with the line), its metrics would not be collected in this
            namespace, or its name belongs to an Experiment that is not ours.
        RemoteFailed: the cluster failed, or Katib is not there.
    """
    check_injection(cluster, request.experiment)
    name = manifest.name(request.experiment, request.key)
    found, uid = cluster.get(EXPERIMENT, name), ""
    if found is not None:
        _check_ours(found, request)
        if why := _why_anew(found, request):
            context.say(f"The Experiment {name} is deleted and created again: {why}")
            _delete(cluster, found)
            uid, found = found["metadata"]["uid"], None
    found = found or _gone(cluster, name, context, uid=uid)
    if found is None:
        return Begun(_apply(cluster, request, context), found=False)
    return _go_on(cluster, request, found, context)


def check_injection(cluster: Cluster, experiment: Experiment) -> None:
    """Check that Katib's webhook adds its metrics collector to pods of the namespace, if the Experiment needs it.

    Without the label no trial ever ends. Who may not read the namespace learns it from the first pod.

    Raises:
        BadInput: it does not.
    """
    if not needs_collector(experiment):
        return
    try:
        namespace = cluster.get(NAMESPACE, cluster.namespace)
    except ClusterFailed as error:
        if error.reason == "Forbidden":
            return
        raise
    if namespace is None:
        raise BadInput(f"The namespace {cluster.namespace} does not exist", fix="Correct `namespace`, or create it")
    if (namespace["metadata"].get("labels") or {}).get(INJECTION_LABEL) != "enabled":
        raise BadInput(
            f"Katib would not collect metrics in the namespace {cluster.namespace}, and no trial would end",
            why=f"The namespace has no label {INJECTION_LABEL}=enabled",
            fix=f"Ask an administrator to run: kubectl label namespace {cluster.namespace} {INJECTION_LABEL}=enabled",
        )


def needs_collector(experiment: Experiment) -> bool:
    """Whether metrics are collected by a container that Katib adds to a trial's pod."""
    return experiment.spec.metrics_collector_spec.collector.kind not in ("None", "Push")


def trials_of(cluster: Cluster, name: str) -> list[Object]:
    """The Trials of an Experiment."""
    return cluster.list(TRIAL, labels=f"{EXPERIMENT_LABEL}={name}")


def _check_ours(found: Object, request: TuneRequest) -> None:
    """Leave alone what somebody else made."""
    name, key = found["metadata"]["name"], (found["metadata"].get("labels") or {}).get(manifest.KEY)
    if key != request.key:
        raise BadInput(
            f"The name {name} belongs to an Experiment in {found['metadata']['namespace']} that is not this one",
            why=f"Its label {manifest.KEY} is {key!r}" if key else f"It has no label {manifest.KEY}",
            fix="Rename the Experiment in the YAML, or delete that one",
            place=request.document.place(("metadata", "name")),
        )


def _why_anew(found: Object, request: TuneRequest) -> str:
    """Why an existing Experiment cannot be taken up; "" if it can."""
    if request.fresh:
        return "earlier work is not to be reused"
    if found["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    end = completed(found)
    return f"it had failed ({end.get('message')})" if end and end["type"] == "Failed" else ""


def _delete(cluster: Cluster, found: Object) -> None:
    try:
        cluster.delete(EXPERIMENT, found["metadata"]["name"], uid=found["metadata"]["uid"])
    except ClusterFailed as error:
        if error.status != 409:
            raise  # 409: another job with the same key has deleted it, and made it anew


def _gone(cluster: Cluster, name: str, context: KatibContext, *, uid: str = "") -> Object | None:
    """Wait until nothing is left of an Experiment of a name: Katib would take its trials for those of a new one.

    Returns:
        The Experiment of that name that another job made meanwhile.
    """
    began = context.clock.now()
    told = False
    while (waited := context.clock.now() - began) < _REMOVAL:
        found = cluster.get(EXPERIMENT, name)
        if found is not None and found["metadata"]["uid"] != uid:
            return found
        if found is None and cluster.get(SUGGESTION, name) is None and not trials_of(cluster, name):
            return None
        if waited > _SLOW and not told:
            context.say(f"Waiting for Katib to release the deleted Experiment {name}")
            told = True
        context.clock.wait(1.0)
    raise RemoteFailed(
        f"Timed out waiting for the Experiment {name} to be deleted after {_REMOVAL:g} s",
        why="Katib's controller has not removed the finalizers of the Experiment or of its Trials",
        fix=f"{CONTROLLER}, and run this again",
    )


def _apply(cluster: Cluster, request: TuneRequest, context: KatibContext) -> Object:
    """Have it made. Two jobs that apply the same at a time make one."""
    body = manifest.furnished(manifest.body(request, cluster.namespace), request, context)
    given, spec = request.experiment.metadata.namespace, request.experiment.spec
    if given and given != cluster.namespace:
        context.say(f"The Experiment runs in the namespace {cluster.namespace}, not in {given}, which its YAML names")
    if spec.early_stopping and not spec.trial_template.retain:
        context.say(f"Katib deletes the Job of a trial that is stopped early before it reads its value. {RETAIN}")
    try:
        made = through_webhook(lambda repeat: cluster.apply(EXPERIMENT, body, repeat=repeat), context)
    except Refused as error:
        raise manifest.refused(request.document, error.what, error.why) from error
    context.say(f"Experiment {body['metadata']['name']} in the namespace {cluster.namespace} of {cluster.server}")
    return made


def through_webhook(call: Callable[[bool], Object], context: KatibContext) -> Object:
    """Make a call that Katib's webhook takes part in; when that does not respond, again for half a minute.

    Args:
        call: makes it; told whether it may itself be repeated for minutes, as after other faults.
        context: says what is waited for.

    Raises:
        RemoteFailed: the webhook does not respond.
    """
    deadline, told = context.clock.now() + _RESTART, False
    while True:
        try:
            return call(False)
        except ClusterFailed as error:
            if NO_WEBHOOK not in error.why:
                if error.transient:
                    return call(True)
                raise
            if context.clock.now() >= deadline:
                raise RemoteFailed("Katib's webhook does not respond", why=error.why, fix=CONTROLLER) from error
            if not told:
                context.say(f"Katib's webhook does not respond; retrying for {_RESTART:g} s")
            told = True
        context.clock.wait(2.0)


def _go_on(cluster: Cluster, request: TuneRequest, found: Object, context: KatibContext) -> Begun:
    """Take up what exists; ask for more trials when that is what changed, which Katib allows by `resumePolicy`."""
    name, spec = found["metadata"]["name"], found["spec"]
    end, trials = completed(found), (found.get("status") or {}).get("trials") or 0
    more = (request.max_trials or 0) > max(trials, spec.get("maxTrialCount") or 0)
    if end and not (end.get("reason") == "ExperimentMaxTrialsReached" and spec.get("resumePolicy") != "Never" and more):
        context.say(f"The Experiment {name} already ran: it is complete")
        return Begun(found, found=True)
    asked = manifest.counts(request)
    if asked.get("maxTrialCount", trials + 1) <= trials:
        del asked["maxTrialCount"]
    changed = any(spec.get(key) != count for key, count in asked.items())
    # Katib refuses any change when all the trials that are asked for have been made
    if changed and asked.get("maxTrialCount", spec.get("maxTrialCount") or trials + 1) > trials:
        found = _changed(cluster, request, found, asked, context)
    context.say(f"Resuming the Experiment {name}, which {'had ended' if end else 'runs'}")
    return Begun(found, found=True, before=end)


def _changed(
    cluster: Cluster, request: TuneRequest, found: Object, asked: dict[str, int], context: KatibContext
) -> Object:
    """The Experiment with other counts.

    Raises:
        BadInput: Katib refuses them.
    """
    name = found["metadata"]["name"]
    try:
        return through_webhook(lambda repeat: cluster.patch(EXPERIMENT, name, {"spec": asked}, repeat=repeat), context)
    except Refused as error:
        counts = ", ".join(f"`{key}: {count}`" for key, count in asked.items())
        raise BadInput(
            f"The Experiment {name} cannot be changed to {counts}",
            why=f"Katib restarts an Experiment only if it ended by `maxTrialCount` and `resumePolicy` is LongRunning or"
            f" FromVolume, and says: {error.why}",
            fix="Start it again with `reuse: false`, or set `resumePolicy: LongRunning` before its first run",
            place=request.document.place(("spec", "resumePolicy")),
        ) from error
