"""Keys of a store that live for a while: given for this job's own identity, or by a profile of the AWS command.

A role (`store-role`) is taken by AssumeRoleWithWebIdentity, one unsigned request that AWS and MinIO respond to alike:
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html. The keys of an instance, of a
container and of a pod, and those in variables, the object store finds by itself. Google's and Azure's tokens are in
`federation`.

Not by botocore: it is 25 MB more in every environment, and does not know GitHub's token.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from ..errors import BadInput, MlopsError, RemoteFailed
from ..http.tokens import may_ask

if TYPE_CHECKING:
    from ..http.client import HttpClient

TOKEN_FILE, ROLE, PROFILE = "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_PROFILE"
"""Variables that every AWS SDK reads: a token and what it is good for, as EKS gives them to pods; a profile."""
_LIFETIME = 3600
"""Seconds that keys live: what every role of AWS allows. MinIO gives fewer, those of the token, unless it is asked."""
_AHEAD = timedelta(minutes=5)
_PATIENCE = 30.0  # seconds that the issuer may be away
_Given = TypeVar("_Given")


@dataclass(frozen=True)
class Keys:
    """Keys of a store.

    Attributes:
        key, secret, session: as AWS names them `AccessKeyId`, `SecretAccessKey` and `SessionToken`.
        until: when they end; None for never.
    """

    key: str
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)
    until: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen."""
        return self.secret, self.session

    def given(self) -> dict[str, Any]:
        """As obstore wants them."""
        return {"access_key_id": self.key, "secret_access_key": self.secret, "token": self.session or None}

    def variables(self) -> dict[str, str]:
        """As variables that every S3 client reads."""
        named = {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_SESSION_TOKEN": self.session}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Bearer:
    """A token of a store that has no keys, and when it ends."""

    token: str = field(repr=False)
    until: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be seen."""
        return (self.token,)

    def given(self) -> dict[str, Any]:
        """As obstore wants it."""
        return {"token": self.token}

    def variables(self) -> dict[str, str]:
        """None: clients have no variable for it in common."""
        return {}


class Lent:
    """Keys, or a token, that are asked for again before they end. May be used by several threads.

    Args:
        get: gets new ones.
        mask: told what must not be seen.
    """

    def __init__(self, get: Callable[[], Keys | Bearer], mask: Callable[[str], None]) -> None:
        self._get, self._mask = get, mask
        self._lock = threading.Lock()
        self._keys: Keys | Bearer | None = None
        self.failure: MlopsError | None = None

    def keys(self) -> Keys | Bearer:
        """Those that are good for some minutes.

        Raises:
            BadInput, RemoteFailed: there are none.
        """
        with self._lock:
            if self._keys is None or not _good(self._keys, _AHEAD):
                self.failure = None
                try:
                    self._keys = self._get()
                except MlopsError as error:
                    if self._keys is None or not _good(self._keys, timedelta()):
                        self.failure = error
                        raise
                for secret in self._keys.secrets:
                    self._mask(secret)
            return self._keys

    def __call__(self) -> Any:
        """The same, as obstore wants them."""
        keys = self.keys()
        return {**keys.given(), "expires_at": keys.until}


@dataclass(frozen=True)
class Role:
    """A role that is taken for a while.

    Attributes:
        name: its ARN.
        audience: whom GitHub's token is for.
        issuer: URL of the STS.
        environ: variables of this process.
        mask: told what must not be seen.
    """

    name: str
    audience: str
    issuer: str
    environ: Mapping[str, str] = field(repr=False)
    mask: Callable[[str], None]

    def keys(self) -> Keys:
        """Take the role.

        Raises:
            BadInput: there is no token to show.
            RemoteFailed: GitHub gave none, or the STS cannot be reached or refuses.
        """
        return asked("The STS", self.environ, self._take)

    def _take(self, client: HttpClient) -> Keys:
        from ..http.faults import HttpError, shown

        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self.name,
            "RoleSessionName": self._session_name(),
            "DurationSeconds": str(_LIFETIME),
            "WebIdentityToken": self._token(client),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/xml"}
        response = client.send("POST", self.issuer, body=urlencode(form), headers=headers)
        if response.ok:
            return _read(response.text, self.issuer)
        said = {name: _text(response.text, name) for name in ("Code", "Message")}
        words = ": ".join(filter(None, said.values())) or f"HTTP {response.status}"
        raise HttpError(
            f"{shown(self.issuer)} did not let this job take the role {self.name}",
            why=words[:300],
            fix="Check `store-role`, and that the role trusts the token's issuer, audience and subject",
            **response.facts,
        )

    def _token(self, client: HttpClient) -> str:
        """GitHub's for this job; else what a file has, which may be another one at each time."""
        file = self.environ.get(TOKEN_FILE, "")
        if not file or may_ask(self.environ):
            return github_token(client, self.environ, self.audience, self.mask)
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"The token file {file} cannot be read", why=str(error), fix=f"Check {TOKEN_FILE}") from None

    def _session_name(self) -> str:
        """What the store's own log calls us: 2 to 64 characters of a set."""
        parts = (self.environ.get(name, "") for name in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
        name = self.environ.get("AWS_ROLE_SESSION_NAME") or "-".join(filter(None, ("mlops", *parts)))
        return re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:64]


def asked(who: str, environ: Mapping[str, str], ask: Callable[[HttpClient], _Given]) -> _Given:
    """What an issuer gives, which may be away for a while.

    Args:
        who: what to call it when it is back.
        environ: variables, for the proxy.
        ask: sends the requests.

    Raises: what `ask` does.
    """
    from ..http.client import HttpClient
    from ..http.retry import Retry
    from ..waiting import Clock

    client = HttpClient(environ)
    return Retry(who, Clock(), patience=_PATIENCE, first=_PATIENCE).run(lambda: ask(client))


def github_token(client: HttpClient, environ: Mapping[str, str], audience: str, mask: Callable[[str], None]) -> str:
    """GitHub's word for this job, to whom it is to be shown; see `http.job_token`."""
    from ..http.job_token import job_token

    token = job_token(client, environ, audience, wanted_by="store-role")
    mask(token)
    return token


def of_profile(profile: str, environ: Mapping[str, str]) -> Keys:
    """The keys of a profile in `~/.aws`, whatever it says: keys, another role, single sign-on, a program.

    Raises:
        BadInput: there is no AWS command, or no such profile, or nobody is signed in.
    """
    fix = "Use AWS CLI 2 and sign in (`aws sso login`), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    failed = f"Cannot get the keys of the AWS profile {profile!r}"
    program = shutil.which("aws", path=environ.get("PATH"))
    if program is None:
        raise BadInput(failed, why="The command `aws` is not installed", fix=fix)
    command = [program, "configure", "export-credentials", "--profile", profile, "--format", "process"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=dict(environ), timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(failed, why=str(error), fix=fix) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BadInput(failed, why=lines[-1][:300] if lines else "", fix=fix)
    try:
        found = json.loads(done.stdout)
        return Keys(
            found["AccessKeyId"],
            found["SecretAccessKey"],
            found.get("SessionToken") or "",
            time_of(found.get("Expiration")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(failed, why="The command `aws` did not print keys", fix=fix) from None


def _read(body: str, issuer: str) -> Keys:
    from ..http.faults import shown

    found = {name: _text(body, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")}
    try:
        if not found["AccessKeyId"] or not found["SecretAccessKey"]:
            raise ValueError
        until = time_of(found["Expiration"])
        return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], until)
    except ValueError:
        fix = "Check `store-endpoint`, or set AWS_ENDPOINT_URL_STS to the STS"
        raise RemoteFailed(f"{shown(issuer)} is not an STS", why="Its response has no keys", fix=fix) from None


def _text(body: str, name: str) -> str:
    """The text of the first element of this name in whatever namespace; "" if there is none."""
    from xml.etree import ElementTree  # only of what is asked for keys

    try:
        elements = ElementTree.fromstring(body).iter()
        return next((e.text or "" for e in elements if e.tag.rpartition("}")[2] == name), "").strip()
    except ElementTree.ParseError:
        return ""


def _good(keys: Keys | Bearer, ahead: timedelta) -> bool:
    """Whether they will still be good after this time."""
    return keys.until is None or datetime.now(timezone.utc) + ahead < keys.until


def time_of(text: object) -> datetime | None:
    """A time as issuers write it (ISO 8601); None for none. Raises ValueError where it is not a time."""
    if not text:
        return None
    time = datetime.fromisoformat(str(text).replace("Z", "+00:00"))  # 3.10 does not know the Z
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
