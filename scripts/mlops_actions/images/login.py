"""Credentials of a registry: given, or found in Docker's configuration; never on a command line."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..inputs import RegistryInputs
from .names import HUB

_HUB_ENTRY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """A user of a registry."""

    username: str
    password: str = field(repr=False)


def given_credentials(inputs: RegistryInputs) -> Credentials | None:
    """Those of an action's inputs; None where user or password is not given."""
    password = inputs.registry_password.get_secret_value() if inputs.registry_password else ""
    return Credentials(inputs.registry_username, password) if inputs.registry_username and password else None


def says_status(text: str, *codes: int) -> bool:
    """Whether a text names one of these HTTP statuses; a port or a digest may have the same digits in it."""
    return any(re.search(rf"(?<![\w.:]){code}(?![\w.])", text) for code in codes)


def says_denied(text: str) -> bool:
    """Whether the engine says that a registry refused the login, or wants one."""
    words = ("unauthorized", "denied", "authentication required", "no basic auth")
    return says_status(text, 401, 403) or any(word in text.lower() for word in words)


def config_folder(environ: Mapping[str, str]) -> Path:
    """Where the docker command has its configuration."""
    return Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def stored_credentials(environ: Mapping[str, str], registry: str) -> Credentials | None:
    """What `docker login` left for a registry, in the file or a credential helper; None if there is nothing usable."""
    import docker.auth  # not in every environment whose actions pull an image
    import docker.errors

    try:
        stored = docker.auth.load_config(str(config_folder(environ) / "config.json"), credstore_env=dict(environ))
        found = stored.resolve_authconfig(registry) or {}
    except (docker.errors.DockerException, OSError, ValueError):
        return None
    username, password = found.get("username") or found.get("Username"), found.get("password") or found.get("Password")
    return Credentials(username, password) if username and password else None


@contextmanager
def docker_config(environ: Mapping[str, str], registry: str, credentials: Credentials | None) -> Iterator[Path]:
    """A configuration folder for the docker command that knows the credentials; it is gone afterwards.

    It shows all else that the user's own folder has: plugins, contexts, builders, other logins. Only its owner can
    read it. Without credentials it is the user's own folder.
    """
    own = config_folder(environ)
    if credentials is None:
        yield own
        return
    folder = Path(tempfile.mkdtemp(prefix="docker-config-"))  # mode 700
    try:
        if own.is_dir():
            for entry in own.iterdir():
                if entry.name != "config.json":
                    _show(entry, folder / entry.name)
        settings = _with_login(_read(own / "config.json"), registry, credentials)
        descriptor = os.open(folder / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(settings, file)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_login(settings: dict[str, object], registry: str, credentials: Credentials) -> dict[str, object]:
    host = _HUB_ENTRY if registry == HUB else registry
    auths, helpers = settings.get("auths"), settings.get("credHelpers")
    secret = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    return {
        **settings,
        "auths": {**(auths if isinstance(auths, dict) else {}), host: {"auth": secret}},
        # An empty helper makes docker look into the file for this host, also where a credential store is the rule.
        "credHelpers": {**(helpers if isinstance(helpers, dict) else {}), host: ""},
    }


def _read(path: Path) -> dict[str, object]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _show(entry: Path, at: Path) -> None:
    try:
        at.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    except OSError:  # Windows without the right to make links
        if entry.is_dir():
            shutil.copytree(entry, at)
        else:
            shutil.copy2(entry, at)
