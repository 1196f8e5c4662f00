"""Katib's controller of Suggestions, with the algorithm's service.

Source: pkg/controller.v1beta1/suggestion/{suggestion_controller,suggestionclient/suggestionclient,composer/composer}.go
of github.com/kubeflow/katib. The service's Deployment is a real one that does nothing; `algorithms` gives the
suggestions.
"""

from __future__ import annotations

from . import algorithms, conditions
from .api import DEPLOYMENT, EXPERIMENT, SERVICE, SUGGESTION, Object
from .controller import Context, ReconcileError, owned_by
from .faults import Faults
from .injection import EXPERIMENT_LABEL, RESOURCES
from .trials import Trials

_NO_IMAGE = "localhost/doubles/no-such-suggestion-service:v0"


class Suggestions:
    """Brings Suggestions further.

    Args:
        trials: that know what trials have reported.
    """

    def __init__(self, context: Context, trials: Trials) -> None:
        self._context, self._trials = context, trials

    def reconcile(self, namespace: str, name: str) -> None:
        """One look at one Suggestion."""
        context = self._context
        body = context.of(SUGGESTION, namespace).get(name)
        experiment = context.of(EXPERIMENT, namespace).get(name)
        if body is None or experiment is None or body["metadata"].get("deletionTimestamp"):
            return
        if conditions.has(body, "Succeeded"):
            self._remove_service(body)
            return
        status = body.setdefault("status", {})
        if not conditions.has(body, "Created"):
            status.setdefault("startTime", conditions.now())
            conditions.put(body, "Created", "SuggestionCreated", "Suggestion is created")
        else:
            self._advance(body, experiment, context.faults(experiment))
        context.write_status(SUGGESTION, body)

    def _advance(self, body: Object, experiment: Object, faults: Faults) -> None:
        if not self._service_ready(body, faults):
            what = ("DeploymentReady", "DeploymentNotReady", "Deployment is not ready")
            conditions.put(body, *what, status="False")
            return
        conditions.put(body, "DeploymentReady", "DeploymentReady", "Deployment is ready")
        if not conditions.has(body, "Running"):
            try:
                algorithms.validate_settings(experiment)
                if faults.suggestion == "fails":
                    raise algorithms.Refused("ValidateAlgorithmSettings Error: refused on demand")
            except algorithms.Refused as error:
                conditions.end(body, "Failed", "SuggestionFailed", f"Validation failed: {error}")
                return
            conditions.remove(body, "Succeeded")
            conditions.put(body, "Running", "SuggestionRunning", "Suggestion is running")
        self._assign(body, experiment, faults)

    def _assign(self, body: Object, experiment: Object, faults: Faults) -> None:
        status, name = body["status"], experiment["metadata"]["name"]
        known = status.get("suggestionCount", 0)
        missing = body["spec"].get("requests", 0) - known
        if faults.suggestion == "ends":
            missing = min(missing, faults.suggestions - known)
        if missing <= 0:
            return
        try:
            assignments = algorithms.suggest(experiment, known, missing)
        except algorithms.NoMoreSuggestions as error:
            raise ReconcileError(str(error)) from error
        rules = self._trials.stop_rules(experiment)
        for assignment in assignments:
            given: Object = {"name": algorithms.trial_name(name), "parameterAssignments": assignment}
            if rules:
                given["earlyStoppingRules"] = rules
            status.setdefault("suggestions", []).append(given)
        status["suggestionCount"] = len(status["suggestions"])

    def _service_ready(self, body: Object, faults: Faults) -> bool:
        context, meta = self._context, body["metadata"]
        if context.simulate:
            return faults.suggestion != "never-ready"
        name = f"{meta['name']}-{body['spec']['algorithm']['algorithmName']}"
        deployment = context.of(DEPLOYMENT, meta["namespace"]).get(name)
        if deployment is None:
            image = _NO_IMAGE if faults.suggestion == "never-ready" else context.image
            context.api.create(SERVICE, _service(body, name), meta["namespace"])
            made = context.api.create(DEPLOYMENT, _deployment(body, name, image), meta["namespace"])
            if made:
                context.of(DEPLOYMENT, meta["namespace"]).put(made)
            return False
        found = (deployment.get("status") or {}).get("conditions") or []
        return any(c["type"] == "Available" and c["status"] == "True" for c in found)

    def _remove_service(self, body: Object) -> None:
        if self._context.simulate:
            return
        namespace = body["metadata"]["namespace"]
        name = f"{body['metadata']['name']}-{body['spec']['algorithm']['algorithmName']}"
        if self._context.of(DEPLOYMENT, namespace).get(name):
            self._context.api.delete(DEPLOYMENT, name, namespace)
            self._context.api.delete(SERVICE, name, namespace)


def _labels(body: Object, name: str) -> dict[str, str]:
    return {
        **(body["metadata"].get("labels") or {}),
        "katib.kubeflow.org/deployment": name,
        EXPERIMENT_LABEL: body["metadata"]["name"],
        "katib.kubeflow.org/suggestion": body["metadata"]["name"],
        "sidecar.istio.io/inject": "false",
    }


def _deployment(body: Object, name: str, image: str) -> Object:
    labels = _labels(body, name)
    container = {
        "name": "suggestion",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
        "ports": [{"name": "suggestion-api", "containerPort": 6789}],
        "resources": RESOURCES,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": body["metadata"]["namespace"], "ownerReferences": owned_by(body)},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                # Nothing here needs to end in order, and a program that is process 1 ignores most signals.
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }


def _service(body: Object, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": body["metadata"]["namespace"], "ownerReferences": owned_by(body)},
        "spec": {
            "selector": _labels(body, name),
            "ports": [{"name": "suggestion-api", "port": 6789}],
            "type": "ClusterIP",
        },
    }
