"""What tasks are called for people, whichever engine runs them."""

from __future__ import annotations

import re

_GROUP = re.compile(r"(condition|condition-branches|exit-handler)-\d+$")
_ITERATION = re.compile(r"for-loop-\d+-iteration-(\d+)$")
_LOOP = re.compile(r"for-loop-\d+$")


def label(scope: str, task: str) -> str:
    """A task's name for people: `prep/load` for a task of a nested pipeline, `train.0` for a loop's first iteration.

    Args:
        scope: names of the groups that the task is in, from the outside in, separated by `/`.
        task: its own name. The compiler makes it unique in its pipeline, so groups for conditions add nothing.
    """
    parts = [part for part in scope.split("/") if part]
    names = [p for p in parts if not (_GROUP.match(p) or _ITERATION.match(p) or _LOOP.match(p))]
    indices = [found[1] for part in parts if (found := _ITERATION.match(part))]
    return ".".join(["/".join([*names, task]), *indices])


def bare(task: str) -> str:
    """The name of a task in the spec: its label without the pipelines that it is nested in and the indices of loops."""
    return re.sub(r"(\.\d+)+$", "", task.rpartition("/")[2])
