"""Load a model, predict its golden rows and take the time: run by path, in the environment that is under test.

Only the standard library is imported here, and what the model itself needs. `golden_worker.py REQUEST RESULT`: two
JSON files. The request has `model`, `inputs` (the golden rows as tensors), `predict` and `root` (see
`models.predicting`), `repeats` and `seconds` (the longest that single rows are timed). The result has `facts` always,
and either `predictions` and the times, or `error` with the stage that failed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP = 5


def main(request_file: str, result_file: str) -> None:
    """Do what the request says; write the result, whatever happens."""
    from mlops_actions.models import predicting, tensors

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"facts": facts()}
    stage = "load"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            began = time.perf_counter()
            model = predicting.Model(Path(request["model"]), request["predict"], Path(request["root"]))
            result["load_seconds"] = time.perf_counter() - began
            stage = "predict"
            rows = tensors.table(request["inputs"])
            result["predictions"] = tensors.output("score", model.scores(rows))["data"]
        # an estimator repeats what it warns of at each call
        result["warnings"] = list(dict.fromkeys(str(item.message) for item in caught))[:10]
        stage = "latency"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result.update(timed(model.scores, rows, request["repeats"], request["seconds"]))
    except BaseException as error:  # also SystemExit of the consumer's code
        result["error"] = {
            "stage": stage,
            "type": type(error).__name__,
            "message": str(error)[:2000],
            "missing": predicting.missing_package(error),
            "traceback": traceback.format_exc()[-4000:],
        }
        result["trained_with"] = trained_with(Path(request["model"]))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _part(rows: Any, i: int) -> Any:
    """One row of a table, of an array, or of several arrays."""
    if isinstance(rows, dict):
        return {name: array[i : i + 1] for name, array in rows.items()}
    return rows.iloc[i : i + 1] if hasattr(rows, "iloc") else rows[i : i + 1]


def timed(predict: Callable[[Any], Any], rows: Any, repeats: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of single-row predictions, in order, and rows a second of all rows at once (the best of three)."""
    count = len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)
    single = [_part(rows, i) for i in range(min(count, repeats))]
    times: list[float] = []
    ends = time.perf_counter() + seconds
    for number in range(WARM_UP + repeats):
        began = time.perf_counter()
        predict(single[number % len(single)])
        now = time.perf_counter()
        if number >= WARM_UP:
            times.append((now - began) * 1000)
        if now > ends and times:
            break
    batch = []
    for _ in range(3):
        began = time.perf_counter()
        predict(rows)
        batch.append(time.perf_counter() - began)
    return {"latencies_ms": sorted(times), "rows_per_second": count / min(batch)}


def facts() -> dict[str, Any]:
    """This hardware and software."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def cpu() -> str:
    """The processor's model, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def trained_with(model: Path) -> dict[str, str]:
    """The version that scikit-learn writes into its pickles, found without loading it; {} if it is not to be seen."""
    from mlops_actions.models import kinds

    try:
        data = kinds.detect(model).path.read_bytes()
    except (OSError, kinds.NotLoadable):
        return {}
    found = re.search(rb"_sklearn_version\W{1,12}?(\d+\.\d+[.\w]*)", data)
    return {"scikit-learn": found.group(1).decode()} if found else {}


if __name__ == "__main__":
    # The folder of this file gives way to the package's, which comes after all that the model imports.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[2])]
    main(*sys.argv[1:])
