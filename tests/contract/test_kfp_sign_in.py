"""Every way to sign in to Kubeflow Pipelines, against servers that demand it: our own, and a real Dex."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from dex_server import PASSWORD, USER, dex
from doubles.sign_in import Asked, Authority, Dex, Gate, GitHub, Kfp, Provider, Reply, redirect, verified
from given import kfp_inputs
from mlops_actions.errors import BadInput, MlopsError
from mlops_actions.pipelines.kfp.client.api import ApiError, KfpApi
from mlops_actions.pipelines.kfp.client.sign_in import SIGN_INS
from mlops_actions.waiting import Clock

PIPELINES = "/apis/v2beta1/pipelines"


class FakeClock(Clock):
    """Waiting takes no time."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.time += seconds
        return False


class Client:
    """An API's client, and the secrets that it had hidden."""

    def __init__(self, url: str, sign_in: str, **options: Any) -> None:
        self.hidden: set[str] = set()
        self.clock = FakeClock()
        environ, inputs = options.pop("environ", {}), kfp_inputs(url, sign_in=sign_in, **options)
        self.api = KfpApi(inputs, environ, Path(), clock=self.clock, hide=self.hidden.add)

    def works(self) -> bool:
        return bool(self.api.get(PIPELINES)["total_size"] == 1)


def refused_unless(**wanted: str) -> Callable[[Asked], Reply | None]:
    """Demands headers with just these values; `_` in a name is a dash."""

    def check(asked: Asked) -> Reply | None:
        fine = all(asked.headers.get(name.replace("_", "-")) == value for name, value in wanted.items())
        return None if fine else Reply(401, {"code": 16, "message": "Unauthenticated"})

    return check


def fails(client: Client, *secrets: str) -> MlopsError:
    """How it fails; with no secret in the message."""
    with pytest.raises(MlopsError) as caught:
        client.works()
    text = f"{caught.value} {caught.value.log} {caught.value.details}"
    assert not [secret for secret in secrets if secret in text]
    return caught.value


# A given token


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("", {"Authorization": "Bearer t0ken"}),
        ("Proxy-Authorization", {"Proxy_Authorization": "Bearer t0ken"}),
        ("X-Auth-Token", {"X_Auth_Token": "t0ken"}),
    ],
)
def test_a_token_is_sent_in_the_header_that_is_named(header: str, sent: dict[str, str]) -> None:
    with Kfp(refused_unless(**sent)) as server:
        client = Client(server.url, "token", token="t0ken\n", header=header)
        assert client.works()
        assert client.hidden == {"t0ken"}


def test_a_token_that_is_refused_is_not_tried_again() -> None:
    with Kfp(refused_unless(Authorization="Bearer other")) as server:
        error = fails(Client(server.url, "token", token="t0ken"), "t0ken")
        assert "refused the sign-in `token`" in error.what and "expired" in error.fix
        assert len([asked for asked in server.seen if not asked.path.startswith("/pipeline")]) == 1


# A token's file


def test_a_token_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with Kfp(lambda asked: refused_unless(Authorization=f"Bearer {file.read_text().strip()}")(asked)) as server:
        client = Client(server.url, "token-file", token_file=str(file))
        assert client.works()
        file.write_text("second\n")
        assert client.works()  # after a refusal
        refusals = client.api.requests
        file.write_text("third\n")
        client.clock.time += 60
        assert client.works()  # before one
        assert client.api.requests == refusals + 1
        assert client.hidden == {"first", "second", "third"}


def test_a_token_file_that_cannot_be_used_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with Kfp() as server:
        for name, words in (("absent", "No such file"), ("empty", "is empty")):
            error = fails(Client(server.url, "token-file", token_file=str(tmp_path / name)))
            assert isinstance(error, BadInput) and words in str(error)


# OpenID Connect


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def kfp(provider: Provider) -> Iterator[Kfp]:
    with Kfp(provider.demand("mlops-client")) as server:
        yield server


def password(provider: Provider, **changes: str) -> dict[str, str]:
    settings = {"issuer": provider.issuer, "user": provider.user, "token": provider.password}
    return {**settings, "client_id": provider.client_id, "client_secret": provider.client_secret, **changes}


@pytest.mark.parametrize("post_only", [False, True])
def test_the_password_grant_gives_a_token(post_only: bool) -> None:
    with Provider(post_only=post_only) as provider, Kfp(provider.demand("mlops-client")) as server:
        client = Client(server.url, "password", **password(provider))
        assert client.works()
        asked = provider.seen[-1]
        assert asked.form["scope"] == "openid email"  # no more than the provider knows
        assert client.api._sign_in.who == "ci@example.com"
        assert {provider.password, provider.client_secret} < client.hidden


def test_the_client_credentials_grant_gives_a_token(provider: Provider) -> None:
    with Kfp(provider.demand("kfp")) as server:
        client = Client(
            server.url,
            "client-credentials",
            issuer=provider.issuer + "/",
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            audience="kfp",
        )
        assert client.works()
        assert "scope" not in provider.seen[-1].form


def test_what_is_in_the_query_of_the_issuer_goes_into_the_request(provider: Provider, kfp: Kfp) -> None:
    client = Client(kfp.url, "password", **password(provider, issuer=f"{provider.issuer}?scope=email&connector_id=x"))
    assert client.works()
    assert provider.seen[-1].form["scope"] == "email" and provider.seen[-1].form["connector_id"] == "x"


def test_a_token_is_renewed_before_it_expires(provider: Provider, kfp: Kfp) -> None:
    provider.seconds = 100
    client = Client(kfp.url, "password", **password(provider))
    assert client.works()
    for _ in range(20):  # hours, were they waited for
        provider.ahead = client.clock.time = client.clock.time + 45
        assert client.works()
    assert client.api.requests == len(kfp.seen) == 2 + 20  # none was refused
    assert len([asked for asked in provider.seen if asked.path.endswith("/token")]) == 1 + 10


def test_a_token_that_was_revoked_is_replaced_once_a_request(provider: Provider, kfp: Kfp) -> None:
    client = Client(kfp.url, "password", **password(provider))
    assert client.works()
    provider.ahead = 3601
    assert client.works()
    assert client.api.requests == 4
    kfp.demand = lambda _: Reply(401, {"code": 16, "message": "Unauthenticated"})
    error = fails(client, provider.password, provider.client_secret)
    assert "refused the sign-in `password`" in error.what
    assert client.api.requests == 6


def test_a_provider_that_is_away_does_not_matter_while_the_token_is_good(provider: Provider, kfp: Kfp) -> None:
    provider.seconds = 100
    client = Client(kfp.url, "password", **password(provider))
    assert client.works()
    client.clock.time = 90
    provider.faults = [Reply(503, b"")]
    assert client.works()
    asked = len(provider.seen)
    assert client.works()
    assert len(provider.seen) == asked  # not with every request
    client.clock.time = 96
    assert client.works()
    assert len([asked for asked in provider.seen if asked.path.endswith("/token")]) == 2


def test_a_provider_that_is_away_is_waited_for_when_the_token_is_not(provider: Provider, kfp: Kfp) -> None:
    client = Client(kfp.url, "password", **password(provider))
    provider.faults = ["cut", Reply(503, b""), None, "half"]
    assert client.works()


@pytest.mark.parametrize(
    ("changes", "why", "fix"),
    [
        ({"token": "wrong"}, "invalid_grant: Wrong user or password", "kfp-user"),
        ({"client_secret": "wrong"}, "invalid_client", "kfp-client-secret"),
        ({"issuer": "?scope=admin"}, "invalid_scope", "?scope=openid"),
        ({"issuer": "?grant_type=other"}, "unsupported_grant_type", "Allow this grant"),
    ],
)
def test_what_the_provider_refuses_is_told(
    provider: Provider, kfp: Kfp, changes: dict[str, str], why: str, fix: str
) -> None:
    if "issuer" in changes:
        changes = {"issuer": provider.issuer + changes["issuer"]}
    error = fails(
        Client(kfp.url, "password", **password(provider, **changes)), provider.password, provider.client_secret
    )
    assert why in error.why and fix in error.fix
    assert len([asked for asked in provider.seen if asked.path.endswith("/token")]) == 1


def test_a_url_that_is_no_provider_is_told(provider: Provider, kfp: Kfp) -> None:
    error = fails(Client(kfp.url, "password", **password(provider, issuer=f"{provider.url}/elsewhere")))
    assert "did not give a description of itself" in error.what
    assert isinstance(fails(Client(kfp.url, "password", **password(provider, issuer="dex"))), BadInput)


def test_a_secret_goes_to_no_address_without_tls(provider: Provider, kfp: Kfp, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Provider(tls=authority.server()) as safe:
        about = {"token_endpoint": f"{provider.issuer}/token"}
        safe.faults = [Reply(content=about)] * 5
        error = fails(Client(kfp.url, "password", ca=str(authority.certificate), **password(safe)))
    assert isinstance(error, BadInput) and "unencrypted" in error.why
    assert not provider.seen


def test_the_provider_is_reached_with_the_same_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("ci", client=True)
    with (
        Provider(tls=authority.server(clients=True)) as provider,
        Kfp(provider.demand("mlops-client"), tls=authority.server(clients=True)) as server,
    ):
        certificates = {"ca": str(authority.certificate), "client_certificate": str(certificate)}
        client = Client(server.url, "password", **password(provider), **certificates, client_key=str(key))
        assert client.works()


def test_threads_that_need_a_token_at_once_fetch_one(provider: Provider, kfp: Kfp) -> None:
    client = Client(kfp.url, "password", **password(provider))
    assert client.works()
    provider.ahead = 3601
    worked: list[bool] = []
    threads = [threading.Thread(target=lambda: worked.append(client.works())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worked == [True] * 8
    assert len([asked for asked in provider.seen if asked.path.endswith("/token")]) == 2


def test_logs_and_metadata_are_signed_for_too(provider: Provider, kfp: Kfp) -> None:
    client = Client(kfp.url, "password", **password(provider))
    assert client.works()
    with pytest.raises(ApiError, match="not found"):
        list(client.api.stream("/apis/v1alpha1/runs/1/nodes/2/log"))
    with pytest.raises(ApiError, match=r"has no ml_metadata"):
        client.api.grpc_web("ml_metadata.MetadataStoreService", "GetTypes", b"")
    assert client.api.requests == 4


# GitHub


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


def test_github_s_token_is_asked_for_with_the_audience(github: GitHub) -> None:
    def demand(asked: Asked) -> Reply | None:
        try:
            verified(asked.headers.get("Authorization", "")[7:], github.url, "kfp", github.now())
        except jwt.InvalidTokenError as error:
            return Reply(401, {"message": str(error)})
        return None

    with Kfp(demand) as server:
        client = Client(server.url, "github", audience="kfp", environ=github.environ())
        assert client.works()
        github.ahead = 400
        assert client.works()
        assert github.request_token in client.hidden
        assert client.api._sign_in.who == "repo:owner/name:ref:refs/heads/main"


def test_github_s_token_is_exchanged_at_an_issuer(github: GitHub, provider: Provider, kfp: Kfp) -> None:
    def trusted(token: str) -> str:
        return str(verified(token, github.url, "sts", github.now())["sub"])

    provider.trusted = trusted
    client = Client(
        kfp.url,
        "github",
        audience="sts",
        issuer=provider.issuer,
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        environ=github.environ(),
    )
    assert client.works()
    assert provider.seen[-1].form["subject_token"] in client.hidden


def test_a_job_that_may_not_have_a_token_is_told(kfp: Kfp, github: GitHub) -> None:
    error = fails(Client(kfp.url, "github", environ={}))
    assert isinstance(error, BadInput) and "id-token: write" in error.fix
    environ = {**github.environ(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "wrong"}
    error = fails(Client(kfp.url, "github", environ=environ), "wrong")
    assert "HTTP 401" in error.why


# Kubeflow's login form


@contextmanager
def double(folder: Path, *, callback: str, approval: bool = True) -> Iterator[str]:
    """Our Dex."""
    with Dex() as server:
        yield server.issuer


@pytest.fixture(params=[double, dex], ids=["double", "real"])
def kubeflow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Makes a Kubeflow behind Dex."""
    opened: list[Any] = []

    def make(style: str) -> Gate:
        gate = Gate(style)
        opened.append(gate)
        server = request.param(tmp_path, callback=f"{gate.url}/oauth2/callback")
        gate.issuer = server.__enter__()
        opened.append(server)
        return gate

    yield make
    for one in reversed(opened):
        one.__exit__(None, None, None)


@pytest.mark.parametrize("style", ["oauth2-proxy", "authservice"])
def test_dex_s_login_form_is_filled_in(kubeflow: Callable[[str], Gate], style: str) -> None:
    gate = kubeflow(style)
    for url in (gate.url, gate.url + "/pipeline"):
        client = Client(url, "login-form", user=USER, token=PASSWORD + "\n")
        assert client.works()
        assert {PASSWORD} < client.hidden and gate.sessions & client.hidden
        assert gate.seen[-1].cookies.get(gate.cookie) in gate.sessions


@pytest.mark.parametrize("style", ["oauth2-proxy", "authservice"])
def test_a_session_that_ended_is_begun_anew(kubeflow: Callable[[str], Gate], style: str) -> None:
    gate = kubeflow(style)
    client = Client(gate.url, "login-form", user=USER, token=PASSWORD)
    assert client.works()
    gate.sessions.clear()
    assert client.works()
    assert len(gate.sessions) == 1


def test_a_wrong_password_is_told_by_the_form(kubeflow: Callable[[str], Gate]) -> None:
    client = Client(kubeflow("oauth2-proxy").url, "login-form", user=USER, token="wrong-one")
    error = fails(client, "wrong-one")
    assert "refused the user" in error.what and "password" in error.fix


def test_a_site_without_a_login_form_is_told() -> None:
    with Kfp(lambda asked: None if "/apis/" in asked.path else Reply(404, b"not here")) as server:
        error = fails(Client(server.url, "login-form", user=USER, token=PASSWORD))
    assert "has no login form" in error.what


def test_a_password_goes_to_no_page_without_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Dex() as server, Kfp(lambda _: redirect(f"{server.issuer}/auth"), tls=authority.server()) as gate:
        settings = {"user": USER, "token": PASSWORD, "ca": str(authority.certificate)}
        error = fails(Client(gate.url, "login-form", **settings))
    assert "unencrypted" in error.why
    assert not server.seen


# A real Dex, by its token endpoint


def trusts(issuer: str, audience: str) -> Callable[[Asked], Reply | None]:
    """Checks a token against the issuer's published keys."""

    def check(asked: Asked) -> Reply | None:
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        keys = jwt.PyJWKSet.from_dict(requests.get(f"{issuer}/keys", timeout=10).json())
        try:
            key = keys[jwt.get_unverified_header(token)["kid"]]
            jwt.decode(token, key.key, ["RS256"], audience=audience, issuer=issuer)
        except (jwt.InvalidTokenError, KeyError) as error:
            return Reply(401, {"code": 16, "message": f"Unauthenticated: {error}"})
        return None

    return check


DEX_CLIENT = {"client_id": "mlops-client", "client_secret": "mlops-secret &="}


def test_dex_takes_the_password_grant(tmp_path: Path) -> None:
    with dex(tmp_path) as issuer, Kfp(trusts(issuer, "mlops-client")) as server:
        client = Client(server.url, "password", issuer=issuer, user=USER, token=PASSWORD, **DEX_CLIENT)
        assert client.works()
        error = fails(Client(server.url, "password", issuer=issuer, user=USER, token="wrong-one", **DEX_CLIENT))
        assert "kfp-user" in error.fix and "Invalid username or password" in error.why


def test_dex_exchanges_github_s_token(tmp_path: Path, github: GitHub) -> None:
    with dex(tmp_path, github=github.url) as issuer, Kfp(trusts(issuer, "mlops-client")) as server:
        settings = {"issuer": f"{issuer}?connector_id=github-actions", **DEX_CLIENT}
        assert Client(server.url, "github", environ=github.environ(), **settings).works()
        error = fails(Client(server.url, "github", environ=github.environ(), **{**settings, "issuer": issuer}))
        assert "connector_id" in error.fix


# Cookie and header


def test_a_given_cookie_is_sent() -> None:
    with Kfp(refused_unless(Cookie="authservice_session=abc=")) as server:
        client = Client(server.url, "cookie", token="authservice_session=abc=")
        assert client.works()
        assert client.hidden == {"abc="}
        assert "copy a new cookie" in fails(Client(server.url, "cookie", token="authservice_session=old"), "=old").fix
        assert isinstance(fails(Client(server.url, "cookie", token="nonsense")), BadInput)


@pytest.mark.parametrize("header", ["", "x-goog-authenticated-user-email"])
def test_a_user_s_header_is_sent(header: str) -> None:
    with Kfp(refused_unless(**{header.replace("-", "_") or "kubeflow_userid": "ci@example.com"})) as server:
        assert Client(server.url, "user-header", user="ci@example.com", header=header).works()


# Settings


@pytest.mark.parametrize("name", [name for name, method in SIGN_INS.items() if method.needs])
def test_a_setting_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=f"`kfp-sign-in: {name}` needs `kfp-"):
        Client("https://127.0.0.1:1", name)


def test_a_token_without_a_sign_in_is_no_accident() -> None:
    with pytest.raises(BadInput, match="does not say what it is"):
        Client("https://127.0.0.1:1", "none", token="t0ken")


def test_a_token_of_several_lines_is_refused() -> None:
    with pytest.raises(BadInput, match="several lines") as caught:
        Client("https://127.0.0.1:1", "token", token="one\ntwo")
    assert "two" not in str(caught.value)
