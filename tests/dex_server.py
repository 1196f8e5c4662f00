"""Dex, the identity provider that Kubeflow comes with: the real one, built from its Go module."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_actions.waiting import Clock
from servers import free_port

USER, PASSWORD = "admin@example.com", "password"
_HASH = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"  # of PASSWORD, by bcrypt
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def dex(folder: Path, *, callback: str = "", github: str = "", approval: bool = True) -> Iterator[str]:
    """A running Dex; gives its issuer. A skip when it is not installed.

    It has the clients `kubeflow` (secret `gate-secret`), for the code flow, and `mlops-client`, for the other grants; a
    user in its own list, and a connector without passwords, so that there is a choice.

    Args:
        folder: for its configuration and log.
        callback: where it may lead back to.
        github: an issuer whose tokens can be exchanged, by the connector `github-actions`.
        approval: whether it asks the user whether to grant access.
    """
    program = shutil.which("dex") or shutil.which("dex", path=str(Path.home() / "go" / "bin"))
    if program is None:
        pytest.skip("no dex: `cd tests/dex && go build -o ~/go/bin/dex github.com/dexidp/dex/cmd/dex`")
    address = f"127.0.0.1:{free_port()}"
    issuer = f"http://{address}/dex"
    connectors = [{"type": "mockCallback", "id": "mock", "name": "Mock"}]
    if github:
        oidc = {"issuer": github, "scopes": ["openid"], "userNameKey": "sub", "insecureSkipEmailVerified": True}
        connectors.append({"type": "oidc", "id": "github-actions", "name": "GitHub", "config": oidc})  # type: ignore[dict-item]
    config = {
        "issuer": issuer,
        "storage": {"type": "memory"},
        "web": {"http": address},
        "oauth2": {"skipApprovalScreen": not approval, "passwordConnector": "local"},
        "enablePasswordDB": True,
        "staticPasswords": [{"email": USER, "hash": _HASH, "username": "admin", "userID": "1"}],
        "staticClients": [
            {"id": "kubeflow", "name": "Kubeflow", "secret": "gate-secret", "redirectURIs": [callback or issuer]},
            {"id": "mlops-client", "name": "mlops", "secret": "mlops-secret &=", "redirectURIs": [issuer]},
        ],
        "connectors": connectors,
    }
    (folder / "dex.json").write_text(json.dumps(config))
    with (folder / "dex.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "dex.json"], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(issuer, process, folder / "dex.log")
        yield issuer
    finally:
        process.terminate()
        process.wait(10)


def _wait(issuer: str, process: subprocess.Popen[bytes], log: Path) -> None:
    clock = Clock()
    until = clock.now() + 30
    while process.poll() is None and clock.now() < until:
        try:
            _OPEN.open(f"{issuer}/.well-known/openid-configuration", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            clock.wait(0.05)
    raise RuntimeError(f"Dex does not start:\n{log.read_text()[-2000:]}")
