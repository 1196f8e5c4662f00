"""Our server beside a bare KServe server, a bare MLServer and a bare FastAPI, with one model of scikit-learn.

`scripts/bench serving`. All answer the same request of the Open Inference Protocol (20 numbers, one row, and then a
batch of 100) with `predict_proba`, each in an environment of its own, one after the other, asked on loopback by 4
connections that are kept. Requests a second, the 50th and 99th percentile of their times in milliseconds, seconds from
the start of the process to the first answer, and memory (resident, MB) are printed.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mlops_actions import environments
from mlops_actions.processes.group import Group
from mlops_actions.serving.engine import Release
from mlops_actions.serving.served import write_release
from mlops_actions.stores.digests import tree_digest
from mlops_actions.waiting import wait_until
from servers import free_port

SECONDS, CONNECTIONS, COLUMNS = float(os.environ.get("BENCH_SECONDS", "5")), 4, 20
_SERVER = Path(environments.__file__).parent / "serving" / "server"
TRAIN = """
import joblib, numpy, sys
from sklearn.linear_model import LogisticRegression
r = numpy.random.default_rng(0)
x = r.normal(size=(500, 20))
joblib.dump(LogisticRegression().fit(x, x[:, 0] + x[:, 1] > 0), sys.argv[1])
"""
KSERVE = """
import sys, joblib, kserve
from kserve.utils.utils import get_predict_input

class Bare(kserve.Model):
    def load(self):
        self.model = joblib.load(sys.argv[1])
        self.ready = True

    def predict(self, payload, headers=None):
        rows = get_predict_input(payload)
        output = kserve.InferOutput("predict_proba", [len(rows), 2], "FP64")
        output.set_data_from_numpy(self.model.predict_proba(rows), binary_data=False)
        return kserve.InferResponse(payload.id, self.name, [output])

model = Bare("m")
model.load()
server = kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, enable_latency_logging=False, workers=1)
server.start([model])
"""
FASTAPI = """
import sys, joblib, numpy, uvicorn
from fastapi import FastAPI, Request

model, app = joblib.load(sys.argv[1]), FastAPI()

@app.post("/v2/models/m/infer")
async def infer(request: Request):
    given = (await request.json())["inputs"][0]
    found = model.predict_proba(numpy.asarray(given["data"]).reshape(given["shape"]))
    output = {"name": "predict_proba", "datatype": "FP64", "shape": found.shape, "data": found.ravel().tolist()}
    return {"model_name": "m", "outputs": [output]}

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@dataclass
class Found:
    """What was measured of a server."""

    name: str
    cold: float
    memory: float
    rates: dict[int, tuple[float, float, float]]

    def line(self) -> str:
        """As a row of the table."""
        rates = "".join(f"{rate:>9.0f}{half:>8.2f}{most:>8.2f}" for rate, half, most in self.rates.values())
        return f"{self.name:<10}{rates}{self.cold:>9.1f}{self.memory:>9.0f}"


def request(rows: int) -> bytes:
    """An inference request of so many rows."""
    values = [[i / COLUMNS - row / 1000 for i in range(COLUMNS)] for row in range(rows)]
    one = {"name": "x", "datatype": "FP64", "shape": [rows, COLUMNS], "data": [v for row in values for v in row]}
    # with an id, which the protocol leaves to the client: KServe's server fails without one
    return json.dumps({"id": "1", "inputs": [one], "outputs": [{"name": "predict_proba"}]}).encode()


def ask(connection: http.client.HTTPConnection, body: bytes) -> None:
    """Ask once."""
    connection.request("POST", "/v2/models/m/infer", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    assert response.status == 200, text[:500]


def rate(port: int, body: bytes) -> tuple[float, float, float]:
    """Requests a second, and milliseconds of the 50th and 99th percentile, of some connections that are kept."""
    times: list[float] = []

    def run(until: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (began := time.perf_counter()) < until:
            ask(connection, body)
            times.append(time.perf_counter() - began)
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=run, args=(began + SECONDS,)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered, over = sorted(times), time.perf_counter() - began
    return len(times) / over, 1000 * ordered[len(times) // 2], 1000 * ordered[int(len(times) * 0.99)]


def answers(port: int) -> bool:
    """Whether the server answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        ask(connection, request(1))
    except (OSError, http.client.HTTPException, AssertionError):
        return False
    finally:
        connection.close()
    return True


def measure(name: str, command: Sequence[str], folder: Path, port: int) -> Found:
    """Start a server, ask it, end it."""
    began, log = time.monotonic(), folder / f"{name}.log"
    with log.open("wb") as stream, Group(list(command), folder, dict(os.environ), stdout=stream) as server:
        if not wait_until(lambda: answers(port) or server.process.poll() is not None, 120) or not answers(port):
            raise SystemExit(f"{name} does not answer:\n{log.read_text()[-3000:]}")
        cold = time.monotonic() - began
        rates = {rows: rate(port, request(rows)) for rows in (1, 100)}
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        memory = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return Found(name, cold, memory, rates)


def main() -> None:
    """Measure them in turn, ours first and last, as the machine may have other things to do."""
    cache = environments.cache_folder()
    plain = ["scikit-learn", "pandas<3"]  # as KServe and MLServer want it
    made = {
        "ours": environments.ensure("serving", cache, packages=plain, say=print).python,
        "kserve": environments.ensure("", cache, packages=[*plain, "kserve==0.21.0"], say=print).python,
        "fastapi": environments.ensure("", cache, packages=[*plain, "fastapi", "uvicorn[standard]"], say=print).python,
    }
    if sys.version_info < (3, 13):
        packages = [*plain, "mlserver==1.7.1", "mlserver-sklearn==1.7.1"]
        made["mlserver"] = environments.ensure("", cache, packages=packages, say=print).python
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / "model.joblib"
        subprocess.run([str(made["ours"]), "-c", TRAIN, str(model)], check=True)
        found = [run(name, made[name], folder, model) for name in [*made, "ours"]]
    print(f"\n{'':<10}{'1 row: /s':>9}{'p50 ms':>8}{'p99 ms':>8}{'100 rows':>9}{'p50 ms':>8}{'p99 ms':>8}", end="")
    print(f"{'cold s':>9}{'RSS MB':>9}")
    for one in found:
        print(one.line())


def run(name: str, python: Path, folder: Path, model: Path) -> Found:
    """Measure one of them."""
    port = free_port()
    if name == "ours":
        release = Release(
            name="m", version=1, digest=tree_digest(model), kind="sklearn", model=model, predict="", root=folder,
            code="", example=[], lock="", python=python,
        )  # fmt: skip
        write_release(folder / "release", release, str(model), str(folder))
        command = [str(_SERVER), str(folder / "release"), "--host", "127.0.0.1", "--port", str(port)]
        return measure(name, [str(python), *command], folder, port)
    if name == "mlserver":
        settings = {"http_port": port, "grpc_port": free_port(), "metrics_endpoint": None, "parallel_workers": 0}
        (folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
        runtime = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": str(model)}}
        (folder / "model-settings.json").write_text(json.dumps(runtime))
        return measure(name, [str(python.with_name("mlserver")), "start", str(folder)], folder, port)
    code = {"kserve": KSERVE, "fastapi": FASTAPI}[name]
    return measure(name, [str(python), "-c", code, str(model), str(port)], folder, port)


if __name__ == "__main__":
    main()
