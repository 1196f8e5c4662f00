"""Releases of small models, and who asks for them without pause, for tests of engines that serve in a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import urllib3
from pydantic import create_model

import standin_model
from mlops_actions import environments
from mlops_actions.environments import Environment
from mlops_actions.models.checks import code_digest
from mlops_actions.serving.cluster.inputs import ServingClusterInputs
from mlops_actions.serving.engine import Release
from mlops_actions.stores.digests import tree_digest

PACKAGES = ["scikit-learn==1.7.2", "pandas==2.3.3"]
EXAMPLE = [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}]
CODE = """\
import json, time
from pathlib import Path

class Model:
    def load(self, path):
        {load}
        self.by = json.loads(Path(path).read_text())["by"]

    def predict(self, rows):
        {predict}
        return [self.by * x for x in rows["x"]]
"""
_FIT = """\
import sys, joblib, pandas
from sklearn.linear_model import LinearRegression
joblib.dump(LinearRegression().fit(pandas.DataFrame({"x": [0.0, 1.0]}), [0.0, float(sys.argv[1])]), sys.argv[2])
"""
Inputs = create_model("Inputs", __base__=ServingClusterInputs, timeout=(float, 90.0))
"""What engines that serve in a cluster are given of an action's inputs."""


@dataclass(frozen=True)
class Models:
    """Makes releases of the model `My_Model` in a folder; version n gives n times what it gets."""

    folder: Path

    @property
    def environment(self) -> Environment:
        """What they are served in."""
        return environments.ensure("serving", environments.cache_folder(), packages=PACKAGES)

    def sklearn(self, version: int, **changed: Any) -> Release:
        """A release of a fitted scikit-learn model."""
        path = self.folder / f"v{version}" / "model.joblib"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            command = [str(self.environment.python), "-c", _FIT, str(version), str(path)]
            subprocess.run(command, check=True)
        return self._release(version, path, "sklearn", **changed)

    def code(self, version: int, *, load: str = "pass", predict: str = "pass", **changed: Any) -> Release:
        """A release of a model by the consumer's code, with a line of its `load` and of its `predict`."""
        root = self.folder / f"code{version}"
        root.mkdir(parents=True, exist_ok=True)
        (root / "model.json").write_text(json.dumps({"by": version}))
        (root / "code.py").write_text(CODE.format(load=load, predict=predict))
        asked = {"predict": "code.py:Model", "root": root, "code": code_digest("code.py:Model", root)}
        return self._release(version, root / "model.json", "python", **asked, **changed)

    def _release(self, version: int, path: Path, kind: str, **changed: Any) -> Release:
        made = Release(
            name="my_model",
            version=version,
            digest=tree_digest(path),
            kind=kind,
            model=path,
            predict="",
            root=self.folder,
            code="",
            example=EXAMPLE,
            lock=self.environment.frozen(),
            python=self.environment.python,
        )
        return replace(made, **changed)


@dataclass
class Asking:
    """What somebody got who asked without pause.

    Attributes:
        answers: how many each release gave.
        wrong: what was no right answer, or no answer.
    """

    answers: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def wait_for(self, release: str, more: int = 20) -> None:
        """Until a release has given some more answers."""
        until, wanted = time.monotonic() + 60, self.answers.get(release, 0) + more
        while self.answers.get(release, 0) < wanted:
            assert time.monotonic() < until, (release, self.answers, self.wrong[:3])
            time.sleep(0.05)


@contextmanager
def asking(url: str, host: str = "", threads: int = 2, *, kept: bool = True) -> Iterator[Asking]:
    """Ask a model at an address without pause until leaving; version n must give n for 1.

    Args:
        url: of the model.
        host: that requests name.
        threads: that ask.
        kept: whether connections are kept, as most clients do.
    """
    asked, stop, lock = Asking(), threading.Event(), threading.Lock()
    body = json.dumps({"inputs": EXAMPLE, "outputs": [{"name": "predict"}]})
    headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
    headers |= {} if kept else {"Connection": "close"}

    def work() -> None:
        pool = urllib3.PoolManager(retries=False)
        while not stop.is_set():
            fault, release = "", ""
            try:
                got = pool.request("POST", f"{url}/infer", body=body, headers=headers, timeout=10)
                release = got.headers.get("mlops-release", "")
                value = got.json()["outputs"][0]["data"][0] if got.status == 200 else None
                right = value is not None and abs(value - int(release[1:].partition("-")[0])) < 1e-6
                fault = "" if right else f"{got.status} {got.data[:200]!r}"
            except Exception as error:
                fault = repr(error)
            with lock:
                asked.answers[release] = asked.answers.get(release, 0) + 1
                if fault:
                    asked.wrong.append(f"{time.strftime('%H:%M:%S')} {fault}")

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield asked
    finally:
        stop.set()
        for worker in workers:
            worker.join(20)


def inputs(namespace: str, **given: Any) -> ServingClusterInputs:
    """Inputs of an engine that serves in a namespace, with an image from the cluster's registry."""
    registry = os.environ["REGISTRY"]
    base = {
        "namespace": namespace,
        "image_repository": f"{registry}/test/serving",
        "base_image": base_image(),
        "cpu": "50m",
        "memory": "400Mi",
    }
    return Inputs.model_validate({**base, **given})


def base_image() -> str:
    """An image with Python 3.11 that the cluster's registry has."""
    image = standin_model.python_image()
    return f"{image.place.name}@{image.digest}"


def environ(**more: str) -> Mapping[str, str]:
    """Variables of a machine that reaches the cluster."""
    return {**os.environ, **more}
