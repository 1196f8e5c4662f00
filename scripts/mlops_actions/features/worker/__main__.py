"""The worker's entry, run by path: `python …/features/worker`.

It reads one JSON request from standard input and writes events to standard output, one JSON a line; what Feast and the
consumer's modules print goes to standard error. All of it is one process, because importing Feast takes longer than the
work on a small repository.

The request: `root` of the checkout, `folder` of the repository, `views`, `mode`, `start` and `end` (ISO 8601 with a
zone, or empty), `chunk` (seconds, or 0), `redo`, `allow_destructive`, `parallel`, `sample`, `store_timeout` (seconds
that one response of a store may take), and `scratch`, a folder for temporary files. The events: `plan`, `progress`,
`view`, `notice`, `warning`, and last `result` or `error`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Lock
from typing import Any

Emit = Callable[[dict[str, Any]], None]


def main() -> None:
    """Read the request, write the events, and leave at once: Dask's threads may not end by themselves."""
    # The consumer's modules come first, so the package is found last; its own folder is not on the path at all.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]
    from mlops_actions.features.worker.repository import Problem, short

    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    speaking = Lock()

    def emit(event: dict[str, Any]) -> None:
        with speaking:
            events.write(json.dumps(event) + "\n")
            events.flush()

    try:
        emit({"event": "result", **obey(json.load(sys.stdin), emit)})
    except Problem as problem:
        emit(problem.event)
    except Exception as error:
        traceback.print_exc()
        emit({"event": "error", "kind": "unknown", "what": "Feast failed", "why": short(error), "fix": ""})
    sys.stderr.flush()
    os._exit(0)


def obey(request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the request asks; the result."""
    import feast

    from mlops_actions.features.worker.fast import KNOWN
    from mlops_actions.features.worker.materializing import Materializer, Wanted, digest_of
    from mlops_actions.features.worker.planning import apply, plan
    from mlops_actions.features.worker.repository import Repository, remote
    from mlops_actions.features.worker.watchdog import Watchdog

    def give_up(what: str) -> None:
        text = f"Timed out after {request['store_timeout']:.0f} s waiting for {what}"
        fix = "Find out what keeps it busy, or raise `store-timeout`; then run this again: it resumes"
        emit(remote(text, "It accepted the connection and does not respond", fix).event)
        os._exit(0)

    watchdog = Watchdog(request["store_timeout"], give_up)
    repository = Repository(Path(request["folder"]), writes=request["mode"] != "plan-only")
    for text in (*repository.check_places(Path(request["root"])), *repository.check_sources()):
        emit({"event": "warning", "text": text})
    if feast.__version__ not in KNOWN:
        text = f"Feast {feast.__version__}: every view is written by Feast itself; the faster way needs {KNOWN[-1]}"
        emit({"event": "notice", "text": text})
    with watchdog.waiting_for("the registry"):
        planned = plan(repository)
    emit({"event": "plan", **planned.event()})
    result: dict[str, Any] = {
        "project": repository.store.project,
        "registry": repository.registry,
        "online": repository.online_file,
        "plan": planned.event(),
        "views": [],
        "digest": "",
    }
    chosen = repository.chosen(request["views"])
    if request["mode"] == "plan-only" or (planned.destructive and not request["allow_destructive"]):
        return result
    with watchdog.waiting_for("the registry and the online store, to apply the repository"):
        apply(repository, planned)
    for name in sorted(planned.rewritten & set(chosen)):
        emit({"event": "notice", "text": f"{name}: its definition changed, so it is materialized from the beginning"})
    wanted = Wanted(
        mode=request["mode"],
        start=datetime.fromisoformat(request["start"]) if request["start"] else None,
        end=datetime.fromisoformat(request["end"]) if request["end"] else datetime.now(timezone.utc),
        chunk=timedelta(seconds=request["chunk"]) if request["chunk"] else None,
        redo=request["redo"],
        overwrite=request["allow_destructive"],
        sample=request["sample"],
    )
    materializer = Materializer(
        repository.store,
        wanted,
        Path(request["scratch"]),
        watchdog,
        notice=lambda text: emit({"event": "notice", "text": text}),
        progress=lambda view, rows, total: emit({"event": "progress", "view": view, "rows": rows, "total": total}),
    )

    def one(name: str) -> Any:
        done = materializer.materialize(name)
        emit({"event": "view", **done.summary()})
        return done

    with ThreadPoolExecutor(request["parallel"]) as pool:
        running = [pool.submit(one, name) for name in chosen]
        try:
            done = [each.result() for each in running]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # views that run are finished and recorded, others are not begun
            raise
    for view in repository.on_demand_views:
        materializer.materialize_on_demand(view, [d for d in done if d.view.name in _sources_of(view)])
    materializer.precompute({each.view.name for each in done if each.rows and each.way == "fast"})
    return {**result, "views": [view.summary() for view in done], "digest": digest_of(done)}


def _sources_of(view: Any) -> set[str]:
    """Names of the views that an on-demand view is made of."""
    return {projection.name for projection in view.source_feature_view_projections.values()}


if __name__ == "__main__":
    main()
