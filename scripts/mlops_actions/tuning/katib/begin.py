"""The Experiment of a request in the cluster: found and gone on with, or made."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput, RemoteFailed
from ...kubernetes.failures import ClusterFailed, Refused
from ...kubernetes.objects import EXPERIMENT, INJECTION_LABEL, NAMESPACE, SUGGESTION, TRIAL, Cluster
from ..engine import Request, Site
from ..experiment import Experiment
from . import manifest
from .status import Object, completed

EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
_REMOVAL = 120.0
"""Seconds that Katib has to let go of an Experiment that is deleted."""


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


def begin(cluster: Cluster, request: Request, site: Site) -> Begun:
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
            site.say(f"The Experiment {name} is deleted and made anew: {why}")
            _delete(cluster, found)
            uid, found = found["metadata"]["uid"], None
    found = found or _gone(cluster, name, site, uid=uid)
    if found is None:
        return Begun(_apply(cluster, request, site), found=False)
    return _go_on(cluster, request, found, site)


def check_injection(cluster: Cluster, experiment: Experiment) -> None:
    """See that Katib's webhook adds its metrics collector to pods of the namespace, if the Experiment needs it.

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
        raise BadInput(f"The cluster has no namespace {cluster.namespace}", fix="Correct `namespace`, or create it")
    if (namespace["metadata"].get("labels") or {}).get(INJECTION_LABEL) != "enabled":
        raise BadInput(
            f"Katib would not collect metrics in the namespace {cluster.namespace}, and no trial would end",
            why=f"The namespace has no label {INJECTION_LABEL}=enabled",
            fix=f"Have an administrator run: kubectl label namespace {cluster.namespace} {INJECTION_LABEL}=enabled",
        )


def needs_collector(experiment: Experiment) -> bool:
    """Whether metrics are collected by a container that Katib adds to a trial's pod."""
    return experiment.spec.metrics_collector_spec.collector.kind not in ("None", "Push")


def trials_of(cluster: Cluster, name: str) -> list[Object]:
    """The Trials of an Experiment."""
    return cluster.list(TRIAL, labels=f"{EXPERIMENT_LABEL}={name}")


def _check_ours(found: Object, request: Request) -> None:
    """Leave alone what somebody else made."""
    name, key = found["metadata"]["name"], (found["metadata"].get("labels") or {}).get(manifest.KEY)
    if key != request.key:
        raise BadInput(
            f"The name {name} belongs to an Experiment in {found['metadata']['namespace']} that is not this one",
            why=f"Its label {manifest.KEY} is {key!r}" if key else f"It has no label {manifest.KEY}",
            fix="Rename the Experiment in the YAML, or delete that one",
            place=request.document.place(("metadata", "name")),
        )


def _why_anew(found: Object, request: Request) -> str:
    """Why an Experiment that is there cannot be gone on with; "" if it can."""
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


def _gone(cluster: Cluster, name: str, site: Site, *, uid: str = "") -> Object | None:
    """Wait until nothing is left of an Experiment of a name: Katib would take its trials for those of a new one.

    Returns:
        The Experiment of that name that another job made meanwhile.
    """
    deadline = site.clock.now() + _REMOVAL
    while site.clock.now() < deadline:
        found = cluster.get(EXPERIMENT, name)
        if found is not None and found["metadata"]["uid"] != uid:
            return found
        if found is None and cluster.get(SUGGESTION, name) is None and not trials_of(cluster, name):
            return None
        site.clock.wait(1.0)
    raise RemoteFailed(
        f"The Experiment {name} is deleted, and does not go away within {_REMOVAL:g} s",
        why="Katib's controller lets go of an Experiment and its Trials by their finalizers",
        fix="See that katib-controller runs, and run this again",
    )


def _apply(cluster: Cluster, request: Request, site: Site) -> Object:
    """Have it made. Two jobs that apply the same at a time make one."""
    body = manifest.furnished(manifest.body(request, cluster.namespace), request, site)
    given = request.experiment.metadata.namespace
    if given and given != cluster.namespace:
        site.say(f"The Experiment runs in the namespace {cluster.namespace}, not in {given}, which its YAML names")
    try:
        made = cluster.apply(EXPERIMENT, body)
    except Refused as refused:
        raise BadInput(
            f"{request.document.name}: {refused.what[:1].lower()}{refused.what[1:]}",
            why=refused.why,
            fix=refused.fix or "Correct it",
            place=manifest.place(request.document, refused.why),
        ) from refused
    site.say(f"Experiment {body['metadata']['name']} in the namespace {cluster.namespace} of {cluster.server}")
    return made


def _go_on(cluster: Cluster, request: Request, found: Object, site: Site) -> Begun:
    """Take up what there is; ask for more trials when that is what changed, which Katib allows by `resumePolicy`."""
    name, spec = found["metadata"]["name"], found["spec"]
    end, trials = completed(found), (found.get("status") or {}).get("trials") or 0
    more = (request.max_trials or 0) > max(trials, spec.get("maxTrialCount") or 0)
    if end and not (end.get("reason") == "ExperimentMaxTrialsReached" and spec.get("resumePolicy") != "Never" and more):
        site.say(f"The Experiment {name} was run before: it is complete")
        return Begun(found, found=True)
    asked = manifest.counts(request)
    if asked.get("maxTrialCount", trials + 1) <= trials:
        del asked["maxTrialCount"]  # Katib takes no count below that of the trials there are
    if any(spec.get(key) != count for key, count in asked.items()):
        found = cluster.patch(EXPERIMENT, name, {"spec": asked})
    site.say(f"Going on with the Experiment {name}, which {'had ended' if end else 'runs'}")
    return Begun(found, found=True, before=end)
