"""The protocol's gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import grpc

from ...models.tensors import WrongRequest
from . import codec, proto
from .model import Failed, ServedModel
from .rest import SERVER

_BYTES = 256 * 1024 * 1024  # of one message; grpc's own limit of 4 MB is less than a batch of images
_CODES = {404: grpc.StatusCode.NOT_FOUND, 503: grpc.StatusCode.UNAVAILABLE}
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class Rpc:
    """Serves a model by gRPC.

    Args:
        model: that is served.
        worker: where the model is asked; see `Rest`.
        age: seconds after which a client must connect anew; 0 for no limit.
    """

    def __init__(self, model: ServedModel, worker: Executor, age: float = 0) -> None:
        self._model, self._worker = model, worker
        options = [(f"grpc.max_{way}_message_length", _BYTES) for way in ("send", "receive")]
        options += [("grpc.max_connection_age_ms", int(1000 * age))] if age else []
        self._server = grpc.aio.server(options=options)
        asked = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._model.ready},
            "ServerMetadata": lambda _: SERVER,
            "ModelReady": self._ready,
            "ModelMetadata": self._metadata,
            "ModelInfer": self._infer,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._method(name, asked[name]),
                request_deserializer=proto.message(f"{name}Request").FromString,
                response_serializer=proto.message(f"{name}Response").SerializeToString,
            )
            for name in proto.METHODS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(proto.SERVICE, handlers),))

    async def listen(self, address: str) -> int:
        """Serve at `host:port`; the port.

        Raises:
            RuntimeError: it cannot be listened there.
        """
        port: int = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Take no more requests, and finish those that are there within so many seconds."""
        await self._server.stop(grace)

    def _method(self, name: str, answer: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        async def call(request: Any, context: Any) -> Any:
            await context.send_initial_metadata(tuple(self._model.headers.items()))
            try:
                if name != "ModelInfer":
                    return proto.message(f"{name}Response")(**answer(request))
                return await asyncio.get_running_loop().run_in_executor(self._worker, answer, request)
            except WrongRequest as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong request: {error}")
            except Failed as error:
                await context.abort(_CODES.get(error.status, grpc.StatusCode.INTERNAL), str(error))

        return call

    def _ready(self, request: Any) -> dict[str, Any]:
        self._model.check(request.name, request.version)
        return {"ready": self._model.ready}

    def _metadata(self, request: Any) -> dict[str, Any]:
        self._model.check(request.name, request.version)
        found = self._model.metadata()
        for kind in ("inputs", "outputs"):
            found[kind] = [{name: one[name] for name in ("name", "datatype", "shape")} for one in found[kind]]
        return found

    def _infer(self, request: Any) -> Any:
        self._model.check(request.model_name, request.model_version)
        if not self._model.ready:
            raise Failed(503, "The model is being loaded")
        raw = list(request.raw_input_contents)
        if raw and len(raw) != len(request.inputs):
            raise WrongRequest(f"it has {len(request.inputs)} inputs and {len(raw)} raw_input_contents")
        inputs = [_tensor(one, raw[i] if raw else None) for i, one in enumerate(request.inputs)]
        asked = [{"name": one.name} for one in request.outputs]
        answer = self._model.infer({"id": request.id, "inputs": inputs, "outputs": asked})
        raw_outputs = bool(raw) or any(one["datatype"] == "FP16" for one in answer["outputs"])
        return _response(answer, raw_outputs)


def _tensor(given: Any, raw: bytes | None) -> dict[str, Any]:
    tensor = {"name": given.name, "datatype": given.datatype, "shape": list(given.shape)}
    tensor["parameters"] = {name: getattr(one, one.WhichOneof("parameter_choice") or "", None)
                            for name, one in given.parameters.items()}  # fmt: skip
    codec.check_tensor(tensor)
    if raw is not None:
        if given.HasField("contents"):
            raise WrongRequest(f"input {given.name!r} has contents and raw_input_contents")
        return {**tensor, "data": codec.unpack(tensor, raw)}
    field = _CONTENTS.get(given.datatype)
    if field is None:
        raise WrongRequest(f"input {given.name!r} is {given.datatype}, which gRPC has in raw_input_contents only")
    return {**tensor, "data": list(getattr(given.contents, field))}


def _response(answer: dict[str, Any], raw: bool) -> Any:
    outputs, contents = [], []
    for one in answer["outputs"]:
        tensor = {name: one[name] for name in ("name", "datatype", "shape")}
        if raw:
            contents.append(codec.pack(one["datatype"], one["data"]))
        else:
            tensor["contents"] = {_CONTENTS[one["datatype"]]: _values(one)}
        outputs.append(tensor)
    named = {name: answer.get(name) for name in ("model_name", "model_version", "id")}
    return proto.message("ModelInferResponse")(**named, outputs=outputs, raw_output_contents=contents)


def _values(output: dict[str, Any]) -> list[Any]:
    if output["datatype"] == "BYTES":
        return [str(value).encode() for value in output["data"]]
    return [float("nan") if value is None else value for value in output["data"]]
