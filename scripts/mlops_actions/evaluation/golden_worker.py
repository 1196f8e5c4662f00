"""Load a model, predict its golden rows and take the time: run by path, in the environment that is under test.

Only the standard library is imported here, and what the model itself needs. `golden_worker.py REQUEST RESULT`: two
JSON files. The request has `model`, `golden`, `score` (column), `hook` (`file.py:function` or ""), `repeats` and
`seconds` (the longest that single rows are timed). The result has `facts` always, and either `predictions`, `expected`
and the times, or `error` with the stage that failed.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import os
import pickle
import platform
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUFFIXES = (".joblib", ".pkl", ".pickle")
INDEX = re.compile(r"|Unnamed: 0|__index_level_\d+__")
"""Names under which pandas writes an index of rows, which is not a feature, to CSV and Parquet."""
WARM_UP = 5
Predict = Callable[[Any], Any]


def main(request_file: str, result_file: str) -> None:
    """Do what the request says; write the result, whatever happens."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"facts": facts()}
    stage = "load"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            began = time.perf_counter()
            predict, features = load(Path(request["model"]), request["hook"])
            result["load_seconds"] = time.perf_counter() - began
            stage = "golden"
            rows, expected = golden(Path(request["golden"]), request["score"], features)
            stage = "predict"
            rows, predictions = asked(predict, rows, len(expected), table_only=bool(request["hook"]))
            result["predictions"], result["expected"] = predictions, expected
        # an estimator repeats what it warns of at each call
        result["warnings"] = list(dict.fromkeys(str(item.message) for item in caught))[:10]
        stage = "latency"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result.update(timed(predict, rows, len(expected), request["repeats"], request["seconds"]))
    except BaseException as error:  # also SystemExit of a hook
        result["error"] = {
            "stage": stage,
            "type": type(error).__name__,
            "message": str(error)[:2000],
            "traceback": traceback.format_exc()[-4000:],
        }
        result["trained_with"] = trained_with(Path(request["model"]))
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def load(model: Path, hook: str) -> tuple[Predict, list[str] | None]:
    """The function from rows to scores, and the names of the features if the model tells them."""
    if hook:
        file, _, name = hook.rpartition(":")
        spec = importlib.util.spec_from_file_location(Path(file).stem, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(file).resolve().parent))
        sys.modules[spec.name] = module  # pickles look for classes of it by name
        spec.loader.exec_module(module)
        return getattr(module, name)(model), None
    estimator = unpickled(model_file(model))
    if not hasattr(estimator, "predict"):
        raise TypeError(f"the model is a {type(estimator).__name__}, which has no predict; set `predict`")
    names = getattr(estimator, "feature_names_in_", None)
    return (lambda rows: scores(estimator, rows)), (None if names is None else [str(name) for name in names])


def model_file(model: Path) -> Path:
    """The file to unpickle: the model itself, or the only one in its folder."""
    if model.is_file():
        return model
    found = sorted(path for path in model.rglob("*") if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(f"the model's folder must have one {', '.join(SUFFIXES)} file; it has {names}")
    return found[0]


def unpickled(file: Path) -> Any:
    """By joblib if it is there (it reads plain pickles too), else by pickle."""
    try:
        import joblib
    except ImportError:
        with file.open("rb") as stream:
            return pickle.load(stream)
    return joblib.load(file)


def scores(estimator: Any, rows: Any) -> Any:
    """The probability of the positive class of a binary classifier, else what it predicts."""
    if hasattr(estimator, "predict_proba"):
        probabilities = estimator.predict_proba(rows)
        if probabilities.shape[1] == 2:
            return probabilities[:, 1]
    return estimator.predict(rows)


def golden(file: Path, score: str, features: list[str] | None) -> tuple[Any, list[Any]]:
    """The golden rows and the expected scores; without pandas, rows of a CSV are dictionaries of texts."""
    try:
        import pandas
    except ImportError:
        if parquet(file):
            raise
        with file.open(newline="", encoding="utf-8") as stream:
            listed = [{k: v for k, v in row.items() if not INDEX.fullmatch(k)} for row in csv.DictReader(stream)]
        return listed, [float(row.pop(score)) for row in listed]
    table = pandas.read_parquet(file) if parquet(file) else pandas.read_csv(file)
    if score not in table.columns:
        raise KeyError(f"the golden file has no column {score!r}; it has {', '.join(map(str, table.columns))}")
    expected = plain(table[score])
    known = [name for name in features or [] if name in table.columns]
    if known and len(known) == len(features or []):
        return table[known], expected
    return table.drop(columns=[score, *(name for name in table.columns if INDEX.fullmatch(str(name)))]), expected


def asked(predict: Predict, rows: Any, count: int, *, table_only: bool) -> tuple[Any, list[Any]]:
    """The rows as the model takes them, and its predictions: a table, or the one column of texts as a series.

    A model of texts (a vectorizer) takes the names of a table's columns for its rows. `table_only`: the model is a
    function of ours to call, which is promised a table.
    """
    ways = [rows]
    if not table_only and getattr(rows, "shape", (0, 0))[1] == 1 and rows.dtypes.iloc[0].kind not in "biufcmM":
        ways.insert(0 if count == 1 else 1, rows.iloc[:, 0])
    failure: Exception | None = None
    found: list[Any] = []
    for way in ways:
        try:
            found = plain(predict(way))
        except Exception as error:
            failure = failure or error
            continue
        if len(found) == count:
            return way, found
    if failure and not found:
        raise failure
    return rows, found


def parquet(file: Path) -> bool:
    """Whether it is Parquet, by its first bytes: a pipeline's artifacts have no extension."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def timed(predict: Predict, rows: Any, count: int, repeats: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of single-row predictions, in order, and rows a second of all rows at once (the best of three)."""
    single = [rows.iloc[i : i + 1] if hasattr(rows, "iloc") else rows[i : i + 1] for i in range(min(count, repeats))]
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


def plain(values: Any) -> list[Any]:
    """An array, series or list as a list of numbers or texts."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    while listed and isinstance(listed[0], list) and len(listed[0]) == 1:
        listed = [item[0] for item in listed]
    return [item if isinstance(item, (int, float)) and not isinstance(item, bool) else
            float(item) if isinstance(item, bool) else str(item) for item in listed]  # fmt: skip


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
    try:
        data = model_file(model).read_bytes()
    except OSError:
        return {}
    found = re.search(rb"_sklearn_version\W{1,12}?(\d+\.\d+[.\w]*)", data)
    return {"scikit-learn": found.group(1).decode()} if found else {}


if __name__ == "__main__":
    main(*sys.argv[1:])
