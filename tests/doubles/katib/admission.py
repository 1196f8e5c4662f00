"""Katib's three webhooks, asked by the real API server: for Experiments (defaults, validation) and trials' pods.

Source: manifests/v1beta1/components/webhook/webhooks.yaml and pkg/webhook/v1beta1 of github.com/kubeflow/katib. As
there since 0.16, the failure policy is Kubernetes' default, Fail: when the webhooks cannot be reached, the API server
refuses Experiments and trials' pods with HTTP 500.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .api import MUTATING, VALIDATING, Api
from .injection import LABEL

Object = dict[str, Any]
Review = Callable[[Object], "tuple[Object | None, int, str]"]
"""From an admission request to (the object as it shall be, or None; the HTTP status; why it is refused, or "")."""


class Admission:
    """The webhooks' server and their registration.

    Args:
        address: of this machine, where the API server reaches it.
        name: of the registration.
        namespaces: for whose objects they are asked.
        reviews: by path: `/validate-experiment`, `/mutate-experiment`, `/mutate-pod`.
    """

    def __init__(
        self, api: Api, address: str, name: str, namespaces: tuple[str, ...], reviews: dict[str, Review]
    ) -> None:
        self._api, self._name, self._namespaces = api, name, list(namespaces)
        certificate, key = _certificate(address)
        self._ca = base64.b64encode(certificate).decode()
        self._server = ThreadingHTTPServer((address, 0), _handler(reviews))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            for file, content in (("tls.crt", certificate), ("tls.key", key)):
                (Path(folder) / file).write_bytes(content)
            context.load_cert_chain(Path(folder) / "tls.crt", Path(folder) / "tls.key")
        # The handshake is done by each request's thread, so that a client that says nothing holds up nobody.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._url = f"https://{address}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Serve, and tell the API server; in place of a double that was killed."""
        unregister(self._api, self._name)
        threading.Thread(target=self._server.serve_forever, name=self._name, daemon=True).start()
        experiments = {"apiGroups": ["kubeflow.org"], "apiVersions": ["v1beta1"], "resources": ["experiments"]}
        both: Object = {"operations": ["CREATE", "UPDATE"], **experiments}
        pods = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        validator = self._webhook("validator.experiment.katib.kubeflow.org", "/validate-experiment", both)
        defaulter = self._webhook("defaulter.experiment.katib.kubeflow.org", "/mutate-experiment", both)
        mutator = self._webhook("mutator.pod.katib.kubeflow.org", "/mutate-pod", pods)
        mutator["namespaceSelector"]["matchLabels"] = {LABEL: "enabled"}
        for kind, webhooks in ((VALIDATING, [validator]), (MUTATING, [defaulter, mutator])):
            body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": self._name}}
            self._api.create(kind, {**body, "webhooks": webhooks})

    def stop(self) -> None:
        """Take the registration back, and close."""
        unregister(self._api, self._name)
        self.close()

    def close(self) -> None:
        """Close, and leave the registration, as a controller that has died."""
        self._server.shutdown()
        self._server.server_close()

    def _webhook(self, name: str, path: str, rule: Object) -> Object:
        only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": self._namespaces}
        return {
            "name": name,
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": self._url + path, "caBundle": self._ca},
            "namespaceSelector": {"matchExpressions": [only]},
            "rules": [rule],
        }


def unregister(api: Api, name: str) -> None:
    """The API server asks these webhooks no more."""
    for kind in (VALIDATING, MUTATING):
        api.delete(kind, name)


def _handler(reviews: dict[str, Review]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = body["request"]
            response: Object = {"uid": request["uid"], "allowed": True}
            try:
                changed, code, why = reviews[self.path.partition("?")[0]](request)
            except Exception as error:
                changed, code, why = None, 500, f"{type(error).__name__}: {error}"
            if why:
                response.update(allowed=False, status={"code": code, "message": why})
            elif changed is not None and changed != request["object"]:
                patch = [{"op": "replace", "path": "", "value": changed}]
                response.update(patchType="JSONPatch", patch=base64.b64encode(json.dumps(patch).encode()).decode())
            answer = json.dumps({"apiVersion": body["apiVersion"], "kind": body["kind"], "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


def _certificate(address: str) -> tuple[bytes, bytes]:
    """A certificate for the address that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "katib-double")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
