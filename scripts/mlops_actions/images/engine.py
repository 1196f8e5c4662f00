"""The Docker engine, through its SDK: which images it has, their tags, a command run in one, a push."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker
import docker.errors
import requests
from docker.models.images import Image

from ..errors import BadInput, Rejected, RemoteFailed
from .login import Credentials, says_denied, says_status
from .names import HUB, ImageName, is_local
from .registry import Say

KEY_LABEL = "io.mlops-actions.key"


_START = "Start Docker (on Linux `sudo systemctl start docker`, elsewhere Docker Desktop, colima or Rancher Desktop)"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}
_PUSH_WAITS = (5.0, 15.0, 45.0)
"""Seconds before each retry when a registry limits the rate: the engine does not pass on how long to wait."""


class EngineUnavailable(RemoteFailed):
    """No Docker engine can be reached, or no docker command can build with BuildKit."""


class Engine:
    """A running Docker engine.

    Args:
        environ: variables that name it (DOCKER_HOST and its like), as docker reads them.
        command: the docker command, asked for the current context if DOCKER_HOST is not set; "" if there is none.

    Attributes:
        host: where it is; "" for the SDK's own default.
        client: the SDK's, for what is not below.

    Raises:
        EngineUnavailable: it cannot be reached.
    """

    def __init__(self, environ: Mapping[str, str], command: str = "") -> None:
        self.host = environ.get("DOCKER_HOST") or _context_host(environ, command)
        settings = {**environ, **({"DOCKER_HOST": self.host} if self.host else {})}
        try:
            self.client = docker.from_env(environment=settings, timeout=600, use_ssh_client=True)
            self._info: dict[str, Any] = self.client.info()
        except (docker.errors.DockerException, requests.RequestException) as error:
            where = f" at {self.host}" if self.host else ""
            raise EngineUnavailable(
                f"Cannot reach a Docker engine{where}",
                why=reason(error),
                fix=f"{_START}, set DOCKER_HOST, or set `if-unavailable: skip` to continue without an image",
            ) from error

    @property
    def platform(self) -> str:
        """What the engine runs, such as `linux/amd64`."""
        machine = str(self._info["Architecture"])
        return f"{self._info['OSType']}/{_ARCHITECTURES.get(machine, machine)}"

    @property
    def system(self) -> str:
        """What it says that it runs on, such as `Debian GNU/Linux 12` or `Docker Desktop`."""
        return str(self._info.get("OperatingSystem", ""))

    def allows_http(self, registry: str) -> bool:
        """Whether the engine may speak to a registry without TLS: it is this machine's own, or so configured."""
        if is_local(registry):
            return True
        known = self._info.get("RegistryConfig", {}).get("IndexConfigs", {}).get(registry, {})
        return not known.get("Secure", True)

    def image_id(self, reference: str) -> str:
        """The ID of an image of the engine; "" if it does not have it."""
        image = self._image(reference)
        return str(image.id) if image else ""

    def find(self, key: str, marks: Sequence[str]) -> str:
        """The ID of an image that was built from this content and passed its test; "" if there is none.

        Args:
            key: of the content.
            marks: tags that say so.
        """
        for image in self.client.images.list(filters={"label": f"{KEY_LABEL}={key}"}):
            if any(tag.rpartition(":")[2] in marks for tag in image.tags):
                return str(image.id)
        return ""

    def size(self, reference: str) -> int:
        """Bytes of an image, unpacked; 0 if the engine does not have it."""
        image = self._image(reference)
        return int(image.attrs["Size"]) if image else 0

    def tag(self, reference: str, name: str, tag: str) -> None:
        """Add a tag to an image."""
        image = self._image(reference)
        if image is None or not image.tag(name, tag=tag):
            raise RemoteFailed(f"Docker failed to tag {reference} as {name}:{tag}")

    def untag(self, reference: str) -> None:
        """Remove a tag; the image is deleted with its last one."""
        try:
            self.client.images.remove(reference)
        except docker.errors.APIError:
            pass  # it is gone already, or in use

    def test(self, reference: str, command: str, network: str, say: Say) -> None:
        """Run a command in an image, by its shell, or as it is if it is a JSON list. Its output is shown.

        Raises:
            Rejected: it ended with another code than 0; with the last lines of its output.
            BadInput: it cannot be started.
        """
        entrypoint, arguments = _command(command)
        try:
            container = self.client.containers.create(
                reference,
                command=arguments,
                entrypoint=entrypoint,
                network_mode=None if network == "default" else network,
                labels={"io.mlops-actions.test": "true"},
            )
        except docker.errors.APIError as error:
            raise RemoteFailed("Cannot run the test in the image", why=reason(error)) from error
        lines: list[str] = []
        try:
            container.start()
            rest = ""
            for chunk in container.logs(stream=True, follow=True):
                *whole, rest = (rest + chunk.decode(errors="replace")).split("\n")
                for line in whole:
                    lines = [*lines[-199:], line.rstrip("\r")]
                    say(lines[-1])
            if rest:
                lines.append(rest)
                say(rest)
            code = int(container.wait()["StatusCode"])
        except docker.errors.APIError as error:
            raise BadInput(
                f"Cannot start the test `{command}` in the image",
                why=reason(error),
                fix="Set `test` to a command that the image has; if it has no shell, as a JSON list of words",
            ) from error
        finally:
            container.remove(force=True)
        if code:
            raise Rejected(
                f"The test `{command}` failed in the image, with exit code {code}",
                fix="Nothing was tagged or pushed. The log shows why",
                log="\n".join(lines),
            )

    def check_login(self, registry: str, credentials: Credentials) -> None:
        """Try the credentials, before work is done that they would waste.

        Raises:
            RemoteFailed: they are refused, or the registry is unreachable.
        """
        try:
            self.client.api.login(
                credentials.username,
                credentials.password,
                registry="https://index.docker.io/v1/" if registry == HUB else registry,
                reauth=True,
            )
        except docker.errors.APIError as error:
            raise push_failure(registry, reason(error)) from error

    def push(
        self,
        image: ImageName,
        tag: str,
        credentials: Credentials | None,
        say: Say,
        *,
        waits: Sequence[float] = _PUSH_WAITS,
        wait: Callable[[float], None] = time.sleep,
    ) -> str:
        """Push one tag; the manifest's digest.

        Args:
            image, tag: what.
            credentials: None for what the engine's client knows by itself.
            say: is told why it waits.
            waits: seconds before each retry when the registry limits the rate of requests.
            wait: sleeps for a number of seconds.

        Raises:
            RemoteFailed: the registry refused, or is unreachable.
        """
        try:
            return self._push(image, tag, credentials)
        except TooManyRequests:
            if not waits:
                raise
            say(f"{image.registry} limits the rate of requests: retrying in {waits[0]:.0f} s")
            wait(waits[0])
        return self.push(image, tag, credentials, say, waits=waits[1:], wait=wait)

    def _push(self, image: ImageName, tag: str, credentials: Credentials | None) -> str:
        auth = {"username": credentials.username, "password": credentials.password} if credentials else None
        digest = ""
        try:
            for event in self.client.api.push(image.name, tag, stream=True, decode=True, auth_config=auth):
                if "error" in event:
                    raise push_failure(image.registry, str(event["error"]))
                digest = (event.get("aux") or {}).get("Digest") or digest
        except docker.errors.APIError as error:
            raise push_failure(image.registry, reason(error)) from error
        return digest

    def _image(self, reference: str) -> Image | None:
        try:
            return self.client.images.get(reference)
        except (docker.errors.ImageNotFound, docker.errors.NullResource):
            return None
        except docker.errors.APIError as error:
            raise RemoteFailed(f"Docker failed to look up the image {reference}", why=reason(error)) from error


class TooManyRequests(RemoteFailed):
    """A registry limits the rate of requests."""


def push_failure(registry: str, text: str) -> RemoteFailed:
    """The error for what the engine says of a failed push."""
    low = text.lower()
    if says_status(text, 429) or any(word in low for word in ("toomanyrequests", "too many requests")):
        return TooManyRequests(
            f"{registry} limits the rate of requests", why=text, fix="Wait, or log in: the limit is higher then"
        )
    if says_denied(text):
        return RemoteFailed(
            f"{registry} refused the login",
            why=text,
            fix="Check `registry-username` and `registry-password`, and that this user may write there",
        )
    if any(word in low for word in ("refused", "no such host", "timeout", "unreachable", "eof", "http response")):
        return RemoteFailed(
            f"Cannot reach the registry {registry}", why=text, fix="Check `image` and that the registry is up"
        )
    return RemoteFailed(f"{registry} refused the image", why=text)


def _command(command: str) -> tuple[list[str], list[str]]:
    """The entry point and arguments for a command."""
    if command.lstrip().startswith("["):
        try:
            words = json.loads(command)
        except ValueError:
            words = None
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return words[:1], words[1:]
        raise BadInput(
            f"`test` is not a JSON list of words: {command}", fix=f"For example {json.dumps(shlex.split('a b'))}"
        )
    return ["/bin/sh", "-c"], [command]


def _context_host(environ: Mapping[str, str], command: str) -> str:
    """The engine of the docker command's current context; "" for the SDK's own default."""
    if not command:
        return ""
    asked = subprocess.run(
        [command, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""


def reason(error: Exception) -> str:
    """An error of the SDK in its last, plainest words."""
    explanation = getattr(error, "explanation", None)
    if explanation:
        return str(explanation)
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
