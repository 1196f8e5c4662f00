"""Golden rows as requests, scores from answers, and processes that are told from strangers."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from mlops_actions.errors import BadInput
from mlops_actions.evaluation.golden_rows import read_golden
from mlops_actions.models.tensors import rows_of
from mlops_actions.serving.engine import Release, folder_of
from mlops_actions.serving.local import State
from mlops_actions.serving.process import free_port, is_free, running
from mlops_actions.serving.protocol import Client, Refused, Reply, body, score
from mlops_actions.serving.served import ServedRelease, read_release, write_release
from mlops_actions.serving.server.model import FAILURE, ServedModel
from mlops_actions.stores.digests import tree_digest
from mlops_actions.waiting import wait_until
from workspaces import workspace

posix = pytest.mark.skipif(sys.platform == "win32", reason="the engine local does not run on Windows")


def test_every_kind_of_column_becomes_a_tensor(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "carrier": ["UA", None, "B6"],
            "hour": pl.Series([1, 2, 3], dtype=pl.Int32),
            "gap": [1, None, 3],
            "wind": [0.5, math.nan, None],
            "rain": [True, False, True],
            "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "at": [datetime(2013, 1, 1, 5), datetime(2013, 1, 2), datetime(2013, 1, 3)],
            "score": [0.1, 0.2, 0.3],
        }
    )
    frame.write_parquet(tmp_path / "golden")
    golden = read_golden(tmp_path / "golden")
    assert golden.scores == [0.1, 0.2, 0.3]
    found = {tensor["name"]: (tensor["datatype"], tensor["data"]) for tensor in golden.inputs}
    assert found == {
        "carrier": ("BYTES", ["UA", None, "B6"]),
        "hour": ("INT32", [1, 2, 3]),
        "gap": ("FP64", [1.0, None, 3.0]),
        "wind": ("FP64", [0.5, None, None]),
        "rain": ("BOOL", [True, False, True]),
        "kind": ("BYTES", ["a", "b", "a"]),
        "at": ("BYTES", ["2013-01-01T05:00:00.000000", "2013-01-02T00:00:00.000000", "2013-01-03T00:00:00.000000"]),
    }
    assert {tensor["shape"][0] for tensor in golden.inputs} == {3}
    json.dumps(body(golden.inputs, "predict"), allow_nan=False)


def test_a_file_without_a_suffix_is_told_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "golden").write_text("x,score\n1,0.5\n2,0.6\n")
    assert read_golden(tmp_path / "golden").inputs[0]["data"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n", "has no column 'score'. It has: x, y"),
        ("x,score\n1,\n", "golden.csv has 1 row without score (row 1)"),
        ("x,score\n1,2\n2,3\n3,\n", "golden.csv has 1 row without score (row 3)"),
        ("x,score\n1,a\n2,\n3,\n", "golden.csv has 2 rows without score (rows 2, 3)"),
        ("x,score\n" + "1,\n" * 9, "golden.csv has 9 rows without score (rows 1, 2, 3, 4, 5, …)"),
        ("x,score\n", "has no rows"),
    ],
)
def test_golden_file_that_cannot_be_asked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "golden.csv").write_text(text)
    with pytest.raises(BadInput) as raised:
        read_golden(tmp_path / "golden.csv")
    assert said in str(raised.value)


def test_column_that_the_protocol_does_not_have(tmp_path: Path) -> None:
    pl.DataFrame({"x": [{"a": 1}], "score": [0.1]}).write_parquet(tmp_path / "golden.parquet")
    with pytest.raises(BadInput, match="column 'x' of the golden file is of type Struct"):
        read_golden(tmp_path / "golden.parquet")


def test_images_are_tensors_of_more_dimensions(tmp_path: Path) -> None:
    images = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    frame = pl.DataFrame({"image": pl.Series(images, dtype=pl.List(pl.List(pl.UInt8))), "score": ["cat", "dog"]})
    frame.write_parquet(tmp_path / "golden")
    golden = read_golden(tmp_path / "golden")
    assert golden.inputs == [{"name": "image", "datatype": "UINT8", "shape": [2, 2, 3], "data": list(range(1, 13))}]
    assert rows_of(golden.inputs, 1, 2) == [
        {"name": "image", "datatype": "UINT8", "shape": [1, 2, 3], "data": list(range(7, 13))}
    ]
    frame = frame.with_columns(image=pl.Series([[[1]], [[1], [2]]]))
    frame.write_parquet(tmp_path / "uneven")
    with pytest.raises(BadInput, match="'image' of the golden file has lists of different lengths"):
        read_golden(tmp_path / "uneven")


def test_some_rows_of_a_request() -> None:
    inputs = [{"name": "x", "datatype": "INT64", "shape": [3, 1], "data": [1, 2, 3]}]
    assert rows_of(inputs, 1, 3) == [{"name": "x", "datatype": "INT64", "shape": [2, 1], "data": [2, 3]}]


@pytest.mark.parametrize(("answer", "expected"), [([0.3, 0.7], 0.7), (2.5, 2.5), ("late", "late")])
def test_score_of_an_answer(answer: object, expected: object) -> None:
    assert score(answer, "predict_proba" if isinstance(answer, list) else "predict") == expected


@pytest.mark.parametrize(("answer", "output"), [([1.0, 1.0], "predict"), ([0.1, 0.2, 0.7], "predict_proba"), ([], "x")])
def test_several_values_for_a_row_are_not_a_score(answer: object, output: str) -> None:
    with pytest.raises(Refused, match=r"values? for each row, and a golden score is one"):
        score(answer, output)


@dataclass
class Sends:
    """A server that sends one response to all."""

    response: object
    url: str = "http://m"

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        return Reply(200, {}, json.dumps(self.response).encode())


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ([], "has no outputs"),
        ({"outputs": []}, "has no outputs"),
        ({"outputs": [{"name": "predict"}]}, "has no data, or no shape"),
        ({"outputs": [{"name": "predict", "shape": [], "data": [1.0]}]}, "has no data, or no shape"),
        ({"outputs": [{"name": "predict", "shape": [2], "data": [1.0]}]}, r"predict has the shape \[2\] and 1 value"),
    ],
)
def test_a_response_that_is_not_the_protocols_is_refused(response: object, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Client("m", Sends(response)).infer([], "predict")


def test_what_pandas_writes_as_an_index_is_not_a_feature(tmp_path: Path) -> None:
    text = "Unnamed: 0,,__index_level_0__,x,score\n0,0,0,1,0.5\n1,1,1,2,0.6\n"
    (tmp_path / "golden.csv").write_text(text)
    assert [tensor["name"] for tensor in read_golden(tmp_path / "golden.csv").inputs] == ["x"]


def test_a_named_index_in_pandas_metadata_is_not_a_feature(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [7, 8], "x": [1, 2], "score": [0.1, 0.2]})
    metadata = {"pandas": json.dumps({"index_columns": ["id"]})}
    frame.write_parquet(tmp_path / "golden", metadata=metadata)
    assert [tensor["name"] for tensor in read_golden(tmp_path / "golden").inputs] == ["x"]


def test_empty_cells_are_read_as_pandas_reads_them(tmp_path: Path) -> None:
    (tmp_path / "golden.csv").write_text("x,carrier,score\n1,UA,0.5\nNA,NA,0.25\n")
    golden = read_golden(tmp_path / "golden.csv")
    assert [tensor["data"] for tensor in golden.inputs] == [[1.0, None], ["UA", None]]
    assert golden.scores == [0.5, 0.25]


@posix
@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', '{"pid": 999999999, "started": "x", "port": 1}']
)
def test_damaged_or_stale_process_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    assert running(tmp_path) is None


def test_ports() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not is_free("127.0.0.1", taken.getsockname()[1])
    assert is_free("127.0.0.1", free_port("127.0.0.1"))


def test_waiting_ends_with_the_answer_and_at_the_limit() -> None:
    asked: list[int] = []
    assert wait_until(lambda: asked.append(1) or len(asked) == 3, 60)  # type: ignore[func-returns-value]
    assert len(asked) == 3
    assert not wait_until(lambda: False, 0.1)


@posix
def test_address_to_ask_of_a_server_that_listens_everywhere() -> None:
    assert State(host="0.0.0.0", port=80).url == "http://127.0.0.1:80"
    assert State(host="::", port=80).url == "http://[::1]:80"


def test_a_release_is_read_as_it_was_written(tmp_path: Path) -> None:
    release = Release(
        name="m", version=3, digest="sha256:1", kind="sklearn", model=tmp_path / "elsewhere", predict="own.py:M",
        root=tmp_path, code="sha256:2", example=[{"name": "x"}], lock="numpy==2.0", python=Path("python"),
    )  # fmt: skip
    write_release(tmp_path / "r", release, "model/m.joblib", "code")
    found = read_release(tmp_path / "r")
    assert (found.id, found.model, found.root) == (release.id, tmp_path / "r/model/m.joblib", tmp_path / "r/code")
    assert found.example == [{"name": "x"}] and [path.name for path in (tmp_path / "r").iterdir()] == ["release.json"]
    write_release(tmp_path / "r", release, str(tmp_path / "m.joblib"), str(tmp_path))
    assert read_release(tmp_path / "r").model == tmp_path / "m.joblib"
    (tmp_path / "r" / "release.json").write_text('{"id": "x"}')
    with pytest.raises(ValueError, match="is not the file of a release"):
        read_release(tmp_path / "r")


def test_models_of_one_name_in_two_stores_are_served_apart(tmp_path: Path) -> None:
    folders = {folder_of(workspace(tmp_path, store=(tmp_path / name).as_uri()), "flights") for name in ("a", "b")}
    assert len(folders) == 2


def test_a_model_that_is_not_the_one_to_be_served_is_not_loaded(tmp_path: Path) -> None:
    """Such as one that KServe fetched from a storage where another one lies by now."""
    model = tmp_path / "model.bin"
    model.write_text("as it was registered")
    (tmp_path / "own.py").write_text("def load(path):\n    return lambda rows: [1.0 for _ in rows]\n")
    served = ServedRelease("v1-1", "m", 1, "", "other", model, "own.py:load", tmp_path, [])
    digest = tree_digest(model)
    right = ServedModel(served, digest)
    assert right.load(tmp_path) and right.headers["mlops-digest"] == digest
    model.write_text("as somebody has changed it")
    wrong = ServedModel(served, digest)
    assert not wrong.load(tmp_path) and not wrong.ready
    assert "is to be served" in json.loads((tmp_path / FAILURE).read_text())["error"]
