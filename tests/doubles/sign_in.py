"""Servers that demand a sign-in, on 127.0.0.1: what stands before a Kubeflow Pipelines.

| double | is held to |
| --- | --- |
| `Kfp` | KFP's API as far as a sign-in meets it: `healthz`, a list of pipelines, an error for what it does not know |
| `Provider` | OpenID Connect Discovery 1.0; the token endpoint of RFC 6749 (2.3.1, 4.3, 4.4) and RFC 8693 |
| `GitHub` | the OIDC token endpoint of GitHub's runners, and the issuer that others check its tokens against |
| `Gate` | oauth2-proxy as Kubeflow's manifests have it: 401 on `/apis/`, else a page with a button; the code flow |
| `Dex` | the pages of Dex v2.41: choice of connectors, password form, approval; guessed: nothing but the looks |

Tokens are JWTs with RS256, and are really checked: signature, audience, expiry. A server's time runs ahead of the
machine's by `ahead` seconds, so that a test lets tokens expire without waiting for it.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Asked:
    """A request as a server got it; `form` is of the body."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes
    url: str

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def cookies(self) -> dict[str, str]:
        return {name: cookie.value for name, cookie in SimpleCookie(self.headers.get("Cookie", "")).items()}


@dataclass
class Reply:
    """An answer; JSON for a dict, a web page for a text."""

    status: int = 200
    content: dict[str, Any] | str | bytes = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[str, bytes]:
        if isinstance(self.content, dict):
            return "application/json", json.dumps(self.content).encode()
        if isinstance(self.content, str):
            return "text/html; charset=utf-8", self.content.encode()
        return "text/plain", self.content


def redirect(url: str, status: int = 302) -> Reply:
    return Reply(status, "", {"Location": url})


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go, or that do not trust it, are what tests are about."""


class Web:
    """A server. Each request is answered by `answer`, or by the next of `faults`.

    Attributes:
        faults: what happens to the next requests: a `Reply`, `cut` (the connection is closed with no answer), `half`
            (in the middle of it), or `None` (nothing).
        seen: the requests.
        ahead: seconds that the server's clock is ahead.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.faults: list[Reply | str | None] = []
        self.seen: list[Asked] = []
        self.ahead = 0.0
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def now(self) -> float:
        return time.time() + self.ahead

    def answer(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def respond(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(
                    self.command, unquote(parts.path), dict(parse_qsl(parts.query)), self.headers, body, self.path
                )
                web.seen.append(asked)
                fault = web.faults.pop(0) if web.faults else None
                if fault == "cut":
                    self.close_connection = True
                    return
                reply = fault if isinstance(fault, Reply) else web.answer(asked)
                kind, data = reply.encoded()
                self.send_response(reply.status)
                for name, value in {"Content-Type": kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if fault == "half" else data)
                self.close_connection = fault == "half"

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class Kfp(Web):
    """KFP behind a demand.

    Args:
        demand: gives the refusal of a request; None lets it pass.
        prefix: below which the API is.
    """

    def __init__(
        self,
        demand: Callable[[Asked], Reply | None] = lambda _: None,
        tls: ssl.SSLContext | None = None,
        prefix: str = "",
        several_users: bool = False,
    ) -> None:
        self.demand, self._prefix, self._several_users = demand, prefix, several_users
        super().__init__(tls)

    def answer(self, asked: Asked) -> Reply:
        refusal = self.demand(asked)
        return refusal if refusal is not None else self.api(asked)

    def api(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix(self._prefix) if asked.path.startswith(self._prefix) else ""
        if path == "/apis/v2beta1/healthz":
            return Reply(content={"multi_user": self._several_users, "tag_name": "2.17.0"})
        if path == "/apis/v2beta1/pipelines":
            return Reply(content={"pipelines": [{"pipeline_id": "1"}], "total_size": 1})
        return Reply(404, {"code": 5, "message": f"{path} not found", "details": []})


class Provider(Web):
    """An OpenID Connect provider with one client and one user.

    Attributes:
        seconds: that its tokens are good for.
        post_only: whether clients must name themselves in the form.
        trusted: checks a token that is to be exchanged, and gives its subject.
    """

    client_id, client_secret = "mlops-client", "client-secret-4711 &="
    user, password = "ci@example.com", "password-1234 &="

    def __init__(self, tls: ssl.SSLContext | None = None, post_only: bool = False) -> None:
        self.seconds, self.post_only = 3600, post_only
        self.trusted: Callable[[str], str] = lambda _: ""
        super().__init__(tls)
        self.issuer = f"{self.url}/realm"

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/realm/.well-known/openid-configuration":
            methods = ["client_secret_post"] if self.post_only else ["client_secret_basic", "client_secret_post"]
            return Reply(
                content={
                    "issuer": self.issuer,
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                    "scopes_supported": ["openid", "email", "offline_access"],
                    "token_endpoint_auth_methods_supported": methods,
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        if asked.path == "/realm/keys":
            return Reply(content=public_keys())
        if asked.path == "/realm/token" and asked.method == "POST":
            return self._token(asked)
        return Reply(404, {"error": "not_found"})

    def _token(self, asked: Asked) -> Reply:
        form = asked.form
        if asked.headers.get("Content-Type") != "application/x-www-form-urlencoded":
            return Reply(400, {"error": "invalid_request"})
        if self._client(asked) != (self.client_id, self.client_secret):
            return Reply(401, {"error": "invalid_client", "error_description": "Unknown client"})
        grant = form.get("grant_type")
        if not set(form.get("scope", "").split()) <= {"openid", "email", "offline_access"}:
            return Reply(400, {"error": "invalid_scope"})
        if grant == "password":
            if (form.get("username"), form.get("password")) != (self.user, self.password):
                return Reply(400, {"error": "invalid_grant", "error_description": "Wrong user or password"})
            subject = self.user
        elif grant == "client_credentials":
            subject = self.client_id
        elif grant == "urn:ietf:params:oauth:grant-type:token-exchange":
            if form.get("subject_token_type") != "urn:ietf:params:oauth:token-type:id_token":
                return Reply(400, {"error": "invalid_request"})
            subject = self.trusted(form.get("subject_token", ""))
            if not subject:
                return Reply(400, {"error": "invalid_grant", "error_description": "The subject token is not trusted"})
        else:
            return Reply(400, {"error": "unsupported_grant_type"})
        return self._granted(subject, form)

    def _granted(self, subject: str, form: dict[str, str]) -> Reply:
        audience = form.get("audience", self.client_id)
        access = self.token(subject, audience)
        tokens = {"access_token": access, "token_type": "Bearer", "expires_in": self.seconds}
        if "openid" in form.get("scope", "").split():
            tokens["id_token"] = self.token(subject, audience)
        return Reply(content=tokens)

    def _client(self, asked: Asked) -> tuple[str, str]:
        scheme, _, value = asked.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic" and not self.post_only:
            name, _, secret = base64.b64decode(value).decode().partition(":")
            return unquote(name), unquote(secret)
        return asked.form.get("client_id", ""), asked.form.get("client_secret", "")

    def token(self, subject: str, audience: str) -> str:
        return token(self.issuer, subject, audience, self.now(), self.seconds)

    def demand(self, audience: str, header: str = "Authorization") -> Callable[[Asked], Reply | None]:
        """What a server that trusts this provider wants of a request."""

        def check(asked: Asked) -> Reply | None:
            value = asked.headers.get(header, "")
            try:
                verified(value.removeprefix("Bearer "), self.issuer, audience, self.now())
            except jwt.InvalidTokenError as error:
                return Reply(401, {"code": 16, "message": f"Unauthenticated: {error}"})
            return None

        return check


class GitHub(Web):
    """GitHub's OIDC tokens for the job whose request token is known."""

    request_token = "request-token-0815"

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/.well-known/openid-configuration":
            about = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "authorization_endpoint": f"{self.url}/none"}
            about |= {"token_endpoint": f"{self.url}/none", "id_token_signing_alg_values_supported": ["RS256"]}
            return Reply(content=about)
        if asked.path == "/keys":
            return Reply(content=public_keys())
        if asked.path == "/idtoken" and asked.query.get("api-version") == "2.0":
            if asked.headers.get("Authorization") != f"Bearer {self.request_token}":
                return Reply(401, {"message": "Unauthorized"})
            audience = asked.query.get("audience", "https://github.com/owner")
            subject = "repo:owner/name:ref:refs/heads/main"
            return Reply(content={"count": 1, "value": token(self.url, subject, audience, self.now(), 300)})
        return Reply(404, {})

    def environ(self) -> dict[str, str]:
        """The variables of a job with `id-token: write`."""
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/idtoken?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }


class Gate(Kfp):
    """oauth2-proxy before a KFP below `/pipeline`; `style` is "authservice" for one that redirects at once.

    Args:
        issuer: of a Dex that has the client `kubeflow` with the secret `gate-secret`.
    """

    client_id, client_secret = "kubeflow", "gate-secret"

    def __init__(self, style: str = "oauth2-proxy", tls: ssl.SSLContext | None = None) -> None:
        self.issuer, self.style = "", style
        self.cookie = "oauth2_proxy_kubeflow" if style == "oauth2-proxy" else "authservice_session"
        self.sessions: set[str] = set()
        super().__init__(self._session, tls, prefix="/pipeline")

    def _session(self, asked: Asked) -> Reply | None:
        if asked.path == "/oauth2/start":
            return self._start(asked.query.get("rd", "/"))
        if asked.path == "/oauth2/callback":
            return self._callback(asked)
        if asked.cookies.get(self.cookie) in self.sessions:
            return None
        if self.style == "authservice":
            return self._start(asked.path)
        if "/apis/" in asked.path:
            return Reply(401, {"error": "Unauthorized"})
        button = '<form method="GET" action="/oauth2/start"><input type="hidden" name="rd" value="/">'
        return Reply(403, f"<html><title>Sign In</title>{button}<button type='submit'>Sign in with Dex</button></form>")

    def api(self, asked: Asked) -> Reply:
        if "/apis/" not in asked.path:
            return Reply(content="<html><title>Kubeflow Central Dashboard</title></html>")
        return super().api(asked)

    def _start(self, back: str) -> Reply:
        state = secrets.token_hex(8)
        query = {"client_id": self.client_id, "response_type": "code", "scope": "openid email profile", "state": state}
        query["redirect_uri"] = f"{self.url}/oauth2/callback"
        csrf = {"Set-Cookie": f"_oauth2_proxy_csrf={state}|{back}; Path=/; HttpOnly"}
        return Reply(302, "", {"Location": f"{self.issuer}/auth?{urlencode(query)}", **csrf})

    def _callback(self, asked: Asked) -> Reply:
        state, _, back = asked.cookies.get("_oauth2_proxy_csrf", "").partition("|")
        if not state or state != asked.query.get("state"):
            return Reply(403, "<html><title>Forbidden</title></html>")
        answer = requests.post(
            f"{self.issuer}/token",
            data={
                "grant_type": "authorization_code",
                "code": asked.query.get("code", ""),
                "redirect_uri": f"{self.url}/oauth2/callback",
            },
            auth=(self.client_id, self.client_secret),
            timeout=10,
        )
        if not answer.ok or "id_token" not in answer.json():
            return Reply(500, "<html><title>Internal Server Error</title></html>")
        session = secrets.token_hex(16)
        self.sessions.add(session)
        return Reply(302, "", {"Location": back, "Set-Cookie": f"{self.cookie}={session}; Path=/; HttpOnly"})


class Dex(Web):
    """Dex's pages for the code flow, with a connector that has passwords and one that has not."""

    user, password = "admin@example.com", "password"

    def __init__(self) -> None:
        self._asking: dict[str, dict[str, str]] = {}
        self._codes: dict[str, str] = {}
        super().__init__()
        self.issuer = f"{self.url}/dex"

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/dex")
        query = urlencode(asked.query)
        if path == "/auth":
            links = "".join(
                f'<a href="/dex/auth/{name}?{query}"><span class="dex-btn-icon dex-btn-icon--{kind}"></span></a>'
                for name, kind in (("github", "github"), ("staff", "ldap"))
            )
            return Reply(content=f"<html><title>dex</title><h2>Log in</h2>{links}</html>")
        if path == "/auth/staff":
            request = secrets.token_hex(8)
            self._asking[request] = asked.query
            return redirect(f"/dex/auth/staff/login?{urlencode({'back': '', 'state': request})}")
        if path == "/auth/staff/login":
            return self._login(asked)
        if path == "/approval":
            return self._approval(asked)
        if path == "/token":
            subject = self._codes.pop(asked.form.get("code", ""), "")
            if not subject:
                return Reply(400, {"error": "invalid_request"})
            return Reply(content={"id_token": token(self.issuer, subject, "kubeflow", self.now(), 3600)})
        return Reply(404, "<html><title>dex</title>404</html>")

    def _login(self, asked: Asked) -> Reply:
        if asked.method == "POST" and (asked.form.get("login"), asked.form.get("password")) == (
            self.user,
            self.password,
        ):
            return redirect(f"/dex/approval?{urlencode({'req': asked.query['state'], 'hmac': 'x'})}", 303)
        fields = '<input name="login" type="text"/><input name="password" type="password"/>'
        return Reply(content=f'<html><title>dex</title><form method="post" action="{asked.url}">{fields}</form></html>')

    def _approval(self, asked: Asked) -> Reply:
        if asked.method == "POST" and asked.form.get("approval") == "approve":
            request = self._asking.pop(asked.form["req"])
            code = secrets.token_hex(8)
            self._codes[code] = self.user
            return redirect(f"{request['redirect_uri']}?{urlencode({'code': code, 'state': request['state']})}", 303)
        forms = "".join(
            f'<form method="post"><input type="hidden" name="req" value="{asked.query["req"]}"/>'
            f'<input type="hidden" name="approval" value="{answer}"></form>'
            for answer in ("approve", "rejected")
        )
        return Reply(content=f"<html><title>dex</title>{forms}</html>")


def token(issuer: str, subject: str, audience: str, now: float, seconds: float) -> str:
    """A JWT."""
    claims = {"iss": issuer, "sub": subject, "aud": audience, "iat": int(now), "exp": int(now + seconds)}
    claims |= {"email": subject} if "@" in subject else {}
    claims["jti"] = secrets.token_hex(4)
    return jwt.encode(claims, _KEY, algorithm="RS256", headers={"kid": "test"})


def verified(text: str, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """What a JWT says, if it is one of the issuer's for that audience and has not expired."""
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    claims = jwt.decode(text, _KEY.public_key(), ["RS256"], audience=audience, issuer=issuer, options=options)
    if claims["exp"] <= now:
        raise jwt.ExpiredSignatureError("the token has expired")
    return claims


def public_keys() -> dict[str, Any]:
    """The key as a JSON Web Key Set."""
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key()))
    return {"keys": [{**key, "kid": "test", "alg": "RS256", "use": "sig"}]}


class Authority:
    """A CA that makes certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.certificate = folder / "ca.pem"
        self._write(self.certificate, self._builder(self._name, self._key, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256()))  # fmt: skip

    def issue(self, name: str, *, days: int = 1, client: bool = False) -> tuple[Path, Path]:
        """A certificate for a host name, an address or a client, and its key; expired when `days` is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        named: x509.GeneralName = x509.DNSName(name)
        if name[0].isdigit():
            named = x509.IPAddress(ipaddress.ip_address(name))
        builder = self._builder(subject, key, days).add_extension(x509.SubjectAlternativeName([named]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        self._write(certificate, builder.sign(self._key, hashes.SHA256()))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret

    def server(self, name: str = "127.0.0.1", *, days: int = 1, clients: bool = False) -> ssl.SSLContext:
        """TLS for a server of that name; `clients` must show a certificate of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, days=days))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificate)
        return context

    def _builder(self, subject: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, end = sorted((now - datetime.timedelta(days=2 if days < 0 else 1), now + datetime.timedelta(days=days)))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Proxy(Web):
    """An HTTP proxy: requests in absolute form (RFC 9112, 3.2.2) and tunnels (RFC 9110, 9.3.6).

    Attributes:
        asked: the hosts that it was asked for.
        hosts: where those are that only it knows; host and port by host and port.
    """

    def __init__(self, hosts: Mapping[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self.hosts = hosts or {}
        super().__init__()

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(urlsplit(asked.url).netloc)
        answer = requests.request(asked.method, asked.url, timeout=5)
        return Reply(answer.status_code, answer.json())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        asked, hosts = self.asked, self.hosts

        class Handler(super()._handler()):  # type: ignore[misc]
            def do_CONNECT(self) -> None:
                asked.append(self.path)
                host, _, port = hosts.get(self.path, self.path).partition(":")
                with socket.create_connection((host, int(port)), 5) as there:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=_copy, args=(there, self.connection), daemon=True)
                    back.start()
                    _copy(self.connection, there)
                    back.join(5)
                self.close_connection = True

        return Handler


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
