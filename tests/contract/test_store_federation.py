"""Stores of Google and Azure that are reached by who one is; requests are held to those of google-auth and obstore."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import obstore
import pytest
from google.auth import identity_pool
from google.auth.transport import requests
from obstore.store import from_url

from doubles.sign_in import Asked, GitHub, Reply, Web
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.inputs import Inputs
from mlops_actions.runtime.config import store_options
from mlops_actions.stores import federation
from mlops_actions.stores.store import Store

PROVIDER = "projects/12/locations/global/workloadIdentityPools/github/providers/my-repo"
ACCOUNT = "/v1/projects/-/serviceAccounts/me@x.iam.gserviceaccount.com:generateAccessToken"


class Cloud(Web):
    """Gives tokens, and keeps objects for those who show one; `tokens` are those that were given."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.seconds = 3600
        super().__init__()

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/v1/token" or asked.path.endswith("/oauth2/v2.0/token"):
            return Reply(content={"access_token": self._new(), "expires_in": self.seconds, "token_type": "Bearer"})
        if asked.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Reply(401, {"error": {"code": 401, "message": "Who are you?"}})
        if asked.path == ACCOUNT:
            until = datetime.now(timezone.utc) + timedelta(seconds=self.seconds)
            return Reply(content={"accessToken": self._new(), "expireTime": f"{until:%Y-%m-%dT%H:%M:%SZ}"})
        if asked.method == "PUT":
            self.objects[asked.path] = asked.body
            return Reply(201, b"", {"ETag": '"1"'})
        found = self.objects.get(asked.path)
        headers = {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 10:00:00 GMT"}
        return Reply(404, {}) if found is None else Reply(200, found, headers)

    def _new(self) -> str:
        self.tokens.append(f"token-of-the-cloud-{len(self.tokens)}")
        return self.tokens[-1]

    def asked(self, path: str) -> list[Asked]:
        """The requests to a path."""
        return [one for one in self.seen if one.path.endswith(path)]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as server:
        yield server


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


def used(inputs: Inputs, environ: dict[str, str]) -> list[str]:
    """Write and read an object; what was masked."""
    masked: list[str] = []
    store = Store(inputs.store, store_options(inputs, environ, masked.append))
    store.put("a", b"1")
    assert store.get("a") == b"1"
    return masked


def google(cloud: Cloud, **more: str) -> Inputs:
    return Inputs(store="gs://bucket/p", store_endpoint=cloud.url, **more)


def azure(cloud: Cloud, **more: str) -> Inputs:
    return Inputs(store="az://container/p", store_endpoint=f"{cloud.url}/account", **more)


def external(folder: Path, cloud: Cloud, source: dict[str, Any], **more: Any) -> dict[str, str]:
    """The variables that name a file of workload identity federation."""
    described = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.url}/v1/token",
        "credential_source": source,
        "service_account_impersonation_url": f"{cloud.url}{ACCOUNT}",
        **more,
    }
    described = {name: value for name, value in described.items() if value is not None}
    (folder / "google.json").write_text(json.dumps(described))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "google.json")}


def test_a_job_uses_a_store_of_googles_by_githubs_word(
    cloud: Cloud, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "GOOGLE_STS", f"{cloud.url}/v1/token")
    masked = used(google(cloud, store_role=PROVIDER), github.environ())
    assert cloud.objects == {"/bucket/p/a": b"1"}
    assert len(masked) == 2 and masked[1] == cloud.tokens[0], "GitHub's token and Google's"
    (asked,) = cloud.asked("/v1/token")
    assert asked.form["subject_token"] == masked[0] and asked.form["audience"] == f"//iam.googleapis.com/{PROVIDER}"
    assert github.seen[-1].query["audience"] == f"https://iam.googleapis.com/{PROVIDER}"
    assert not cloud.asked(ACCOUNT)


def test_what_a_file_of_workload_identity_federation_says_is_asked_as_google_auth_does(
    cloud: Cloud, github: GitHub, tmp_path: Path
) -> None:
    there = github.environ()
    headers = {"Authorization": f"Bearer {there['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    by_url = {
        "url": there["ACTIONS_ID_TOKEN_REQUEST_URL"],
        "headers": headers,
        "format": {"type": "json", "subject_token_field_name": "value"},
    }
    (tmp_path / "token").write_text("a.b.c\n")
    (tmp_path / "token.json").write_text('{"it": "a.b.c"}')
    in_json = {"type": "json", "subject_token_field_name": "it"}
    for source, more in (
        (by_url, {}),
        ({"file": str(tmp_path / "token")}, {"service_account_impersonation": {"token_lifetime_seconds": 600}}),
        ({"file": str(tmp_path / "token.json"), "format": in_json}, {"service_account_impersonation_url": None}),
    ):
        environ = external(tmp_path, cloud, source, **more)
        used(google(cloud), environ)
        theirs: Any = identity_pool.Credentials.from_file(
            environ["GOOGLE_APPLICATION_CREDENTIALS"], scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        theirs.refresh(requests.Request())
        ours, reference = (one.form for one in cloud.asked("/v1/token")[-2:])
        assert ours.keys() == reference.keys()
        assert ours | {"subject_token": ""} == reference | {"subject_token": ""}
        assert ours["subject_token"].strip() and ours["subject_token"].count(".") == 2
        ours, reference = (json.loads(one.body) for one in cloud.asked(ACCOUNT)[-2:])
        assert {name: reference[name] for name in ours} == ours
        assert theirs.token == cloud.tokens[-1]
    assert len(cloud.asked(ACCOUNT)) == 4


def test_a_job_uses_a_store_of_azures_by_githubs_word(cloud: Cloud, github: GitHub, tmp_path: Path) -> None:
    environ = {**github.environ(), "AZURE_AUTHORITY_HOST": cloud.url}
    masked = used(azure(cloud, store_role="tenant-1/client-1"), environ)
    assert cloud.objects == {"/account/container/p/a": b"1"} and masked[1] == cloud.tokens[0]
    assert github.seen[-1].query["audience"] == "api://AzureADTokenExchange"
    (tmp_path / "token").write_text(masked[0])
    config = {
        "azure_storage_account_name": "account", "azure_endpoint": f"{cloud.url}/account",
        "azure_client_id": "client-1", "azure_tenant_id": "tenant-1", "azure_authority_host": cloud.url,
        "azure_federated_token_file": str(tmp_path / "token"),
    }  # fmt: skip
    theirs: Any = from_url("az://container/p", config=config, client_options={"allow_http": True})  # type: ignore[call-overload]
    obstore.put(theirs, "b", b"2")
    ours, reference = cloud.asked("/tenant-1/oauth2/v2.0/token")
    assert ours.form == reference.form


def test_tokens_are_renewed_during_a_long_job(cloud: Cloud, github: GitHub) -> None:
    cloud.seconds = 60
    environ = {**github.environ(), "AZURE_AUTHORITY_HOST": cloud.url}
    inputs = azure(cloud, store_role="tenant/client")
    store = Store(inputs.store, store_options(inputs, environ))
    for number in range(100):  # obstore itself asks at most ten times a second
        store.put("a", str(number).encode())
        if len(cloud.tokens) > 2:
            return
        time.sleep(0.02)
    raise AssertionError("the same token was used all the time")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(400, {"error": "invalid_grant", "error_description": "The audience is wrong.\nTrace"}),
            "The audience is",
        ),
        (Reply(403, {"error": {"code": 403, "message": "Permission denied on resource"}}), "Permission denied on"),
        (Reply(200, {}), "HTTP 200, without a token"),
        (Reply(200, {"access_token": "x", "expires_in": "soon"}), "HTTP 200, without a token"),
        (Reply(404, "<html>"), "HTTP 404"),
    ],
)
def test_a_token_that_is_refused_is_told(cloud: Cloud, github: GitHub, reply: Reply, words: str) -> None:
    cloud.faults = [reply]
    environ = {**github.environ(), "AZURE_AUTHORITY_HOST": cloud.url}
    with pytest.raises(RemoteFailed, match="did not give this job a token") as error:
        used(azure(cloud, store_role="tenant/client"), environ)
    assert words in error.value.why and "Check `store-role`" in error.value.fix
    cloud.faults = [Reply(503, {}), "cut"]
    used(azure(cloud, store_role="tenant/client"), environ)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"file": "gone"}, "No such file"),
        ({"executable": {"command": "x"}}, "Its token comes from neither a file nor a URL"),
        ({"file": "empty"}, "There is no token where it says"),
        ({"url": 3}, "credential_source.url"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(cloud: Cloud, tmp_path: Path, source: Any, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    if isinstance(source.get("file"), str):
        source = {"file": str(tmp_path / source["file"])}
    with pytest.raises(
        BadInput, match=r"Cannot use .*google\.json, which GOOGLE_APPLICATION_CREDENTIALS names"
    ) as error:
        used(google(cloud), external(tmp_path, cloud, source))
    assert words in error.value.why


def test_a_role_that_is_not_one_of_the_store_is_told(cloud: Cloud, github: GitHub) -> None:
    arn = "arn:aws:iam::1:role/r"
    with pytest.raises(BadInput, match="is not a workload identity provider"):
        used(google(cloud, store_role=arn), github.environ())
    with pytest.raises(BadInput, match="TENANT/CLIENT"):
        used(azure(cloud, store_role=arn), github.environ())
    for inputs in (google(cloud, store_role=PROVIDER), azure(cloud, store_role="tenant/client")):
        with pytest.raises(BadInput, match="`store-role` needs an OIDC token"):
            used(inputs, {"GITHUB_ACTIONS": "true"})


def test_keys_of_one_cloud_are_not_in_the_way_of_another(cloud: Cloud, github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c")
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    used(google(cloud), {**keys, **external(tmp_path, cloud, {"file": str(tmp_path / "token")})})
    environ = {**keys, **github.environ(), "AZURE_AUTHORITY_HOST": cloud.url}
    used(azure(cloud, store_role="tenant/client"), environ)
