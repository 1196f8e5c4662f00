"""The run of the chain that an action in a terminal is a step of: the last one of its folder, or a new one.

A new run begins when an action is run again whose result is in the last one. It takes over the records of the actions
that come before it in the chain, so that `run-pipeline`, run again, still knows what validate-data said, if the data is
what it was. Actions that come after a registration, and those that run once an environment, never begin one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timezone
from pathlib import Path

from ..files import write_whole
from ..records import Record
from ..workspace import Workspace
from .chain import NAMES
from .step import Step, holds

_BEGINS = NAMES[: NAMES.index("evaluate-model") + 1]


def run_of_folder(step: Step, *, anew: bool = False) -> str:
    """The name of the run that an action in a terminal belongs to; see the module. `anew`: it begins one of its own."""
    workspace, kept = step.workspace, _noted(step.workspace)
    with workspace.lock(f"the run of {workspace.root}"):
        last = "" if anew else last_of_folder(workspace)
        if last and not (step.action in _BEGINS and workspace.store.exists(f"runs/{last}/{step.action}.json")):
            return last
        name = f"{kept.name}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if last:
            _take_over(step, last, name)
        write_whole(kept, name)
        return name


def last_of_folder(workspace: Workspace) -> str:
    """The name of the last run of a folder; "" for none."""
    kept = _noted(workspace)
    return kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""


def _noted(workspace: Workspace) -> Path:
    """The file that has the name of the last run of a folder."""
    digest = hashlib.sha256(str(workspace.root).encode()).hexdigest()[:6]
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", workspace.root.name)[:80]
    return workspace.home / "runs" / f"local-{name}-{digest}"


def _take_over(step: Step, last: str, name: str) -> None:
    """Copy the records of the actions that come before this one, as far as they still hold."""
    before = NAMES[: NAMES.index(step.action)]
    store = step.workspace.store
    for entry in list(store.list(f"runs/{last}/")):
        action = entry.path.rpartition("/")[2].removesuffix(".json").partition("@")[0]
        if action in before and _still_holds(store.get(entry.path), step.workspace):
            store.put(f"runs/{name}/{entry.path.rpartition('/')[2]}", store.get(entry.path))


def _still_holds(data: bytes, workspace: Workspace) -> bool:
    try:
        return holds(Record.model_validate_json(data), workspace)
    except ValueError:
        return False
