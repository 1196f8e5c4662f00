"""The Experiment that is applied: the YAML as it is, under a name that its key decides, with what the request sets."""

from __future__ import annotations

import copy
import math
import re

from ...errors import BadInput, Place
from ...stores.store import STORE_KEYS
from ..engine import TuneRequest
from ..experiment import Experiment, Path
from ..reading import TRIAL_SPEC, Document, dotted
from .context import KatibContext
from .status import Object

KEY = "mlops-actions/key"
"""The label by which an Experiment is ours, and the same work."""
_NAME_LENGTH = 40
"""Katib's own limit: it names services `<experiment>-<algorithm>` and Jobs `<experiment>-<8 letters>`."""
_KEY_LENGTH = 8
_OF_THE_SERVER = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "finalizers", "managedFields",
    "ownerReferences", "selfLink", "generateName",
)  # fmt: skip
_FIELD = re.compile(r"\b(?:spec|metadata)(?:\.\w+|\[\d+\])+")
_UNCONVERTED = re.compile(r"unable to convert: (/\S+) - (.*?) to Job", re.DOTALL)
"""The first difference that Katib's webhook finds between the trial's template and the Job that it makes of it."""
_EMPTY = ("[]", "map[]", "{}", "", '""', "false", "0", "<nil>", "null")


def name(experiment: Experiment, key: str) -> str:
    """What an Experiment of a key is called in the cluster."""
    return f"{experiment.name[: _NAME_LENGTH - _KEY_LENGTH - 1].rstrip('-')}-{key[:_KEY_LENGTH]}"


def body(request: TuneRequest, namespace: str) -> Object:
    """The object to apply.

    Raises:
        BadInput: a limit of a trial's time is asked for, and the trial is not a Job.
    """
    made = {key: copy.deepcopy(value) for key, value in request.document.values.items() if key != "status"}
    given = {key: value for key, value in (made.get("metadata") or {}).items() if key not in _OF_THE_SERVER}
    made["metadata"] = given | {
        "name": name(request.experiment, request.key),
        "namespace": namespace,
        "labels": {**(given.get("labels") or {}), KEY: request.key},
        "annotations": {
            **(given.get("annotations") or {}),
            "mlops-actions/experiment": request.experiment.name,
            "mlops-actions/run": request.run,
        },
    }
    made["spec"] |= counts(request)
    if request.trial_timeout:
        _limit_trials(request, made["spec"]["trialTemplate"])
    return made


def furnished(made: Object, request: TuneRequest, context: KatibContext) -> Object:
    """The object with what every trial gets: the request's image, and the store's address and keys, as
    variables that the primary container does not set itself.

    Raises:
        BadInput: an image is asked for, and the trial is not a Job with that container.
    """
    container = _primary(made["spec"]["trialTemplate"])
    if container is None:
        if request.image:
            raise BadInput(
                f"{request.document.name}: `image` is not supported",
                why="The trial is not a batch/v1 Job with a primary container",
                fix="Leave `image` out, and name the image in the YAML",
                place=request.document.place(("spec", "trialTemplate", "trialSpec")),
            )
        return made
    if request.image:
        container["image"] = request.image
    own = container.get("env") or []
    added: dict[str, Object] = {name: {"value": value} for name, value in context.variables.items() if value}
    if context.store_secret:
        # Optional, so that the pod's own rights do where the secret is absent.
        reference = {"name": context.store_secret, "optional": True}
        added |= {key: {"valueFrom": {"secretKeyRef": {**reference, "key": key}}} for key in STORE_KEYS}
    for variable in own:
        added.pop(str(variable.get("name")), None)
    if added:  # Katib's webhook refuses a template with an empty list
        container["env"] = [*own, *({"name": name, **source} for name, source in added.items())]
    return made


def counts(request: TuneRequest) -> dict[str, int]:
    """The fields that may be changed while an Experiment runs. Katib refuses a count above that of all trials."""
    allowed = request.experiment.spec.max_failed_trial_count
    most = request.max_trials
    asked = {"parallelTrialCount": request.parallel, "maxTrialCount": most, "maxFailedTrialCount": allowed}
    return {key: count if most is None else min(count, most) for key, count in asked.items() if count is not None}


def place(document: Document, message: str) -> Place:
    """The line of the YAML that a refusal of the API server or of Katib's webhook speaks of."""
    if found := _UNCONVERTED.search(message):
        return document.place((*TRIAL_SPEC, *_path(found[1])))
    field = _FIELD.search(message)
    return document.place(_path(field[0]) if field else ())


def refused(document: Document, what: str, why: str) -> BadInput:
    """The error that a refusal of the Experiment by the API server or by Katib's webhook is.

    Katib converts a trial's Job into Kubernetes' own type and back, and refuses it when something is lost: a field that
    a Job does not have, and an empty value that Kubernetes leaves out (`env: []`).

    Args:
        document: the Experiment.
        what: what was refused.
        why: the server's words.
    """
    found, where = _UNCONVERTED.search(why), place(document, why)
    if not found:
        return BadInput(f"{document.name}: {what[:1].lower()}{what[1:]}", why=why, fix="Correct it", place=where)
    field = dotted((*TRIAL_SPEC, *_path(found[1])))
    if found[2] in _EMPTY:
        what, fix = f"`{field}` is empty, which Katib does not accept", "Leave it out"
    else:
        what, fix = f"`{field}` is not a field of a Job, or not in Kubernetes' own form: {found[2]}", "Correct it"
    return BadInput(f"{document.name}: {what}", why="Katib refuses what Kubernetes would change", fix=fix, place=where)


def _primary(template: Object) -> Object | None:
    job = template.get("trialSpec")
    if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        return None
    containers: list[Object] = job["spec"]["template"]["spec"].get("containers") or []
    return next((c for c in containers if c.get("name") == template.get("primaryContainerName")), None)


def _path(text: str) -> Path:
    """A path as Kubernetes writes it (`spec.parameters[0].name`), or as a JSON pointer (`/spec/parameters/0/name`)."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", text))


def _limit_trials(request: TuneRequest, template: Object) -> None:
    """Have Kubernetes end the Job of a trial that takes too long."""
    job = template.get("trialSpec")
    if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        raise BadInput(
            f"{request.document.name}: `trial-timeout` is not supported for this kind of trial",
            why="Kubernetes limits the time of a batch/v1 Job",
            fix="Leave `trial-timeout` out, and set the limit that the trial's own kind has",
            place=request.document.place(("spec", "trialTemplate", "trialSpec", "kind")),
        )
    seconds = math.ceil(request.trial_timeout)
    job["spec"]["activeDeadlineSeconds"] = min(seconds, job["spec"].get("activeDeadlineSeconds") or seconds)
