"""The double as a whole: CRDs, webhooks and controllers for some namespaces of a real API server."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml
from kubernetes.client.exceptions import ApiException

from . import experiments
from .admission import Admission, unregister
from .api import CRD, EXPERIMENT, JOB, NAMESPACE, SUGGESTION, TRIAL, Api, Object
from .controller import Context, Key, ReconcileError, Simulate, Simulated
from .defaults import set_defaults
from .experiments import Experiments
from .faults import Faults
from .injection import EXPERIMENT_LABEL, InjectionError, inject
from .manifest import PLACEHOLDER
from .suggestions import Suggestions
from .trials import Trials
from .validation import aggregate, invalid, validate

CRDS = Path(__file__).resolve().parents[2] / "data" / "katib"
_LOG = logging.getLogger("doubles.katib")
_COMPONENTS = {
    "Experiment": "experiment-controller",
    "Suggestion": "suggestion-controller",
    "Trial": "trial-controller",
}
_KINDS = {"Experiment": EXPERIMENT, "Suggestion": SUGGESTION, "Trial": TRIAL}


class KatibDouble:
    """Katib for some namespaces, while the `with` lasts.

    Args:
        kubeconfig: of a cluster's administrator; None for KUBECONFIG and the other usual places.
        namespaces: that exist; several doubles may run at once in different ones.
        trials: `pods`: trials really run; `simulated`: they are moved through their states.
        simulate: what becomes of a simulated trial, from its parameters; default `simulate_by_parameters`.
        image: with Python 3, that the nodes have; for the metrics collector and the algorithm's service. Default
            PYTHON_IMAGE, else `python:3.11-slim`.
        address: of this machine, where the API server reaches the webhooks.
        faults: of `Faults`, for all Experiments; `doubles/faults` in an Experiment's annotations adds to them.

    Everything that Katib's finalizers would keep is released at the end, so that the namespaces can be deleted.
    """

    def __init__(
        self,
        kubeconfig: Path | str | None = None,
        namespaces: Sequence[str] | str = ("default",),
        *,
        trials: Literal["pods", "simulated"] = "pods",
        simulate: Simulate | None = None,
        image: str = "",
        address: str = "127.0.0.1",
        **faults: Any,
    ) -> None:
        self.api = Api(Path(kubeconfig) if kubeconfig else None)
        self.namespaces = (namespaces,) if isinstance(namespaces, str) else tuple(namespaces)
        self.faults = Faults(**faults)
        self._name = f"katib-double-{self.namespaces[0]}"
        self._simulate = (simulate or simulate_by_parameters) if trials == "simulated" else None
        self._image = image or os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
        self._address = address
        self._admission: Admission | None = None
        self._context: Context | None = None
        self._stopped = threading.Event()
        self._worker: threading.Thread | None = None

    def __enter__(self) -> KatibDouble:
        self.install()
        if not self.faults.not_validated:
            reviews = {
                "/validate-experiment": self._review_experiment,
                "/mutate-experiment": self._default_experiment,
                "/mutate-pod": self._inject_pod,
            }
            self._admission = Admission(self.api, self._address, self._name, self.namespaces, reviews)
            self._admission.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._admission:
            self._admission.stop()
        self.release()

    def install(self) -> None:
        """Katib's CRDs, as they were published; they stay, since others may use them."""
        for name in ("experiment", "suggestion", "trial"):
            body = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
            self.api.create(CRD, body)
            plural = body["spec"]["names"]["plural"]
            while not self._stopped.wait(0.05):
                try:
                    self.api.call("GET", f"/apis/kubeflow.org/v1beta1/{plural}", limit=1)
                    break
                except ApiException as problem:
                    if problem.status != 404:
                        raise

    def start(self) -> None:
        """Start the controllers, as after a crash: they know nothing but what the API server has."""
        self._stopped = threading.Event()
        context = Context(self.api, self.namespaces, self.faults, self._image, self._simulate)
        trials = Trials(context)
        reconcilers = {"Experiment": Experiments(context), "Trial": trials, "Suggestion": Suggestions(context, trials)}
        for cache in context.caches.values():
            cache.start()
        for cache in context.caches.values():
            cache.wait()
        self._context = context
        work = _Worker(context, reconcilers, self._stopped)
        self._worker = threading.Thread(target=work.run, name="katib-double", daemon=True)
        self._worker.start()

    def stop_webhooks(self) -> None:
        """Let the webhooks respond no more, though they are registered."""
        if self._admission:
            self._admission.close()

    def stop(self) -> None:
        """Stop the controllers; the webhooks go on."""
        self._stopped.set()
        if self._context:
            for cache in self._context.caches.values():
                cache.stop()
        if self._worker:
            self._worker.join()

    def restart(self) -> None:
        """Stop and start the controllers."""
        self.stop()
        self.start()

    def release(self) -> None:
        """Undo what a killed double left: webhooks that nobody answers, and finalizers that keep namespaces."""
        unregister(self.api, self._name)
        for namespace in self.namespaces:
            for kind in (EXPERIMENT, TRIAL):
                for item in self.api.list(kind, namespace)["items"]:
                    if item["metadata"].get("finalizers"):
                        try:
                            self.api.patch(
                                kind, item["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace
                            )
                        except ApiException as problem:
                            if problem.status != 404:
                                raise

    def _default_experiment(self, request: Object) -> tuple[Object | None, int, str]:
        changed: Object = json.loads(json.dumps(request["object"]))
        set_defaults(changed)
        return changed, 200, ""

    def _review_experiment(self, request: Object) -> tuple[Object | None, int, str]:
        assert self._context
        body = request["object"]
        namespace = self.api.get(NAMESPACE, request["namespace"]) or {"metadata": {}}
        template = experiments.trial_spec(self._context, body)
        labels = namespace["metadata"].get("labels") or {}
        errors = validate(body, request.get("oldObject"), labels, template)
        if not errors and request["operation"] == "CREATE" and template:
            errors = self._converted(template, request["namespace"])
        return None, 400, aggregate(errors)

    def _converted(self, template: Object, namespace: str) -> list[str]:
        """What is lost of a Job when it is converted to Kubernetes' own type and back, as Katib does it in Go.

        The API server does the same for a dry run; what it adds are defaults, which Katib allows.
        """
        if (template.get("apiVersion"), template.get("kind")) != ("batch/v1", "Job"):
            return []
        template = json.loads(PLACEHOLDER.sub("test-value", json.dumps(template)))
        metadata = {**(template.get("metadata") or {}), "name": "katib-double", "namespace": namespace}
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        try:
            body = {**template, "metadata": metadata}
            lost = difference(template, self.api.call("POST", path, body, dryRun="All", fieldValidation="Strict"))
        except ApiException as problem:
            if problem.status != 400:
                return []  # Katib does not ask whether the Job is a valid one
            why = json.loads(problem.body or "{}").get("message", "")
            field = re.search(r'unknown field "([^"]+)"', why)
            pointer = "/" + "/".join(re.findall(r"\w+", field[1])) if field else "/spec"
            lost = pointer, why
        if lost is None:
            return []
        text = f"unable to convert: {lost[0]} - {lost[1]} to Job, converted template: {{}}"
        return [invalid("spec.trialTemplate", "", f"invalid spec.trialTemplate: {text}")]

    def _inject_pod(self, request: Object) -> tuple[Object | None, int, str]:
        pod: Object = json.loads(json.dumps(request["object"]))
        namespace = request["namespace"]
        trial = self._trial_of(pod, namespace)
        if trial is None:
            return None, 200, ""
        label = trial["metadata"]["labels"][EXPERIMENT_LABEL]
        faults = self.faults.of(self.api.get(EXPERIMENT, label, namespace) or {"metadata": {}})
        if faults.not_injected:
            return None, 200, ""
        try:
            inject(pod, trial, self._image, database_down=faults.database_down)
        except InjectionError as error:
            return None, 400, str(error)
        return pod, 200, ""

    def _trial_of(self, pod: Object, namespace: str) -> Object | None:
        """The Trial that owns the Job that owns the pod."""
        for owner in pod["metadata"].get("ownerReferences") or []:
            if owner["kind"] == "Job":
                job = self.api.get(JOB, owner["name"], namespace)
                for above in ((job or {}).get("metadata") or {}).get("ownerReferences") or []:
                    if (above["kind"], above["apiVersion"]) == ("Trial", "kubeflow.org/v1beta1"):
                        return self.api.get(TRIAL, above["name"], namespace)
        return None


def difference(given: Any, made: Any, pointer: str = "") -> tuple[str, str] | None:
    """The first value that is not in what was made of it: its JSON pointer, and the value as Go prints it."""
    if isinstance(given, dict) and given and isinstance(made, dict):
        pairs = [(given[key], made.get(key), f"{pointer}/{key}") for key in given]
    elif isinstance(given, list) and given and isinstance(made, list) and len(given) == len(made):
        pairs = [(*pair, f"{pointer}/{index}") for index, pair in enumerate(zip(given, made, strict=True))]
    elif given == made or "/resources/limits/" in pointer or "/resources/requests/" in pointer:
        return None
    else:
        return pointer, json.dumps(given)
    return next((found for pair in pairs if (found := difference(*pair))), None)


class _Worker:
    """One thread that looks at one object after another."""

    def __init__(self, context: Context, reconcilers: dict[str, Any], stopped: threading.Event) -> None:
        self._context, self._reconcilers, self._stopped = context, reconcilers, stopped
        self._failures: dict[Key, int] = {}

    def run(self) -> None:
        """Until the double stops."""
        while not self._stopped.is_set():
            key = self._context.queue.get(0.2)
            if key is None or self._frozen(key):
                continue
            try:
                self._reconcilers[key[0]].reconcile(*key[1:])
                self._failures.pop(key, None)
            except ApiException as error:
                if error.status not in (404, 409):
                    _LOG.warning("%s: %s %s", "/".join(key), error.status, error.body)
                self._retry(key, quick=error.status in (404, 409))
            except ReconcileError as error:
                self._tell(key, str(error))
                self._retry(key)
            except Exception:
                _LOG.exception("%s", "/".join(key))
                self._retry(key)

    def _retry(self, key: Key, quick: bool = False) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._context.queue.add(key, 0.02 if quick else min(5.0, 0.05 * 2.0**failures))

    def _tell(self, key: Key, why: str) -> None:
        body = self._context.of(_KINDS[key[0]], key[1]).get(key[2])
        if body:
            self._context.event(body, "Warning", "ReconcileError", f"Failed to reconcile: {why}", _COMPONENTS[key[0]])

    def _frozen(self, key: Key) -> bool:
        """Whether the controllers have stopped for this object's Experiment."""
        kind, namespace, name = key
        if kind == "Trial":
            trial = self._context.of(TRIAL, namespace).get(name)
            name = trial["metadata"]["labels"][EXPERIMENT_LABEL] if trial else ""
        experiment = self._context.of(EXPERIMENT, namespace).get(name)
        after = self._context.faults(experiment).stops_after
        return after is not None and len(self._context.ended[namespace, name]) >= after


def simulate_by_parameters(parameters: Any) -> Simulated:
    """A trial whose metrics fall in three steps to the sum of the parameters' squares."""
    total = 0.0
    for value in parameters.values():
        try:
            total += float(value) ** 2
        except ValueError:
            total += len(value)
    return Simulated({"*": (total + 2, total + 1, total)})
