"""The protocol's REST: an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any
from urllib.parse import unquote

from ... import __version__
from ...models.tensors import WrongRequest
from . import codec
from .messages import Handler, Request, Response
from .model import Failed, ServedModel

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
SERVER = {"name": "mlops-actions", "version": __version__, "extensions": ["binary_tensor_data"]}
_JSON = "application/json"


class Rest:
    """Answers requests.

    Args:
        model: that is served.
        worker: where the model is asked: one thread, the one that loaded it, as not every library may be used by
            several.
    """

    def __init__(self, model: ServedModel, worker: Executor) -> None:
        self._model, self._worker = model, worker

    async def __call__(self, request: Request) -> Response:
        """The response to a request."""
        try:
            status, body, more = await self._answer(request)
        except WrongRequest as error:
            status, body, more = 400, codec.to_json({"error": f"Wrong request: {error}"}), {}
        except Failed as error:
            status, body, more = error.status, codec.to_json({"error": str(error)}), {}
        return Response(status, body, {"content-type": _JSON, **self._model.headers, **more})

    async def _answer(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        model = self._model
        verb = ""
        match parts:
            case ["v2"]:
                answer: object = SERVER
            case ["v2", "health", "live"]:
                answer = {"live": True}
            case ["v2", "health", "ready"]:
                return (200 if model.ready else 503), codec.to_json({"ready": model.ready}), {}
            case ["v2", "models", name, *rest]:
                version = ""
                if rest[:1] == ["versions"] and len(rest) > 1:
                    version, rest = rest[1], rest[2:]
                if rest not in ([], ["ready"], ["infer"]):
                    raise Failed(404, f"There is no {request.path}")
                model.check(name, version)
                verb = rest[0] if rest else ""
                if verb == "ready":
                    found = {"name": name, "ready": model.ready}
                    return (200 if model.ready else 503), codec.to_json(found), {}
                if not model.ready:
                    raise Failed(503, "The model is being loaded")
                answer = {} if verb else model.metadata()
            case _:
                raise Failed(404, f"There is no {request.path}")
        allowed = "POST" if verb == "infer" else "GET"
        if request.method != allowed and not (allowed == "GET" and request.method == "HEAD"):
            raise Failed(405, f"{request.path} takes {allowed}")
        if verb != "infer":
            return 200, codec.to_json(answer), {}
        body, length = await asyncio.get_running_loop().run_in_executor(self._worker, self._infer, request)
        binary = {codec.JSON_LENGTH: length, "content-type": "application/octet-stream"} if length else {}
        return 200, body, binary

    def _infer(self, request: Request) -> tuple[bytes, str]:
        asked = codec.read_request(request.body, request.headers.get(codec.JSON_LENGTH, ""))
        return codec.write_response(self._model.infer(asked), asked)


def application(handler: Handler) -> Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]:
    """A handler of whole requests as an ASGI application."""

    async def call(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        chunks = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        response = await handler(Request(scope["method"], path, headers, b"".join(chunks)))
        await send({"type": "http.response.start", "status": response.status, "headers": _pairs(response)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})

    return call


def _pairs(response: Response) -> Iterable[tuple[bytes, bytes]]:
    length = {"content-length": str(len(response.body))}
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in {**response.headers, **length}.items()]
