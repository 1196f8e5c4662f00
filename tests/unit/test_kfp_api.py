"""The client to Kubeflow Pipelines: against servers on this machine that fail in the ways servers do."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kfp_recorded
from doubles.sign_in import Asked, Authority, Kfp, Proxy, Reply, redirect
from given import kfp_inputs
from mlops_actions.errors import BadInput
from mlops_actions.http.client import HttpClient
from mlops_actions.http.faults import HttpError
from mlops_actions.pipelines.kfp.client.api import ApiError, KfpApi
from mlops_actions.waiting import Clock

PIPELINES = "/apis/v2beta1/pipelines"


class FakeClock(Clock):
    """Waiting takes no time; `then` happens at the first wait."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.time, self._then = 1000.0, then

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        then, self._then = self._then, lambda: None
        then()
        self.time += seconds
        return False


@pytest.fixture
def kfp() -> Iterator[Kfp]:
    with Kfp() as server:
        yield server


def api_to(url: str, **options: Any) -> KfpApi:
    own = {name: options.pop(name) for name in ("clock", "say", "patience") if name in options}
    environ = options.pop("environ", {})
    return KfpApi(kfp_inputs(url, **options), environ, Path(), **{"clock": FakeClock(), **own})


def paths(server: Kfp) -> list[str]:
    return [f"{asked.method} {asked.path}" for asked in server.seen]


def test_an_answer_is_its_json_and_requests_are_counted(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    assert api.get(PIPELINES)["pipelines"] == [{"pipeline_id": "1"}]
    assert api.requests == len(kfp.seen) == 2  # the first finds out where the API is


@pytest.mark.parametrize("suffix", ["", "/", "/#/runs", "/apis/v2beta1/", "?ns=x"])
def test_what_people_copy_from_a_browser_is_understood(kfp: Kfp, suffix: str) -> None:
    assert api_to(kfp.url + suffix).get(PIPELINES)["total_size"] == 1


@pytest.mark.parametrize("root", [Reply(content="<html><title>Kubeflow Central Dashboard</title></html>"), Reply(404)])
def test_kubeflow_has_the_api_below_pipeline(root: Reply) -> None:
    with Kfp(lambda asked: None if asked.path.startswith("/pipeline/") else root, prefix="/pipeline") as server:
        for url in (server.url, server.url + "/pipeline"):
            api = api_to(url)
            assert api.get(PIPELINES)["total_size"] == 1
            assert api.url == server.url + "/pipeline"


def test_values_of_a_query_are_written_as_the_api_reads_them(kfp: Kfp) -> None:
    api_to(kfp.url).get(PIPELINES, filter={"predicates": []}, follow=True, page_size=5, namespace=None)
    assert kfp.seen[-1].query == {"filter": '{"predicates": []}', "follow": "true", "page_size": "5"}


def test_faults_that_pass_are_waited_out_and_said_once(kfp: Kfp) -> None:
    said: list[str] = []
    api = api_to(kfp.url, say=said.append)
    api.get(PIPELINES)
    kfp.faults = ["cut", Reply(503, b"no healthy upstream"), "half", Reply(500, {"code": 13, "message": "database"})]
    assert api.get(PIPELINES)["total_size"] == 1
    assert len(said) == 2
    assert "closed the connection" in said[0] and "300 s" in said[0]
    assert "responds again" in said[1]


def test_a_server_that_stays_away_is_given_up_after_the_patience(kfp: Kfp) -> None:
    clock = FakeClock()
    api = api_to(kfp.url, clock=clock, patience=60)
    api.get(PIPELINES)
    kfp.faults = [Reply(503, b"upstream connect error")] * 1000
    with pytest.raises(ApiError, match=r"upstream connect error") as caught:
        api.get(PIPELINES)
    assert caught.value.status == 503
    assert 30 < clock.time - 1000 <= 60


def test_a_server_that_never_answered_is_given_up_sooner() -> None:
    with Kfp() as server:
        url = server.url
    clock = FakeClock()
    with pytest.raises(ApiError, match="Connection refused") as caught:
        api_to(url, clock=clock).get(PIPELINES)
    assert caught.value.status == 0 and not caught.value.unsure
    assert clock.time - 1000 <= 20


def test_what_creates_is_not_sent_again_once_it_may_have_arrived(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    for fault in ("cut", "half", Reply(502, b"")):
        kfp.faults, kfp.seen = [None, fault] if not kfp.seen else [fault], []
        with pytest.raises(ApiError) as caught:
            api.post("/apis/v2beta1/runs", {"display_name": "x"})
        assert caught.value.unsure
        assert paths(kfp)[-1:] == ["POST /apis/v2beta1/runs"]
        assert paths(kfp).count("POST /apis/v2beta1/runs") == 1


def test_what_may_be_repeated_is_sent_again(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(502, b""), Reply(content={"done": True})]
    assert api.post("/apis/v2beta1/runs/1:terminate", again=True) == {"done": True}


def test_what_creates_is_sent_again_when_it_never_arrived(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(429, b"slow down", {"Retry-After": "7"}), Reply(content={"run_id": "1"})]
    clock = FakeClock()
    api._retry._clock = clock
    assert api.post("/apis/v2beta1/runs", {}) == {"run_id": "1"}
    assert clock.time - 1000 >= 7


def test_a_deletion_that_was_cut_finds_nothing_the_second_time(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = ["cut"]
    assert api.delete("/apis/v2beta1/recurringruns/1") == {}
    with pytest.raises(ApiError) as caught:
        api.delete("/apis/v2beta1/recurringruns/1")
    assert caught.value.status == 404 and caught.value.code == 5


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, "Could not get main container logs: S3Error: no such key", r"HTTP 500: Could not get .*: no such key\.$"),
        (404, "\n".join(kfp_recorded.lines("log-ui.txt")).partition("\n\n")[2], r"nodes/p/log\. HTTP 404\.$"),
    ],
)
def test_words_that_kfps_ui_sends_as_a_page_are_told_and_pages_are_not(
    kfp: Kfp, status: int, body: str, said: str
) -> None:
    api = api_to(kfp.url, patience=0)
    api.get(PIPELINES)
    kfp.faults = [Reply(status, body)]
    with pytest.raises(ApiError, match=said):
        list(api.stream("/apis/v1alpha1/runs/r/nodes/p/log"))


def test_a_list_is_read_page_after_page(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [
        Reply(content={"runs": [{"run_id": "1"}], "next_page_token": "a b"}),
        Reply(content={"next_page_token": "c"}),
        Reply(content={"runs": [{"run_id": "2"}]}),
    ]
    assert [run["run_id"] for run in api.pages("/apis/v2beta1/runs", "runs", namespace="team")] == ["1", "2"]
    assert [asked.query.get("page_token") for asked in kfp.seen[-3:]] == [None, "a b", "c"]
    assert all(asked.query["namespace"] == "team" for asked in kfp.seen[-3:])


def test_a_server_that_gives_one_page_for_ever_is_left(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(content={"runs": [], "next_page_token": "same"})] * 100
    with pytest.raises(ApiError, match="the same page"):
        list(api.pages("/apis/v2beta1/runs", "runs"))


def test_a_file_is_uploaded_as_a_form(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(content={"pipeline_id": "7"})]
    assert api.upload(f"{PIPELINES}/upload", b"spec", "p.yaml", name="p")["pipeline_id"] == "7"
    asked = kfp.seen[-1]
    assert asked.query == {"name": "p"}
    assert b'name="uploadfile"; filename="p.yaml"' in asked.body and b"spec" in asked.body


def test_a_log_is_read_line_by_line(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(content="größer\nzwei\r\ndrei".encode())]
    assert list(api.stream("/apis/v1alpha1/runs/1/nodes/pod/log", follow=False)) == ["größer", "zwei", "drei"]


def test_a_log_that_is_not_there_is_no_fault_that_passes(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(500, {"error_message": 'pods "p" not found', "error_details": "…"})]
    with pytest.raises(ApiError, match='pods "p" not found'):
        list(api.stream("/apis/v1alpha1/runs/1/nodes/p/log"))


def test_a_log_that_is_cut_says_so(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    whole = kfp.answer
    kfp.answer = lambda asked: Reply(content=b"one\ntwo\n") if "log" in asked.path else whole(asked)  # type: ignore[method-assign]
    kfp.faults = ["half"]
    lines = api.stream("/apis/v1alpha1/runs/1/nodes/p/log")
    assert next(lines) == "one"
    with pytest.raises(ApiError) as caught:
        next(lines)
    assert caught.value.transient


def frame(flag: int, data: bytes) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(data)) + data


SERVICE = "ml_metadata.MetadataStoreService"
GRPC = {"Content-Type": "application/grpc-web+proto"}


def test_a_grpc_web_call_gives_the_message(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(200, frame(0, b"answer") + frame(0x80, b"grpc-status: 0\r\ngrpc-message: \r\n"), GRPC)]
    assert api.grpc_web(SERVICE, "GetContextTypes", b"question") == b"answer"
    assert kfp.seen[-1].body == frame(0, b"question")
    assert kfp.seen[-1].headers["Content-Type"] == "application/grpc-web+proto"


def test_a_grpc_web_error_has_its_code_and_message(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    for reply in (
        Reply(200, frame(0x80, b"grpc-status:5\r\ngrpc-message:no%20such%20run\r\n"), GRPC),
        Reply(200, b"", {**GRPC, "grpc-status": "5", "grpc-message": "no such run"}),
    ):
        kfp.faults = [reply]
        with pytest.raises(ApiError, match="no such run") as caught:
            api.grpc_web(SERVICE, "GetContextByTypeAndName", b"")
        assert (caught.value.code, caught.value.status) == (5, 404)


def test_a_grpc_web_call_is_repeated_when_the_service_is_away(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    away = Reply(200, b"", {**GRPC, "grpc-status": "14", "grpc-message": "upstream connect error"})
    kfp.faults = [away, "half", Reply(200, frame(0, b"x") + frame(0x80, b"grpc-status: 0\r\n"), GRPC)]
    kfp.answer = lambda _: Reply(200, frame(0, b"x") + frame(0x80, b"grpc-status: 0\r\n"), GRPC)  # type: ignore[method-assign]
    assert api.grpc_web(SERVICE, "GetTypes", b"") == b"x"
    assert len(kfp.seen) == 2 + 3


def test_the_metadata_service_of_a_kubeflow_is_at_its_root() -> None:
    def route(asked: Asked) -> Reply | None:
        if asked.path.startswith("/ml_metadata"):
            return Reply(200, frame(0, b"root") + frame(0x80, b"grpc-status: 0\r\n"), GRPC)
        if asked.path.startswith("/pipeline/ml_metadata"):
            return Reply(content="<html><title>Kubeflow Pipelines</title></html>")
        return None

    with Kfp(route, prefix="/pipeline") as server:
        api = api_to(server.url)
        assert [api.grpc_web(SERVICE, "GetTypes", b"") for _ in range(2)] == [b"root"] * 2
        calls = [path for path in paths(server) if "ml_metadata" in path]
        assert len(calls) == 3  # the second time it is known where


def test_a_page_where_the_metadata_service_is_not_is_no_refused_sign_in(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    page = Reply(content="<html><title>Kubeflow</title></html>")
    with Kfp(lambda asked: page if "ml_metadata" in asked.path else None) as server:
        api = api_to(server.url, sign_in="token-file", token_file=str(file))
        api.get(PIPELINES)
        file.write_text("another")  # which a refresh would read
        with pytest.raises(ApiError, match=f"has no {SERVICE}"):
            api.grpc_web(SERVICE, "GetTypes", b"")
        assert {asked.headers["Authorization"] for asked in server.seen} == {"Bearer t"}


def test_a_host_without_the_metadata_service_is_no_error_of_the_service(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    with pytest.raises(ApiError, match=f"has no {SERVICE}") as caught:
        api.grpc_web(SERVICE, "GetTypes", b"")  # the API server says 404 with gRPC's code for "not found"
    assert (caught.value.code, caught.value.status) == (0, 404)


def test_a_wait_that_the_server_asks_for_may_be_a_date_or_nonsense(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon"):
        kfp.faults = [Reply(503, b"", {"Retry-After": value})]
        assert api.get(PIPELINES)["total_size"] == 1


STACK = (
    "Failed to list runs: PermissionDenied: User 'ci@example.com' is not authorized with reason:  (request: "
    "&ResourceAttributes{Namespace:team-a,Verb:list,Group:pipelines.kubeflow.org,Version:v1beta1,Resource:runs,"
    "Subresource:,Name:,}): Unauthorized access\nFailed to authorize with API\n"
    "github.com/kubeflow/pipelines/backend/src/common/util.Wrap\n\t/go/src/github.com/kubeflow/error.go:279\n"
    "github.com/kubeflow/pipelines/backend/src/apiserver/server.(*RunServer).canAccessRun\n\t/go/src/run.go:390\n"
    "main.apiServerInterceptor\n\t/go/src/github.com/kubeflow/pipelines/interceptor.go:30\n"
)


def test_no_rights_say_who_where_and_what(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(403, {"code": 7, "message": STACK, "error": STACK, "details": []})]
    with pytest.raises(ApiError) as caught:
        api.get("/apis/v2beta1/runs")
    text = str(caught.value)
    assert "ci@example.com" in text and "team-a" in text and "`list` on `runs.pipelines.kubeflow.org`" in text
    assert "Unauthorized access Failed to authorize with API" in text
    assert "/go/src" not in text and "apiServerInterceptor" not in text
    assert caught.value.code == 7


def test_an_internal_error_that_means_no_identity_asks_for_a_sign_in(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    message = "Internal error: Unauthenticated: Request header error: there is no user identity header."
    kfp.faults = [Reply(500, {"code": 13, "message": message})]
    with pytest.raises(ApiError, match="requires a sign-in") as caught:
        api.get("/apis/v2beta1/runs")
    assert caught.value.status == 401 and "kfp-sign-in" in caught.value.fix
    assert len(kfp.seen) == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (redirect("https://dex.example.com/dex/auth?client_id=x&state=secret"), "https://dex.example.com/dex/auth"),
        (Reply(200, "<html><head><title>Log in | Dex</title></head></html>"), "'Log in | Dex'"),
        (Reply(403, "<html><title>Sign In</title></html>"), "'Sign In'"),
        (Reply(401, b"Jwt is missing"), "Jwt is missing"),
    ],
)
def test_a_wanted_sign_in_is_told(reply: Reply, words: str) -> None:
    with Kfp(lambda _: reply) as server, pytest.raises(ApiError, match="requires a sign-in") as caught:
        api_to(server.url).get(PIPELINES)
    assert words in str(caught.value) and "secret" not in str(caught.value)


def test_several_users_without_a_namespace_are_refused_at_once() -> None:
    with Kfp(several_users=True) as server:
        with pytest.raises(BadInput, match="no namespace was named"):
            api_to(server.url).get(PIPELINES)
        assert api_to(server.url, namespace="team").namespace == "team"


def test_one_user_has_no_namespace_to_name(kfp: Kfp) -> None:
    assert api_to(kfp.url, namespace="team").namespace == ""


def test_a_namespace_that_only_the_server_misses_is_told(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    message = "Invalid input error: An experiment cannot have an empty namespace in multi-user mode"
    kfp.faults = [Reply(400, {"code": 3, "message": message})]
    with pytest.raises(ApiError, match="Set `namespace`"):
        api.get("/apis/v2beta1/experiments")


@pytest.mark.parametrize("reply", [Reply(404, b"404 page not found"), Reply(404, {"code": 5, "message": "Not Found"})])
def test_a_server_that_is_no_kfp_is_told(reply: Reply) -> None:
    with Kfp(lambda _: reply) as server, pytest.raises(ApiError, match="is not a Kubeflow Pipelines"):
        api_to(server.url).get(PIPELINES)


def test_an_answer_that_is_no_json_is_asked_for_again_and_then_told(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    kfp.faults = [Reply(200, b'{"runs": [')]
    assert api.get(PIPELINES)["total_size"] == 1
    kfp.faults = [Reply(200, b"OK")] * 100
    with pytest.raises(ApiError, match="not a JSON object"):
        api.get(PIPELINES)


@pytest.mark.parametrize(
    "url", ["", "kfp.example.com", "ftp://kfp.example.com", "https://", "https://h:port", "https://user:secret@h"]
)
def test_a_url_that_cannot_be_one_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput, match="kfp-host") as caught:
        api_to(url)
    assert "secret" not in str(caught.value)


def test_a_name_that_nobody_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ApiError, match=r"resolve the host name 'kfp\.invalid'"):
        api_to("http://kfp.invalid").get(PIPELINES)


def test_a_server_that_is_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HttpError, match="Timed out waiting for") as caught:
            HttpClient({}).send("GET", url, read_limit=0.05)
    assert caught.value.transient and caught.value.unsure


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_ca_of_ones_own_is_trusted_as_a_file_as_text_and_by_the_usual_variables(authority: Authority) -> None:
    ca = str(authority.certificate)
    with Kfp(tls=authority.server()) as server:
        for options in (
            {"ca": ca},
            {"ca": authority.certificate.read_text()},
            {"environ": {"SSL_CERT_FILE": ca}},
            {"environ": {"REQUESTS_CA_BUNDLE": ca}},
        ):
            assert api_to(server.url, **options).get(PIPELINES)["total_size"] == 1


@pytest.mark.parametrize(
    ("name", "days", "trusted", "words"),
    [
        ("127.0.0.1", 1, False, "CA that is not trusted here"),
        ("127.0.0.1", -1, True, "has expired"),
        ("other.example.com", 1, True, "not for the address 127.0.0.1"),
    ],
)
def test_no_trust_is_told_and_not_tried_again(
    authority: Authority, name: str, days: int, trusted: bool, words: str
) -> None:
    with Kfp(tls=authority.server(name, days=days)) as server:
        clock = FakeClock()
        ca = str(authority.certificate) if trusted else ""
        with pytest.raises(ApiError, match=words) as caught:
            api_to(server.url, ca=ca, clock=clock).get(PIPELINES)
    assert not caught.value.transient and not caught.value.unsure
    assert clock.time == 1000


def test_a_name_that_the_certificate_does_not_have_is_told(authority: Authority) -> None:
    with Kfp(tls=authority.server("other.example.com")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ApiError, match="not for the name 'localhost'"):
            api_to(url, ca=str(authority.certificate)).get(PIPELINES)


def test_the_wrong_scheme_is_told(kfp: Kfp) -> None:
    with pytest.raises(ApiError, match="does not speak TLS on this port"):
        api_to(kfp.url.replace("http:", "https:")).get(PIPELINES)
    kfp.faults = [Reply(400, b"Client sent an HTTP request to an HTTPS server.")]
    with pytest.raises(ApiError, match="Write `https://…`"):
        api_to(kfp.url).get(PIPELINES)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_client_certificate_is_shown(authority: Authority, as_text: bool) -> None:
    certificate, key = authority.issue("ci", client=True)
    shown = [certificate.read_text() if as_text else str(certificate), str(key)]
    with Kfp(tls=authority.server(clients=True)) as server:
        api = api_to(server.url, ca=str(authority.certificate), client_certificate=shown[0], client_key=shown[1])
        assert api.get(PIPELINES)["total_size"] == 1


def test_a_client_certificate_that_is_missing_is_told(authority: Authority) -> None:
    wanted = pytest.raises(ApiError, match="requires a client certificate")
    with Kfp(tls=authority.server(clients=True)) as server, wanted:
        api_to(server.url, ca=str(authority.certificate)).get(PIPELINES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ca": "/no/such/file"}, "Cannot read `kfp-ca`: /no/such/file"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nSECRET\n"}, "Cannot use `kfp-ca`"),
        ({"client_certificate": "-----BEGIN CERTIFICATE-----\nSECRET\n"}, "Cannot use `kfp-client-certificate`"),
        ({"client_key": "-----BEGIN PRIVATE KEY-----\nSECRET\n"}, "without a certificate"),
    ],
)
def test_certificates_that_cannot_be_used_are_bad_input(options: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        api_to("https://127.0.0.1:1", **options)
    assert "SECRET" not in str(caught.value)


def test_a_proxy_is_used_for_plain_http(kfp: Kfp) -> None:
    with Proxy() as server:
        assert api_to(kfp.url, environ={"HTTP_PROXY": server.url}).get(PIPELINES)["total_size"] == 1
        assert server.asked == [kfp.host] * 2


def test_a_proxy_tunnels_to_a_server_with_a_ca_and_a_client_certificate_of_ones_own(authority: Authority) -> None:
    certificate, key = authority.issue("ci", client=True)
    certificates = {"ca": str(authority.certificate), "client_certificate": str(certificate), "client_key": str(key)}
    with Kfp(tls=authority.server(clients=True)) as server, Proxy() as between:
        api = api_to(server.url, environ={"https_proxy": between.url}, **certificates)
        assert api.get(PIPELINES)["total_size"] == 1
        assert set(between.asked) == {server.host}


def test_an_answer_may_be_compressed(kfp: Kfp) -> None:
    api = api_to(kfp.url)
    api.get(PIPELINES)
    data = gzip.compress(b'{"runs": [{"run_id": "1"}]}')
    kfp.faults = [Reply(content=data, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})]
    assert api.get("/apis/v2beta1/runs")["runs"] == [{"run_id": "1"}]
    assert "gzip" in kfp.seen[-1].headers["Accept-Encoding"]


def test_a_proxy_that_is_away_is_told(kfp: Kfp) -> None:
    with Kfp() as gone:
        dead = gone.url
    with pytest.raises(ApiError, match="HTTPS_PROXY"):
        api_to("https://kfp.example.com", environ={"https_proxy": dead}).get(PIPELINES)


def test_the_variables_of_the_process_are_not_read(kfp: Kfp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert api_to(kfp.url, sign_in="token", token="abc").get(PIPELINES)["total_size"] == 1
    assert kfp.seen[-1].headers["Authorization"] == "Bearer abc"


def test_several_threads_may_use_it_and_an_absence_is_said_once(kfp: Kfp) -> None:
    said: list[str] = []
    api = api_to(kfp.url, say=said.append)
    api.get(PIPELINES)
    kfp.faults = [Reply(503, b"")] * 8
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(api.get(PIPELINES)["total_size"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8
    assert api.requests == 2 + 8 + 8
