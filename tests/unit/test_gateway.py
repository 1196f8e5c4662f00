"""Gateways of clusters: what is refused before anything begins."""

from __future__ import annotations

from typing import cast

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.kubernetes.objects import Cluster
from mlops_actions.serving.cluster.gateway import Gateway


class WithoutGateways:
    """A cluster that does not have the Gateway API."""

    def versions(self, _: object) -> list[str]:
        return []


def test_a_gateway_in_a_cluster_that_knows_none_is_refused_and_not_passed_over() -> None:
    with pytest.raises(
        BadInput, match="Cannot use the Gateway infra/main: the cluster does not know HTTPRoute"
    ) as failed:
        Gateway("infra/main", "").capabilities(cast(Cluster, WithoutGateways()))
    assert "leave out `gateway`" in failed.value.fix
    able = Gateway("", "").capabilities(cast(Cluster, WithoutGateways()))
    assert not able.weights and "Set `gateway`" in able.lacking
