"""The actions in the order of the chain, each found by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .action import Action

NAMES = (
    "plan",
    "validate-data",
    "materialize-features",
    "build-image",
    "tune-hyperparams",
    "run-pipeline",
    "evaluate-model",
    "test-model",
    "register-model",
    "promote-model",
    "deploy-model",
    "monitor-model",
    "report",
    "doctor",
)
"""Every action, in the order of the chain."""


PLAIN = {"infer-schema": "data", "data": "data", "rollback": "data", "drill": "data", "render": "data"}
"""Commands that are not actions and need more than the core, with the lock of their environment."""


STANDBY = "--standby"
"""Before an action's name: import what it needs, and wait for a line on standard input before it begins."""


def load(name: str) -> Action[Any, Any]:
    """The action's declaration. Cheap: a command's module imports its capability only when it runs."""
    module = import_module(f"mlops_actions.actions.{name.replace('-', '_')}")
    action = module.ACTION
    assert isinstance(action, Action)
    return action
