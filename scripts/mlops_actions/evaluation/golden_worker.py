"""Load a model, predict its golden rows and take the time: run by path, in the environment that is under test.

Only the standard library is imported here, and what the model itself needs. `golden_worker.py REQUEST RESULT`: two
JSON files. The request has `model`, `inputs` (the golden rows as tensors), `changed` (other rows by name, as tensors),
`predict` and `root` (see `models.predicting`), `repeats` and `seconds` (the longest that single rows are timed),
`threads` (how many predict at once) and `gpu` (whether there must be one). The result has `facts` always, and either
the predictions and the times, or `error` with the stage that failed.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WARM_UP = 5


class NoGpu(Exception):
    """There must be a GPU, and there is none."""


def main(request_file: str, result_file: str) -> None:
    """Do what the request says; write the result, whatever happens."""
    from mlops_actions.models import predicting, tensors

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"facts": facts(), "memory_mb": {"start": peak_memory()}}
    stage, rows = "gpu", None

    def listed(scores: Any) -> list[Any]:
        found: list[Any] = tensors.output("score", scores)["data"]
        return found

    def scores(rows: Any) -> list[Any]:
        return listed(model.scores(rows))

    try:
        if request["gpu"] and not result["facts"]["gpus"]:
            raise NoGpu(no_gpu())
        stage = "load"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            began = time.perf_counter()
            model = predicting.Model(Path(request["model"]), request["predict"], Path(request["root"]))
            result["load_seconds"] = time.perf_counter() - began
            result["facts"]["torch_sees_gpu"] = torch_sees_gpu()
            if request["gpu"] and result["facts"]["torch_sees_gpu"] is False:
                raise NoGpu("PyTorch does not see it: its build is for the CPU, or for another CUDA than the driver's")
            stage = "predict"
            rows = tensors.table(request["inputs"])
            began = time.perf_counter()
            model.scores(_part(rows, 0))
            result["first_ms"] = (time.perf_counter() - began) * 1000
            result["predictions"] = scores(rows)
            result["changed"] = {}
            for name, one in request["changed"].items():
                stage = f"change {name}"
                result["changed"][name] = scores(tensors.table(one))
        # an estimator repeats what it warns of at each call
        result["warnings"] = list(dict.fromkeys(str(item.message) for item in caught))[:10]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stage = "latency"
            result.update(timed(model.scores, listed, rows, request["repeats"], request["seconds"]))
            stage = "threads"
            result["threaded"] = in_threads(scores, rows, request["threads"])
        result["memory_mb"]["peak"] = peak_memory()
    except BaseException as error:  # also SystemExit of the consumer's code
        result["error"] = {
            "stage": stage,
            "lacking": model.lacking(rows)[:10] if stage == "predict" and rows is not None else [],
            **predicting.told(error),
        }
        result["trained_with"] = trained_with(Path(request["model"]))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _part(rows: Any, i: int) -> Any:
    """One row of a table, of an array, or of several arrays."""
    if isinstance(rows, dict):
        return {name: array[i : i + 1] for name, array in rows.items()}
    return rows.iloc[i : i + 1] if hasattr(rows, "iloc") else rows[i : i + 1]


def timed(
    predict: Callable[[Any], Any], listed: Callable[[Any], list[Any]], rows: Any, repeats: int, seconds: float
) -> dict[str, Any]:
    """Single rows and all rows at once, when all is warm.

    Returns:
        `latencies_ms` of single rows, in order; `single`: what was predicted for the first rows, each by itself;
        `rows_per_second` of all rows at once (the best of three).
    """
    count = len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)
    parts = [_part(rows, i) for i in range(min(count, repeats))]
    times: list[float] = []
    single: list[Any] = []
    ends = time.perf_counter() + seconds
    for number in range(WARM_UP + repeats):
        began = time.perf_counter()
        found = predict(parts[number % len(parts)])
        now = time.perf_counter()
        if number < len(parts):
            single += listed(found)
        if number >= WARM_UP:
            times.append((now - began) * 1000)
        if now > ends and times:
            break
    batch = []
    for _ in range(3):
        began = time.perf_counter()
        predict(rows)
        batch.append(time.perf_counter() - began)
    return {"latencies_ms": sorted(times), "single": single, "rows_per_second": count / min(batch)}


def in_threads(predict: Callable[[Any], list[Any]], rows: Any, threads: int) -> list[list[Any]]:
    """What each of several threads predicts for all rows, all at the same time."""
    if not threads:
        return []
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(predict, [rows] * threads))


def peak_memory() -> float:
    """The most memory that this process has had so far, in MB (10^6 bytes)."""
    if sys.platform == "win32":
        return _peak_on_windows() / 1e6
    try:  # of this program alone: getrusage also counts what the process had been before
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found:
        return int(found.group(1)) * 1024 / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def _peak_on_windows() -> int:
    class Counters(ctypes.Structure):
        _fields_ = [("cb", ctypes.c_uint32), ("faults", ctypes.c_uint32)] + [
            (name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")
        ]

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    windows: Any = ctypes
    kernel = windows.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return int(counters.peak)


def facts() -> dict[str, Any]:
    """This hardware and software."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus(),
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


def gpus() -> list[str]:
    """NVIDIA's GPUs, each with its memory and its driver, as `nvidia-smi` tells them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def no_gpu() -> str:
    """Why there is none."""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not installed"
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False, timeout=30)
    said = (done.stdout + done.stderr).strip().splitlines()
    return f"nvidia-smi says: {said[-1]}" if said else "nvidia-smi lists none"


def torch_sees_gpu() -> bool | None:
    """Whether PyTorch can use a GPU; None where the model does not use PyTorch."""
    torch: Any = sys.modules.get("torch")
    return None if torch is None else bool(torch.cuda.is_available())


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
