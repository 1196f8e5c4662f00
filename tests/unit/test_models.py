"""Models as files: which kind one is, how it is asked, and tensors that fit or do not."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import pickle
import sys
import warnings
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.models import tensors
from mlops_actions.models.checks import check_loadable, code_digest, remedy
from mlops_actions.models.kinds import NotLoadable, detect, kind_of
from mlops_actions.models.predicting import Model, told
from mlops_actions.models.tensors import WrongRequest

PICKLE = pickle.dumps({"any": "thing"}, protocol=4)


def archive(member: str) -> bytes:
    """A ZIP archive as torch writes them: a program has `constants.pkl`, what `torch.save` wrote has not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr(member, PICKLE)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.joblib", b"", "sklearn"),
        ("m.PKL", PICKLE, "sklearn"),
        ("model", PICKLE, "sklearn"),
        ("model", zlib.compress(PICKLE), "sklearn"),
        ("model", gzip.compress(PICKLE, mtime=0), "sklearn"),
        ("m.skops", b"PK", "skops"),
        ("m.json", b'{"learner":{"attributes":{}}', "xgboost"),
        ("m.ubj", b"{L\0\0\0\0\0\0\0\x07learner{", "xgboost"),
        ("model", b'{"learner":{}}', "xgboost"),
        ("m.txt", b"tree\nversion=v4\n", "lightgbm"),
        ("m.cbm", b"CBM1", "catboost"),
        ("m.onnx", b"", "onnx"),
        ("model", b"\x08\x0a\x12\x08skl2onnx", "onnx"),
        ("m.pt", archive("m/constants.pkl"), "torchscript"),
        ("model", archive("archive/constants.pkl"), "torchscript"),
        ("m.pt", archive("m/data.pkl"), ""),
        ("m.safetensors", b"", "safetensors"),
        ("model", (64).to_bytes(8, "little") + b'{"weight":{', "safetensors"),
        ("m.json", b'{"factor": 2}', ""),
        ("m.txt", b"notes\n", ""),
        ("m.pt", PICKLE, ""),
        ("m.bin", PICKLE, ""),
        ("model", b"", ""),
    ],
)
def test_a_file_shows_its_kind(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind


def test_weights_without_code_are_refused_and_with_a_class_of_the_consumer_loaded(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (tmp_path / "net.py").write_text(
        "class Net:\n"
        "    def load(self, path):\n        self.size = len(path.read_bytes())\n"
        "    def predict(self, rows):\n        return [self.size] * len(rows)\n"
    )
    with pytest.raises(BadInput, match="Name a class of yours with `load` and `predict`"):
        check_loadable(tmp_path / "m.safetensors", "", tmp_path)
    assert check_loadable(tmp_path / "m.safetensors", "net.py:Net", tmp_path) == "python"
    assert Model(tmp_path / "m.safetensors", "net.py:Net", tmp_path).ask("predict", [{"x": 1}]) == [10]


def test_of_a_folder_the_one_file_that_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("trained on a Monday")
    (tmp_path / "labels.json").write_text("[1]")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "m.joblib").write_bytes(PICKLE)
    assert detect(tmp_path).path == tmp_path / "inner" / "m.joblib"
    (tmp_path / "scaler.joblib").write_bytes(PICKLE)
    with pytest.raises(NotLoadable, match=r"several of its files could be the model: m\.joblib, scaler\.joblib"):
        detect(tmp_path)
    (tmp_path / "inner" / "MLmodel").write_text("flavors:\n")
    found = detect(tmp_path)
    assert (found.kind.name, found.path) == ("mlflow", tmp_path / "inner")


def test_what_cannot_be_loaded_is_refused_with_what_could_be(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(PICKLE)
    with pytest.raises(BadInput) as raised:
        check_loadable(tmp_path / "m.pt", "", tmp_path)
    for named in ("m.pt", "XGBoost (.json, .ubj)", "MLflow", ".onnx", "`predict: module:name`"):
        assert named in str(raised.value)
    assert check_loadable(tmp_path / "m.pt", "own:Model", tmp_path) == "python"


@pytest.mark.parametrize("content", [b"", b"garbage", b"<html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_called_a_pickle_and_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.joblib").write_bytes(content)
    with pytest.raises(BadInput, match=r"m\.joblib is not a joblib or pickle file: .* Save the model to it again"):
        check_loadable(tmp_path / "m.joblib", "", tmp_path)


@pytest.mark.parametrize("compress", [0, 3, "gzip", "bz2", "lzma", "xz"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 5])
def test_whatever_joblib_and_pickle_write_is_taken(tmp_path: Path, compress: Any, protocol: int) -> None:
    joblib = pytest.importorskip("joblib")
    method = (compress, 3) if isinstance(compress, str) else compress
    for number, value in enumerate((Fraction(1, 3), [1], {"a": 1})):
        joblib.dump(value, tmp_path / f"{number}.joblib", compress=method, protocol=protocol)
        assert check_loadable(tmp_path / f"{number}.joblib", "", tmp_path) == "sklearn"


@pytest.mark.parametrize("predict", ["predict_log", "own.py:load", "own:", "a b:c", ":load"])
def test_a_way_to_ask_that_there_is_not(tmp_path: Path, predict: str) -> None:
    (tmp_path / "m.pkl").write_bytes(PICKLE)
    with pytest.raises(BadInput, match="`predict` is"):
        check_loadable(tmp_path / "m.pkl", predict, tmp_path)


OWN = """
class Adds:
    def load(self, path):
        self.offset = int(path.read_text())

    def predict(self, rows):
        return [row["x"] + self.offset for row in rows]


class Returns:
    @staticmethod
    def load(path):
        made = Adds()
        made.load(path)
        return made


def function(path):
    return lambda rows: [row["x"] * 2 for row in rows]


def gives_an_object(path):
    return Returns.load(path)


def nothing(path):
    return 5
"""


@pytest.mark.parametrize(
    ("name", "score"), [("Adds", [4.0]), ("Returns", [4.0]), ("function", [2.0]), ("gives_an_object", [4.0])]
)
@pytest.mark.parametrize("where", ["own_model", "own_model.py"])
def test_code_of_the_consumer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str, score: list[float]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_model.py").write_text(OWN)
    (tmp_path / "offset").write_text("3")
    model = Model(tmp_path / "offset", f"{where}:{name}", tmp_path)
    assert model.methods == ["predict"]
    assert model.scores([{"x": 1.0}]) == score


def test_code_that_gives_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_model.py").write_text(OWN)
    with pytest.raises(NotLoadable, match=r"own_model\.py:nothing gives a int"):
        Model(tmp_path / "offset", "own_model.py:nothing", tmp_path)


class Estimator:
    def predict(self, rows: Any) -> list[str]:
        return ["yes" if row["x"] > 0 else "no" for row in rows]

    def predict_proba(self, rows: Any) -> list[list[float]]:
        return [[0.25, 0.75] for _ in rows]


def test_a_stated_method_is_asked_and_without_one_the_second_probability(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Estimator()))
    assert Model(tmp_path / "m.pkl").scores([{"x": 1}]) == [0.75]
    assert Model(tmp_path / "m.pkl", "predict").scores([{"x": 1}]) == ["yes"]
    with pytest.raises(NotLoadable, match="has no `decision_function`, only predict, predict_proba"):
        Model(tmp_path / "m.pkl", "decision_function")


def test_the_key_of_finished_work_has_the_code_and_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("A = 1\n")
    before = {code_digest(name, tmp_path) for name in ("own:Model", "own.py:load")}
    (tmp_path / "helper.py").write_text("A = 2\n")
    assert before.isdisjoint({code_digest(name, tmp_path) for name in ("own:Model", "own.py:load")})
    assert code_digest("predict_proba", tmp_path) == ""


def tensor(name: str, datatype: str, *data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), 1], "data": list(data)}


TAKEN = tensors.signature([tensor("a", "INT64", 1), tensor("b", "FP64", 0.5), tensor("c", "BYTES", "x")])


def test_tensors_are_rows_in_the_order_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)  # without it a table is a list
    given = [tensor("c", "BYTES", b"x", None), tensor("a", "INT32", 1, 2), tensor("b", "INT64", 3, None)]
    assert tensors.table(given, TAKEN) == [{"a": 1, "b": 3, "c": "x"}, {"a": 2, "b": None, "c": None}]
    matrix = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1.0, 2.0], [3.0, 4.0]]}
    assert tensors.table([matrix]) == [{"x-0": 1.0, "x-1": 2.0}, {"x-0": 3.0, "x-1": 4.0}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (tensor("a", "UINT8", 256), "'a' is UINT8"),
        (tensor("a", "INT8", -129), "'a' is INT8"),
        (tensor("a", "INT64", True), "'a' is INT64"),
        (tensor("a", "BOOL", True), "has datatype BOOL, and must be INT64"),
        (tensor("c", "BYTES", 5), "'c' is BYTES, which is texts, and has 5"),
        (tensor("c", "BYTES", b"\xff"), "'c' has bytes that are not UTF-8"),
        ({**tensor("a", "INT64", 1), "shape": [1, 1, 1]}, "shape"),
        ({**tensor("a", "INT64", 1), "shape": [-1, -1]}, "shape"),
        ({**tensor("a", "INT64"), "shape": []}, "shape"),
    ],
)
def test_a_tensor_that_does_not_fit(changed: dict[str, Any], said: str) -> None:
    given = {one["name"]: one for one in (tensor("a", "INT64", 1), tensor("b", "FP64", 0.5), tensor("c", "BYTES", "x"))}
    with pytest.raises(WrongRequest, match=said):
        tensors.table(list({**given, changed["name"]: changed}.values()), TAKEN)
    with pytest.raises(WrongRequest, match="twice"):
        tensors.table([*given.values(), changed], TAKEN)


@pytest.mark.parametrize(
    "takes", [lambda rows: rows["a"], lambda rows: rows[["a"]], lambda rows: rows.iloc[:, 0], lambda rows: rows[:1].a]
)
def test_code_that_takes_rows_for_a_table_where_there_is_no_pandas_is_told_so(
    monkeypatch: pytest.MonkeyPatch, takes: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = tensors.table([tensor("a", "INT64", 1, 2)])
    with pytest.raises(tensors.NoPandas, match="because this environment does not have pandas") as raised:
        takes(rows)
    assert told(raised.value)["missing"] == "pandas"
    assert (rows[-1], rows[1:], [*rows], getattr(rows, "columns", 0)) == ({"a": 2}, [{"a": 2}], [{"a": 1}, {"a": 2}], 0)
    assert json.loads(json.dumps(rows)) == copy.deepcopy(rows) == rows


def test_no_rows_and_no_inputs_are_told() -> None:
    with pytest.raises(WrongRequest, match="no rows"):
        tensors.table([tensor("a", "INT64")])
    with pytest.raises(WrongRequest, match="no inputs"):
        tensors.table([])


@pytest.mark.parametrize(
    ("values", "datatype", "shape", "data"),
    [
        ([1, 2], "INT64", [2], [1, 2]),
        ([0.5, math.nan], "FP64", [2], [0.5, None]),
        ([1, 0.5], "FP64", [2], [1, 0.5]),
        ([[0.25, 0.75], [1.0, 0.0]], "FP64", [2, 2], [0.25, 0.75, 1.0, 0.0]),
        ([[1], [2]], "INT64", [2], [1, 2]),
        ([True, False], "BOOL", [2], [True, False]),
        (["late", "early"], "BYTES", [2], ["late", "early"]),
        (["late", 1], "BYTES", [2], ["late", "1"]),
        ([], "BYTES", [0], []),
    ],
)
def test_values_of_a_model_as_a_tensor(values: list[Any], datatype: str, shape: list[int], data: list[Any]) -> None:
    assert tensors.output("o", values) == {"name": "o", "datatype": datatype, "shape": shape, "data": data}


@pytest.mark.parametrize("named", [True, False])
def test_a_model_is_given_names_only_if_it_was_fitted_with_them(tmp_path: Path, named: bool) -> None:
    import joblib
    import polars
    from sklearn.linear_model import LinearRegression

    rows = polars.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 3.0]})
    fitted = LinearRegression().fit(rows if named else rows.to_numpy(), [1.0, 2.0, 5.0])
    joblib.dump(fitted, tmp_path / "m.joblib")
    model = Model(tmp_path / "m.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that names came, or did not come, as they did to `fit`
        assert list(model.ask("predict", rows)) == pytest.approx([1.0, 2.0, 5.0])


def test_a_package_that_an_environment_has_lost_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "installed.txt").write_text("scikit-learn==1.5.0\nnumpy==2.0\n")
    python = tmp_path / "bin" / "python"
    assert remedy("sklearn", python).startswith(f"scikit-learn was installed in {tmp_path} and is gone: remove")
    for module, where in (("lightgbm", python), ("sklearn", "python3"), ("sklearn", "")):
        assert remedy(module, where).startswith("Add ")
