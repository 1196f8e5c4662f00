"""Signing in to Kubeflow Pipelines as a service account, by a token that a real cluster makes and reviews."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from clusters import administrator, namespace, needs_kubernetes
from doubles.sign_in import Asked, Kfp, Reply
from given import cluster_inputs, kfp_inputs
from mlops_actions.errors import BadInput, MlopsError
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.objects import SERVICE_ACCOUNT, Cluster, Kind
from mlops_actions.pipelines.kfp.client.api import ApiError, KfpApi
from mlops_actions.pipelines.kfp.client.sign_in import AUDIENCE

pytestmark = needs_kubernetes

PIPELINES = "/apis/v2beta1/pipelines"
_REVIEW = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with namespace({}) as name:
        found = administrator(name)
        found.create(SERVICE_ACCOUNT, {"metadata": {"name": "ci"}})
        yield found


class Reviewed:
    """Lets in whom the cluster knows by a token for KFP, as KFP's API server does."""

    def __init__(self, cluster: Cluster, audience: str = AUDIENCE) -> None:
        self._cluster, self._audience = cluster, audience
        self.users: list[str] = []

    def __call__(self, asked: Asked) -> Reply | None:
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        answer = self._cluster.create(_REVIEW, {"spec": {"token": token, "audiences": [self._audience]}})
        assert answer is not None
        status = answer["status"]
        if not status.get("authenticated"):
            return Reply(500, {"code": 13, "message": f"Internal error: Unauthenticated: {status.get('error')}"})
        self.users.append(status["user"]["username"])
        return None


def api(cluster: Cluster, url: str, user: str, **options: str) -> KfpApi:
    return KfpApi(kfp_inputs(url, sign_in="kubernetes", user=user, **options), {}, Path(), cluster=lambda: cluster)


def test_kfp_knows_the_service_account(cluster: Cluster) -> None:
    reviewed = Reviewed(cluster)
    with Kfp(reviewed) as server:
        for user in ("ci", f"{cluster.namespace}/ci"):
            client = api(cluster, server.url, user)
            assert client.get(PIPELINES)["total_size"] == 1
    assert set(reviewed.users) == {f"system:serviceaccount:{cluster.namespace}:ci"}


def test_a_token_for_another_audience_is_refused(cluster: Cluster) -> None:
    with Kfp(Reviewed(cluster)) as server, pytest.raises(ApiError, match="kfp-audience") as caught:
        api(cluster, server.url, "ci", audience="somebody-else").get(PIPELINES)
    assert caught.value.status == 401


def test_a_service_account_that_is_not_there_is_named(cluster: Cluster) -> None:
    with Kfp() as server, pytest.raises(MlopsError, match="nobody"):
        api(cluster, server.url, "nobody").get(PIPELINES)


def test_without_a_cluster_the_way_in_is_named() -> None:
    with Kfp() as server, pytest.raises(BadInput, match="kubeconfig"):
        KfpApi(kfp_inputs(server.url, sign_in="kubernetes", user="ci"), {}, Path()).get(PIPELINES)


def test_the_right_that_is_missing_is_named(cluster: Cluster) -> None:
    token = cluster.token("ci", namespace=cluster.namespace)
    inputs = cluster_inputs(_kubeconfig(token), namespace=cluster.namespace)
    with Kfp() as server, pytest.raises(MlopsError, match="serviceaccounts/token"):
        api(connect(inputs, os.environ), server.url, "ci").get(PIPELINES)


def _kubeconfig(token: str) -> str:
    """The cluster of KUBECONFIG with a token only."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    context = {"cluster": config["clusters"][0]["name"], "user": "ci"}
    config |= {"users": [{"name": "ci", "user": {"token": token}}], "current-context": "ci"}
    return str(yaml.safe_dump({**config, "contexts": [{"name": "ci", "context": context}]}))
