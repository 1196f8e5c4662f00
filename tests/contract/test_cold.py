"""A company's machine: the package index is behind a proxy, and certificates are of the company's own authority."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import NOWHERE, ROOT, Run
from doubles.sign_in import Asked, Authority, Proxy, Reply, Web
from mlops_actions.errors import RemoteFailed
from mlops_actions.github.api import connected
from mlops_actions.http.tls import trusted_file

HOST = "packages.example"


class Index(Web):
    """A package index over the files of a folder.

    https://packaging.python.org/specifications/simple-repository-api
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._files = {path.name: path for path in folder.iterdir()}
        super().__init__(authority.server(HOST))

    def answer(self, asked: Asked) -> Reply:
        kind, name = asked.path.strip("/").split("/")
        if kind == "files":
            return Reply(content=self._files[name].read_bytes())
        found = [file for file in self._files if re.sub("[-_.]+", "-", file.split("-")[0]).lower() == name]
        return Reply(content="".join(f'<a href="/files/{file}">{file}</a>\n' for file in found))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the lock `core`, and uv."""
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run([ROOT / "scripts" / "bundle", folder, "core"], check=True, capture_output=True)
    return folder / "packages"


@pytest.fixture(autouse=True)
def _no_certificates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CURL_CA_BUNDLE", "PIP_CERT", "PIP_FIND_LINKS", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def proxy(packages: Path, authority: Authority) -> Iterator[Proxy]:
    with Index(packages, authority) as index, Proxy({f"{HOST}:443": index.host}) as made:
        yield made


def variables(tmp_path: Path, proxy: Proxy) -> dict[str, str]:
    """Those of a machine that reaches the index only through the proxy."""
    url = f"https://{HOST}/simple"
    index = dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"), url)
    caches = {"MLOPS_CACHE": str(tmp_path / "cache"), "UV_CACHE_DIR": str(tmp_path / "uv")}
    return {**NOWHERE, **index, **caches, "HTTPS_PROXY": proxy.url, "NO_PROXY": ""}


def test_environments_are_made_through_a_proxy_with_certificates_of_ones_own(
    mlops: Run, tmp_path: Path, proxy: Proxy, authority: Authority
) -> None:
    cold = {**variables(tmp_path, proxy), "SSL_CERT_FILE": str(authority.certificate)}
    done = mlops("--version", **cold)
    assert done.returncode == 0 and done.stdout.startswith("mlops-actions, version"), done.stderr
    assert set(proxy.asked) == {f"{HOST}:443"}


def test_a_certificate_that_is_not_trusted_is_told(mlops: Run, tmp_path: Path, proxy: Proxy) -> None:
    done = mlops("--version", **variables(tmp_path, proxy))
    assert done.returncode == 3
    assert "certificate" in done.stderr.lower() and "SSL_CERT_FILE" in done.stderr
    assert "Traceback" not in done.stderr


class Enterprise(Web):
    """What GitHub Enterprise Server says of a user."""

    def answer(self, asked: Asked) -> Reply:
        return Reply(content={"login": "octocat"})


def test_github_enterprise_server_is_trusted_by_certificates_of_ones_own(authority: Authority) -> None:
    def login(environ: dict[str, str]) -> str:
        with connected(f"{server.url}/api/v3", "t", "Cannot ask", "contents: read", trusted_file(environ)) as client:
            return client.get_user().login

    with Enterprise(authority.server()) as server:
        with pytest.raises(RemoteFailed, match="CERTIFICATE_VERIFY_FAILED"):
            login({})
        assert login({"SSL_CERT_FILE": str(authority.certificate)}) == "octocat"
