"""The engine `git`: a repository that Argo CD or Flux applies to a cluster."""

from __future__ import annotations

from typing import Any

from ...engines import Engine
from ...workspace import Workspace
from ..engine import ServingEngine
from ..gitops.inputs import GitOpsInputs


def _make(inputs: Any, workspace: Workspace) -> ServingEngine:
    from ..cluster.image import image_maker
    from ..cluster.manifests import Settings
    from ..gitops.engine import GitServing

    return GitServing(inputs, workspace, Settings.of(inputs), image_maker(inputs, workspace))


ENGINE = Engine(
    "git",
    "the same objects, written to a repository that Argo CD or Flux applies",
    _make,
    GitOpsInputs,
    remote=True,
)
