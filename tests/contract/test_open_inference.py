"""The Open Inference Protocol (v2), as any server of models must speak it: REST and gRPC.

https://github.com/kserve/open-inference-protocol. By default it is our own server. OPEN_INFERENCE names another one,
as `http://host:port host:port` (REST and gRPC), which serves two models: `same` gives back as `predict` the values of
its one input, whatever its datatype and shape; `flights` is `FLIGHTS` below. What only ours promises is at the end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.processes.group import Group
from mlops_actions.serving.engine import Release
from mlops_actions.serving.served import write_release
from mlops_actions.stores.digests import tree_digest
from mlops_actions.waiting import wait_until
from servers import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the server runs on Linux and macOS")
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SAME = """
class Same:
    def load(self, path):
        pass

    def predict(self, rows):
        if not hasattr(rows, "iloc"):
            return rows
        return rows.iloc[:, 0] if rows.shape[1] == 1 else rows.to_numpy()
"""
FLIGHTS = """
import numpy

class Flights:
    def load(self, path):
        pass

    def predict(self, rows):
        if (rows["hour"] > 23).any():
            raise ValueError("an hour is 0 to 23")
        if (rows["hour"] == 23).any():
            raise ZeroDivisionError("at 23")
        return rows["hour"] * 2

    def predict_proba(self, rows):
        late = rows["hour"].to_numpy() / 24
        return numpy.stack([1 - late, late], axis=1)
"""
FLIGHT = [
    {"name": "carrier", "datatype": "BYTES", "shape": [1, 1], "data": ["UA"]},
    {"name": "hour", "datatype": "INT64", "shape": [1, 1], "data": [6]},
    {"name": "wind", "datatype": "FP64", "shape": [1, 1], "data": [0.5]},
]
VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 0, 2**15 - 1],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 2**16 - 1],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "FP16": [-1.5, 0.0, 65504.0],
    "FP32": [-1.5, 0.0, 2.0**100],
    "FP64": [-0.1, 0.0, 1e300],
    "BYTES": ["", "née", "late again"],
}
"""Of each datatype the ends of its range, or what is special of it."""
FORMATS = dict(zip(VALUES, "?bhiqBHIQefd"))
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Runtime:
    """A model of a server: how it is asked by REST and gRPC."""

    model: str
    url: str
    address: str
    client: subprocess.Popen[str]
    ours: bool = True

    def rest(self, path: str, body: object = None, **headers: str) -> Answer:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        request = urllib.request.Request(f"{self.url}{path}", data, sent)
        try:
            with OPEN.open(request, timeout=30) as got:
                return Answer(got.status, {k.lower(): v for k, v in got.headers.items()}, got.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def infer(self, body: object, **headers: str) -> Answer:
        return self.rest(f"/v2/models/{self.model}/infer", body, **headers)

    def grpc(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        assert self.client.stdin and self.client.stdout
        line = json.dumps({"address": self.address, "method": method, "request": request})
        self.client.stdin.write(line + "\n")
        self.client.stdin.flush()
        told: dict[str, Any] = json.loads(self.client.stdout.readline())
        return told


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are served."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "requirements.txt").write_text("scikit-learn\npandas\n")
    try:
        return environments.ensure(
            "serving", environments.cache_folder(), requirements=[folder / "requirements.txt"]
        ).python
    except EnvironmentFailed as error:
        pytest.skip(f"no packages of the server: {error}")


@pytest.fixture(scope="module")
def client() -> Iterator[subprocess.Popen[str]]:
    """The protocol's own client for gRPC."""
    try:
        made = environments.ensure("", environments.cache_folder(), packages=["kserve==0.21.0"])
    except EnvironmentFailed as error:
        pytest.skip(f"no packages of KServe: {error}")
    command = [str(made.python), str(ROOT / "tests" / "official_grpc.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="module")
def runtimes(
    python: Path, client: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Runtime]]:
    if named := os.environ.get("OPEN_INFERENCE"):
        url, address = named.split()
        yield {name: Runtime(name, url, address, client, ours=False) for name in ("same", "flights")}
        return
    with ExitStack() as stack:
        found = {}
        for name, code, example in (("same", SAME, []), ("flights", FLIGHTS, FLIGHT)):
            folder = tmp_path_factory.mktemp(name)
            found[name] = serve(stack, client, python, folder, name, code, example)
        for one in found.values():
            assert wait_until(lambda one=one: ready(one), 120), "the server does not become ready"  # type: ignore[misc]
        yield found


def serve(
    stack: ExitStack, client: subprocess.Popen[str], python: Path, folder: Path, name: str, code: str, example: Any
) -> Runtime:
    (folder / "own.py").write_text(code)
    (folder / "model").write_text(name)
    release = Release(
        name=name, version=7, digest=tree_digest(folder / "model"), kind="python", model=folder / "model",
        predict=f"own.py:{name.capitalize()}", root=folder, code="", example=example, lock="", python=python,
    )  # fmt: skip
    write_release(folder, release, "model", ".")
    port, grpc_port = free_port(), free_port()
    command = [str(python), str(ROOT / "scripts" / "mlops_actions" / "serving" / "server"), str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)]
    log = stack.enter_context((folder / "log").open("wb"))
    stack.enter_context(Group(command, folder, dict(os.environ), stdout=log))
    return Runtime(name, f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", client)


def ready(runtime: Runtime) -> bool:
    try:
        return runtime.rest("/v2/health/ready").status == 200
    except OSError:
        return False


@pytest.fixture
def same(runtimes: dict[str, Runtime]) -> Runtime:
    return runtimes["same"]


@pytest.fixture
def flights(runtimes: dict[str, Runtime]) -> Runtime:
    return runtimes["flights"]


def tensor(datatype: str, values: list[Any], shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape or [len(values), 1], "data": values, **more}


def raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def flight(**changes: Any) -> dict[str, Any]:
    """A request of one flight; a change of a tensor, or None for one that is left out."""
    named = {one["name"]: one for one in FLIGHT}
    changed = {name: {**named.get(name, {"name": name}), **(new or {})} for name, new in changes.items()}
    left_out = [name for name, new in changes.items() if new is None]
    return {"inputs": [one for name, one in {**named, **changed}.items() if name not in left_out]}


# REST: health and metadata.


def test_the_server_is_live_and_ready(same: Runtime) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        answer = same.rest(path)
        assert answer.status == 200 and list(answer.json.values()) == [True]


def test_the_server_tells_its_name_and_extensions(same: Runtime) -> None:
    found = same.rest("/v2").json
    assert isinstance(found["name"], str) and isinstance(found["version"], str)
    assert all(isinstance(one, str) for one in found["extensions"])


def test_a_model_is_ready(same: Runtime) -> None:
    answer = same.rest("/v2/models/same/ready")
    assert answer.status == 200 and answer.json == {"name": "same", "ready": True}


def test_a_model_tells_its_inputs_and_outputs(flights: Runtime) -> None:
    found = flights.rest("/v2/models/flights").json
    assert found["name"] == "flights" and isinstance(found["platform"], str)
    tensors = {one["name"]: (one["datatype"], one["shape"]) for one in found["inputs"] + found["outputs"]}
    assert tensors == {
        "carrier": ("BYTES", [-1, 1]), "hour": ("INT64", [-1, 1]), "wind": ("FP64", [-1, 1]),
        "predict": ("INT64", [-1]), "predict_proba": ("FP64", [-1, 2]),
    }  # fmt: skip


def test_a_version_that_the_model_tells_can_be_named(flights: Runtime) -> None:
    versions = flights.rest("/v2/models/flights").json.get("versions") or []
    for version in versions:
        path = f"/v2/models/flights/versions/{version}"
        assert flights.rest(path).json["name"] == "flights"
        assert flights.rest(f"{path}/ready").json == {"name": "flights", "ready": True}
        answer = flights.rest(f"{path}/infer", flight())
        assert answer.status == 200 and answer.json["model_version"] == version


# REST: inference.


@pytest.mark.parametrize("datatype", VALUES)
def test_values_of_a_datatype_come_and_go(same: Runtime, datatype: str) -> None:
    answer = same.infer({"inputs": [tensor(datatype, VALUES[datatype])]})
    assert answer.status == 200, answer.body
    assert answer.json["model_name"] == "same"
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"]) == ("predict", datatype)
    assert math.prod(output["shape"]) == 3 and output["data"] == VALUES[datatype]


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_a_batch_gets_an_answer_a_row(flights: Runtime, rows: int) -> None:
    inputs = [{**one, "shape": [rows, 1], "data": one["data"] * rows} for one in FLIGHT]
    inputs[1]["data"] = [i % 23 for i in range(rows)]
    outputs = {one["name"]: one for one in flights.infer({"inputs": inputs}).json["outputs"]}
    assert outputs["predict"]["shape"] == [rows]
    assert outputs["predict"]["data"] == [2 * (i % 23) for i in range(rows)]
    assert outputs["predict_proba"]["shape"] == [rows, 2] and len(outputs["predict_proba"]["data"]) == 2 * rows


def test_values_in_nested_lists_are_row_by_row(same: Runtime) -> None:
    nested, flat = [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0, 3.0, 4.0]
    for data in (nested, flat):
        (output,) = same.infer({"inputs": [tensor("FP64", data, [2, 2])]}).json["outputs"]
        assert (output["shape"], output["data"]) == ([2, 2], flat)


def test_an_image_is_a_tensor_of_more_dimensions(same: Runtime) -> None:
    pixels = list(range(2 * 4 * 5 * 3))
    (output,) = same.infer({"inputs": [tensor("UINT8", pixels, [2, 4, 5, 3])]}).json["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("UINT8", [2, 4, 5, 3], pixels)


def test_the_id_comes_back(same: Runtime) -> None:
    inputs = [tensor("FP64", [1.0])]
    assert same.infer({"id": "a 1", "inputs": inputs}).json["id"] == "a 1"


def test_parameters_may_be_given_at_every_level(flights: Runtime) -> None:
    request = flight(hour={"parameters": {"note": "x", "n": 1, "b": True}})
    outputs = [{"name": "predict", "parameters": {"note": "x"}}]
    answer = flights.infer({**request, "parameters": {"note": "x"}, "outputs": outputs})
    assert answer.status == 200 and answer.json["outputs"][0]["data"] == [12]


def test_only_the_outputs_that_are_asked_for_come(flights: Runtime) -> None:
    all_of_them = flights.infer(flight()).json["outputs"]
    assert [one["name"] for one in all_of_them] == ["predict", "predict_proba"]
    for name in ("predict", "predict_proba"):
        (output,) = flights.infer({**flight(), "outputs": [{"name": name}]}).json["outputs"]
        assert output["name"] == name


@pytest.mark.parametrize("verb", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["other", "flights/versions/99"])
def test_a_model_or_version_that_is_not_there_is_not_found(flights: Runtime, model: str, verb: str) -> None:
    answer = flights.rest(f"/v2/models/{model}{verb}", flight() if verb == "/infer" else None)
    assert answer.status == 404 and isinstance(answer.json["error"], str)


WRONG = [
    (flight(wind=None), "misses inputs: wind. The model takes carrier, hour, wind"),
    (flight(rain={"datatype": "FP64", "shape": [1, 1], "data": [1.0]}), "has unknown inputs: rain"),
    (flight(carrier={"datatype": "INT64", "data": [5]}), "'carrier' has datatype INT64, and must be BYTES"),
    (flight(hour={"datatype": "FP64"}), "'hour' has datatype FP64, and must be INT64"),
    (flight(wind={"data": ["windy"]}), "'wind' is FP64, which is numbers, and has 'windy'"),
    (flight(hour={"data": [1.5]}), "'hour' is INT64, which is whole numbers, and has 1.5"),
    (flight(wind={"shape": [1, 2], "data": [1.0, 2.0]}), "'wind' has shape [1, 2], and must be [-1, 1]"),
    (flight(wind={"shape": [2, 1]}), "'wind' has shape [2, 1] and 1 values"),
    (flight(wind={"shape": [2, 1], "data": [1.0, 2.0]}), "different numbers of rows"),
    (flight(wind={"shape": "1"}), "'wind' has shape '1'"),
    (flight(wind={"shape": [-1, 1]}), "'wind' has shape [-1, 1]"),
    (flight(wind={"datatype": "FP128"}), "FP128"),
    (flight(wind={"data": 5}), "the data of input 'wind' is 5, and must be a list"),
    (flight(carrier={"data": "UA"}), "must be a list"),
    (flight(carrier={"data": [{"a": 1}]}), "'carrier' is BYTES, which is texts"),
    (flight(hour={"parameters": 5}), "`parameters` of input 'hour' must be an object"),
    (flight(hour={"data": [99]}), "ValueError: an hour is 0 to 23"),
    ({**flight(), "outputs": [{"name": "logits"}]}, "no output 'logits', only predict, predict_proba"),
    ({**flight(), "outputs": ["predict"]}, "outputs"),
    ({**flight(), "id": 5}, "id"),
    ({"inputs": []}, "misses inputs: carrier, hour, wind"),
    ({"inputs": 5}, "inputs"),
    ({"inputs": [5]}, "inputs"),
    ({}, "inputs"),
    ([], "a list"),
    (b"{not JSON", "JSON"),
    (b"", "JSON"),
    (b"\xff\xfe", "JSON"),
]


@pytest.mark.parametrize(("request_", "reason"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_request_is_refused(flights: Runtime, request_: Any, reason: str) -> None:
    answer = flights.infer(request_)
    assert answer.status == 400 and isinstance(answer.json["error"], str), answer
    if flights.ours:
        assert reason in answer.json["error"]


def test_a_model_that_fails_is_a_fault_of_the_server(flights: Runtime) -> None:
    answer = flights.infer(flight(hour={"data": [23]}))
    assert answer.status == 500 and "at 23" in answer.json["error"]
    assert flights.infer(flight()).status == 200


# REST: tensors in binary, if the server says that it takes them.


@pytest.fixture
def binary(same: Runtime) -> Runtime:
    if "binary_tensor_data" not in same.rest("/v2").json["extensions"]:
        pytest.skip("the server does not offer tensors in binary")
    return same


def in_binary(inputs: list[dict[str, Any]], tail: bytes, **more: Any) -> tuple[bytes, str]:
    text = json.dumps({"inputs": inputs, **more}).encode()
    return text + tail, str(len(text))


@pytest.mark.parametrize("datatype", VALUES)
def test_binary_tensors_come_and_go(binary: Runtime, datatype: str) -> None:
    tail = raw(datatype, VALUES[datatype])
    one = {"name": "x", "datatype": datatype, "shape": [3, 1], "parameters": {"binary_data_size": len(tail)}}
    for more in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "predict", "parameters": {"binary_data": True}}]},
    ):
        body, length = in_binary([one], tail, **more)
        answer = binary.infer(body, Inference_Header_Content_Length=length)
        assert answer.status == 200, answer.body
        size = int(answer.headers["inference-header-content-length"])
        (output,) = json.loads(answer.body[:size])["outputs"]
        assert "data" not in output and output["parameters"]["binary_data_size"] == len(tail)
        assert answer.body[size:] == tail


def test_binary_input_may_have_an_answer_in_json(binary: Runtime) -> None:
    tail = raw("FP32", [1.5, 2.5])
    one = {"name": "x", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": len(tail)}}
    body, length = in_binary([one], tail)
    answer = binary.infer(body, Inference_Header_Content_Length=length)
    assert answer.json["outputs"][0]["data"] == [1.5, 2.5]


@pytest.mark.parametrize("size", [0, 4, 12, 99, -1, "8"])
def test_binary_tensors_of_a_wrong_size_are_refused(binary: Runtime, size: object) -> None:
    one = {"name": "x", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": size}}
    body, length = in_binary([one], raw("FP32", [1.5, 2.5]))
    assert binary.infer(body, Inference_Header_Content_Length=length).status == 400


@pytest.mark.parametrize("length", ["99999", "-1", "x"])
def test_a_wrong_length_of_json_is_refused(binary: Runtime, length: str) -> None:
    body, _ = in_binary([tensor("FP32", [1.5])], b"")
    assert binary.infer(body, Inference_Header_Content_Length=length).status == 400


# gRPC.


def test_grpc_health_and_metadata(flights: Runtime) -> None:
    assert flights.grpc("ServerLive", {})["response"] == {"live": True}
    assert flights.grpc("ServerReady", {})["response"] == {"ready": True}
    assert flights.grpc("ModelReady", {"name": "flights"})["response"] == {"ready": True}
    assert flights.grpc("ServerMetadata", {})["response"]["name"]
    found = flights.grpc("ModelMetadata", {"name": "flights"})["response"]
    assert found["name"] == "flights"
    tensors = {one["name"]: (one["datatype"], one["shape"]) for one in found["inputs"] + found["outputs"]}
    assert tensors["hour"] == ("INT64", ["-1", "1"]) and tensors["predict_proba"] == ("FP64", ["-1", "2"])


def called(runtime: Runtime, inputs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return runtime.grpc("ModelInfer", {"model_name": runtime.model, "inputs": inputs, **more})


def output_bytes(response: dict[str, Any], datatype: str) -> bytes:
    """The values of the first output as bytes, in whichever of both forms they came."""
    if response["raw_output_contents"]:
        return base64.b64decode(response["raw_output_contents"][0])
    values = response["outputs"][0]["contents"][CONTENTS[datatype]]
    if datatype == "BYTES":
        values = [base64.b64decode(value).decode() for value in values]
    elif datatype in ("INT64", "UINT64"):  # which are texts in protobuf's JSON
        values = [int(value) for value in values]
    return raw(datatype, values)


@pytest.mark.parametrize("datatype", CONTENTS)
def test_grpc_values_of_a_datatype_come_and_go(same: Runtime, datatype: str) -> None:
    values = VALUES[datatype]
    if datatype == "BYTES":
        values = [base64.b64encode(value.encode()).decode() for value in values]
    one = {"name": "x", "datatype": datatype, "shape": [3, 1], "contents": {CONTENTS[datatype]: values}}
    told = called(same, [one], id="a 1")
    assert told["code"] == "OK", told
    assert told["response"]["id"] == "a 1" and told["response"]["model_name"] == "same"
    assert told["response"]["outputs"][0]["datatype"] == datatype
    assert output_bytes(told["response"], datatype) == raw(datatype, VALUES[datatype])


@pytest.mark.parametrize("datatype", VALUES)
def test_grpc_raw_values_of_a_datatype_come_and_go(same: Runtime, datatype: str) -> None:
    tail = raw(datatype, VALUES[datatype])
    one = {"name": "x", "datatype": datatype, "shape": [3, 1]}
    told = called(same, [one], raw_input_contents=[base64.b64encode(tail).decode()])
    assert told["code"] == "OK", told
    assert output_bytes(told["response"], datatype) == tail


def in_grpc(request: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for one in request["inputs"]:
        texts = one["datatype"] == "BYTES"
        data = [base64.b64encode(value.encode()).decode() if texts else value for value in one["data"]]
        kept = {name: one[name] for name in ("name", "datatype", "shape")}
        made.append({**kept, "contents": {CONTENTS[one["datatype"]]: data}})
    return made


def test_grpc_parameters_outputs_and_version(flights: Runtime) -> None:
    inputs = in_grpc(flight())
    inputs[0]["parameters"] = {"note": {"string_param": "x"}, "n": {"int64_param": 1}, "b": {"bool_param": True}}
    told = called(
        flights, inputs, parameters={"note": {"string_param": "x"}}, outputs=[{"name": "predict"}], model_version=""
    )
    assert [one["name"] for one in told["response"]["outputs"]] == ["predict"]
    assert told["response"]["outputs"][0]["contents"]["int64_contents"] == ["12"]


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelInfer"])
def test_grpc_a_model_that_is_not_there_is_not_found(flights: Runtime, method: str) -> None:
    request = {"model_name": "other", "inputs": in_grpc(flight())} if method == "ModelInfer" else {"name": "other"}
    assert flights.grpc(method, request)["code"] == "NOT_FOUND"


def test_grpc_wrong_requests_are_invalid(flights: Runtime) -> None:
    tail = base64.b64encode(raw("FP64", [1.5])).decode()
    for request in (
        {"inputs": in_grpc(flight(wind=None))},
        {"inputs": in_grpc(flight(wind={"shape": [2, 1]}))},
        {"inputs": in_grpc(flight(hour={"data": [99]}))},
        {"inputs": in_grpc(flight()), "outputs": [{"name": "logits"}]},
        {"inputs": in_grpc(flight()), "raw_input_contents": [tail]},
        {"inputs": in_grpc(flight()), "raw_input_contents": [tail, tail, tail]},
    ):
        told = flights.grpc("ModelInfer", {"model_name": "flights", **request})
        assert told["code"] == "INVALID_ARGUMENT", told
    told = called(flights, in_grpc(flight(hour={"data": [23]})))
    assert told["code"] == "INTERNAL"


# What our own server promises beyond the protocol.


@pytest.fixture
def ours(flights: Runtime) -> Runtime:
    if not flights.ours:
        pytest.skip("another server than ours")
    return flights


def test_every_answer_says_who_gave_it(ours: Runtime) -> None:
    digest = f"sha256:{hashlib.sha256(b'flights').hexdigest()}"
    properties = ours.rest("/v2/models/flights").json["properties"]
    assert properties["digest"] == digest and properties["release"].startswith("v7-")
    by_grpc = ours.grpc("ModelMetadata", {"name": "flights"})["metadata"]
    for headers in (ours.infer(flight()).headers, ours.infer(b"{").headers, by_grpc):
        assert headers["mlops-digest"] == digest and headers["mlops-version"] == "7"
        assert headers["mlops-release"] == properties["release"]
    assert ours.infer(flight()).json["model_version"] == "7"


def test_other_paths_and_verbs_are_refused(ours: Runtime) -> None:
    for path, body, status in (
        ("/", None, 404),
        ("/metrics", None, 404),
        ("/v2/repository/index", {}, 404),
        ("/v2/models/flights/unload", {}, 404),
        ("/v2/models/flights/infer", None, 405),
        ("/v2/models/flights", {}, 405),
    ):
        answer = ours.rest(path, body)
        assert answer.status == status and answer.json["error"], path
