"""Every kind of model, saved by its own library: which kind it is, and that it predicts what it did then."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Run
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.errors import BadInput
from mlops_actions.evaluation import golden
from mlops_actions.evaluation.golden_rows import read_golden
from mlops_actions.models.checks import check_loadable
from mlops_actions.models.kinds import kind_of

PACKAGES = "scikit-learn\npandas\nxgboost-cpu\nlightgbm\ncatboost\nonnxruntime\nskl2onnx\nskops\nmlflow-skinny\n"
TRAIN = """
import os, pathlib, joblib, numpy, pandas
import catboost, lightgbm, mlflow.sklearn, skops.io, xgboost
from skl2onnx import to_onnx
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

r = numpy.random.default_rng(0)
x = pandas.DataFrame({"a": r.normal(size=200), "b": r.normal(size=200), "c": r.integers(0, 5, 200)})
y = (x.a + x.b > 0).astype(int)
rows = x.head(9)

def golden(name, scores, given=rows):
    # the columns in another order, and with the index: as people write it
    given[sorted(given.columns, reverse=True)].assign(score=scores).to_csv(f"{name}.csv")

model = LogisticRegression().fit(x, y)
scores = model.predict_proba(rows)[:, 1]
joblib.dump(model, "sklearn.joblib"); golden("sklearn.joblib", scores)
joblib.dump(model, "compressed", compress=3); golden("compressed", scores)
skops.io.dump(model, "linear.skops"); golden("linear.skops", scores)
mlflow.sklearn.save_model(model, "mlflow", serialization_format="cloudpickle", pip_requirements=[])
golden("mlflow", scores)
for zipmap in (False, True):
    made = to_onnx(model, x.head(1).to_numpy("float32"), options={"zipmap": zipmap})
    pathlib.Path(f"zipmap{zipmap}.onnx").write_bytes(made.SerializeToString())
    rows.assign(score=scores).to_csv(f"zipmap{zipmap}.onnx.csv", index=False)  # one matrix has no names of columns
model = xgboost.XGBClassifier(n_estimators=5).fit(x, y)
for name in ("classifier.json", "classifier.ubj"):
    model.save_model(name); golden(name, model.predict_proba(rows)[:, 1])
model = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(x, y), 5)
model.save_model("booster.json"); golden("booster.json", model.predict(xgboost.DMatrix(rows)))
os.rename("booster.json", "booster"); os.rename("booster.json.csv", "booster.csv")
model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, y)
model.booster_.save_model("lightgbm.txt"); golden("lightgbm.txt", model.predict_proba(rows)[:, 1])
kinds = x.assign(c=x.c.map(dict(enumerate("vwxyz"))).astype("category"))
model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(kinds, x.c)
model.booster_.save_model("categories.txt")
kinds.head(9).assign(score=model.predict(kinds.head(9))).to_parquet("categories.txt.csv")
model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(x, y)
model.save_model("classifier.cbm"); golden("classifier.cbm", model.predict_proba(rows)[:, 1])
model = catboost.CatBoostRegressor(iterations=5, verbose=0, allow_writing_files=False).fit(x, x.a)
model.save_model("regressor.cbm"); golden("regressor.cbm", model.predict(rows))
texts = pandas.Series(["late again", "on time", "very late", "right on time"] * 4, name="text")
model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 4)
for name, number in (("texts.joblib", 6), ("one_text.joblib", 1)):
    joblib.dump(model, name); golden(name, model.predict_proba(texts.head(number))[:, 1], texts.head(number).to_frame())
"""
KINDS = {
    "sklearn.joblib": "sklearn",
    "compressed": "sklearn",
    "texts.joblib": "sklearn",
    "one_text.joblib": "sklearn",
    "linear.skops": "skops",
    "mlflow": "mlflow",
    "zipmapFalse.onnx": "onnx",
    "zipmapTrue.onnx": "onnx",
    "classifier.json": "xgboost",
    "classifier.ubj": "xgboost",
    "booster": "xgboost",
    "lightgbm.txt": "lightgbm",
    "categories.txt": "lightgbm",
    "classifier.cbm": "catboost",
    "regressor.cbm": "catboost",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The Python that has all libraries, and the folder of the models with their golden predictions."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "requirements.txt").write_text(PACKAGES + "pyarrow\n")
    try:
        made = environments.ensure("", environments.cache_folder(), requirements=[folder / "requirements.txt"])
    except EnvironmentFailed as error:
        pytest.skip(f"no libraries of models: {error}")
    subprocess.run([str(made.python), "-c", TRAIN], cwd=folder, check=True)
    return made.python, folder


def request(saved: tuple[Path, Path], name: str, predict: str = "") -> golden.GoldenRequest:
    python, folder = saved
    return golden.GoldenRequest(
        python=python, model=folder / name, golden=read_golden(folder / f"{name}.csv"), predict=predict, root=folder,
        environ=dict(os.environ), tolerance=golden.Tolerance(1e-6, 1e-5), repeats=5, timeout=120.0,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_model_predicts_what_it_did_when_it_was_saved(saved: tuple[Path, Path], name: str, kind: str) -> None:
    assert kind_of(saved[1] / name) == kind
    found = golden.test(request(saved, name))
    assert found.agreement.mismatches == [] and found.rows in (1, 6, 9)


def test_types_that_skops_does_not_trust_are_refused_by_name(saved: tuple[Path, Path]) -> None:
    python, folder = saved
    code = "import skops.io, own; skops.io.dump(own.Own(), 'own.skops')"
    (folder / "own.py").write_text("class Own:\n    def predict(self, rows):\n        return [0] * len(rows)\n")
    subprocess.run([str(python), "-c", code], cwd=folder, check=True)
    asked = request(saved, "linear.skops")
    with pytest.raises(BadInput, match=r"types that skops does not trust: own\.Own"):
        golden.test(golden.GoldenRequest(**{**vars(asked), "model": folder / "own.skops"}))


def test_golden_rows_of_another_model_are_bad_input(saved: tuple[Path, Path]) -> None:
    _, folder = saved
    (folder / "other.csv").write_text("a,x,score\n1.0,2.0,0.5\n")
    asked = replace(request(saved, "sklearn.joblib"), golden=read_golden(folder / "other.csv"))
    with pytest.raises(BadInput, match=r"golden rows are not of this model\. They lack its features b, c"):
        golden.test(asked)


def test_a_missing_library_is_named_with_the_remedy(saved: tuple[Path, Path], tmp_path: Path, mlops: Run) -> None:
    _, folder = saved
    call = ("test-model", "--model-uri", folder / "lightgbm.txt", "--golden", folder / "lightgbm.txt.csv")
    done = mlops(*call, cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'lightgbm'" in done.stderr
    assert "Add lightgbm to the `requirements` that the model is loaded with" in done.stderr


TORCH = """
import csv, torch
from safetensors.torch import save_file

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1), torch.nn.Flatten(0))
x = torch.randn(9, 3)
torch.jit.trace(net, x).save("program.pt")
save_file(net.state_dict(), "weights.safetensors")
for name in ("program.pt", "weights.safetensors"):
    with open(f"{name}.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "c", "score"])
        rows.writerows([*row, score] for row, score in zip(x.tolist(), net(x).tolist()))
"""
OWN_NET = """
import numpy, torch
from safetensors.torch import load_file

class Net:
    def load(self, path):
        parts = torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1), torch.nn.Flatten(0)
        self.net = torch.nn.Sequential(*parts)
        self.net.load_state_dict(load_file(path))

    def predict(self, rows):
        x = rows.to_numpy() if hasattr(rows, "to_numpy") else numpy.asarray([list(row.values()) for row in rows])
        with torch.inference_mode():
            return self.net(torch.from_numpy(x.astype("float32"))).numpy()
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Python that has torch, and the folder with what it saved."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "own_net.py").write_text(OWN_NET)
    for python in (os.environ.get("TORCH_PYTHON", ""), sys.executable, "/usr/bin/python3"):
        if (
            python
            and not subprocess.run([python, "-c", TORCH], cwd=folder, check=False, capture_output=True).returncode
        ):
            return Path(python), folder
    pytest.skip("no torch: set TORCH_PYTHON to a Python that has torch, numpy and safetensors")


@pytest.mark.parametrize(("name", "predict"), [("program.pt", ""), ("weights.safetensors", "own_net.py:Net")])
def test_a_net_of_torch_predicts_what_it_did_when_it_was_saved(
    nets: tuple[Path, Path], name: str, predict: str
) -> None:
    assert kind_of(nets[1] / name) == {"program.pt": "torchscript"}.get(name, "safetensors")
    found = golden.test(request(nets, name, predict))
    assert found.agreement.mismatches == [] and found.rows == 9


def test_weights_alone_are_refused_with_what_they_need(nets: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="predict: module:name"):
        check_loadable(nets[1] / "weights.safetensors", "", nets[1])
