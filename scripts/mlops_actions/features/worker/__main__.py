"""The worker's entry, run by path: `python …/features/worker`.

It reads one JSON request from standard input and writes events to standard output, one JSON a line; what Feast and the
consumer's modules print goes to standard error. All of it is one process, because importing Feast takes longer than the
work on a small repository. The request: `folder` of the repository, `views`, `mode`, `start` and `end` (ISO 8601 with a
zone, or empty), `sample`. The events: `plan`, `view`, `notice`, and last `result` or `error`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Emit = Callable[[dict[str, Any]], None]


def main() -> None:
    """Read the request, write the events, and leave at once: Dask's threads may not end by themselves."""
    # The consumer's modules come first, so the package is found last; its own folder is not on the path at all.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]
    from mlops_actions.features.worker.repository import Problem, short

    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        emit({"event": "result", **obey(json.load(sys.stdin), emit)})
    except Problem as problem:
        emit(problem.event)
    except Exception as error:
        traceback.print_exc()
        emit({"event": "error", "kind": "remote", "what": "Feast failed", "why": short(error), "fix": ""})
    sys.stderr.flush()
    os._exit(0)


def obey(request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request asks; the result."""
    from mlops_actions.features.worker.materializing import Materializer, digest_of
    from mlops_actions.features.worker.repository import Repository

    repository = Repository(Path(request["folder"]))
    plan = repository.plan()
    emit({"event": "plan", **plan.names})
    result: dict[str, Any] = {
        "project": repository.store.project,
        "registry": repository.registry,
        "online": repository.online_file,
        "plan": plan.names,
        "views": [],
        "digest": "",
    }
    chosen = repository.chosen(request["views"])
    if request["mode"] == "plan-only":
        return result
    repository.apply(plan)
    materializer = Materializer(
        repository.store,
        request["mode"],
        datetime.fromisoformat(request["start"]) if request["start"] else None,
        datetime.fromisoformat(request["end"]) if request["end"] else datetime.now(timezone.utc),
        request["sample"],
        notice=lambda text: emit({"event": "notice", "text": text}),
    )
    done = []
    for name in chosen:
        done.append(materializer.materialize(name, name in plan.other_values))
        emit({"event": "view", **done[-1].summary()})
    return {**result, "views": [view.summary() for view in done], "digest": digest_of(done)}


if __name__ == "__main__":
    main()
