"""deploy-model on this machine: kinds of models, what requests get, the consumer's code. See also test_rollouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import MLOPS
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.registry.signing import pen_of_key, sign
from mlops_actions.serving.process import running
from mlops_actions.stores.store import Store, blob_path
from rollouts import with_usual
from workspaces import workspace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="models are served on Linux and macOS")
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TRAIN = """
import sys, joblib, numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

folder, r = sys.argv[1], numpy.random.default_rng(0)
hours, wind = r.integers(0, 24, 200), r.normal(size=200)
x = pandas.DataFrame({"carrier": r.choice(["UA", "AA"], 200), "hour": hours, "wind": wind})
y = (x.hour / 24 + r.random(200) > 1).astype(int)
columns = make_column_transformer((OneHotEncoder(), ["carrier"]), ("passthrough", ["hour", "wind"]))
for version, strength in ((1, 1.0), (2, 0.01)):
    model = make_pipeline(columns, LogisticRegression(C=strength, max_iter=500)).fit(x, y)
    joblib.dump(model, f"{folder}/{version}.joblib")
    x.head(8).assign(score=model.predict_proba(x.head(8))[:, 1]).to_csv(f"{folder}/{version}.csv", index=False)
model = make_pipeline(columns, LinearRegression()).fit(x, x.hour * 2.0)
joblib.dump(model, f"{folder}/regression.joblib")
x.head(8).assign(score=model.predict(x.head(8))).to_csv(f"{folder}/regression.csv", index=False)
names = numpy.array(["early", "on time", "late"])
model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(x, names[x.hour % 3])
joblib.dump(model, f"{folder}/classes.joblib")
x.head(8).assign(score=model.predict(x.head(8))).to_csv(f"{folder}/classes.csv", index=False)
texts = pandas.Series(["late again", "on time", "very late", "right on time"] * 4, name="text")
model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 4)
joblib.dump(model, f"{folder}/texts.joblib")
golden = texts.head(6).to_frame().assign(score=model.predict_proba(texts.head(6))[:, 1])
golden.to_csv(f"{folder}/texts.csv")  # with the index, as pandas writes it unless told otherwise
"""
OWN = """
class Adder:
    def load(self, path):
        self.offset = int(path.read_text())

    def predict(self, rows):
        if (rows["hour"] == 23).any():
            raise ZeroDivisionError("at 23")
        return rows["hour"] + self.offset
"""


@dataclass
class World:
    """A registry with versions: 1 and 2 are good, 3 is no model, 4 has another model's golden scores,
    5 is a regression, 6 tells three classes by name, 7 reads one column of texts, 8 is a number that code of the
    consumer's adds to `hour`."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def deploy(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Call the action: exit code, outputs, log."""
        done = self.start(*arguments)
        out, err = done.communicate(timeout=120)
        return done.returncode, json.loads(out or "{}"), err

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        # what is served was not evaluated, and there is load by other models
        usual = {"--requirements": "requirements.txt", "--requires": "[]", "--max-slowdown": "50"}
        command = [str(MLOPS), "deploy-model", "--model", "flights", "--json", *with_usual(arguments, usual)]
        return subprocess.Popen(
            command, env=self.environ, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    @property
    def state(self) -> Path:
        """Where the servers' state is."""
        return next((self.folder / "home" / "serving").glob("flights-*"))

    @property
    def servers(self) -> set[int]:
        """The processes that serve."""
        found = [running(folder) for folder in (self.state / "releases").glob("*")]
        return {server.pid for server in found if server}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("deploy")
    try:
        (folder / "requirements.txt").write_text("scikit-learn\npandas\n")
        serving = environments.ensure(
            "serving", environments.cache_folder(), requirements=[folder / "requirements.txt"]
        )
    except EnvironmentFailed as error:
        pytest.skip(f"no model server: {error}")
    subprocess.run([str(serving.python), "-c", TRAIN, str(folder)], check=True)
    (folder / "broken.joblib").write_bytes(b"\x80\x04.")  # a pickle without a value
    url = (folder / "store").as_uri()
    registry = Registry(Store(url))
    for model, golden in (
        ("1", "1"),
        ("2", "2"),
        ("broken", "2"),
        ("1", "2"),
        ("regression", "regression"),
        ("classes", "classes"),
        ("texts", "texts"),
    ):
        # the digest is the identity: version 4 has the bytes of version 1, so it gets a tag file beside them
        path = folder / f"{model}.joblib"
        if (model, golden) == ("1", "2"):
            (folder / "four").mkdir()
            path = folder / "four"
            (path / "model.joblib").write_bytes((folder / "1.joblib").read_bytes())
            (path / "note.txt").write_text("the golden scores are another model's")
        register(registry, Registration("flights", path, golden=folder / f"{golden}.csv"))
    (folder / "own.py").write_text(OWN)
    (folder / "offset.json").write_text("3")
    (folder / "own.csv").write_text("carrier,hour,wind,score\nUA,1,0.5,4\nAA,2,0.5,5\n")
    register(registry, Registration("flights", folder / "offset.json", golden=folder / "own.csv"))
    assert registry.versions("flights") == [1, 2, 3, 4, 5, 6, 7, 8]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_", "MLOPS_"))}
    cache = {"MLOPS_CACHE": os.environ["MLOPS_CACHE"]} if "MLOPS_CACHE" in os.environ else {}
    made = World(folder, {**kept, **cache, "MLOPS_STORE": url, "MLOPS_HOME": str(folder / "home")})
    yield made
    made.deploy("--stop")
    assert not made.servers


@pytest.fixture
def first(world: World) -> World:
    """Version 1 serves."""
    code, outputs, log = world.deploy("--version", "1")
    assert (code, outputs["version"]) == (0, 1), log
    return world


def test_version_serves_and_is_then_found_serving(first: World) -> None:
    code, outputs, log = first.deploy("--version", "1")
    assert code == 0, log
    assert "already serves" in log and "8 golden predictions were right" in log
    asked = subprocess.run(outputs["curl"], shell=True, capture_output=True, text=True, check=True)
    golden = (first.folder / "1.csv").read_text().splitlines()[1].split(",")
    answer = json.loads(asked.stdout)["outputs"][0]
    assert answer["name"] == "predict_proba" and answer["data"][1] == pytest.approx(float(golden[-1]))


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("3", "version 3 cannot be loaded: IndexError: pop from empty list"),
        ("3", "Traceback (most recent call last)"),
        ("4", "8 of 8 golden predictions differ: row "),
    ],
)
def test_version_that_fails_is_rolled_back(first: World, version: str, reason: str) -> None:
    _, outputs, _ = first.deploy("--version", "1")
    before = first.servers
    code, after, log = first.deploy("--version", version)
    assert code == 1
    assert reason in log and "version 1 serves as before" in log
    assert (after["version"], after["rolled-back"], after["url"]) == (1, True, outputs["url"])
    assert first.servers and first.servers <= before


def test_a_version_that_was_not_judged_does_not_serve_unless_nothing_is_required(first: World) -> None:
    before = first.servers
    command = [str(MLOPS), "deploy-model", "--model", "flights", "--version", "2", "--json"]
    done = subprocess.run(command, env=first.environ, cwd=first.folder, text=True, capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["version"]) == (1, 1), done.stderr
    assert "Version 2 of flights may not be deployed: evaluate-model: " in done.stderr
    assert first.servers == before


def test_what_is_not_signed_as_the_policy_asks_does_not_serve(first: World) -> None:
    make = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl ec -in key.pem -pubout -out key.pub"
    subprocess.run(make, shell=True, cwd=first.folder, check=True, capture_output=True)
    (first.folder / "policy.yaml").write_text("requires: []\nsigned-by: [{key: key.pub}]\n")
    first.deploy("--version", "2")
    before = first.servers
    code, outputs, log = first.deploy("--version", "1", "--policy", "policy.yaml")
    assert code == 1 and "Version 1 of flights may not be deployed: signature: it is not signed" in log, log
    assert (outputs["version"], outputs["rolled-back"]) == (2, False)
    code, _, log = first.deploy("--rollback", "--policy", "policy.yaml")
    assert code == 1 and "Version 1 of flights may not serve: signature: it is not signed" in log, log
    assert first.servers and first.servers <= before, "that of the version before may still end"

    made = replace(workspace(first.folder, store=first.environ["MLOPS_STORE"]), cache=environments.cache_folder())
    registry = Registry(made.store)
    sign(registry, registry.manifest("flights", 1), made, pen_of_key((first.folder / "key.pem").read_text()))
    code, outputs, log = first.deploy("--rollback", "--policy", "policy.yaml")
    assert (code, outputs["version"]) == (0, 1), log

    sign(registry, registry.manifest("flights", 2), made, pen_of_key((first.folder / "key.pem").read_text()))
    path = blob_path(registry.manifest("flights", 2).files[0].digest)
    kept, before = registry.store.get(path), first.servers
    registry.store.put(path, b"x" * len(kept))
    for how in (("--version", "2"), ("--rollback", "--version", "2")):
        code, _, log = first.deploy(*how, "--policy", "policy.yaml")
        assert code == 1 and "was changed in the store: expected sha256:" in log, log
        assert first.servers and first.servers <= before, "that of the version before may still end"
    registry.store.put(path, kept)


@pytest.mark.parametrize("version", ["5", "6"])
def test_regression_and_classes_by_name_are_asked_for_the_prediction(first: World, version: str) -> None:
    code, outputs, log = first.deploy("--version", version)
    assert code == 0, log
    assert "8 golden predictions were right" in log
    assert '"name": "predict"' in Path(outputs["curl"].partition("@")[2].split()[0]).read_text()


def test_a_model_of_texts_is_asked_with_texts_and_an_index_is_no_feature(first: World) -> None:
    code, outputs, log = first.deploy("--version", "7")
    assert code == 0, log
    assert "6 golden predictions were right" in log
    request = json.loads(Path(outputs["curl"].partition("@")[2].split()[0]).read_text())
    assert [tensor["name"] for tensor in request["inputs"]] == ["text"]


def test_a_method_that_is_named_is_the_only_output(first: World) -> None:
    code, _, log = first.deploy("--version", "1", "--predict", "decision_function")
    assert code == 1 and "8 of 8 golden predictions differ" in log
    code, outputs, log = first.deploy("--version", "6", "--predict", "predict")
    assert code == 0, log
    assert [one["name"] for one in get(outputs["url"])["outputs"]] == ["predict"]


def get(url: str) -> Any:
    with OPEN.open(url, timeout=20) as response:
        return json.loads(response.read())


def test_the_metadata_has_inputs_and_outputs_with_datatypes_and_shapes(first: World) -> None:
    _, outputs, _ = first.deploy("--version", "1")
    found = get(outputs["url"])
    assert (found["name"], found["versions"]) == ("flights", ["1"])
    tensors = {one["name"]: (one["datatype"], one["shape"]) for one in found["inputs"] + found["outputs"]}
    assert tensors == {
        "carrier": ("BYTES", [-1, 1]), "hour": ("INT64", [-1, 1]), "wind": ("FP64", [-1, 1]),
        "predict": ("INT64", [-1]), "predict_proba": ("FP64", [-1, 2]), "decision_function": ("FP64", [-1]),
    }  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    """A request of one row; a change of a tensor, or None for one that is left out."""
    columns = {"carrier": ("BYTES", "UA"), "hour": ("INT64", 5), "wind": ("FP64", 0.5)}
    tensors = {
        name: {"name": name, "datatype": datatype, "shape": [1, 1], "data": [value]}
        for name, (datatype, value) in columns.items()
    }
    changed = {name: {**tensors.get(name, {"name": name}), **(new or {})} for name, new in changes.items()}
    left_out = [name for name, new in changes.items() if new is None]
    return {"inputs": [one for name, one in {**tensors, **changed}.items() if name not in left_out]}


def ask(url: str, request: Any) -> tuple[int, str]:
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    asked = urllib.request.Request(f"{url}/infer", data, {"Content-Type": "application/json"})
    try:
        with OPEN.open(asked, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


WRONG = [
    (row(wind=None), "misses inputs: wind. The model takes carrier, hour, wind"),
    (row(rain={"datatype": "FP64", "shape": [1, 1], "data": [1.0]}), "has unknown inputs: rain"),
    (row(carrier={"datatype": "INT64", "data": [5]}), "'carrier' has datatype INT64, and must be BYTES"),
    (row(hour={"datatype": "FP64"}), "'hour' has datatype FP64, and must be INT64"),
    (row(wind={"data": ["windy"]}), "'wind' is FP64, which is numbers, and has 'windy'"),
    (row(hour={"data": [1.5]}), "'hour' is INT64, which is whole numbers, and has 1.5"),
    (row(wind={"shape": [1, 2], "data": [1.0, 2.0]}), "'wind' has shape [1, 2], and must be [-1, 1]"),
    (row(wind={"shape": [2, 1]}), "'wind' has shape [2, 1] and 1 values"),
    (row(wind={"shape": [2, 1], "data": [1.0, 2.0]}), "different numbers of rows"),
    (row(wind={"data": [None]}), "ValueError: Input X contains NaN"),
    (row(carrier={"data": ["ZZ"]}), "Found unknown categories ['ZZ']"),
    ({**row(), "outputs": [{"name": "logits"}]}, "no output 'logits', only predict, predict_proba"),
    (row(wind={"datatype": "FP128"}), "FP128"),
    (row(wind={"data": 5}), "the data of input 'wind' is 5, and must be a list"),
    (row(carrier={"data": "UA"}), "must be a list"),
    (row(carrier={"data": [{"a": 1}]}), "'carrier' is BYTES, which is texts"),
    ({"inputs": []}, "misses inputs: carrier, hour, wind"),
    ({"inputs": 5}, "inputs"),
    ([], "the body is a list, and must be an object"),
    (b"{not JSON", "JSON"),
    (b"", "the body is not JSON: Input is a zero-length, empty document"),
]


def test_a_wrong_request_is_refused_with_the_reason(first: World) -> None:
    _, outputs, _ = first.deploy("--version", "1")
    code, text = ask(outputs["url"], row())
    assert code == 200 and {one["name"] for one in json.loads(text)["outputs"]} == {
        "predict", "predict_proba", "decision_function"
    }  # fmt: skip
    for request, reason in WRONG:
        code, text = ask(outputs["url"], request)
        assert 400 <= code < 500, (request, code, text)
        assert reason in text.replace("\\n", "\n"), (request, text)


def test_code_of_the_consumer_is_served_and_tells_its_failure(first: World) -> None:
    code, outputs, log = first.deploy("--version", "8")
    assert code == 2 and "The model offset.json cannot be loaded" in log and "LightGBM (.txt)" in log
    code, outputs, log = first.deploy("--version", "8", "--predict", "own:Adder")
    assert code == 0, log
    assert "2 golden predictions were right" in log
    code, text = ask(outputs["url"], row(hour={"data": [23]}))
    assert (code, json.loads(text)) == (500, {"error": "The model failed. ZeroDivisionError: at 23"})
    before = first.servers
    (first.folder / "own.py").write_text(OWN.replace("+ self.offset", "- self.offset"))
    code, _, log = first.deploy("--version", "8", "--predict", "own:Adder")
    assert code == 1 and "2 of 2 golden predictions differ" in log and first.servers and first.servers <= before
    (first.folder / "own.py").write_text(OWN)


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        ("__import__('os').abort()", "version 8 cannot be loaded: the server ended with exit code -6"),
        ("len(rows) > 1 and __import__('os').abort()", "the server ended while it was asked"),
    ],
)
def test_a_model_that_crashes_leaves_the_old_one_and_tells_where(first: World, crash: str, reason: str) -> None:
    (first.folder / "own.py").write_text(OWN.replace("if (rows", f"{crash}\n        if (rows"))
    code, outputs, log = first.deploy("--version", "8", "--predict", "own:Adder")
    (first.folder / "own.py").write_text(OWN)
    assert (code, outputs["version"]) == (1, 1) and f"{reason}; version 1 serves as before" in log
    assert "Fatal Python error: Aborted" in log and "own.py" in log


def test_a_library_that_the_model_misses_is_named_with_the_remedy(world: World) -> None:
    world.deploy("--stop")
    (world.folder / "bare.txt").write_text("pandas\n")
    code, outputs, log = world.deploy("--version", "1", "--requirements", "bare.txt")
    assert code == 1 and outputs["version"] is None, log
    assert "version 1 cannot be loaded: ModuleNotFoundError: No module named 'sklearn'" in log
    assert "Add scikit-learn to the `requirements`" in log and "Traceback (most recent call last)" in log


def test_stop(world: World) -> None:
    world.deploy("--version", "1")
    assert len(world.servers) == 1
    code, outputs, log = world.deploy("--stop")
    assert code == 0 and outputs["previous-version"] == 1 and "Version 1 of flights was stopped" in log
    assert not world.servers
    code, _, log = world.deploy("--stop")
    assert code == 0 and "Nothing served flights" in log


def test_alias_that_does_not_exist(world: World) -> None:
    code, _, log = world.deploy("--version", "champion")
    assert code == 2 and "has no alias 'champion'" in log
