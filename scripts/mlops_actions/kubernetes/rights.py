"""The rights that the actions need in a namespace: one table, from which the manifest and the doctor's questions come.

Concepts: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .objects import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    ENDPOINT_SLICE,
    EVENT,
    EXPERIMENT,
    GATEWAY,
    GATEWAY_CLASS,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    JOB,
    KNATIVE_ROUTE,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    REPLICA_SET,
    RESOURCE_QUOTA,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVING_RUNTIME,
    SUGGESTION,
    TRIAL,
    Cluster,
    Kind,
)

PARTS = ("katib", "kfp", "kubernetes", "kserve")
"""What a configuration may ask for: tune-hyperparams on Katib, run-pipeline on Kubeflow Pipelines, deploy-model on
plain Kubernetes or KServe."""


@dataclass(frozen=True)
class Rule:
    """Verbs on one kind, and why.

    Attributes:
        parts: which of `PARTS` need it.
        kind, subresource: on what.
        verbs: which.
        reason: what for.
        optional: whether only a message is poorer without it.
    """

    parts: tuple[str, ...]
    kind: Kind
    verbs: tuple[str, ...]
    reason: str
    subresource: str = ""
    optional: bool = False

    @property
    def resource(self) -> str:
        """As a rule of a Role names it."""
        return self.kind.plural + (f"/{self.subresource}" if self.subresource else "")


_READ = ("get", "list", "watch")
_WRITE = (*_READ, "create", "patch", "delete")
_SERVING = ("kubernetes", "kserve")

RULES = (
    Rule(
        ("katib",),
        EXPERIMENT,
        (*_READ, "create", "patch", "delete"),
        "apply an Experiment, follow it, end it at a limit, delete it on request",
    ),
    Rule(("katib",), TRIAL, _READ, "show each trial as it starts and ends"),
    Rule(("katib",), EXPERIMENT, ("patch",), "end an Experiment at a limit or when cancelled, and keep it", "status"),
    Rule(("katib",), TRIAL, ("patch",), "end its trials then, as Katib's early stopping does", "status"),
    Rule(("katib",), SUGGESTION, _READ, "say why no trial is suggested"),
    Rule(("katib",), JOB, _READ, "say why a trial's Job makes no pod, or has failed"),
    Rule(PARTS, POD, _READ, "say why a pod waits or has failed"),
    Rule(PARTS, POD, ("get",), "show the last lines of a pod that failed", "log"),
    Rule(PARTS, EVENT, _READ, "give the reasons that only events have, such as a quota"),
    Rule(("katib",), RESOURCE_QUOTA, _READ, "say which quota is used up", optional=True),
    Rule(
        ("kfp",),
        SERVICE_ACCOUNT,
        ("create",),
        "sign in to Kubeflow Pipelines with a token of this service account (`kfp-sign-in: kubernetes`)",
        "token",
        optional=True,
    ),
    Rule(("kserve",), INFERENCE_SERVICE, _WRITE, "run each version of a model, and end it"),
    Rule(("kserve",), SERVING_RUNTIME, ("list",), "name the formats that can be served (`storage`)", optional=True),
    Rule(_SERVING, DEPLOYMENT, _READ, "see whether all pods of a version are there"),
    Rule(("kubernetes",), DEPLOYMENT, ("create", "patch", "delete"), "run each version of a model, and end it"),
    Rule(_SERVING, SERVICE, _WRITE, "give a model and each version of it an address"),
    Rule(_SERVING, SERVICE, ("get", "create"), "ask a version through the API server", "proxy"),
    Rule(_SERVING, ENDPOINT_SLICE, _READ, "see which pods an address leads to"),
    Rule(_SERVING, REPLICA_SET, _READ, "say why a version has no pods"),
    Rule(("kubernetes",), AUTOSCALER, _WRITE, "add and take away pods by load, and end what does that"),
    Rule(_SERVING, DISRUPTION_BUDGET, _WRITE, "keep pods while nodes are drained, and end what does that"),
    Rule(_SERVING, NETWORK_POLICY, _WRITE, "shut pods off from the network (`network-policy`)", optional=True),
    Rule(_SERVING, HTTP_ROUTE, _WRITE, "split requests among versions (`gateway`)", optional=True),
    Rule(_SERVING, GATEWAY, ("get",), "see the gateway's address and class (`gateway`)", optional=True),
    Rule(_SERVING, GATEWAY_CLASS, ("get",), "see whether it can mirror requests (`gateway`)", optional=True),
    Rule(("kserve",), KNATIVE_ROUTE, _WRITE, "split requests among versions (`deployment-mode`)", optional=True),
    Rule(("katib",), NAMESPACE, ("get",), "see that the namespace has Katib's label", optional=True),
)


@dataclass(frozen=True)
class Right:
    """Verbs on one resource in one namespace, as in `Rule`."""

    verbs: tuple[str, ...]
    resource: str
    namespace: str
    reason: str
    optional: bool

    def __str__(self) -> str:
        return f"{', '.join(self.verbs)} {self.resource}"


def missing(cluster: Cluster, parts: Sequence[str] = PARTS, *, service_account: str = "mlops-actions") -> list[Right]:
    """The rights that the credentials lack for some parts in the cluster's namespace. One request for each verb."""
    lacking = []
    for rule in _rules(parts):
        name = _only(rule, cluster.namespace, service_account)
        verbs = tuple(
            verb for verb in rule.verbs if not cluster.may(verb, rule.kind, subresource=rule.subresource, name=name)
        )
        if verbs:
            resource = rule.resource + (f".{rule.kind.group}" if rule.kind.group else "")
            lacking.append(Right(verbs, resource, cluster.namespace, rule.reason, rule.optional))
    return lacking


def manifest(namespace: str, service_account: str = "mlops-actions", parts: Sequence[str] = PARTS) -> str:
    """YAML with a service account that has the rights, and no others, in a namespace; for an administrator to apply.

    The ClusterRole lets it see that one namespace, and nothing else that is not in it: leave it out if it must not.
    """
    everything = list(_rules(parts))
    inside = [rule for rule in everything if rule.kind.namespaced]
    outside = [rule for rule in everything if not rule.kind.namespaced]
    whole = f"{service_account}-{namespace}"  # a ClusterRole's name is the whole cluster's
    documents = [
        f"apiVersion: v1\nkind: ServiceAccount\n{_metadata('Role', service_account, namespace)}\n",
        _role("Role", service_account, namespace, inside, service_account),
        _binding("Role", service_account, namespace, service_account),
    ]
    if outside:
        documents.append(_role("ClusterRole", whole, namespace, outside, service_account))
        documents.append(_binding("ClusterRole", whole, namespace, service_account))
    return "---\n".join(documents)


def _rules(parts: Sequence[str]) -> Iterator[Rule]:
    return (rule for rule in RULES if set(rule.parts) & set(parts))


def _only(rule: Rule, namespace: str, service_account: str) -> str:
    """The one object that a rule is about; "" for all."""
    return {NAMESPACE: namespace, SERVICE_ACCOUNT: service_account}.get(rule.kind, "")


def _role(kind: str, name: str, namespace: str, rules: Sequence[Rule], service_account: str) -> str:
    lines = ["apiVersion: rbac.authorization.k8s.io/v1", f"kind: {kind}", _metadata(kind, name, namespace), "rules:"]
    for rule in rules:
        only = _only(rule, namespace, service_account)
        lines += [
            f"  # {rule.reason}",
            f"  - apiGroups: [{_q(rule.kind.group)}]",
            f"    resources: [{_q(rule.resource)}]",
            *([f"    resourceNames: [{_q(only)}]"] if only else []),
            f"    verbs: [{', '.join(rule.verbs)}]",
        ]
    return "\n".join(lines) + "\n"


def _binding(kind: str, name: str, namespace: str, service_account: str) -> str:
    return "\n".join(
        (
            "apiVersion: rbac.authorization.k8s.io/v1",
            f"kind: {kind}Binding",
            _metadata(kind, name, namespace),
            f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {_q(name)}}}",
            f"subjects: [{{kind: ServiceAccount, name: {_q(service_account)}, namespace: {_q(namespace)}}}]",
            "",
        )
    )


def _metadata(kind: str, name: str, namespace: str) -> str:
    where = f", namespace: {_q(namespace)}" if kind == "Role" else ""
    return f"metadata: {{name: {_q(name)}{where}}}"


def _q(text: str) -> str:
    return json.dumps(text)  # a JSON string is YAML
