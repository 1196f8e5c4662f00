"""The model that MLServer serves, in the serving environment: any kind that can be loaded, with one behaviour.

Its metadata names its inputs and outputs as its first golden row shows them. A request that does not fit is status 400
with the reason; so is what the model itself refuses with a ValueError, TypeError or KeyError. Any other exception is
status 500, and its traceback is in the log.
"""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput

from ..models import tensors
from ..models.predicting import Model, missing_package

FAILURE = "failure.json"
"""In the server's folder: the `error` and the `traceback` of the model that could not be loaded last."""
_LOG = logging.getLogger("mlserver")
_REFUSALS = (ValueError, TypeError, KeyError)  # what libraries raise on rows that they cannot take


class ServedModel(MLModel):  # type: ignore[misc]
    """A model of MLServer, which `parameters.extra` tells how to load: `predict`, `root`, and an `example`."""

    async def load(self) -> bool:
        """Load it, ask it its example, and say what its inputs and outputs are."""
        try:
            self._load()  # not in a thread: MLServer would meanwhile send requests to a model that is not ready
        except BaseException as error:
            text = f"{type(error).__name__}: {error}".split("\n")[0]
            told = {"error": text, "traceback": traceback.format_exc(), "missing": missing_package(error)}
            Path(FAILURE).write_text(json.dumps(told), encoding="utf-8")
            raise MLServerError(text, 500) from error
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Ask it for the outputs of a request, or for all."""
        try:
            outputs = self._outputs(payload)
        except tensors.WrongRequest as error:
            raise InferenceError(f"Wrong request: {error}") from None
        except Exception as error:
            _LOG.exception("The model failed on a request")
            raise MLServerError(f"The model failed. {type(error).__name__}: {error}", 500) from error
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    def _load(self) -> None:
        extra = self.settings.parameters.extra
        self._model = Model(Path(self.settings.parameters.uri), extra["predict"], Path(extra["root"]))
        self._inputs = tensors.signature(extra["example"])
        if not self._inputs:
            return
        rows = tensors.table(extra["example"])
        outputs = [tensors.output(name, self._model.ask(name, rows)) for name in self._model.methods]
        self.inputs = [MetadataTensor(**one) for one in self._inputs]
        self.outputs = [MetadataTensor(**one) for one in tensors.signature(outputs)]

    def _outputs(self, payload: InferenceRequest) -> list[dict[str, Any]]:
        names = [one.name for one in payload.outputs or []] or self._model.methods
        unknown = [name for name in names if name not in self._model.methods]
        if unknown:
            raise tensors.WrongRequest(f"the model has no output {unknown[0]!r}, only {', '.join(self._model.methods)}")
        rows = tensors.table([_tensor(one) for one in payload.inputs], self._inputs)
        try:
            return [tensors.output(name, self._model.ask(name, rows)) for name in names]
        except _REFUSALS as error:
            raise tensors.WrongRequest(f"the model cannot take these rows. {type(error).__name__}: {error}") from error


def _tensor(given: RequestInput) -> dict[str, Any]:
    parameters = given.parameters.model_dump() if given.parameters else {}
    values = {"name": given.name, "datatype": given.datatype, "shape": given.shape, "data": given.data.root}
    return {**values, "parameters": parameters}
