"""The rights in a namespace: what the manifest grants, and what the doctor finds missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import yaml

from mlops_actions.kubernetes import rights
from mlops_actions.kubernetes.objects import Cluster, Kind

READ = "get list watch"
KATIB = {
    "experiments.kubeflow.org": f"{READ} create patch delete",
    "experiments/status.kubeflow.org": "patch",
    "trials.kubeflow.org": READ,
    "trials/status.kubeflow.org": "patch",
    "suggestions.kubeflow.org": READ,
    "jobs.batch": READ,
    "resourcequotas": READ,
}
BOTH = {"pods": READ, "pods/log": "get", "events": READ}
TOKEN = {"serviceaccounts/token": "create"}
NAMESPACE = {"namespaces": "get"}
WRITE = f"{READ} create patch delete"
KUBERNETES = {
    "deployments.apps": WRITE,
    "services": WRITE,
    "services/proxy": "get create",
    "endpointslices.discovery.k8s.io": READ,
    "replicasets.apps": READ,
    "horizontalpodautoscalers.autoscaling": WRITE,
    "poddisruptionbudgets.policy": WRITE,
    "networkpolicies.networking.k8s.io": WRITE,
    "httproutes.gateway.networking.k8s.io": WRITE,
    "gateways.gateway.networking.k8s.io": "get",
}
KSERVE = {
    **{name: verbs for name, verbs in KUBERNETES.items() if not name.startswith("horizontal")},
    "deployments.apps": READ,
    "inferenceservices.serving.kserve.io": WRITE,
    "servingruntimes.serving.kserve.io": "list",
    "routes.serving.knative.dev": WRITE,
}
CLASSES = {"gatewayclasses.gateway.networking.k8s.io": "get"}
OPTIONAL = {
    "servingruntimes.serving.kserve.io", "routes.serving.knative.dev",
    "resourcequotas", "serviceaccounts/token", "namespaces", "networkpolicies.networking.k8s.io", *CLASSES,
    "httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io",
}  # fmt: skip
GRANTED = [
    (("katib", "kfp", "kubernetes"), KATIB | BOTH | TOKEN | KUBERNETES, NAMESPACE | CLASSES),
    (("katib", "kfp"), KATIB | BOTH | TOKEN, NAMESPACE),
    (("kubernetes",), BOTH | KUBERNETES, CLASSES),
    (("kserve",), BOTH | KSERVE, CLASSES),
    (("katib",), KATIB | BOTH, NAMESPACE),
    (("kfp",), BOTH | TOKEN, {}),
    ((), {}, {}),
]
"""By parts: verbs by resource in the namespace, and outside it."""


@dataclass
class Allowing:
    """A cluster that allows what it is told to, and remembers what was asked."""

    allowed: Callable[[str, str], bool]
    namespace: str = "team-a"
    named: dict[str, str] = field(default_factory=dict)

    def may(self, verb: str, kind: Kind, *, subresource: str = "", name: str = "") -> bool:
        resource = kind.plural + (f"/{subresource}" if subresource else "") + (f".{kind.group}" if kind.group else "")
        self.named[resource] = name
        return self.allowed(verb, resource)


def missing(cluster: Allowing, parts: Sequence[str] = rights.PARTS, account: str = "") -> list[rights.Right]:
    given: dict[str, Any] = {"service_account": account} if account else {}
    return rights.missing(cast(Cluster, cluster), parts, **given)


def documents(*arguments: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rights.manifest(*arguments)))


def joined(rules: Iterable[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """Verbs by resource; several rules for one have no verb twice."""
    found: dict[str, list[str]] = {}
    for resource, verbs in rules:
        assert not {*verbs} & {*found.get(resource, [])}
        found.setdefault(resource, []).extend(verbs)
    return {resource: " ".join(verbs) for resource, verbs in found.items()}


def granted(role: dict[str, Any]) -> dict[str, str]:
    """Verbs by resource, of rules that are each for one resource of one group."""
    found = []
    for rule in role["rules"]:
        (group,), (resource,) = rule["apiGroups"], rule["resources"]
        found.append((resource + (f".{group}" if group else ""), rule["verbs"]))
    return joined(found)


@pytest.mark.parametrize(("parts", "inside", "outside"), GRANTED)
def test_the_manifest_grants_these_rights_and_no_others(
    parts: Sequence[str], inside: dict[str, str], outside: dict[str, str]
) -> None:
    account, role, binding, *cluster_wide = documents("team-a", "bot", parts)
    assert account == {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "team-a"}
    }  # fmt: skip
    assert granted({"rules": role["rules"] or []}) == inside
    assert (role["kind"], role["metadata"]) == ("Role", {"name": "bot", "namespace": "team-a"})
    assert (binding["kind"], binding["metadata"]) == ("RoleBinding", {"name": "bot", "namespace": "team-a"})
    assert [one["kind"] for one in cluster_wide] == (["ClusterRole", "ClusterRoleBinding"] if outside else [])
    for made, of, name in ((role, binding, "bot"), *([(*cluster_wide, "bot-team-a")] if outside else [])):
        assert made["apiVersion"] == of["apiVersion"] == "rbac.authorization.k8s.io/v1"
        assert made["metadata"]["name"] == of["metadata"]["name"] == name
        assert of["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": made["kind"], "name": name}
        assert of["subjects"] == [{"kind": "ServiceAccount", "name": "bot", "namespace": "team-a"}]
    if outside:
        assert granted(cluster_wide[0]) == outside
        assert cluster_wide[0]["metadata"] == {"name": "bot-team-a"}


def test_only_the_own_namespace_and_the_own_account_are_named() -> None:
    rules = [rule for one in documents("team-a") for rule in one.get("rules", [])]
    named = {rule["resources"][0]: rule["resourceNames"] for rule in rules if "resourceNames" in rule}
    assert named == {"serviceaccounts/token": ["mlops-actions"], "namespaces": ["team-a"]}


def test_the_manifest_says_what_each_right_is_for() -> None:
    text = rights.manifest("team-a")
    for rule in rights.RULES:
        assert f"  # {rule.reason}\n" in text


def test_a_name_is_text_whatever_it_looks_like() -> None:
    account, role, *_ = documents("1e3", 'no", x: "y')
    assert account["metadata"] == {"name": 'no", x: "y', "namespace": "1e3"}
    assert ['no", x: "y'] in [rule.get("resourceNames") for rule in role["rules"]]


@pytest.mark.parametrize(("parts", "inside", "outside"), GRANTED)
def test_what_is_not_allowed_is_missing_with_its_reason(
    parts: Sequence[str], inside: dict[str, str], outside: dict[str, str]
) -> None:
    found = missing(Allowing(lambda verb, resource: False), parts)
    assert joined((right.resource, right.verbs) for right in found) == inside | outside
    assert {right.resource for right in found if right.optional} == OPTIONAL & {*inside, *outside}
    assert {right.namespace for right in found} <= {"team-a"}
    assert {right.reason for right in found} == {rule.reason for rule in rights.RULES if {*rule.parts} & {*parts}}


def test_nothing_is_missing_where_all_is_allowed() -> None:
    cluster = Allowing(lambda verb, resource: True)
    assert missing(cluster, account="bot") == []
    assert {resource: name for resource, name in cluster.named.items() if name} == {
        "serviceaccounts/token": "bot", "namespaces": "team-a"
    }  # fmt: skip
    missing(cluster)
    assert cluster.named["serviceaccounts/token"] == "mlops-actions"


def test_a_right_of_which_a_part_is_missing_names_that_part() -> None:
    found = missing(Allowing(lambda verb, resource: (verb, resource) != ("watch", "jobs.batch")))
    assert [str(right) for right in found] == ["watch jobs.batch"]
    two = missing(Allowing(lambda verb, resource: resource != "jobs.batch" or verb == "get"))
    assert [str(right) for right in two] == ["list, watch jobs.batch"]
