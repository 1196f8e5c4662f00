"""A real Docker engine, and real registries, for tests: started here, in folders and on ports of their own.

The engine that a machine may have already is not used, as tests fill and empty theirs; but on a CI runner it is, where
nobody misses anything and we may not start one. Nothing need be pulled: the base image is made of Debian's busybox.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_actions import environments

BASE_IMAGE = "busybox:test"
USER, PASSWORD = "robot", "correct horse"
_HTPASSWD = "robot:$2b$05$jTzGyax2axYq2lWkr3dmUeigxoHW9.qil0/Nkfs/o5ukGiYZZd.Le"


@dataclass(frozen=True)
class DockerEngine:
    """An engine that answers, with `busybox:test` in it.

    Attributes:
        host: for DOCKER_HOST; "" for the machine's own engine.
        environ: what a docker command needs to reach it.
    """

    host: str

    @property
    def environ(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host} if self.host else {}

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a docker command against it; what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env={**os.environ, **self.environ}, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()


def missing() -> str:
    """What an engine of our own would need and is not here, as a skip's reason; "" if nothing is."""
    if sys.platform != "linux" or (os.geteuid() != 0 and not _is_runner()):
        return "no docker: an engine of the tests' own needs Linux and root"
    needed = {"dockerd": "docker.io", "docker": "docker.io", "ip": "iproute2", "busybox": "busybox-static"}
    absent = sorted({package for command, package in needed.items() if not shutil.which(command)})
    return f"no docker: apt-get install {' '.join(absent)}" if absent else ""


def missing_registry() -> str:
    """The same for a registry."""
    return "" if shutil.which("docker-registry") else "no docker-registry: apt-get install docker-registry"


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """Start an engine with its own network bridge; it is ended, and its folder removed, on leaving."""
    if os.geteuid() != 0:
        own = DockerEngine("")
        own.docker("import", "--change", 'CMD ["/bin/sh"]', "-", BASE_IMAGE, stdin=_busybox())
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="dockerd-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        bridge = f"mdt{os.getpid()}"
        ip = ["ip", "link", "add", "name", bridge, "type", "bridge"]
        subprocess.run(ip, check=True, capture_output=True)
        try:
            subprocess.run(["ip", "addr", "add", f"172.31.{os.getpid() % 250 + 1}.1/24", "dev", bridge], check=True)
            host = f"unix://{place}/docker.sock"
            command = [
                *("dockerd", "--host", host, "--data-root", f"{place}/data", "--exec-root", f"{place}/exec"),
                *("--pidfile", f"{place}/pid", "--bridge", bridge, "--iptables=false", "--ip-forward=false"),
                *("--ip-masq=false", "--userland-proxy=false"),
            ]
            with _server(command, place / "log", {}, lambda: (place / "docker.sock").exists()):
                engine = DockerEngine(host)
                _wait(lambda: _answers(engine), place / "log")
                engine.docker("import", "--change", 'CMD ["/bin/sh"]', "-", BASE_IMAGE, stdin=_busybox())
                yield engine
        finally:
            subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)


def python_image(engine: DockerEngine, requirements: Path) -> str:
    """The name of an image with Python 3.11, pip and the packages of a requirements file, made without a pull.

    A Dockerfile's `pip install` of the same requirements finds them there, so that its build needs no network. It is
    made of Debian's packages by debootstrap, and kept as a file, because that takes a minute. Who is not root cannot
    do that, and is on a CI runner, which can pull.
    """
    if os.geteuid() != 0:
        engine.docker("pull", "python:3.11-slim")
        return "python:3.11-slim"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    kept = environments.cache_folder() / "tests" / f"python-{digest}.tar"
    if not kept.exists():
        _debian_with_python(requirements, kept)
    name = f"python-with-packages:{digest}"
    engine.docker("import", str(kept), name)
    return name


def _debian_with_python(requirements: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debian-", dir=target.parent) as folder:
        root = Path(folder) / "root"
        packages = "--include=python3,python3-pip,ca-certificates"
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        site = root / "usr/local/lib/python3.11/dist-packages"
        uv = environments.find_uv(environments.cache_folder())
        install = [uv, "pip", "install", "--quiet", "--target", str(site), "--python-version", "3.11"]
        subprocess.run([*install, "--requirements", str(requirements)], check=True)
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        made = Path(folder) / "image.tar"
        subprocess.run(["tar", "--directory", str(root), "--create", "--file", str(made), "."], check=True)
        made.replace(target)


@contextmanager
def registry(*, login: bool = False) -> Iterator[str]:
    """Start a registry on a free port of 127.0.0.1; its `host:port`. With `login`, only USER may use it."""
    with tempfile.TemporaryDirectory(prefix="registry-") as folder, socket.socket() as probe:
        place = Path(folder)
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        lines = [
            "version: 0.1",
            f"http: {{addr: '{address}'}}",
            f"storage: {{filesystem: {{rootdirectory: {place}/data}}}}",
        ]
        if login:
            (place / "users").write_text(_HTPASSWD + "\n")
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {place}/users}}}}")
        (place / "config.yml").write_text("\n".join(lines) + "\n")
        command = ["docker-registry", "serve", f"{place}/config.yml"]
        with _server(command, place / "log", {}, lambda: _listens(address)):
            yield address


def _is_runner() -> bool:
    return bool(os.environ.get("CI")) and bool(shutil.which("docker")) and _answers(DockerEngine(""))


def _busybox() -> bytes:
    """A root file system with busybox under each of its names."""
    binary = Path(shutil.which("busybox") or "")
    names = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "tmp", "etc"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.size, info.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as file:
            tar.addfile(info, file)
        for name in names:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if name != "busybox":
                tar.addfile(link)
    return out.getvalue()


@contextmanager
def _server(command: Sequence[str], log: Path, environ: Mapping[str, str], ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environ}, start_new_session=True
        )
    try:
        _wait(lambda: ready() or process.poll() is not None, log)
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(ready: Callable[[], bool], log: Path, seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


def _answers(engine: DockerEngine) -> bool:
    asked = subprocess.run(["docker", "info"], env={**os.environ, **engine.environ}, capture_output=True, check=False)
    return asked.returncode == 0


def _listens(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/", timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
