"""The HTTP client that Kubernetes, Kubeflow Pipelines and registries share, against servers that fail on demand."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from doubles.sign_in import Asked, Authority, Proxy, Reply, Web, redirect
from mlops_actions.errors import BadInput
from mlops_actions.http import client
from mlops_actions.http.client import HttpClient, Response
from mlops_actions.http.faults import HttpError, Remedies, shown
from mlops_actions.http.retry import Retry
from mlops_actions.http.tls import Tls, machine_authority, read_pem
from mlops_actions.images.login import Credentials
from mlops_actions.images.names import parse_name
from mlops_actions.images.registry import Registry
from mlops_actions.waiting import Clock
from servers import raw


class Ticking(Clock):
    """A clock that does not wait."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.time += seconds
        return False


class Site(Web):
    """A server that answers by a function."""

    def __init__(self, reply: Callable[[Asked], Reply] = lambda _: Reply(), tls: ssl.SSLContext | None = None) -> None:
        self._reply = reply
        super().__init__(tls)

    def answer(self, asked: Asked) -> Reply:
        return self._reply(asked)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def fails(http: HttpClient, url: str, **options: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        http.send("GET", url, **options)
    return caught.value


# Trust


@pytest.mark.parametrize("alone", [True, False])
def test_a_ca_without_a_key_identifier_is_trusted_though_python_3_13_would_not(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Python 3.13's default is set here by hand, so that each Python shows it."""
    default = ssl.create_default_context

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = default(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    with Site(tls=authority.server()) as server:
        ca = authority.certificate.read_text()
        context = strict(cadata=ca)
        with socket.create_connection(tuple(server.host.split(":"))) as plain, pytest.raises(ssl.SSLError):  # type: ignore[arg-type]
            context.wrap_socket(plain, server_hostname="127.0.0.1")
        monkeypatch.setattr(ssl, "create_default_context", strict)
        assert HttpClient({}, tls=lambda: Tls(authority=ca, alone=alone)).send("GET", server.url).ok


def test_the_client_certificate_may_change_while_it_is_used(authority: Authority) -> None:
    ca, current = authority.certificate.read_text(), [""]

    def tls() -> Tls:
        if not current[0]:
            return Tls(authority=ca)
        certificate, key = authority.issue(current[0], client=True)
        return Tls(authority=ca, certificate=certificate.read_text(), key=key.read_text())

    with Site(tls=authority.server(clients=True)) as server:
        http = HttpClient({}, tls=tls, remedies=Remedies(identity="Set it"))
        error = fails(http, server.url)
        assert error.fix == "Set it" and not error.transient and not error.sent
        current[0] = "ci"
        assert http.send("GET", server.url).ok


def test_a_setting_is_pem_or_a_path_and_never_a_key(tmp_path: Path, authority: Authority) -> None:
    ca = authority.certificate.read_text()
    (tmp_path / "ca.pem").write_text(ca)
    assert read_pem(ca, "x", tmp_path) == ca
    assert read_pem("ca.pem", "x", tmp_path) == ca.rstrip()
    assert read_pem("", "x", tmp_path) == ""
    _, key = authority.issue("someone", client=True)
    with pytest.raises(BadInput, match="is a private key itself") as caught:
        read_pem(key.read_text(), "`x`", tmp_path)
    assert "BEGIN" not in str(caught.value)
    assert machine_authority({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) == ca.rstrip()
    with pytest.raises(BadInput, match="REQUESTS_CA_BUNDLE"):
        machine_authority({"REQUESTS_CA_BUNDLE": "/no/such/file"})


def test_an_encrypted_key_is_told(authority: Authority) -> None:
    certificate, _ = authority.issue("someone", client=True)
    locked = (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\nAAAAAAAAAAAAAAAAAAAAAA==\n"
        "-----END RSA PRIVATE KEY-----\n"
    )
    with pytest.raises(BadInput, match="is encrypted"):
        Tls(certificate=certificate.read_text(), key=locked).context()


# Responses that are not whole


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n63\r\n"],
)
def test_a_truncated_response_is_told(head: bytes, stream: bool) -> None:
    with raw(head, b"one\ntwo") as url, pytest.raises(HttpError, match="sent a truncated response") as caught:
        list(HttpClient({}).send("GET", url, stream=stream).lines())
    assert caught.value.transient and caught.value.unsure


def test_a_compressed_response_is_whole_however_it_is_cut_into_chunks() -> None:
    body = base64.b64encode(os.urandom(700_000))
    packed = gzip.compress(body)
    pieces = [packed[at : at + 32768] for at in range(0, len(packed), 32768)]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw(head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n") as url:
        assert HttpClient({}).send("GET", url).content == body


def test_a_connection_that_closes_without_a_response_is_told() -> None:
    with raw() as url:
        error = fails(HttpClient({}, peer="the cluster x"), url)
    assert (error.what, error.transient, error.unsure) == ("The cluster x closed the connection", True, True)


def test_a_response_over_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SIZE_LIMIT", 1 << 20)
    monkeypatch.setattr(client, "LINE_LIMIT", 1 << 20)
    packed = Reply(content=gzip.compress(bytes(64 << 20)), headers={"Content-Encoding": "gzip"})
    plain = Reply(content=bytes(4 << 20))
    with Site(lambda asked: packed if asked.path == "/packed" else plain) as server:
        assert "takes over 1 MiB" in fails(HttpClient({}), f"{server.url}/packed").what
        with pytest.raises(HttpError, match="A line from"):
            list(HttpClient({}).send("GET", server.url, stream=True).lines())


def test_a_response_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking()
    monkeypatch.setattr(client, "WHOLE_LIMIT", -1.0)
    with Site(lambda _: Reply(content=b"x")) as server:
        assert "takes over" in fails(HttpClient({}, clock=clock), server.url).what


def test_lines_come_as_they_are_sent_and_can_be_interrupted() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    more = threading.Event()

    def run(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(head + b"5\r\none\nt\r\n")
        more.wait(10)
        connection.sendall(b"4\r\nwo\r\n\r\n")
        more.clear()
        more.wait(10)
        connection.close()

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=run, args=(listening,), daemon=True).start()
        response = HttpClient({}).send("GET", f"http://127.0.0.1:{listening.getsockname()[1]}", stream=True)
        lines = response.lines()
        assert next(lines) == b"one"
        more.set()
        assert next(lines) == b"two"
        threading.Timer(0.05, response.interrupt).start()
        with pytest.raises(HttpError):
            list(lines)
        more.set()


# Redirects, sign-ins, URLs


def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    with Site(lambda asked: redirect("/login?x=1") if asked.path == "/" else Reply()) as server:
        response = HttpClient({}).send("GET", server.url + "/")
        assert (response.status, response.location) == (302, f"{server.url}/login?x=1")
        assert len(server.seen) == 1


class Numbers:
    """A sign-in whose credential is 1, then 2, …"""

    def __init__(self, most: int) -> None:
        self.number, self.most = 1, most

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": str(self.number)}

    def wanted(self, response: Response) -> bool:
        return response.status == 401

    def refresh(self, response: Response, refused: Mapping[str, str]) -> bool:
        self.number += 1
        return self.number <= self.most


@pytest.mark.parametrize(("most", "status", "sent"), [(1, 401, ["1"]), (2, 200, ["1", "2"])])
def test_credentials_that_were_refused_are_refreshed_once(most: int, status: int, sent: list[str]) -> None:
    with Site(lambda asked: Reply(200 if asked.headers["Authorization"] == "2" else 401)) as server:
        assert HttpClient({}, auth=Numbers(most)).send("GET", server.url).status == status
        assert [asked.headers["Authorization"] for asked in server.seen] == sent


def test_credentials_that_are_refused_again_are_given_up() -> None:
    with Site(lambda _: Reply(401)) as server:
        assert HttpClient({}, auth=Numbers(9)).send("GET", server.url).status == 401
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("https://me:word@host:1/a?token=x#y", "https://host:1/a"),
        ("http://me:w@rd@host", "http://host"),
        ("http://me:word@[::1", "[::1"),
        ("host:6443", "host:6443"),
    ],
)
def test_a_url_is_shown_without_what_is_secret(url: str, without: str) -> None:
    assert shown(url) == without


@pytest.mark.parametrize(("url", "headers"), [("http://me:word@[::1", {}), ("http://h", {"X": "word\nword"})])
def test_a_request_that_cannot_be_sent_is_bad_input_and_shows_no_secret(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="Cannot send a request") as caught, Site() as server:
        HttpClient({}).send("GET", url.replace("//h", f"//{server.host}"), headers=headers)
    assert "word" not in str(caught.value)


# Proxies


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("transient", [False, True])
def test_a_proxy_that_refuses_is_named(authority: Authority, secure: bool, transient: bool) -> None:
    status = b"503 Service Unavailable" if transient else b"407 Proxy Authentication Required"
    with raw(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n") as proxy:
        named = proxy.replace("//", "//me:word@")
        http = HttpClient({}, proxy=named, peer="the cluster x", remedies=Remedies(proxy="Correct it"))
        if transient and not secure:  # nobody can tell that it is not the server's own
            assert http.send("GET", "http://h/").status == 503
            return
        error = fails(http, "https://h/" if secure else "http://h/")
    assert error.what == f"Cannot reach the cluster x through the proxy {proxy}"
    assert (error.fix, error.transient, error.sent) == ("Correct it", transient, False)
    assert "word" not in str(error)


def test_a_proxy_gets_the_password_as_it_was_meant() -> None:
    seen: list[str] = []

    class Noting(Proxy):
        def answer(self, asked: Asked) -> Reply:
            seen.append(asked.headers.get("Proxy-Authorization", ""))
            return super().answer(asked)

    with Site() as server, Noting() as between:
        proxy = between.url.replace("//", "//me:p%40ss@")
        assert HttpClient({"HTTP_PROXY": proxy}).send("GET", server.url).ok
    assert seen == ["Basic bWU6cEBzcw=="]


# Repeating


def test_only_what_may_arrive_twice_is_repeated() -> None:
    tried: list[int] = []

    def failing(**about: Any) -> Callable[[], None]:
        def attempt() -> None:
            tried.append(1)
            raise HttpError("x", transient=True, **about)

        return attempt

    for about, again, repeats in (
        ({}, True, True),
        ({}, False, False),
        ({"status": 502}, False, False),
        ({"sent": False}, False, True),
        ({"status": 429}, False, True),
    ):
        tried.clear()
        with pytest.raises(HttpError):
            Retry("x", Ticking(), patience=60, first=60).run(failing(**about), again=again)
        assert (len(tried) > 1) is repeats, about


def test_one_that_never_responded_is_given_up_sooner() -> None:
    def attempt() -> None:
        raise HttpError("x", transient=True)

    clock = Ticking()
    retry = Retry("x", clock, patience=300, first=5)
    with pytest.raises(HttpError):
        retry.run(attempt)
    assert 1 < clock.time <= 5
    retry.run(lambda: None)
    with pytest.raises(HttpError):
        retry.run(attempt)
    assert clock.time > 100


# A registry


def test_a_registry_that_gives_tokens_is_logged_in_to_once() -> None:
    def reply(asked: Asked) -> Reply:
        if asked.path == "/token":
            assert asked.query == {"service": "s", "scope": "repository:team/x:pull,push"}
            return Reply(content={"token": "t"}) if "bWU6d29yZA==" in asked.headers["Authorization"] else Reply(401)
        if asked.headers.get("Authorization") != "Bearer t":
            challenge = f'Bearer realm="{server.url}/token",service="s"'
            return Reply(401, {"errors": []}, {"WWW-Authenticate": challenge})
        return Reply(200, json.dumps({"layers": []}).encode(), {"Content-Type": "application/x; a=b"})

    with Site(reply) as server:
        registry = Registry(
            parse_name(f"{server.host}/team/x"), Credentials("me", "word"), {}, insecure=True, say=print
        )
        found = registry.manifest("tag")
        assert found is not None and found.media_type == "application/x"
        assert registry.manifest("other") is not None
        assert [asked.path.rpartition("/")[2] for asked in server.seen] == ["tag", "token", "tag", "other"]


def test_a_registry_s_login_does_not_follow_a_redirect_to_another_host() -> None:
    with Site(lambda asked: Reply(200, b"{}", {"Content-Type": "x"})) as other:

        def reply(asked: Asked) -> Reply:
            if not asked.headers.get("Authorization"):
                return Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            return redirect(f"{other.url}/elsewhere", 307)

        with Site(reply) as server:
            name = parse_name(f"{server.host}/team/x")
            assert Registry(name, Credentials("me", "word"), {}, insecure=True, say=print).manifest("tag") is not None
        assert "Authorization" not in other.seen[0].headers


def test_a_registry_that_cannot_be_reached_is_named_with_its_setting() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{free.getsockname()[1]}"
    registry = Registry(parse_name(f"{name}/x"), None, {}, insecure=True, say=lambda _: None, clock=Ticking())
    with pytest.raises(HttpError) as caught:
        registry.has("tag")
    assert caught.value.what.startswith(f"Cannot reach the registry {name}")
    assert (caught.value.why, "`image`" in caught.value.fix) == ("Connection refused", True)
