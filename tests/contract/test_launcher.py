"""`scripts/mlops`: environments by lock file, made once, whatever happens meanwhile."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import MLOPS, ROOT, Run
from mlops_actions import environments

CORE = ROOT / "scripts" / "locks" / "core.txt"


def environment_folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "environments").iterdir())


def start(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "MLOPS_CACHE": str(cache)}
    return subprocess.Popen(
        [str(MLOPS), *arguments], env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def test_jobs_that_make_one_environment_at_once_all_succeed(tmp_path: Path) -> None:
    jobs = [start(tmp_path, "--version") for _ in range(3)]
    ends = [job.communicate(timeout=180) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], ends
    assert all(out.startswith("mlops-actions, version") for out, _ in ends)
    assert len(environment_folders(tmp_path)) == 1


def test_environment_killed_halfway_is_made_anew(tmp_path: Path) -> None:
    job = start(tmp_path, "--version")
    for _ in range(2000):
        if list(tmp_path.glob("environments/.part-*/bin")):
            break
        time.sleep(0.001)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert not any(name.startswith("core-") for name in environment_folders(tmp_path))
    out, err = start(tmp_path, "--version").communicate(timeout=180)
    assert out.startswith("mlops-actions, version"), err


def test_environment_whose_python_is_gone_is_made_anew(tmp_path: Path) -> None:
    start(tmp_path, "--version").communicate(timeout=180)
    python = next(tmp_path.glob("environments/core-*/bin/python"))
    python.unlink()
    python.symlink_to(tmp_path / "no-such-python")
    out, err = start(tmp_path, "--version").communicate(timeout=180)
    assert out.startswith("mlops-actions, version"), err


def test_warm_launcher_needs_neither_uv_nor_python_on_the_path(mlops: Run, tmp_path: Path) -> None:
    assert mlops("--version").returncode == 0
    done = mlops("--version", PATH=str(bare_path(tmp_path, without=("uv", "python3", "python"))))
    assert done.returncode == 0, done.stderr


def bare_path(tmp_path: Path, without: tuple[str, ...] = ()) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "sha256sum", "shasum", "env", "dirname", "readlink", "git"):
        found = shutil.which(tool)
        if found and tool not in without:
            (folder / tool).symlink_to(found)
    if "python3" not in without:
        (folder / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    return folder


def test_no_uv_and_no_network_says_what_to_do(mlops: Run, tmp_path: Path) -> None:
    done = mlops(
        "--version",
        PATH=str(bare_path(tmp_path)),
        MLOPS_CACHE=str(tmp_path / "cache"),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
        PIP_FIND_LINKS="",
    )
    assert done.returncode == 3
    assert "uv is not installed, and installing it with pip failed" in done.stderr
    assert "Check the network" in done.stderr
    assert "Traceback" not in done.stderr


def test_uv_is_installed_when_it_is_missing(mlops: Run, tmp_path: Path) -> None:
    done = mlops("--version", PATH=str(bare_path(tmp_path)), MLOPS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("cache/uv-*/bin/uv"))


def test_no_network_says_what_to_do(mlops: Run, tmp_path: Path) -> None:
    done = mlops(
        "--version",
        MLOPS_CACHE=str(tmp_path / "cache"),
        UV_CACHE_DIR=str(tmp_path / "uv"),
        UV_INDEX_URL="http://127.0.0.1:9/simple",
        UV_DEFAULT_INDEX="http://127.0.0.1:9/simple",
        UV_HTTP_RETRIES="0",
    )
    assert done.returncode == 3
    assert "Installing the lock core failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    monkeypatch.setattr(sys, "argv", ["environments.py", "core"])
    with pytest.raises(SystemExit) as ended:
        environments.python_of_group("core")
    assert ended.value.code == 2
    assert "Python 3.10 or newer is needed, and python3 is 3.9.1" in capsys.readouterr().err


def test_missing_python_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(environments.EnvironmentFailed, match=r"Cannot create an environment for Python '3\.99'"):
        environments.ensure("", tmp_path, python="3.99")


def test_layered_requirements_are_found_again_by_content(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "requirements.txt"
    file.write_text("six==1.16.0\n")
    first = environments.ensure("", tmp_path, requirements=[file], say=said.append)
    again = environments.ensure("", tmp_path, requirements=[file], say=said.append)
    file.write_text("six==1.17.0\n")
    other = environments.ensure("", tmp_path, requirements=[file], say=said.append)
    assert first == again != other
    assert len([line for line in said if line.startswith("Preparing")]) == 2
    assert first.frozen().strip() == "six==1.16.0"


@pytest.mark.parametrize("full", ["MLOPS_CACHE", "UV_CACHE_DIR"])
def test_a_full_disk_is_named_and_leaves_no_environment(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv(full, str(small_disk / "cache"))
    (small_disk / "filler").write_bytes(b"x" * 900_000)
    cache = environments.cache_folder()
    with pytest.raises(environments.EnvironmentFailed, match=f"(?i)no space left in {small_disk}") as caught:
        environments.ensure("core", cache)
    assert caught.value.exit_code == 3
    assert [one for one in cache.glob("environments/*") if one.name[0] != "."] == []
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    assert environments.ensure("core", cache).python.exists()


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let it be later than it is."""
    now = time.time
    monkeypatch.setattr(environments, "time", SimpleNamespace(time=lambda: now() + days * 86400, monotonic=now))


def test_what_nobody_has_used_for_a_month_goes_when_a_new_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, running, kept = (
        environments.ensure("", tmp_path, packages=[f"six=={version}"]) for version in ("1.15.0", "1.16.0", "1.17.0")
    )
    downloaded = [tmp_path / name for name in ("objects/ab/abc.csv", "blobs/cd/cde-x.parquet", "locks/lowest-1.txt")]
    uvs = [tmp_path / folder / "bin" / name for folder in ("uv-old", "uv-now") for name in ("uv", "uvx")]
    downloaded += uvs
    left = tmp_path / ".part-killed"
    left.mkdir()
    for file in downloaded:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with subprocess.Popen([running.python, "-c", "input()"], stdin=subprocess.PIPE) as process:
        later(monkeypatch, 20)
        environments.sweep(tmp_path)
        assert kept.folder.exists() and old.folder.exists() and not left.exists()
        os.utime(kept.folder / "installed.txt", (environments.time.time(),) * 2)  # as somebody who uses it does then
        assert environments.used(uvs[2])
        later(monkeypatch, 35)
        made = environments.ensure("", tmp_path, packages=["six==1.14.0"])
        names = {one.name for one in (tmp_path / "environments").iterdir()}
        assert names == {running.name, kept.name, made.name}
        assert [file for file in downloaded if file.exists()] == uvs[2:]
        process.communicate(b"\n")
    assert process.returncode == 0
    assert environments.made_before(old.name, tmp_path) is None
    environments.sweep(tmp_path)
    assert running.folder.exists(), "it can be gone back to for another month"


def test_an_environment_that_is_used_is_noted_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environments.ensure("", tmp_path, packages=["six==1.17.0"])
    mark, touched = made.folder / "installed.txt", list[Path]()
    monkeypatch.setattr(os, "utime", lambda path, *_: touched.append(path))
    environments.ensure("", tmp_path, packages=["six==1.17.0"])
    assert touched == []
    later(monkeypatch, 2)
    environments.ensure("", tmp_path, packages=["six==1.17.0"])
    assert touched == [mark]


def test_requirements_that_conflict_with_the_lock_are_named(tmp_path: Path) -> None:
    with pytest.raises(environments.EnvironmentFailed, match=r"pydantic.*Loosen the pins"):
        environments.ensure("core", tmp_path, packages=["pydantic-core==2.20.0"])


def test_package_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(environments.EnvironmentFailed, match="no-such-package-mlops"):
        environments.ensure("", tmp_path, packages=["no-such-package-mlops==1"])


def test_importing_an_action_imports_no_engine() -> None:
    code = (
        "import sys, mlops_actions.actions.build_image; sys.exit('docker' in sys.modules or 'requests' in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == 0


@pytest.mark.parametrize("variable", ["HOME", "MLOPS_HOME"])
def test_a_folder_of_ours_that_cannot_be_made_is_bad_input(mlops: Run, variable: str) -> None:
    environ = {variable: "/proc/none", "MLOPS_CACHE": "", "XDG_CACHE_HOME": ""} if variable == "HOME" else {}
    done = mlops("report", **{variable: "/proc/none", **environ})
    said = done.stdout + done.stderr
    assert done.returncode == 2 and "/proc/none" in said and "Traceback" not in said
    assert ("MLOPS_CACHE" if variable == "HOME" else "MLOPS_HOME") in said


class Index:
    """A package index on this machine, with wheels that have nothing in them.

    Attributes:
        wheels: those that were fetched, in order.
    """

    def __init__(self, *names: str) -> None:
        self.wheels: list[str] = []
        self._files = {f"{name}-1.0-py3-none-any.whl": wheel(name) for name in names}

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The index, at its URL."""
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                name = self.path.strip("/").rpartition("/")[2]
                if name in index._files:
                    index.wheels += [name] if self.command == "GET" else []
                    body, kind = index._files[name], "application/octet-stream"
                else:
                    found = [
                        f'<a href="/files/{file}">{file}</a>'
                        for file in index._files
                        if file.startswith(name.replace("-", "_"))
                    ]
                    body, kind = "".join(found).encode(), "text/html"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if name in index._files:
                    self.send_header("Cache-Control", "max-age=365000000, immutable, public")  # as PyPI says of files
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *values: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/simple"
            finally:
                server.shutdown()


def wheel(name: str) -> bytes:
    about = f"{name}-1.0.dist-info"
    files = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{about}/RECORD"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return made.getvalue()


def test_packages_that_two_sets_share_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two tasks whose `packages_to_install` overlap: each set is an environment, and uv's cache serves both."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    index = Index("mlops_big", "mlops_one", "mlops_two")
    with index.serving() as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        first = environments.ensure("", tmp_path, packages=["mlops_big==1.0", "mlops_one==1.0"])
        fetched = set(index.wheels)
        index.wheels.clear()
        second = environments.ensure("", tmp_path, packages=["mlops_big==1.0", "mlops_two==1.0"])
    assert (first.frozen(), second.frozen()) == ("mlops-big==1.0\nmlops-one==1.0\n", "mlops-big==1.0\nmlops-two==1.0\n")
    assert fetched == {"mlops_big-1.0-py3-none-any.whl", "mlops_one-1.0-py3-none-any.whl"}
    assert set(index.wheels) == {"mlops_two-1.0-py3-none-any.whl"}, "what both have was fetched again"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_standard_error_cannot_take_does_not_change_how_a_command_fails(tmp_path: Path, unbuffered: str) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "rules.yaml").write_text("columns:\n  x: {dtype: Int64, isin: [2]}\n")
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "MLOPS_STORE": "store", "MLOPS_RUN": "here"}
    check = ["validate-data", "--data", "a.csv", "--contract", "rules.yaml"]
    for call, code in ((["nonsense"], 2), (["promote-model"], 2), (check, 1), (["schema"], 0)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [MLOPS, *call], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=full, text=True
            )
        assert (call[0], done.returncode) == (call[0], code)
    gone = subprocess.Popen([MLOPS, "nonsense"], cwd=tmp_path, env=environ, stderr=subprocess.PIPE)
    assert gone.stderr
    gone.stderr.close()
    assert gone.wait(60) == 141, "where its reader has gone, it ends as other programs do"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line_and_a_reader_who_has_gone_is_nothing(
    tmp_path: Path, unbuffered: str
) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    for call in (["schema"], ["--help"], ["doctor", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [MLOPS, *call], cwd=tmp_path, env=environ, stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert done.returncode == 3 and "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1] == "error: Cannot write to standard output: No space left on device."
        process = subprocess.Popen(
            [MLOPS, *call], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141 and "Cannot write" not in said and "Traceback" not in said
