"""The model of a release: loaded, described, and asked, without a word of HTTP or gRPC."""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...models import tensors
from ...models.predicting import Model, missing_package
from ...stores.digests import tree_digest
from ..served import ServedRelease

FAILURE = "failure.json"
"""In the release's folder: `error`, `traceback` and `missing` (package) of a model that could not be loaded."""
LOG = logging.getLogger("mlops")
_REFUSALS = (ValueError, TypeError, KeyError)  # what libraries raise on rows that they cannot take


class Failed(Exception):
    """A request is not answered, for a reason that is not the request's content. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ServedModel:
    """The model of a release.

    Args:
        release: that is served.
        expected: the digest that the model must have to be loaded; "" for any.

    Attributes:
        ready: whether it is loaded.
        headers: who answers: `mlops-release`, `mlops-version`, `mlops-digest`.
    """

    def __init__(self, release: ServedRelease, expected: str = "") -> None:
        self.release, self._expected = release, expected
        self.ready = False
        self.headers: dict[str, str] = {}
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []

    def load(self, folder: Path) -> bool:
        """Load it, ask it its example, and see what its inputs and outputs are; whether that went well.

        Args:
            folder: `failure.json` goes there, if it can be written to; the log has the failure anyhow.
        """
        try:
            self._load()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}".split("\n")[0]
            LOG.error("The model cannot be loaded", exc_info=True)
            told = {"error": text, "traceback": traceback.format_exc(), "missing": missing_package(error)}
            with suppress(OSError):
                (folder / FAILURE).write_text(json.dumps(told), encoding="utf-8")
            return False
        self.ready = True
        return True

    def check(self, name: str, version: str = "") -> None:
        """Whether the model of that name, and of that version if one is named, is this one.

        Raises:
            Failed: it is not (404).
        """
        if name != self.release.name:
            raise Failed(404, f"There is no model {name!r}, only {self.release.name!r}")
        if version not in ("", str(self.release.version)):
            raise Failed(404, f"There is no version {version!r} of {name}, only '{self.release.version}'")

    def metadata(self) -> dict[str, Any]:
        """The model's metadata, with its digest and release among its `properties`."""
        return {
            "name": self.release.name,
            "versions": [str(self.release.version)],
            "platform": self.release.kind,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "properties": {"digest": self.headers.get("mlops-digest", ""), "release": self.release.id},
        }

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The response to an inference request, both as the protocol's JSON objects.

        Raises:
            WrongRequest: the request does not fit the model.
            Failed: the model raised something (500).
        """
        try:
            outputs = self._ask(request)
        except (tensors.WrongRequest, Failed):
            raise
        except Exception as error:
            LOG.exception("The model failed on a request")
            raise Failed(500, f"The model failed. {type(error).__name__}: {error}") from error
        response = {"model_name": self.release.name, "model_version": str(self.release.version), "outputs": outputs}
        return {"id": request["id"], **response} if request.get("id") else response

    def _load(self) -> None:
        release = self.release
        digest = tree_digest(release.model)
        if self._expected not in ("", digest):
            raise ValueError(f"the model has the digest {digest}, and {self._expected} is to be served")
        self._model = Model(release.model, release.predict, release.root)
        self._inputs = tensors.signature(release.example)
        if self._inputs:
            rows = tensors.table(release.example)
            values = {name: self._model.ask(name, rows) for name in self._model.methods}
            outputs = [_output(name, got, release.example) for name, got in values.items()]
            self._outputs = tensors.signature(outputs)
        named = {"release": release.id, "version": str(release.version), "digest": digest}
        self.headers = {f"mlops-{name}": value for name, value in named.items()}

    def _ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        names = [one["name"] for one in request.get("outputs") or []] or self._model.methods
        unknown = [name for name in names if name not in self._model.methods]
        if unknown:
            raise tensors.WrongRequest(f"the model has no output {unknown[0]!r}, only {', '.join(self._model.methods)}")
        rows = tensors.table(request["inputs"], self._inputs)
        try:
            values = {name: self._model.ask(name, rows) for name in names}
        except _REFUSALS as error:
            raise tensors.WrongRequest(f"the model cannot take these rows. {type(error).__name__}: {error}") from error
        return [_output(name, got, request["inputs"]) for name, got in values.items()]


def _output(name: str, values: Any, inputs: Sequence[tensors.Tensor]) -> dict[str, Any]:
    """A model's values as a tensor, which has a row for each row that it was given.

    Raises:
        Failed: it has not.
    """
    made, rows = tensors.output(name, values), inputs[0]["shape"][0]
    if made["shape"][0] != rows:
        raise Failed(500, f"The model gave {made['shape'][0]} predictions for {rows} rows")
    if len(made["data"]) != math.prod(made["shape"]):
        raise Failed(500, f"The model gave rows of different lengths for {name}")
    return made
