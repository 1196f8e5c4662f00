"""Golden predictions: when a prediction agrees with one, and a model asked for them in another environment.

test-model and deploy-model judge by the same rule, which is `agreement`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import BadInput, MlopsError, Rejected, RemoteFailed
from ..images.login import says_denied
from ..models.checks import remedy
from ..processes import contained
from ..processes.group import Group

if TYPE_CHECKING:
    from .golden_rows import Golden

_WORKER = Path(__file__).with_name("golden_worker.py")
_TIMED_SECONDS = 10.0
_HOW = {
    "predict": "The model cannot predict in this environment",
    "latency": "The model cannot predict a single row",
    "threads": "The model cannot predict in several threads at once",
}
_NO_CONTAINER = 125
_NOT_RUN: dict[int, type[MlopsError]] = {_NO_CONTAINER: RemoteFailed, 126: BadInput, 127: BadInput}
"""Exit codes of `docker run` when the engine could not run it, or the image has not the command."""
_LOGIN = (
    "Check its name, and give `registry-username` and `registry-password` of a user who may read it (to mlops.yml the"
    " secrets `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`), or use `docker login` before"
)
_IMAGE = "The engine must be reachable and have the image, and the image a `python3`"


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
        python: the interpreter of the environment; in a container the command.
        model: the model's file or folder.
        golden: its features with the expected scores.
        predict: how it is asked, see `models.predicting`.
        root: the consumer's folder.
        environ: variables of the process.
        tolerance: how far a prediction may be off.
        repeats: how many single rows are timed.
        timeout: seconds for all of it.
        changed: more rows to predict, as tensors by name.
        threads: how many predict all rows at the same time; 0 for none.
        gpu: whether there must be a GPU.
        image: the image of a container that all of it happens in; "" for a process of this machine.
    """

    python: Path | str
    model: Path
    golden: Golden
    predict: str
    root: Path
    environ: Mapping[str, str]
    tolerance: Tolerance
    repeats: int
    timeout: float
    changed: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    threads: int = 4
    gpu: bool = False
    image: str = ""


@dataclass(frozen=True)
class Tested:
    """What was found.

    Attributes:
        rows: golden rows.
        agreement: of the predictions with the golden ones.
        predictions: of the golden rows, all at once.
        single: agreement of single rows with the same rows in all at once.
        threaded: the worst agreement of a thread with what one predicts alone; None without threads.
        changed: predictions of the other rows, by name.
        p50, p95: milliseconds for one row, when all is warm.
        cold_ms: milliseconds until the first row is predicted in a new process: imports, loading and predicting.
        throughput: rows a second, all at once.
        load_seconds: until the model was loaded.
        memory_mb: the most that the process had, in MB (10^6 bytes); `model_mb` of it came with the model.
        facts: the hardware and software.
        warnings: what the libraries said on loading.
    """

    rows: int
    agreement: Agreement
    predictions: list[Any]
    single: Agreement
    threaded: Agreement | None
    changed: Mapping[str, list[Any]]
    p50: float
    p95: float
    cold_ms: float
    throughput: float
    load_seconds: float
    memory_mb: float
    model_mb: float
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
    rows = {"": (len(request.golden.scores), result["predictions"])}
    rows |= {name: (inputs[0]["shape"][0], result["changed"][name]) for name, inputs in request.changed.items()}
    for name, (asked, given) in rows.items():
        if len(given) != asked:
            what = (
                f"The model gives {len(given)} predictions for {asked} {f'rows of {name}' if name else 'golden rows'}"
            )
            raise DoesNotWork(what, result["facts"], fix="Check `predict`")
    expected, got, single = request.golden.scores, result["predictions"], result["single"]
    threaded = [agreement(got, one, request.tolerance) for one in result["threaded"]]
    times, memory = result["latencies_ms"], result["memory_mb"]
    return Tested(
        rows=len(expected),
        agreement=agreement(expected, got, request.tolerance),
        predictions=got,
        single=agreement(got[: len(single)], single, request.tolerance),
        threaded=max(threaded, key=lambda one: (len(one.mismatches), one.worst), default=None),
        changed=result["changed"],
        p50=percentile(times, 50),
        p95=percentile(times, 95),
        cold_ms=result["load_seconds"] * 1000 + result["first_ms"],
        throughput=result["rows_per_second"],
        load_seconds=result["load_seconds"],
        memory_mb=memory["peak"],
        model_mb=max(0.0, memory["peak"] - memory["start"]),
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
            "changed": request.changed, "threads": request.threads, "gpu": request.gpu,
        }  # fmt: skip
        (folder / "request.json").write_text(json.dumps(asked), encoding="utf-8")
        command = [str(request.python), str(_WORKER), str(folder / "request.json"), str(folder / "result.json")]
        log = folder / "log.txt"
        code = _call(_contained(command, request, folder) if request.image else command, request, log)
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            text = log.read_text(encoding="utf-8", errors="replace")
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            if request.image and code in _NOT_RUN:
                raise _not_run(request, code, text or how) from None
            raise RemoteFailed(
                "The process that loads the model ended early", why=f"It ended {how}", log=text
            ) from None
        return result


def _not_run(request: GoldenRequest, code: int, text: str) -> MlopsError:
    """Why `docker run` started nothing, by what it printed."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Run 'docker run --help'")]
    last = lines[-1].removeprefix("docker: ") if lines else ""
    if request.gpu and "device driver" in text:
        return _no_gpu(f"Docker says: {last}")
    if code == _NO_CONTAINER and says_denied(last):
        return RemoteFailed(f"Cannot pull the image {request.image}: access denied", why=last, fix=_LOGIN, log=text)
    return _NOT_RUN[code](f"Cannot test in the image {request.image}", why=last, fix=_IMAGE, log=text)


def _call(command: list[str], request: GoldenRequest, log: Path) -> int:
    """Run the worker to its end, or to that of its time."""
    with log.open("wb") as stream:
        stdin = subprocess.PIPE if request.image else subprocess.DEVNULL  # see `contained`
        group = Group(command, request.root, request.environ, stdin=stdin, stdout=stream)
    with group:
        if not group.wait(request.timeout):
            text = log.read_text(encoding="utf-8", errors="replace")
            what = f"The model did not finish within {request.timeout:g} s"
            raise DoesNotWork(what, {}, fix="Raise `timeout`", log=text)
        return group.process.returncode


def _contained(command: list[str], request: GoldenRequest, folder: Path) -> list[str]:
    """The command in a container: what it reads and writes is there at the paths that it has here."""
    docker, name = shutil.which("docker", path=request.environ.get("PATH")) or "docker", f"mlops-{folder.name}"
    run = [docker, "run", "--rm", "--name", name, "--entrypoint", command[0]]
    if hasattr(os, "getuid"):
        run += ["--user", f"{os.getuid()}:{os.getgid()}"]  # what it writes is ours to remove
    if request.gpu:
        run += ["--gpus", "all"]
    package = _WORKER.parents[2]
    for place, mode in (
        (package, ",readonly"),
        (request.root, ",readonly"),
        (request.model, ",readonly"),
        (folder, ""),
    ):
        run += ["--mount", f"type=bind,source={place},target={place}{mode}"]
    return contained.guarded(docker, name, [*run, "--workdir", str(request.root), request.image, *command[1:]])


def _no_gpu(why: str) -> BadInput:
    fix = "Let its `runs-on` name a runner with a GPU and its driver, or leave `gpu` out"
    return BadInput("This environment must have a GPU, and none is here", why=why, fix=fix)


def _explain(result: dict[str, Any], request: GoldenRequest) -> MlopsError:
    error, facts = result["error"], result["facts"]
    stage, why = error["stage"], f"{error['type']}: {error['message']}".split("\n")[0].rstrip(": .")
    if error["type"] == "NoGpu":
        return _no_gpu(error["message"])
    if error["lacking"]:
        lacking, fix = ", ".join(error["lacking"]), "Give the golden predictions that were written with this model"
        return BadInput("The golden rows are not of this model", why=f"They lack its features {lacking}", fix=fix)
    if error["type"] == "NotLoadable":
        return BadInput(f"The model {request.model.name} cannot be loaded", why=error["message"], fix="Set `predict`")
    fix = ""
    if error["missing"]:
        fix = remedy(error["missing"], request.python)
    now = {name.lower(): version for name, version in facts["packages"].items()}
    if stage.startswith("change "):
        what = f"The model cannot predict the changed rows of the expectation {stage[7:]!r}"
        return DoesNotWork(what, facts, why=why, fix=fix or "Correct its `change`", log=error["traceback"])
    then = [f"{name} {version}" for name, version in result["trained_with"].items()]
    here = [f"Python {facts['python']}", *(f"{n} {now[n]}" for n in ("scikit-learn", "numpy", "joblib") if n in now)]
    why += f". This environment has {', '.join(here)}"
    if then:
        why += f"; the model was saved with {', '.join(then)}"
    what = _HOW.get(stage, f"The model {request.model.name} does not load in this environment")
    rows = "" if stage == "load" else "Check that the golden rows have this model's features, or pin"
    fix = fix or f"{rows or 'Pin'} the version it was trained with, or train it with this one"
    return DoesNotWork(what, facts, why=why, fix=fix, log=error["traceback"])
