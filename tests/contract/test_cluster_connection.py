"""Reaching a cluster: kubeconfigs, credentials, TLS and proxies, against real TLS servers on this machine."""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import socketserver
import ssl
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from given import cluster_inputs
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.http import client
from mlops_actions.kubernetes import credentials, kubeconfig, transport
from mlops_actions.kubernetes.connection import connect, secrets_in
from mlops_actions.kubernetes.failures import Asked, ClusterFailed, Refused, reported
from mlops_actions.kubernetes.objects import POD, Cluster
from mlops_actions.waiting import Clock

NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str, *, names: tuple[str, ...] = (), ends: timedelta = DAY) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self.certificate.subject, key, NOW + ends)
        if names:
            found: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
        signed = builder.sign(self.key, hashes.SHA256())
        return Pair(signed.public_bytes(serialization.Encoding.PEM).decode(), _pem(key))


def _builder(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 9 * DAY)
        .not_valid_after(ends)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("an authority", None, key, NOW + DAY)
    extended = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(extended.sign(key, hashes.SHA256()), key)


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@dataclass
class Server:
    """An API server of a few answers.

    Attributes:
        url: its address.
        accept: who may ask, by the Authorization header and the client certificate's subject.
        seen: headers of the requests.
    """

    url: str = ""
    accept: Callable[[str, str], bool] = lambda header, subject: True
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    seen: list[dict[str, list[str]]] = field(default_factory=list)


@contextmanager
def serve(pair: Pair | None, folder: Path, clients: Authority | None = None) -> Iterator[Server]:
    server = Server(answers={"/version": (200, {}, b'{"gitVersion": "v1.99.0"}')})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            subject = ""
            if isinstance(self.connection, ssl.SSLSocket):
                found: Any = self.connection.getpeercert() or {}
                subject = dict(one[0] for one in found.get("subject", ())).get("commonName", "")
            server.seen.append({name: self.headers.get_all(name, []) for name in self.headers})
            status, headers, body = server.answers.get(self.path, (404, {}, b"404 page not found\n"))
            if not server.accept(self.headers.get("Authorization", ""), subject):
                said = {"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized", "code": 401}
                status, headers, body = 401, {}, json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that do not trust us go away

    listening = Quiet(("127.0.0.1", 0), Handler)
    if pair:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=clients.pem if clients else None)
        context.verify_mode = ssl.CERT_OPTIONAL if clients else ssl.CERT_NONE
        file = folder / "server.pem"
        file.write_text(pair.certificate + pair.key)
        context.load_cert_chain(file)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    server.url = f"http{'s' if pair else ''}://127.0.0.1:{listening.server_port}"
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture
def server(root: Authority, tmp_path: Path) -> Iterator[Server]:
    """With TLS, a certificate for 127.0.0.1 and `api.example.org`, and client certificates of the same authority."""
    pair = root.issue("server", names=("127.0.0.1", "api.example.org"))
    with serve(pair, tmp_path, root) as found:
        yield found


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(server: str, root: Authority | None = None, user: dict[str, Any] | None = None, **cluster: Any) -> str:
    """A kubeconfig's text."""
    about = {"server": server, **({"certificate-authority-data": b64(root.pem)} if root else {}), **cluster}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "the-cluster", "cluster": about}],
        "users": [{"name": "someone", "user": user or {}}],
        "contexts": [
            {"name": "staging", "context": {"cluster": "the-cluster", "user": "someone", "namespace": "team-a"}}
        ],
        "current-context": "staging",
    }
    return yaml.safe_dump(content)


def token_that_expired(when: datetime) -> str:
    part = base64.urlsafe_b64encode(json.dumps({"exp": when.timestamp()}).encode()).decode().rstrip("=")
    return f"e30.{part}.signature"


class Ticking(Clock):
    """A clock that does not wait."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.waits.append(seconds)
        self.time += seconds
        return False


def reach(
    text: str = "",
    context: str = "",
    namespace: str = "",
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Cluster:
    """Connect to the cluster of a kubeconfig."""
    return connect(cluster_inputs(text, context, namespace), environ or {}, clock=clock)


to = partial(partial, reach)
"""`reach`, to be called later."""


# ---------------------------------------------------------------- where a kubeconfig is

_ASKS = {"command": "x", "apiVersion": "v1", "interactiveMode": "Always"}


@pytest.mark.parametrize("form", ["text", "base64", "wrapped base64", "file", "KUBECONFIG", "home"])
def test_kubeconfig_is_taken_in_every_form(server: Server, root: Authority, tmp_path: Path, form: str) -> None:
    text = config(server.url, root)
    file = tmp_path / ".kube" / "config"
    file.parent.mkdir()
    file.write_text(text)
    wrapped = "\n".join(b64(text)[at : at + 76] for at in range(0, len(b64(text)), 76))
    attempt = {
        "text": to(text),
        "base64": to(b64(text)),
        "wrapped base64": to(wrapped + "\n"),
        "file": to(str(file)),
        "KUBECONFIG": to(environ={"KUBECONFIG": f"{tmp_path / 'none'}:{file}"}),
        "home": to(environ={"HOME": str(tmp_path)}),
    }[form]
    cluster = attempt()
    assert (cluster.server, cluster.namespace, cluster.version) == (server.url, "team-a", "v1.99.0")


def test_first_of_several_files_decides(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(config("https://first:1"))
    other = yaml.safe_load(config("https://second:2"))
    other["contexts"].append({"name": "prod", "context": {"cluster": "prod"}})
    other["clusters"].append({"name": "prod", "cluster": {"server": "https://prod:3"}})
    other["current-context"] = "prod"
    (tmp_path / "b").write_text(yaml.safe_dump(other))
    both = {"KUBECONFIG": f"{tmp_path / 'a'}:{tmp_path / 'b'}"}
    assert kubeconfig.resolve(cluster_inputs(), both).server.url == "https://first:1"
    resolved = kubeconfig.resolve(cluster_inputs(context="prod"), both)
    assert (resolved.server.url, resolved.namespace) == ("https://prod:3", "default")
    assert kubeconfig.resolve(cluster_inputs(namespace="other"), both).namespace == "other"


def test_paths_in_a_kubeconfig_are_relative_to_its_file(root: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(root.pem)
    (tmp_path / "config.yaml").write_text(
        config("https://host", user={"tokenFile": "token"}, **{"certificate-authority": "ca.pem"})
    )
    resolved = kubeconfig.resolve(cluster_inputs(str(tmp_path / "config.yaml")), {})
    assert resolved.server.authority.read() == root.pem.strip()
    assert resolved.user.token.path == str(tmp_path / "token")


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (to(environ={"HOME": "/nonexistent"}), "No cluster is given. `kubeconfig` and KUBECONFIG are empty"),
        (to("/nowhere/config"), "The kubeconfig does not exist: /nowhere/config. Correct `kubeconfig`"),
        (to(environ={"KUBECONFIG": "/nowhere"}), "The kubeconfig does not exist: /nowhere. Correct KUBECONFIG"),
        (to("c2VjcmV0IG5vdGhpbmc="), "neither a kubeconfig, nor one as base64, nor the path of a file"),
        (to("clusters: [\nx: 1"), "`kubeconfig` is not YAML"),
        (to("clusters:\n  a: b"), "`clusters` of `kubeconfig` is not as in a kubeconfig"),
        (to(config("https://h"), context="stagin"), "no context `stagin`, which `kube-context` names. Did you mean"),
        (to(config("host:6443")), "in the kubeconfig is not a URL. It is host:6443. Give it as https://host:port"),
        (to(config("https://me:word@[h")), "in the kubeconfig is not a URL. It is [h. Give it as https://host:port"),
        (to(config("https://h").replace("user: someone", "user: sb")), "no user `sb`, which the context staging"),
        (to(config("https://h").replace("current-context: staging", "")), "https://h"),
        (to(config("https://h", user={"auth-provider": {"name": "gcp"}})), "has an `auth-provider`"),
        (to(config("https://h", **{"certificate-authority-data": "%%"})), "not base64 of text"),
        (to(config("https://h", **{"certificate-authority": "/no/ca"})), "a file that the kubeconfig names: /no/ca"),
        (to(config("https://h", **{"certificate-authority-data": b64("x")})), "it is not a certificate"),
        (to(config("https://h", user={"exec": {"command": "x"}})), "needs `command` and `apiVersion`"),
        (to(config("https://h", user={"exec": _ASKS})), "asks a person to sign in"),
        (to(config("https://h", **{"proxy-url": "socks5://p:1"})), "scheme of the proxy socks5://p:1 is not supported"),
    ],
)  # fmt: skip
def test_bad_kubeconfig_is_one_clear_error(
    attempt: Callable[..., Cluster], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", _no_name)
    with pytest.raises((BadInput, RemoteFailed)) as caught:
        attempt(clock=Ticking())
    assert words in str(caught.value)
    assert caught.value.exit_code == (2 if words != "https://h" else 3)


def _no_name(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_pod_uses_its_service_account(
    root: Authority, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "pods-token\n"), ("ca.crt", root.pem), ("namespace", "team-b")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    host, port = server.url.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "HOME": "/nonexistent"}
    cluster = reach(environ=environ)
    assert cluster.namespace == "team-b"
    assert server.seen[-1]["Authorization"] == ["Bearer pods-token"]


# ---------------------------------------------------------------- secrets


def test_secrets_of_a_kubeconfig_are_known(root: Authority, tmp_path: Path) -> None:
    pair = root.issue("someone")
    user = {
        "token": "the-token", "password": "the-password", "client-key-data": b64(pair.key),
        "client-certificate-data": b64(pair.certificate),
        "exec": {"env": [{"name": "CLOUD_SECRET_KEY", "value": "the-cloud-key"}, {"name": "PROFILE", "value": "dev"}]},
    }  # fmt: skip
    text = config("https://h", root, user, **{"proxy-url": "http://me:proxy-word@p:1"})
    expected = {"the-token", "the-password", b64(pair.key), pair.key, "the-cloud-key", "proxy-word"}
    for given in (text, b64(text)):
        assert set(secrets_in(given)) == (expected | {given}) - {text}, "its lines are words that logs need"
    (tmp_path / "config.yaml").write_text(text)
    assert set(secrets_in(str(tmp_path / "config.yaml"))) == expected
    assert secrets_in("") == []
    assert secrets_in("%%% no kubeconfig") == ["%%% no kubeconfig"]


def test_no_error_shows_a_secret() -> None:
    for bad in ("token: very-secret: [", "very-secret", b64("very-secret")):
        with pytest.raises(BadInput) as caught:
            kubeconfig.resolve(cluster_inputs(bad), {})
        assert "very-secret" not in str(caught.value)
        assert b64("very-secret") not in str(caught.value)
    resolved = kubeconfig.resolve(
        cluster_inputs(config("https://h", user={"token": "very-secret", "password": "very-secret"})), {}
    )
    assert "very-secret" not in repr(resolved)


def test_client_key_is_on_disk_for_us_alone_and_not_for_long(
    server: Server, root: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, files = root.issue("someone"), []
    load = ssl.SSLContext.load_cert_chain

    def spy(self: ssl.SSLContext, path: Path, *arguments: Any, **options: Any) -> None:
        files.append((path, stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)))
        load(self, path, *arguments, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    server.accept = lambda header, subject: subject == "someone"
    user = {"client-certificate-data": b64(pair.certificate), "client-key-data": b64(pair.key)}
    reach(config(server.url, root, user))
    assert [modes for _, *modes in files] == [[0o600, 0o700]]
    assert not files[0][0].exists()


# ---------------------------------------------------------------- signing in


def test_token_file_that_rotates_is_read_again_when_refused(server: Server, root: Authority, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    server.accept = lambda header, _: header == f"Bearer {file.read_text().strip()}"
    cluster = reach(config(server.url, root, {"tokenFile": str(file), "token": "ignored"}))
    server.answers["/api/v1/namespaces/team-a/pods?limit=500"] = (200, {}, b'{"items": []}')
    file.write_text("second\n")
    assert cluster.list(POD) == []
    assert [seen["Authorization"][0] for seen in server.seen] == ["Bearer first", "Bearer first", "Bearer second"]


def test_token_file_is_read_again_after_a_minute(server: Server, root: Authority, tmp_path: Path) -> None:
    file, clock = tmp_path / "token", Ticking()
    file.write_text("first")
    cluster = reach(config(server.url, root, {"tokenFile": str(file)}), clock=clock)
    server.answers["/api/v1/namespaces/team-a/pods?limit=500"] = (200, {}, b'{"items": []}')
    file.write_text("second")
    for after, expected in ((0, "first"), (61, "second")):
        clock.time += after
        cluster.list(POD)
        assert server.seen[-1]["Authorization"] == [f"Bearer {expected}"]


def test_basic_sign_in_and_impersonation(server: Server, root: Authority) -> None:
    user = {"username": "jo", "password": "pass", "as": "mia", "as-groups": ["dev", "ops"], "as-uid": "7"}
    reach(config(server.url, root, user))
    seen = server.seen[-1]
    assert seen["Authorization"] == ["Basic " + b64("jo:pass")]
    assert (seen["Impersonate-User"], seen["Impersonate-Uid"]) == (["mia"], ["7"])
    assert seen["Impersonate-Group"] == ["dev", "ops"]


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ({"token": token_that_expired(NOW - DAY)}, f"The token expired on {NOW - DAY:%Y-%m-%d}"),
        ({"token": "opaque"}, "Unauthorized"),
        ({}, "has no user, or a user without credentials"),
    ],
)
def test_refused_credentials_say_why(server: Server, root: Authority, user: dict[str, Any], why: str) -> None:
    server.accept = lambda header, subject: False
    with pytest.raises(ClusterFailed, match="does not accept the credentials") as caught:
        reach(config(server.url, root, user))
    assert why in caught.value.why
    assert caught.value.exit_code == 3


def test_expired_client_certificate_is_told(root: Authority, tmp_path: Path) -> None:
    """A server that lets TLS pass and refuses then, as Kubernetes' does."""
    old = root.issue("someone", ends=-DAY)
    user = {"client-certificate-data": b64(old.certificate), "client-key-data": b64(old.key)}
    with serve(root.issue("server", names=("127.0.0.1",)), tmp_path) as server:
        server.accept = lambda header, subject: False
        with pytest.raises(ClusterFailed) as caught:
            reach(config(server.url, root, user))
    assert f"The client certificate expired on {NOW - DAY:%Y-%m-%d}" in caught.value.why


def test_certificate_and_key_that_do_not_belong_together(root: Authority) -> None:
    one, other = root.issue("one"), root.issue("other")
    user = {"client-certificate-data": b64(one.certificate), "client-key-data": b64(other.key)}
    with pytest.raises(BadInput, match="Cannot use the kubeconfig's client certificate"):
        reach(config("https://127.0.0.1:1", root, user))


# ---------------------------------------------------------------- programs that give credentials


def plugin(tmp_path: Path, code: str, **about: Any) -> dict[str, Any]:
    """A user whose credentials a program gives."""
    file = tmp_path / "give.py"
    file.write_text(code)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": [str(file)], **about}}


def credential(**status: str) -> str:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(answer)!r})"


def test_program_gives_a_token_and_is_told_of_the_cluster(server: Server, root: Authority, tmp_path: Path) -> None:
    code = (
        "import json, os\n"
        f"open({str(tmp_path / 'told')!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'] + os.environ['PROFILE'])\n"
    ) + credential(token="from-the-program")
    user = plugin(tmp_path, code, env=[{"name": "PROFILE", "value": "dev"}], provideClusterInfo=True)
    reach(config(server.url, root, user))
    assert server.seen[-1]["Authorization"] == ["Bearer from-the-program"]
    told = (tmp_path / "told").read_text()
    assert told.endswith("dev")
    about = json.loads(told.removesuffix("dev"))
    assert about["spec"]["cluster"]["server"] == server.url
    assert about["spec"]["interactive"] is False


def test_program_is_asked_once_until_its_token_expires_or_is_refused(
    server: Server, root: Authority, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    soon = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    code = f"open({str(count)!r}, 'a').write('x')\n" + credential(token="t", expirationTimestamp=soon)
    cluster = reach(config(server.url, root, plugin(tmp_path, code)))
    server.answers["/api/v1/namespaces/team-a/pods?limit=500"] = (200, {}, b'{"items": []}')
    cluster.list(POD)
    assert count.read_text() == "x"
    refusals = iter([False])
    server.accept = lambda header, subject: next(refusals, True)
    cluster.list(POD)
    assert count.read_text() == "xx"
    code = code.replace(soon, "2020-01-01T00:00:00Z")
    (tmp_path / "give.py").write_text(code)
    cluster._transport._credentials._given = {}
    cluster.list(POD)
    cluster.list(POD)
    assert len(count.read_text()) >= 4


def test_program_gives_a_client_certificate(server: Server, root: Authority, tmp_path: Path) -> None:
    pair = root.issue("from-the-program")
    server.accept = lambda header, subject: subject == "from-the-program"
    code = credential(clientCertificateData=pair.certificate, clientKeyData=pair.key)
    assert reach(config(server.url, root, plugin(tmp_path, code))).version == "v1.99.0"


def test_missing_program_is_named_with_its_author_s_hint(tmp_path: Path) -> None:
    about = {"command": "no-such-login", "args": None, "installHint": "Get it from example.org"}
    user = plugin(tmp_path, "", **about)
    with pytest.raises(BadInput) as caught:
        reach(config("https://127.0.0.1:1", None, user), environ={"PATH": str(tmp_path)})
    assert "`no-such-login`" in caught.value.what
    assert (caught.value.why, caught.value.fix) == ("It is not installed here", "Get it from example.org")


@pytest.mark.parametrize(
    ("code", "words", "log"),
    [
        (
            "import sys; sys.exit('first\\nno session: log in')",
            "failed with 1. no session: log in",
            "first\nno session",
        ),
        ("print('hello')", "is not an ExecCredential. it is not JSON", ""),
        (credential(), "neither a token nor a certificate", ""),
        (credential(token="t").replace("/v1", "/v1beta1"), "got client.authentication.k8s.io/v1beta1", ""),
    ],
)
def test_program_that_fails_is_told_with_its_own_words(tmp_path: Path, code: str, words: str, log: str) -> None:
    with pytest.raises(RemoteFailed) as caught:
        reach(config("https://127.0.0.1:1", None, plugin(tmp_path, code)))
    assert words in str(caught.value)
    assert log in caught.value.log


def test_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_PROGRAM_LIMIT", 0.3)
    with pytest.raises(RemoteFailed, match="took over"):
        reach(config("https://127.0.0.1:1", None, plugin(tmp_path, "import time; time.sleep(60)")))


# ---------------------------------------------------------------- the way to the server


def fails(text: str, **environ: str) -> ClusterFailed:
    with pytest.raises(ClusterFailed) as caught:
        reach(text, environ=environ, clock=Ticking())
    assert caught.value.exit_code == 3
    return caught.value


def test_name_that_the_certificate_lacks(server: Server, root: Authority) -> None:
    url = server.url.replace("127.0.0.1", "localhost")
    error = fails(config(url, root))
    assert error.what == f"Cannot trust the cluster {url}: its certificate is not for the name 'localhost'"
    assert "tls-server-name" in error.fix
    named = config(url, root, **{"tls-server-name": "api.example.org"})
    assert reach(named).version == "v1.99.0"


def test_authority_that_is_not_the_server_s(server: Server) -> None:
    error = fails(config(server.url, authority()))
    assert error.what.startswith(f"Cannot trust the cluster {server.url}: its certificate cannot be verified")
    assert "certificate-authority-data" in error.fix
    error = fails(config(server.url))  # nor is it any that this machine trusts
    assert error.what.endswith("its certificate is signed by a CA that is not trusted here")


def test_check_that_is_turned_off(server: Server) -> None:
    assert reach(config(server.url, **{"insecure-skip-tls-verify": True})).version


def test_expired_server_certificate(root: Authority, tmp_path: Path) -> None:
    with serve(root.issue("server", names=("127.0.0.1",), ends=-DAY), tmp_path) as server:
        assert "has expired" in fails(config(server.url, root)).what


def test_server_that_speaks_no_tls(root: Authority, tmp_path: Path) -> None:
    with serve(None, tmp_path) as server:
        error = fails(config(server.url.replace("http:", "https:"), root))
    assert error.what.endswith("does not speak TLS on this port")


def test_page_that_is_no_api(server: Server, root: Authority) -> None:
    server.answers["/version"] = (200, {"Content-Type": "text/html"}, b"<html>sign in</html>")
    error = fails(config(server.url, root))
    assert error.what == f"{server.url} is not a Kubernetes API"
    server.answers["/version"] = (302, {"Location": "https://login.example.org"}, b"")
    assert "HTTP 302" in fails(config(server.url, root)).why


def test_closed_port_is_said_at_once(root: Authority) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
    error = fails(config(url, root))
    assert error.what.startswith(f"Cannot reach the cluster {url} (tried for ")
    assert error.why == "Connection refused"


def test_password_in_the_server_s_url_is_not_shown(server: Server, root: Authority) -> None:
    url = server.url.replace("//", "//me:word@")
    assert reach(config(url, root)).server == server.url
    assert "word" not in str(fails(config(url, authority())))


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _no_name)
    error = fails(config("https://no-such-host.invalid:6443"))
    assert error.why == "Cannot resolve the host name 'no-such-host.invalid'"


def test_server_that_does_not_answer(root: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_LIMIT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = fails(config(f"https://127.0.0.1:{silent.getsockname()[1]}", root))
    assert error.why == "It accepted the connection and then sent nothing in time"


def test_busy_server_is_given_the_time_that_it_asks_for(server: Server, root: Authority) -> None:
    clock = Ticking()
    cluster = reach(config(server.url, root), clock=clock)
    path = "/api/v1/namespaces/team-a/pods?limit=500"
    server.answers[path] = (429, {"Retry-After": "7"}, b"{}")
    with pytest.raises(ClusterFailed) as caught:
        cluster.list(POD)
    assert caught.value.retry_after == 7
    assert min(clock.waits) == 7
    assert clock.now() <= transport.PATIENCE


class _Proxy(socketserver.StreamRequestHandler):
    asked: list[str]

    def handle(self) -> None:
        lines = [line.strip().decode() for line in iter(self.rfile.readline, b"\r\n")]
        self.asked += lines
        port = lines[0].split()[1].rpartition(":")[2]
        with socket.create_connection(("127.0.0.1", int(port))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(upstream, self.connection), daemon=True)
            back.start()
            _copy(self.connection, upstream)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy for any host, and the lines that it was sent."""
    asked: list[str] = []
    handler = type("Handler", (_Proxy,), {"asked": asked})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


def test_proxy_of_the_kubeconfig_and_of_the_variables(
    server: Server, root: Authority, proxy: tuple[str, list[str]]
) -> None:
    address, asked = proxy
    url = server.url.replace("127.0.0.1", "api.example.org")  # a name that only the proxy knows
    named = config(url, root, **{"proxy-url": f"http://me:word@{address}"})
    assert reach(named, environ={"NO_PROXY": "*"}).version
    assert any(line.lower() == f"proxy-authorization: basic {b64('me:word')}".lower() for line in asked)
    asked.clear()
    assert reach(config(url, root), environ={"HTTPS_PROXY": f"http://{address}"}).version
    assert asked[0].startswith("CONNECT api.example.org:")
    asked.clear()
    around = {"https_proxy": address, "no_proxy": "example.com, 127.0.0.0/8"}
    assert reach(config(server.url, root), environ=around).version
    assert not asked


def test_proxy_that_is_down_is_named(root: Authority) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = fails(config("https://h:1", root), HTTPS_PROXY=f"http://me:word@127.0.0.1:{port}")
    assert f"through the proxy http://127.0.0.1:{port}" in error.what
    assert "word" not in str(error)


# ---------------------------------------------------------------- answers that are errors


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (403, {"message": 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, limited: pods=2'},
         ClusterFailed, "The quota of the namespace n is used up. small, requested: pods=1"),
        (403, {"message": "unable to create new content in namespace n because it is being terminated"},
         ClusterFailed, "The namespace n is being deleted"),
        (403, {"message": 'admission webhook "validator.katib" denied the request: no objective'},
         Refused, "The cluster's validator.katib refused to create pods x in the namespace n. no objective"),
        (403, {"message": 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'},
         Refused, "violates PodSecurity"),
        (403, {"message": 'pods is forbidden: User "system:serviceaccount:n:bot" cannot create resource "pods"'},
         ClusterFailed, "The service account n/bot may not create pods in the namespace n"),
        (422, {"reason": "Invalid", "message": "spec.x: Required value"}, Refused, "spec.x: Required value"),
        (404, {"details": {"kind": "namespaces", "name": "n"}}, Refused, "The cluster has no namespace n"),
        (404, {}, ClusterFailed, "does not know pods"),
        (500, {"reason": "InternalError", "message": "etcdserver: leader changed"}, ClusterFailed, "leader changed"),
    ],
)  # fmt: skip
def test_answers_are_told_in_clear_words(status: int, said: dict[str, Any], kind: type, words: str) -> None:
    body = json.dumps({"kind": "Status", "code": status, **said}).encode()
    error = reported("https://h", Asked("create", "pods", "x", "n"), status, body)
    assert type(error) is kind
    assert words in str(error)
    assert isinstance(error, Refused) or error.transient is (status == 500)
