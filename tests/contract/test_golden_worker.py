"""Golden predictions: a model loaded by another process, with what goes wrong there."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.errors import Rejected, RemoteFailed
from mlops_actions.evaluation import golden
from mlops_actions.evaluation.golden_rows import read_golden
from mlops_actions.processes.identity import Identity
from mlops_actions.waiting import wait_until

MODEL = '''
class Doubler:
    """A model that is unpickled, as any other."""

    def predict(self, rows):
        return [2 * float(row["x"]) for row in rows]


def load(path):
    import json
    factor = json.loads(path.read_text())["factor"]
    return lambda rows: [factor * float(row["x"]) for row in rows]
'''


ONLY_X = """
def load(path):
    def predict(rows):
        names = list(rows.columns) if hasattr(rows, "columns") else list(rows[0])
        assert names == ["x"], names
        values = rows["x"] if hasattr(rows, "columns") else [row["x"] for row in rows]
        return [2 * float(value) for value in values]
    return predict
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(MODEL)
    (tmp_path / "model.json").write_text('{"factor": 2}')
    (tmp_path / "golden.csv").write_text("x,score\n1,2\n2,4\n3.5,7\n")
    return tmp_path


def request(folder: Path, **changes: Any) -> golden.GoldenRequest:
    values: dict[str, Any] = {
        "python": Path(sys.executable), "model": folder / "model.json",
        "golden": read_golden(folder / "golden.csv"), "predict": "hooks.py:load", "root": folder,
        "environ": dict(os.environ), "tolerance": golden.Tolerance(), "repeats": 20, "timeout": 60.0,
    }  # fmt: skip
    (folder / "hooks.py").write_text(MODEL)
    return golden.GoldenRequest(**{**values, **changes})


def test_a_model_that_agrees(folder: Path) -> None:
    found = golden.test(request(folder))
    assert (found.rows, found.agreement.mismatches, found.agreement.worst) == (3, [], 0.0)
    assert 0 < found.p50 <= found.p95
    assert found.throughput > 0
    assert found.facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found.facts["cores"] >= 1 and found.facts["cpu"] and "polars" in found.facts["packages"]


def test_nothing_is_left_in_the_consumers_folder(folder: Path) -> None:
    asked = request(folder)
    (folder / "beside.py").write_text("FACTOR = 2\n")
    (folder / "hooks.py").write_text(f"import beside\n{MODEL}")
    assert golden.test(asked).agreement.mismatches == []
    assert not (folder / "__pycache__").exists()


def test_rows_out_of_tolerance_are_named_the_worst_first(folder: Path) -> None:
    (folder / "golden.csv").write_text("x,score\n1,2.00001\n2,4.5\n3.5,17\n")
    found = golden.test(request(folder))
    assert found.agreement.mismatches == [(3, 17.0, 7.0), (2, 4.5, 4.0)]
    assert found.agreement.worst == 10
    assert golden.test(request(folder, tolerance=golden.Tolerance(0.5, 0.6))).agreement.mismatches == []


def test_a_pickle_in_a_folder_is_loaded_without_a_hook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "doubler_module.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(folder))
    doubler = importlib.import_module("doubler_module")
    (folder / "model").mkdir()
    (folder / "model" / "m.pkl").write_bytes(pickle.dumps(doubler.Doubler()))
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    assert golden.test(request(folder, predict="", model=folder / "model", environ=environ)).agreement.mismatches == []
    with pytest.raises(golden.DoesNotWork) as raised:
        golden.test(request(folder, predict="", model=folder / "model"))
    assert "ModuleNotFoundError: No module named 'doubler_module'" in str(raised.value)
    assert "Add doubler_module to the `requirements`" in raised.value.fix and raised.value.facts["python"]


def test_changed_rows_that_cannot_be_predicted_are_those_of_an_expectation(folder: Path) -> None:
    changed = {"it": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [None]}]}
    words = "The model cannot predict the changed rows of the expectation 'it'. TypeError: .*Correct its `change`"
    with pytest.raises(golden.DoesNotWork, match=words):
        golden.test(request(folder, changed=changed))


def test_the_version_that_a_scikit_learn_model_was_saved_with_is_told(folder: Path) -> None:
    state = b"\x80\x04cgone_module\nGone\n\x8c\x10_sklearn_version\x94\x8c\x051.7.2\x94."
    (folder / "m.pkl").write_bytes(state)
    with pytest.raises(golden.DoesNotWork, match=r"saved with scikit-learn 1\.7\.2"):
        golden.test(request(folder, predict="", model=folder / "m.pkl"))


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("def load(path): raise ValueError('bad bytes')", golden.DoesNotWork, "does not load .* ValueError"),
        ("def load(path): return lambda rows: 1 / 0", golden.DoesNotWork, "cannot predict .* ZeroDivision"),
        ("def load(path): return lambda rows: [1.0]", golden.DoesNotWork, "1 predictions for 3 golden rows"),
        ("import os\ndef load(path): os._exit(9)", RemoteFailed, "exit code 9"),
        ("import sys\ndef load(path): sys.exit('no licence')", golden.DoesNotWork, "no licence"),
        ("def load(path): return lambda rows: [[1.0, 2.0]] * len(rows)", golden.DoesNotWork, "6 predictions for 3"),
        ("def load(path): return lambda rows: None", golden.DoesNotWork, "cannot predict .* TypeError"),
        ("class M:\n def predict(self, rows): return rows['x']\ndef load(path): return M()",
         golden.DoesNotWork, "does not have pandas.* Add pandas to the `requirements`"),
        ("def load(path): return lambda rows: [rows[0]['y']]", golden.DoesNotWork, "cannot predict .* KeyError: 'y'"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said(folder: Path, code: str, kind: type[Exception], words: str) -> None:
    asked = request(folder)
    (folder / "hooks.py").write_text(code)
    with pytest.raises(kind, match=words):
        golden.test(asked)


def test_what_pandas_writes_as_an_index_is_not_a_feature(folder: Path) -> None:
    (folder / "golden.csv").write_text("Unnamed: 0,x,score\n0,1,2\n1,2,4\n")
    asked = request(folder)
    (folder / "hooks.py").write_text(ONLY_X)
    assert golden.test(asked).agreement.mismatches == []


def test_nan_where_a_number_is_expected_is_a_mismatch(folder: Path) -> None:
    asked = request(folder, tolerance=golden.Tolerance(1e9))
    (folder / "hooks.py").write_text("def load(path): return lambda rows: [float('nan')] * len(rows)")
    assert len(golden.test(asked).agreement.mismatches) == 3


HANGS = """
import json, os, subprocess, sys, time
def load(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    path.with_name("pids").write_text(json.dumps([os.getpid(), child.pid]))
    time.sleep(600)
"""


def gone(folder: Path) -> bool:
    pids = json.loads((folder / "pids").read_text())
    return wait_until(lambda: not any(Identity.of(pid).alive for pid in pids), 30)


@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_a_model_that_hangs_is_ended_with_all_that_it_started(folder: Path) -> None:
    asked = request(folder, timeout=10.0)
    (folder / "hooks.py").write_text(HANGS)
    with pytest.raises(Rejected, match="did not finish within 10 s"):
        golden.test(asked)
    assert gone(folder)


@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_a_cancel_ends_the_process(folder: Path) -> None:
    asked = request(folder)
    (folder / "hooks.py").write_text(HANGS)

    def cancel() -> None:
        while not (folder / "pids").exists() or not (folder / "pids").read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        golden.test(asked)
    assert gone(folder)
