"""The HTTP server: KFP's REST API, its log reader, ML Metadata by gRPC-web, and the control of the double."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .catalog import Call
from .contract import Contract, Operation
from .faults import Fault
from .metadata import Metadata, MetadataError
from .nodes import Node
from .refusals import Refusal, UploadRefusal
from .world import World

LOGS = re.compile(r"/apis/v1(?:alpha|beta)1/runs/([^/]+)/nodes/([^/]+)/log$")
METADATA = re.compile(r"/ml_metadata\.MetadataStoreService/(\w+)$")
SIGN_IN = "<!doctype html><html><head><title>Log in to Your Account</title></head><body>dex</body></html>"
_USER = "kubeflow-userid"
_RECORDED = Path(__file__).resolve().parents[2] / "data" / "kfp" / "recorded"
_NO_LOG = json.loads((_RECORDED / "log-none.txt").read_text(encoding="utf-8").splitlines()[-1])["error_message"]
_NO_LOG_RUN = "8628b0bd-02db-4388-9e53-7425481d717d"

Operate = Callable[[Call], Any]


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] | None = None


class Service:
    """What requests do.

    Args:
        operations: by the description's operation ids.
        control: obeys a fault; what `POST /doubles/faults` calls.
        state: what `GET /doubles/state` shows.
    """

    def __init__(
        self,
        world: World,
        contract: Contract,
        operations: Mapping[str, Operate],
        metadata: Metadata | None,
        control: Callable[[Fault], None],
        state: Callable[[], Any],
    ) -> None:
        self.world, self._contract, self._operations = world, contract, operations
        self._metadata, self._control, self._state = metadata, control, state
        self.violations: list[str] = []
        self.requests: list[str] = []
        self.token, self.token_until = "", 0.0
        self.metadata_status = 0

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        if path.startswith("/doubles/"):
            return self._controlled(method, path, body)
        self.requests.append(f"{method} {target}")
        if not self._signed_in(headers):
            return Answer(401, b"Jwt is missing or expired", "text/plain", {"WWW-Authenticate": "Bearer"})
        if found := METADATA.match(path):
            return self._of_metadata(found[1], body)
        if self.world.settings.ui and path.startswith("/apis/v1"):
            return Answer(404, f"<!DOCTYPE html><pre>Cannot {method} {path}</pre>".encode(), "text/html; charset=utf-8")
        if found := LOGS.match(path):
            return self._of_log(found[1], found[2], headers)
        if self.world.settings.ui and path == "/k8s/pod/logs":
            return self._of_ui_log({name: values[-1] for name, values in query.items()}, headers)
        if path in ("/", "/pipeline", "/pipeline/"):
            return Answer(200, b"<!doctype html><html><title>Kubeflow Pipelines</title></html>", "text/html")
        operation = self._contract.find(method, path)
        if operation is None:
            return _json(404, {"error": "Not Found", "code": 5, "message": "Not Found"})
        return self._operate(*operation, query, headers, body)

    def _operate(
        self,
        operation: Operation,
        raw: Mapping[str, str],
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        upload = bool(operation.parameters("formData"))
        file, given = None, None
        try:
            if upload:
                file = _file(headers.get("content-type", ""), body)
            elif operation.parameters("body"):
                given = json.loads(body)
        except ValueError as error:
            return _json(400, Refusal(3, f"proto: syntax error (line 1:1): {error}").body())
        if problems := self._contract.request_problems(operation, query, given):
            return self._violation(operation, "request", problems)
        call = Call(
            {name: unquote(value) for name, value in raw.items()},
            {name: values[-1] for name, values in query.items()},
            given,
            file,
            headers.get(_USER, ""),
        )
        status = 200
        try:
            with self.world.lock:
                answer = self._operations[operation.name](call)
        except (Refusal, UploadRefusal) as error:
            status, answer = error.status, error.body()
        problems = self._contract.answer_problems(operation, status, answer)
        if problems and not self.world.forced:  # which may be one that the description does not know
            return self._violation(operation, "answer", problems)
        return _json(status, answer)

    def _violation(self, operation: Operation, what: str, problems: list[str]) -> Answer:
        text = f"{what} of {operation.name}: {'; '.join(problems)}"
        self.violations.append(text)
        return _json(500, {"error": text, "code": 13, "message": text})

    def _signed_in(self, headers: Mapping[str, str]) -> bool:
        if not self.token:
            return True
        expired = self.token_until and self.world.now() > self.token_until
        return not expired and headers.get("authorization", "") == f"Bearer {self.token}"

    def _of_log(self, run_id: str, name: str, headers: Mapping[str, str]) -> Answer:
        """ReadRunLogV1: what a pod has printed until now, or an error as JSON; HTTP's status is 200 for both.

        A server without users asks Kubernetes for the pod in the namespace "", and never finds it.
        """
        with self.world.lock:
            run = self.world.runs.get(run_id)
            users = self.world.settings.users
            try:
                if run and users is not None:
                    self.world.admit(headers.get(_USER, ""), run.namespace, "readLog", "runs")
            except Refusal as error:
                return _error(f"Failed to authorize the request: {error}")
            pod = run.workflow.pod(name) if run else None
        if run is None:
            return _error(
                f"BadRequestError: Failed to read logs for run {run_id} due to run fetching error: not found."
            )
        if users is None or pod is None or not self._readable(pod):
            workflow = run.workflow.name
            return _error(_NO_LOG.replace(_NO_LOG_RUN, run_id).replace("hello-ptw8q", workflow).replace("nosuch", name))
        return Answer(200, pod.log.text().encode(), "text/plain; charset=utf-8")

    def _of_ui_log(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The UI's reader, which asks Kubernetes itself (frontend/server/handlers/pod-logs.ts)."""
        users, namespace = self.world.settings.users, query.get("podnamespace", "")
        if users is not None and not namespace:
            return Answer(422, b"podnamespace argument is required", "text/html")
        if users is not None and namespace not in users.get(headers.get(_USER, ""), ()):
            return Answer(403, b"Access denied to namespace", "text/html")
        with self.world.lock:
            run = self.world.runs.get(query.get("runid", ""))
            pod = run.workflow.pod(query.get("podname", "")) if run else None
            there = bool(run and namespace in ("", run.namespace))
        if not there or pod is None or not self._readable(pod):
            why = f'pods "{query.get("podname")}" not found'
            return Answer(500, f"Could not get main container logs: Error: {why}".encode(), "text/html")
        return Answer(200, pod.log.text().encode(), "")

    def _readable(self, pod: Node) -> bool:
        return pod.phase != "Pending" and not (self.world.logs_archived and pod.final)

    def _of_metadata(self, method: str, body: bytes) -> Answer:
        """A unary gRPC-web call, as Envoy answers it in front of the metadata server."""
        kind = "application/grpc-web+proto"
        if self.metadata_status or self._metadata is None:
            return Answer(self.metadata_status or 404, b"upstream is not there", "text/plain")
        length = int.from_bytes(body[1:5], "big")
        if len(body) < 5 or body[0] or len(body) != 5 + length:
            self.violations.append(f"gRPC-web request of {method}: not one uncompressed frame")
            return Answer(200, kind=kind, headers={"grpc-status": "13", "grpc-message": "bad frame"})
        try:
            found = self._metadata.call(method, body[5:])
        except MetadataError as error:
            return Answer(200, kind=kind, headers={"grpc-status": str(error.code), "grpc-message": str(error)})
        trailers = b"grpc-status: 0\r\ngrpc-message: \r\n"
        frames = b"\0" + len(found).to_bytes(4, "big") + found + b"\x80" + len(trailers).to_bytes(4, "big") + trailers
        return Answer(200, frames, kind)

    def _controlled(self, method: str, path: str, body: bytes) -> Answer:
        try:
            if (method, path) == ("POST", "/doubles/faults"):
                self._control(Fault(**json.loads(body)))
                return _json(200, {})
            if (method, path) == ("DELETE", "/doubles/faults"):
                self.world.faults.clear()
                return _json(200, {})
        except (ValueError, TypeError) as error:
            return _json(400, {"message": str(error)})
        if (method, path) == ("GET", "/doubles/state"):
            return _json(200, self._state())
        return _json(404, {"message": "there are /doubles/faults and /doubles/state"})


class Server:
    """The socket, which faults may close for a while.

    Args:
        port: 0 for a free one; it stays the same when the server comes back.
    """

    def __init__(self, service: Service, port: int = 0, host: str = "127.0.0.1") -> None:
        self._service, self._host, self.port = service, host, port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._http: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self._host}:{self.port}"

    def start(self) -> None:
        """Listen."""
        with self._lock:
            if self._http:
                return
            handler = type("Handler", (_Handler,), {"service": self._service, "connections": self._open})
            self._http = _Http((self._host, self.port), handler)
            self.port = self._http.server_port
            threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and cut every connection."""
        with self._lock:
            if not self._http:
                return
            self._http.shutdown()
            self._http.server_close()
            self._http = None
            for connection in list(self._open):
                _cut(connection)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service
    connections: set[socket.socket]

    def setup(self) -> None:
        super().setup()
        self.connections.add(self.connection)

    def finish(self) -> None:
        self.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        control = self.path.startswith("/doubles/")
        fault = None if control else self.service.world.faults.of_request(f"{self.command} {self.path}")
        if fault and fault.kind == "drop":
            _cut(self.connection)
            return
        if fault and fault.kind == "stall":
            self.service.world.pause(fault.seconds)
        answer = _struck(fault) if fault else None
        if answer is None:
            answer = self.service.answer(self.command, self.path, headers, body)
        try:
            self._send(answer, fault)
        except OSError:  # the client went away
            self.close_connection = True

    do_GET = do_POST = do_DELETE = do_PATCH = _handle

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        if answer.kind:
            self.send_header("Content-Type", answer.kind)
        for name, value in (answer.headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self._send_body(answer.body, fault)

    def _send_body(self, body: bytes, fault: Fault | None) -> None:
        half = len(body) // 2 if fault and fault.kind in ("cut", "trickle") else len(body)
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault and fault.kind == "cut":
            _cut(self.connection)
        elif fault and fault.kind == "trickle":
            self.service.world.pause(fault.seconds)
            self.wfile.write(body[half:])


def _struck(fault: Fault) -> Answer | None:
    """The answer that a fault gives in the place of the true one."""
    if fault.kind == "status":
        after = {"Retry-After": f"{fault.retry_after:g}"} if fault.retry_after else {}
        body = fault.body or f"upstream connect error: {fault.status}"
        return Answer(fault.status, body.encode(), "text/plain", after)
    if fault.kind == "html":
        return Answer(200, (fault.body or SIGN_IN).encode(), "text/html; charset=utf-8")
    if fault.kind == "redirect":
        return Answer(302, headers={"Location": fault.body or "/dex/auth?client_id=kubeflow-oidc-authservice"})
    return None


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode())


def _error(message: str) -> Answer:
    """An error of the log reader (run_log_server.go): the status was sent before it was known."""
    body = {"error_message": message, "error_details": message}
    return Answer(200, json.dumps(body, separators=(",", ":")).encode(), "text/plain; charset=utf-8")


def _file(kind: str, body: bytes) -> tuple[str, bytes] | None:
    """The part `uploadfile` of a multipart form: its file's name and bytes."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            data = part.get_payload(decode=True)
            return str(part.get_filename() or ""), data if isinstance(data, bytes) else b""
    return None


def _cut(connection: socket.socket) -> None:
    try:
        # Without lingering: what is not sent yet is lost, and the other end sees a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    except OSError:
        pass
