"""A model in another environment: does it load there, and does it still say what it said when it was trained?"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput, MlopsError, Rejected, RemoteFailed
from ..processes.group import Group

_WORKER = Path(__file__).with_name("golden_worker.py")
_TIMED_SECONDS = 10.0
_HOW = {
    "golden": "The golden file cannot be read in this environment",
    "predict": "The model cannot predict in this environment",
    "latency": "The model cannot predict a single row",
}


@dataclass(frozen=True)
class Request:
    """What to test.

    Attributes:
        python: the interpreter of the environment.
        model: the model's file or folder.
        golden: its features with the expected scores.
        score: the column of the expected scores.
        hook: `file.py:function`, absolute, or "".
        root: the consumer's folder.
        environ: variables of the process.
        absolute, relative: tolerances: |is - expected| <= absolute + relative * |expected|.
        repeats: how many single rows are timed.
        timeout: seconds for all of it.
    """

    python: Path
    model: Path
    golden: Path
    score: str
    hook: str
    root: Path
    environ: Mapping[str, str]
    absolute: float
    relative: float
    repeats: int
    timeout: float


@dataclass(frozen=True)
class Tested:
    """What was found.

    Attributes:
        rows: golden rows.
        mismatches: (row from 1, expected, is) of all rows out of tolerance, the worst first.
        worst: the largest absolute difference; infinite for texts that differ.
        p50, p95: milliseconds for one row.
        throughput: rows a second, all at once.
        load_seconds: until the model was loaded.
        facts: the hardware and software.
        warnings: what the libraries said on loading.
    """

    rows: int
    mismatches: list[tuple[int, Any, Any]]
    worst: float
    p50: float
    p95: float
    throughput: float
    load_seconds: float
    facts: dict[str, Any]
    warnings: list[str]


class DoesNotWork(Rejected):
    """The model does not load or predict in the environment, whose `facts` are told unless it never came so far."""

    def __init__(self, what: str, facts: dict[str, Any], *, why: str = "", fix: str = "", log: str = "") -> None:
        super().__init__(what, why=why, fix=fix, log=log)
        self.facts = facts


def test(request: Request) -> Tested:
    """Load and predict in the environment, and compare.

    Raises:
        BadInput: the golden file cannot be used.
        DoesNotWork: the model does not load there, takes too long, or does not predict each row.
        RemoteFailed: the process died.
    """
    result = _run(request)
    if "error" in result:
        raise _explain(result, request)
    expected, got = result["expected"], result["predictions"]
    if len(expected) != len(got):
        what = f"The model gives {len(got)} predictions for {len(expected)} golden rows"
        raise DoesNotWork(what, result["facts"], fix="Look at `predict`")
    if not expected:
        raise BadInput("The golden file has no rows", fix="Look at the step that wrote it")
    differences = [difference(e, g) for e, g in zip(expected, got)]
    bad = [i for i, (e, d) in enumerate(zip(expected, differences)) if not d <= _allowed(e, request)]
    bad.sort(key=lambda i: -_severity(differences[i]))
    times = result["latencies_ms"]
    return Tested(
        rows=len(expected),
        mismatches=[(i + 1, expected[i], got[i]) for i in bad],
        worst=max(map(_severity, differences)),
        p50=percentile(times, 50),
        p95=percentile(times, 95),
        throughput=result["rows_per_second"],
        load_seconds=result["load_seconds"],
        facts=result["facts"],
        warnings=result["warnings"],
    )


def difference(expected: object, got: object) -> float:
    """How far two predictions are apart: 0 for equal ones (NaN equals NaN), infinite for texts that differ."""
    if isinstance(expected, int | float) and isinstance(got, int | float):
        if math.isnan(expected) and math.isnan(got):
            return 0.0
        return 0.0 if expected == got else abs(got - expected)
    return 0.0 if expected == got else math.inf


def percentile(times: list[float], share: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return times[max(0, math.ceil(share / 100 * len(times)) - 1)]


def _severity(difference: float) -> float:
    return math.inf if math.isnan(difference) else difference


def _allowed(expected: object, request: Request) -> float:
    size = abs(expected) if isinstance(expected, int | float) and math.isfinite(expected) else 0.0
    return request.absolute + request.relative * size


def _run(request: Request) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlops-golden-") as scratch:
        folder = Path(scratch)
        asked = {
            "model": str(request.model), "golden": str(request.golden), "score": request.score, "hook": request.hook,
            "repeats": request.repeats, "seconds": _TIMED_SECONDS,
        }  # fmt: skip
        (folder / "request.json").write_text(json.dumps(asked), encoding="utf-8")
        command = [str(request.python), str(_WORKER), str(folder / "request.json"), str(folder / "result.json")]
        log = folder / "log.txt"
        code = _call(command, request, log)
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            text = log.read_text(encoding="utf-8", errors="replace")
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise RemoteFailed(
                "The process that loads the model ended early", why=f"It ended {how}", log=text
            ) from None
        return result


def _call(command: list[str], request: Request, log: Path) -> int:
    """Run the worker to its end, or to that of its time."""
    with log.open("wb") as stream:
        group = Group(command, request.root, request.environ, stdout=stream)
    with group:
        if not group.wait(request.timeout):
            text = log.read_text(encoding="utf-8", errors="replace")
            what = f"The model did not finish within {request.timeout:g} s"
            raise DoesNotWork(what, {}, fix="Raise `timeout`", log=text)
        return group.process.returncode


def _explain(result: dict[str, Any], request: Request) -> MlopsError:
    error, facts = result["error"], result["facts"]
    stage, why = error["stage"], f"{error['type']}: {error['message']}".split("\n")[0].rstrip(": ")
    fix = ""
    missing = error["type"] in ("ModuleNotFoundError", "ImportError")
    if missing:
        fix = "Add the package to the environment's `requirements`"
        if stage == "golden":
            fix = "Add pandas and pyarrow to the environment's `requirements`, or write the golden file as CSV"
    if stage == "golden":
        return BadInput(_HOW[stage], why=why, fix=fix or "Look at the step that wrote it", log=error["traceback"])
    now = {name.lower(): version for name, version in facts["packages"].items()}
    then = [f"{name} {version}" for name, version in result["trained_with"].items()]
    here = [f"Python {facts['python']}", *(f"{n} {now[n]}" for n in ("scikit-learn", "numpy", "joblib") if n in now)]
    why += f". This environment has {', '.join(here)}"
    if then:
        why += f"; the model was saved with {', '.join(then)}"
    what = _HOW.get(stage, f"The model {request.model.name} does not load in this environment")
    fix = fix or "Pin the version it was trained with, or train it with this one"
    return DoesNotWork(what, facts, why=why, fix=fix, log=error["traceback"])
