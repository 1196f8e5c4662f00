"""The engine `local`: an MLServer on this machine."""

from __future__ import annotations

from functools import partial

from ...engines import Engine
from ...inputs import Inputs
from ...workspace import Workspace
from ..engine import ServingEngine, folder_of


def _make(_: Inputs, workspace: Workspace) -> ServingEngine:
    from ..local import LocalServing

    return LocalServing(partial(folder_of, workspace), workspace.console.say)


ENGINE = Engine("local", "an MLServer on this machine", _make)
