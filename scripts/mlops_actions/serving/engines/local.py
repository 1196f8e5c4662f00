"""The engine `local`: an MLServer on this machine."""

from __future__ import annotations

from ...engines import Engine
from ...inputs import Inputs
from ...workspace import Workspace
from ..engine import ServingEngine


def _make(_: Inputs, workspace: Workspace) -> ServingEngine:
    from ..local import LocalServing

    return LocalServing(workspace.home, workspace.console.say)


ENGINE = Engine("local", "an MLServer on this machine", _make)
