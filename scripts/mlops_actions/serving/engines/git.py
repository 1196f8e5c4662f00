"""The engine `git`: a repository that Argo CD or Flux applies to a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...engines import Engine, Need, engines
from ...errors import BadInput
from ...workspace import Workspace
from ..engine import ServingEngine
from ..gitops.inputs import GitOpsInputs


def _make(inputs: Any, workspace: Workspace) -> ServingEngine:
    from ..cluster.engine import ClusterServing
    from ..gitops.engine import GitServing

    if inputs.gitops_objects == "kserve" and not inputs.namespace:
        raise BadInput(
            "`gitops-objects: kserve` needs `namespace`",
            why="What KServe can name, and what a Route calls it, depends on it",
            fix="Set `namespace` to the one that the repository is applied to",
        )
    asked = {
        "deployment-mode": getattr(inputs, "deployment_mode", "") == "Knative",
        "storage": getattr(inputs, "storage", ""),
    }
    if inputs.gitops_objects != "kserve" and (given := [name for name, one in asked.items() if one]):
        raise BadInput(
            f"`{given[0]}` is KServe's, and the objects that are written are Deployments",
            fix=f"Set `gitops-objects: kserve`, or leave out `{given[0]}`",
        )
    applied = engines(__package__)[inputs.gitops_objects].make(inputs, workspace)
    assert isinstance(applied, ClusterServing)
    return GitServing(inputs, workspace, applied)


def _needs(inputs: Any) -> Sequence[Need]:
    waits = inputs.gitops_wait and not inputs.gitops_pull_request
    return ("repository", *(engines(__package__)[inputs.gitops_objects].needs(inputs) if waits else ()))


ENGINE = Engine(
    "git",
    "the objects of `kubernetes` or `kserve`, written to a repository that Argo CD or Flux applies",
    _make,
    GitOpsInputs,
    needs=_needs,
    remote=True,
)
