"""Golden predictions: when a prediction agrees with one, and a model asked for them in another environment.

test-model and deploy-model judge by the same rule, which is `agreement`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import BadInput, MlopsError, Rejected, RemoteFailed
from ..models.checks import remedy
from ..processes.group import Group

if TYPE_CHECKING:
    from .golden_rows import Golden

_WORKER = Path(__file__).with_name("golden_worker.py")
_TIMED_SECONDS = 10.0
_HOW = {
    "predict": "The model cannot predict in this environment",
    "latency": "The model cannot predict a single row",
}


@dataclass(frozen=True)
class Tolerance:
    """How far a prediction may be from the golden one: |is - expected| <= absolute + relative * |expected|."""

    absolute: float = 1e-6
    relative: float = 1e-5

    def allowed(self, expected: object) -> float:
        """The largest difference that is right."""
        finite = isinstance(expected, int | float) and math.isfinite(expected)
        return self.absolute + (self.relative * abs(float(cast(float, expected))) if finite else 0.0)

    def __str__(self) -> str:
        return f"{self.absolute:g} + {self.relative:g}·|expected|"


@dataclass(frozen=True)
class Agreement:
    """How predictions go with golden ones.

    Attributes:
        mismatches: (row from 1, expected, is) of all rows out of tolerance, the worst first.
        worst: the largest difference; infinite for texts that differ, and where only one is a number.
    """

    mismatches: list[tuple[int, Any, Any]]
    worst: float


def agreement(expected: Sequence[Any], got: Sequence[Any], tolerance: Tolerance) -> Agreement:
    """Compare predictions with golden ones, row by row; there is one of each."""
    differences = [difference(e, g) for e, g in zip(expected, got, strict=True)]
    bad = [i for i, (e, far) in enumerate(zip(expected, differences)) if far > tolerance.allowed(e)]
    bad.sort(key=lambda i: -differences[i])
    return Agreement([(i + 1, expected[i], got[i]) for i in bad], max(differences, default=0.0))


def difference(expected: object, got: object) -> float:
    """How far two predictions are apart: 0 for equal ones, infinite where only one is a number or texts differ.

    NaN, which JSON has as null, equals NaN. Where one is a number, a text is read as one: the class "1" is a file's 1.
    """
    if isinstance(expected, str) and isinstance(got, str):
        return 0.0 if expected == got else math.inf
    one, other = _number(expected), _number(got)
    if one is None or other is None:
        return math.inf
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return 0.0 if one == other else abs(other - one)


def _number(value: object) -> float | None:
    if value is None:
        return math.nan
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None


@dataclass(frozen=True)
class GoldenRequest:
    """What to test.

    Attributes:
        python: the interpreter of the environment.
        model: the model's file or folder.
        golden: its features with the expected scores.
        predict: how it is asked, see `models.predicting`.
        root: the consumer's folder.
        environ: variables of the process.
        tolerance: how far a prediction may be off.
        repeats: how many single rows are timed.
        timeout: seconds for all of it.
    """

    python: Path
    model: Path
    golden: Golden
    predict: str
    root: Path
    environ: Mapping[str, str]
    tolerance: Tolerance
    repeats: int
    timeout: float


@dataclass(frozen=True)
class Tested:
    """What was found.

    Attributes:
        rows: golden rows.
        agreement: of the predictions with the golden ones.
        p50, p95: milliseconds for one row.
        throughput: rows a second, all at once.
        load_seconds: until the model was loaded.
        facts: the hardware and software.
        warnings: what the libraries said on loading.
    """

    rows: int
    agreement: Agreement
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


def test(request: GoldenRequest) -> Tested:
    """Load and predict in the environment, and compare.

    Raises:
        BadInput: what the model is or what `predict` says cannot be loaded.
        DoesNotWork: the model does not load there, takes too long, or does not predict each row.
        RemoteFailed: the process died.
    """
    result = _run(request)
    if "error" in result:
        raise _explain(result, request)
    expected, got = request.golden.scores, result["predictions"]
    if len(expected) != len(got):
        what = f"The model gives {len(got)} predictions for {len(expected)} golden rows"
        raise DoesNotWork(what, result["facts"], fix="Check `predict`")
    times = result["latencies_ms"]
    return Tested(
        rows=len(expected),
        agreement=agreement(expected, got, request.tolerance),
        p50=percentile(times, 50),
        p95=percentile(times, 95),
        throughput=result["rows_per_second"],
        load_seconds=result["load_seconds"],
        facts=result["facts"],
        warnings=result["warnings"],
    )


def percentile(times: list[float], share: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return times[max(0, math.ceil(share / 100 * len(times)) - 1)]


def _run(request: GoldenRequest) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlops-golden-") as scratch:
        folder = Path(scratch)
        asked = {
            "model": str(request.model), "inputs": request.golden.inputs, "predict": request.predict,
            "root": str(request.root), "repeats": request.repeats, "seconds": _TIMED_SECONDS,
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


def _call(command: list[str], request: GoldenRequest, log: Path) -> int:
    """Run the worker to its end, or to that of its time."""
    with log.open("wb") as stream:
        group = Group(command, request.root, request.environ, stdout=stream)
    with group:
        if not group.wait(request.timeout):
            text = log.read_text(encoding="utf-8", errors="replace")
            what = f"The model did not finish within {request.timeout:g} s"
            raise DoesNotWork(what, {}, fix="Raise `timeout`", log=text)
        return group.process.returncode


def _explain(result: dict[str, Any], request: GoldenRequest) -> MlopsError:
    error, facts = result["error"], result["facts"]
    stage, why = error["stage"], f"{error['type']}: {error['message']}".split("\n")[0].rstrip(": ")
    if error["type"] == "NotLoadable":
        return BadInput(f"The model {request.model.name} cannot be loaded", why=error["message"], fix="Set `predict`")
    fix = ""
    if error["missing"]:
        fix = remedy(error["missing"])
    now = {name.lower(): version for name, version in facts["packages"].items()}
    then = [f"{name} {version}" for name, version in result["trained_with"].items()]
    here = [f"Python {facts['python']}", *(f"{n} {now[n]}" for n in ("scikit-learn", "numpy", "joblib") if n in now)]
    why += f". This environment has {', '.join(here)}"
    if then:
        why += f"; the model was saved with {', '.join(then)}"
    what = _HOW.get(stage, f"The model {request.model.name} does not load in this environment")
    fix = fix or "Pin the version it was trained with, or train it with this one"
    return DoesNotWork(what, facts, why=why, fix=fix, log=error["traceback"])
