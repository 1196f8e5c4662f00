"""A store that is reached by who one is: no key in a file or a variable, on a real MinIO, by GitHub's word or Dex's."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from conftest import Run
from dex_server import PASSWORD, USER, dex
from doubles.sign_in import GitHub
from mlops_actions.errors import BadInput, MlopsError
from mlops_actions.inputs import Inputs
from mlops_actions.runtime.config import store_options
from mlops_actions.stores import identity
from mlops_actions.stores.identity import Keys, Lent
from mlops_actions.stores.store import Store
from servers import S3, minio_trusting
from workspaces import workspace

CLIENT = "mlops-client"


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


@pytest.fixture(scope="module")
def trusting(github: GitHub) -> Iterator[tuple[S3, str]]:
    with minio_trusting(github.url, CLIENT) as found:
        yield found


@pytest.fixture
def inputs(trusting: tuple[S3, str]) -> Inputs:
    server, role = trusting
    return Inputs(store=server.new_store(), store_endpoint=server.endpoint, store_role=role, store_audience=CLIENT)


def used(inputs: Inputs, environ: Mapping[str, str], seen: list[str] | None = None) -> Store:
    """A store that has been written and read."""
    masked = [] if seen is None else seen
    store = Store(inputs.store, store_options(inputs, environ, masked.append))
    store.put("a", b"1")
    assert store.get("a") == b"1"
    return store


def test_a_job_uses_the_store_by_githubs_word(github: GitHub, inputs: Inputs) -> None:
    masked: list[str] = []
    used(inputs, github.environ(), masked)
    assert len(masked) == 3 and all(len(secret) > 20 for secret in masked), "GitHub's token, the key and the session"


def test_a_pod_uses_the_store_by_the_token_in_a_file(tmp_path: Path) -> None:
    with dex(tmp_path) as issuer, minio_trusting(issuer, CLIENT) as (server, role):
        form = {"grant_type": "password", "username": USER, "password": PASSWORD, "scope": "openid"}
        form |= {"client_id": CLIENT, "client_secret": "mlops-secret &="}
        with urlopen(Request(f"{issuer}/token", urlencode(form).encode()), timeout=10) as response:
            (tmp_path / "token").write_text(json.load(response)["id_token"] + "\n")
        inputs = Inputs(store=server.new_store(), store_endpoint=server.endpoint)
        variables = {identity.TOKEN_FILE: str(tmp_path / "token"), identity.ROLE: role}
        used(inputs, variables)
        (tmp_path / "token").write_text("not a token")
        with pytest.raises(MlopsError, match="did not let this job take the role"):
            used(inputs, variables)
        (tmp_path / "token").unlink()
        with pytest.raises(BadInput, match=r"token file .* cannot be read"):
            used(inputs, variables)


def test_keys_are_renewed_during_a_long_job(github: GitHub, inputs: Inputs) -> None:
    options = store_options(inputs, github.environ())
    given: list[Keys] = []
    take = options.lent["s3"]._get

    def soon_over() -> Keys:
        given.append(replace(take(), until=datetime.now(timezone.utc) + timedelta(minutes=1)))
        return given[-1]

    store = Store(inputs.store, replace(options, lent={"s3": Lent(soon_over, lambda _: None)}))
    for number in range(100):  # obstore itself asks at most ten times a second
        store.put("a", str(number).encode())
        if len({keys.key for keys in given}) > 2:
            return
        time.sleep(0.02)
    raise AssertionError("the same keys were used all the time")


def test_code_gets_keys_that_end(github: GitHub, inputs: Inputs, tmp_path: Path) -> None:
    options = store_options(inputs, github.environ())
    there = workspace(tmp_path, store=inputs.store, options=options, environ=github.environ()).child_environ()
    assert there["AWS_SESSION_TOKEN"] and there["AWS_ACCESS_KEY_ID"]
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" not in there, "code may not say that it is this job"
    keys = {name.lower(): there[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    Store(inputs.store, replace(options, lent={}, settings=keys)).put("b", b"2")


def test_a_whole_action_leaves_no_key_anywhere(github: GitHub, inputs: Inputs, mlops: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,kind\n1,a\n2,b\n")
    (tmp_path / "mlops.yaml").write_text(
        f"store: {inputs.store}\nstore-endpoint: {inputs.store_endpoint}\n"
        f"store-role: {inputs.store_role}\nstore-audience: {CLIENT}\nvalidate-data: {{data: data.csv}}\n"
    )
    done = mlops("validate-data", RUNNER_DEBUG="1", **github.environ())
    assert done.returncode == 0, done.stdout + done.stderr
    store = used(inputs, github.environ())
    kept = [store.get(entry.path) for entry in store.list()]
    assert any(b"validate-data" in data for data in kept)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    words = [*kept, *files, done.stdout.encode(), done.stderr.encode()]
    telling = (b"eyJ", b"AWS_SECRET_ACCESS_KEY")  # JSON web tokens, which MinIO's sessions are too, begin so
    assert not [text for text in words if any(sign in text for sign in telling)]


def test_a_role_that_the_store_does_not_know_is_told(github: GitHub, inputs: Inputs) -> None:
    stranger = inputs.model_copy(update={"store_role": "arn:minio:iam:::role/other"})
    with pytest.raises(MlopsError, match="did not let this job take the role arn:minio:iam:::role/other") as error:
        used(stranger, github.environ())
    assert "store-role" in error.value.fix


def test_a_token_for_somebody_else_is_refused(github: GitHub, inputs: Inputs) -> None:
    with pytest.raises(MlopsError, match="did not let this job take the role"):
        used(inputs.model_copy(update={"store_audience": "somebody-else"}), github.environ())


def test_a_job_that_may_not_ask_for_a_token_is_told(inputs: Inputs) -> None:
    with pytest.raises(BadInput, match="`store-role` needs an OIDC token") as error:
        used(inputs, {"GITHUB_ACTIONS": "true"})
    assert "id-token: write" in error.value.fix


def test_a_terminal_with_keys_leaves_the_role_to_the_workflow(trusting: tuple[S3, str], inputs: Inputs) -> None:
    server, _ = trusting
    used(inputs, {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key})


PRINTS = """#!/bin/sh
[ "$*" = "configure export-credentials --profile team --format process" ] || { echo "no profile $4" >&2; exit 255; }
echo '{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "%s", "Expiration": null}'
"""


def test_a_profile_is_read_by_the_aws_command(trusting: tuple[S3, str], inputs: Inputs, tmp_path: Path) -> None:
    """In the format that AWS CLI 2 documents for `--format process`."""
    server, _ = trusting
    program = tmp_path / "aws"
    program.write_text(PRINTS % (server.access_key, server.secret_key))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    used(inputs, {"AWS_PROFILE": "team", "PATH": str(tmp_path)})
    with pytest.raises(BadInput, match="profile 'other'") as error:
        used(inputs, {"AWS_PROFILE": "other", "PATH": str(tmp_path)})
    assert "no profile other" in error.value.why
    with pytest.raises(BadInput, match="profile 'team'"):
        used(inputs, {"AWS_PROFILE": "team", "PATH": str(tmp_path / "none")})
