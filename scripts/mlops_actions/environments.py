"""Python environments by content: made once from hash-pinned locks by uv, found again by the hash of what is in them.

Only the standard library is used here: `scripts/mlops` runs this file with whatever Python the machine has when an
action's environment is not there yet, and actions use it to lay a consumer's requirements over a lock.

An environment is made in a folder of its own and renamed into place, so several jobs may make the same one at once
(the first to finish wins) and a killed one leaves nothing that looks finished. When one is made, what nobody has used
for 30 days is removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "locks"
OLDEST = (3, 10)
_WINDOWS = os.name == "nt"
_DAY = 24 * 3600
_HALF_MADE = _DAY  # seconds after which a half-made environment is somebody's left-over
_UNUSED = 30 * _DAY  # seconds after which what nobody has used is removed from the cache
_ROOM = 2**20  # bytes: with less, a disk is as good as full
MARK = "installed.txt"
"""Of an environment: written last, and its time is when it was used."""


FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Numbers of errors that say that a disk has no space left, or this user none on it."""


class EnvironmentFailed(Exception):
    """An environment could not be made. The message says why and what to do."""

    exit_code = 3


class Unusable(EnvironmentFailed):
    """What was given cannot be used: requirements, a Python, the folder of the caches, a bundle."""

    exit_code = 2


@dataclass(frozen=True)
class Environment:
    """A ready environment: its folder, its Python, and the name it is found by (equal names, equal packages asked)."""

    folder: Path
    name: str

    @property
    def python(self) -> Path:
        """The interpreter."""
        return _python_of(self.folder)

    def frozen(self) -> str:
        """What is installed, as `name==version` lines in order."""
        return (self.folder / MARK).read_text()


def ensure(
    group: str,
    cache: Path,
    *,
    requirements: Sequence[Path] = (),
    packages: Sequence[str] = (),
    python: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Environment:
    """Find or make an environment.

    Args:
        group: the lock it starts from, or "" for none.
        cache: the folder of the caches.
        requirements: requirements files laid over it.
        packages: requirement specifiers laid over it.
        python: a version such as "3.12" or a path; by default the Python that runs this.
        say: is told what is made and how long it took.

    Raises:
        Unusable: no such Python, the packages do not go together, or the folder cannot be written.
        EnvironmentFailed: no uv can be had, or the packages cannot be installed.
    """
    name = _name(group, requirements, packages, python)
    folder = cache / "environments" / name
    if _python_of(folder).exists() and used(folder / MARK):
        return Environment(folder, name)
    began = time.monotonic()
    say(f"Preparing the environment {name} (once)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        uv = find_uv(cache)
        sweep(cache)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent, ignore_cleanup_errors=True) as part:
            _make(uv, Path(part), group, requirements, packages, python)
            _rename(Path(part), folder)
    except OSError as error:
        if error.errno in FULL:
            raise EnvironmentFailed(f"No space left in {folder.parent}. {_FREE}") from error
        raise Unusable(
            f"Cannot write to {folder}: {error}. Set MLOPS_CACHE to a folder that can be written."
        ) from error
    say(f"Prepared {name} in {time.monotonic() - began:.1f} s")
    return Environment(folder, name)


RESOLUTIONS = {"locked": "highest", "lowest": "lowest-direct", "newest": "highest"}
"""Sets of versions that requirements allow, and uv's resolution of each."""


def locked(
    requirements: Sequence[Path], packages: Sequence[str], dependencies: str, cache: Path, *, python: str = ""
) -> Path:
    """A lock of what requirements ask for, each version pinned by the hashes of its files.

    Args:
        requirements: requirements files or a pyproject.toml.
        packages: requirement specifiers beside them.
        dependencies: `locked`: versions that are pinned stay, others are the newest that are allowed; a file that has
            hashes is taken as it is. `lowest`: of what is named itself the lowest versions that are allowed. `newest`:
            the newest ones.
        cache: the folder of the caches.
        python: a version or a path; by default the Python that runs this.

    Raises:
        Unusable: the packages do not go together; every version is pinned, so that there is nothing to choose from; or
            one has no lower bound.
        EnvironmentFailed: the index cannot be reached.
    """
    texts = [_requirements_text(path) for path in requirements]
    lines = [line.strip() for text in [*texts, *packages] for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith(("#", "-"))]
    over = ", ".join(path.name for path in requirements) or " ".join(packages)
    if (
        dependencies == "locked"
        and len(requirements) == 1
        and not packages
        and any("--hash=" in line for line in lines)
    ):
        return requirements[0]
    toml = any(path.suffix == ".toml" for path in requirements)
    if (
        dependencies != "locked"
        and not toml
        and all(re.search(r"===?[^*]+$", line.partition(";")[0]) for line in named)
    ):
        raise Unusable(
            f"{over} pins every package, so that `{dependencies}` has nothing to choose from."
            " Name the file that has the ranges as `requirements`, such as requirements.in or pyproject.toml."
        )
    uv = find_uv(cache)
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        given = Path(part) / "packages.in"
        given.write_text("\n".join(packages) + "\n", encoding="utf-8")
        sources = [str(path) for path in requirements] + ([str(given)] if packages else [])
        choose = ["--resolution", RESOLUTIONS[dependencies], "--generate-hashes", "--no-header", "--no-annotate"]
        output = ["--python", python or sys.executable, "--output-file", str(Path(part) / "lock.txt")]
        done = _run([uv, "pip", "compile", *choose, *output, *sources])
        if unbound := re.findall(r"direct dependency `([^`]+)` is unpinned", done.stderr):
            raise Unusable(
                f"{', '.join(unbound)} in {over} has no lower bound, so that `lowest` would be its very first version."
                f" Write the oldest version that is to work, such as `{unbound[0]}>=1.0`."
            )
        _check(done, f"Resolving the {dependencies} versions of {over}", theirs=True)
        text = (Path(part) / "lock.txt").read_text(encoding="utf-8")
        lock = folder / f"{dependencies}-{_digest(text.encode())}.txt"
        (Path(part) / "lock.txt").replace(lock)
    return lock


def made_before(name: str, cache: Path) -> Environment | None:
    """The environment of a name, if this machine has it."""
    folder = cache / "environments" / Path(name).name
    found = name and _python_of(folder).exists() and used(folder / MARK)
    return Environment(folder, folder.name) if found else None


CACHED_EVENTS = ("merge_group", "pull_request", "push", "repository_dispatch", "schedule", "workflow_dispatch")
"""Events whose code belongs to the branch in whose scope GitHub keeps their caches. `pull_request_target`,
`issue_comment` and `workflow_run` have the default branch's scope and may have checked out anybody's code."""


def cache_entry(groups: Sequence[str], cache: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Where GitHub's cache keeps the environments of groups: `key` and `path` for actions/cache, or nothing.

    Those that are there already are left out.

    Only a machine that is thrown away after its job needs it: a runner of GitHub's, or act when it has a cache server.
    The interpreter comes last in `path`, so that an archive that was not unpacked to its end leaves no environment.
    """
    hosted = environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    if not hosted and not (environ.get("ACT") == "true" and environ.get("ACTIONS_CACHE_URL")):
        return {}
    if environ.get("MLOPS_GITHUB_CACHE") == "false" or environ.get("GITHUB_EVENT_NAME") not in CACHED_EVENTS:
        return {}
    names = [_name(group, (), (), environ.get("MLOPS_PYTHON", "")) for group in groups]
    folders = {name: cache / "environments" / name for name in names}
    folders = {name: folder for name, folder in folders.items() if not _python_of(folder).exists()}
    if not folders:
        return {}
    made_by = f"{platform.python_version()} {sys.base_prefix}".encode()
    system = f"{platform.system()}-{platform.machine()}-py{platform.python_version()}-{_digest(made_by)[:8]}"
    programs = _python_of(Path()).parent.name
    paths = [f"{one.as_posix()}/{part}" for one in folders.values() for part in (f"[!{programs[0]}]*", programs)]
    return {"key": f"mlops-{'-'.join(folders)}-{system}", "path": "\n".join(paths)}


def lock_of(group: str) -> Path:
    """The lock file of a group of actions."""
    return LOCKS / f"{group}.txt"


def find_uv(cache: Path) -> str:
    """The uv on the path or beside this Python, or the pinned one, which is installed on first use.

    Raises:
        EnvironmentFailed: there is none, and it cannot be installed.
    """
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
        return found
    lock = lock_of("uv")
    folder = cache / f"uv-{_digest(lock.read_bytes())}"
    uv = folder / "bin" / ("uv.exe" if _WINDOWS else "uv")
    if used(uv):
        return str(uv)
    cache.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=cache))
    options = ["--no-deps", "--require-hashes", "--disable-pip-version-check", "--only-binary=:all:"]
    options += _source()
    if os.environ.get("SSL_CERT_FILE") and not os.environ.get("PIP_CERT"):
        options += ["--cert", os.environ["SSL_CERT_FILE"]]  # which uv reads, and pip does not
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(part), "-r", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "No module named pip" in done.stderr:
            done = _pip_of_a_venv(command)
        if done.returncode:
            _refuse_full(done.stderr, "Installing uv")
            raise EnvironmentFailed(
                f"uv is not installed, and installing it with pip failed: {_last_line(done.stderr)}."
                f" {_untrusted(done.stdout) or 'Check the network (or your index settings), or install uv yourself.'}"
            )
        _rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return str(uv)


def used(path: Path) -> bool:
    """Whether a file of the cache is there. That it is used now is noted in its time, at most once a day."""
    try:
        if time.time() - _last_use(path) > _DAY:
            _note(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # who may not write there removes nothing either
    return True


def sweep(cache: Path) -> None:
    """Remove what nobody has used for 30 days, and what was left half made. What cannot be removed stays.

    These are environments in which no process runs, versions of uv, locks, and files that were downloaded.
    """
    for folder in (cache, cache / "environments", cache / "locks"):
        for part in folder.glob(".part-*"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _HALF_MADE:
                    shutil.rmtree(part)
    for pattern in ("locks/*.txt", "blobs/*/*", "objects/*/*"):
        for file in cache.glob(pattern):
            with suppress(OSError):
                if _is_unused(file):
                    file.unlink()
    marks = [(mark, mark.parent) for mark in cache.glob(f"environments/*/{MARK}") if _is_unused(mark)]
    uvs = [uv for uv in cache.glob("uv-*/bin/uv*") if uv.stem == "uv"]  # beside it is uvx, which nobody uses
    marks += [(mark, mark.parent.parent) for mark in uvs if _is_unused(mark)]
    running = _command_lines() if marks else ""
    for mark, folder in marks:
        with suppress(OSError):
            if running is None or any(str(one) in running for one in (folder, folder.resolve())):
                _note(mark)  # somebody may go back to it, once it has ended
                continue
            away = folder.with_name(f".part-{folder.name}-{os.getpid()}")
            folder.rename(away)  # so that nobody finds a part of it; on Windows not while one runs in it
            if _is_unused(away / mark.relative_to(folder)):
                shutil.rmtree(away)
            else:
                away.rename(folder)  # somebody has just begun to use it


def _last_use(path: Path) -> float:
    """When a file was made or used. An archive that is unpacked sets the one time, and not the other."""
    found = path.stat()
    return max(found.st_mtime, found.st_ctime)


def _note(path: Path) -> None:
    now = time.time()
    os.utime(path, (now, now))


def _is_unused(path: Path) -> bool:
    try:
        return time.time() - _last_use(path) > _UNUSED
    except OSError:
        return False


def _command_lines() -> str | None:
    """What runs on this machine, with its interpreters' paths; None where that cannot be known."""
    if _WINDOWS:
        return ""  # it does not rename a folder with a program that runs
    if Path("/proc/self/cmdline").exists():
        found = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(process.read_text(errors="replace"))
        return "\n".join(found)
    try:
        return subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def cache_folder() -> Path:
    """MLOPS_CACHE, or mlops-actions in the user's cache folder. `scripts/mlops` has the same rule."""
    given = os.environ.get("MLOPS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "mlops-actions"


def _make(
    uv: str, folder: Path, group: str, requirements: Sequence[Path], packages: Sequence[str], python: str
) -> None:
    chosen = python or sys.executable
    done = _run([uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", chosen, str(folder)])
    if done.returncode:
        _refuse_full(done.stderr, "Creating an environment")
        kind = Unusable if "No interpreter found" in done.stderr else EnvironmentFailed
        raise kind(
            f"Cannot create an environment for Python {chosen!r}: {_told(done.stderr)}."
            " Install that Python, or set `python` to one that this machine has."
        )
    interpreter = str(_python_of(folder))
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", *_source(), "--python", interpreter]
    if group:
        _check(_run([*install, "--require-hashes", "-r", str(lock_of(group))]), f"Installing the lock {group}")
    if requirements or packages:
        asked = [item for path in requirements for item in ("-r", str(path))]
        over = " and ".join(filter(None, [", ".join(str(path) for path in requirements), " ".join(packages)]))
        _check(_run([*install, *asked, *packages]), f"Installing {over}", theirs=True)
        check = _run([uv, "pip", "check", "--python", interpreter])
        if check.returncode:
            conflicts = [line for line in check.stderr.splitlines() if " requires " in line]
            raise Unusable(
                f"{over} does not go with the packages that the action needs: {'; '.join(conflicts[:3])}."
                " Loosen the pins that are named."
            )
    frozen = _run([uv, "pip", "freeze", "--quiet", "--python", interpreter])
    _check(frozen, "Listing what is installed")
    (folder / MARK).write_text(frozen.stdout)


def _source() -> list[str]:
    """Options of uv and pip that take all packages from a bundle (see `scripts/bundle`), where MLOPS_BUNDLE names one.

    Raises:
        Unusable: there is no such folder.
    """
    bundle = os.environ.get("MLOPS_BUNDLE")
    if not bundle:
        return []
    packages = Path(bundle, "packages").resolve()
    if not packages.is_dir():
        raise Unusable(f"MLOPS_BUNDLE names {bundle}, which has no folder `packages`. Make it with scripts/bundle.")
    return ["--no-index", "--find-links", str(packages)]


def _check(done: subprocess.CompletedProcess[str], what: str, *, theirs: bool = False) -> None:
    """Refuse what uv refused.

    Raises:
        Unusable: `theirs`, the consumer's requirements, cannot be satisfied or read.
        EnvironmentFailed: it failed otherwise.
    """
    if done.returncode:
        _refuse_full(done.stderr, what)
        text = f"{what} failed: {_told(done.stderr)}"
        if theirs and re.search(r"No solution found|(Couldn't|Failed to) parse", done.stderr):
            raise Unusable(f"{text}. Change the requirements.")
        remedy = _untrusted(done.stderr) or "Check the requirements, or the network if it says so."
        raise EnvironmentFailed(f"{text}. {remedy}")


def _told(said: str) -> str:
    """What uv said, as one sentence without its full stop, its frame and logins."""
    text = " ".join(re.sub(r"[\s×│╰├─▶]+", " ", said).split()).removeprefix("error: ")
    return re.sub(r"://[^/@\s]+@", "://***@", text.replace(" cause:", ":"))[:600].rstrip(".")


_FREE = "Free some, or set MLOPS_CACHE (and UV_CACHE_DIR, for what uv keeps) to folders on a larger disk."


def full_disks(*folders: Path) -> list[str]:
    """Of the folders that are written to, and these, those on whose disk nothing more can be written."""
    asked = list(folders)
    with suppress(RuntimeError):  # this user has no home
        asked += [cache_folder(), Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")]
    with suppress(FileNotFoundError):  # where all of them are full
        asked.append(Path(tempfile.gettempdir()))
    there = (next((one for one in (folder, *folder.parents) if one.exists()), folder) for folder in asked)
    return [str(one) for one in dict.fromkeys(there) if shutil.disk_usage(one).free < _ROOM]


def _refuse_full(said: str, what: str) -> None:
    """Say so where uv or pip found that a disk is full.

    Raises:
        EnvironmentFailed: it did.
    """
    if re.search(r"no space left on device|disk quota exceeded", said, re.IGNORECASE):
        where = f" in {' and '.join(full)}" if (full := full_disks()) else f": {_last_line(said)}"
        raise EnvironmentFailed(f"{what} failed: no space left{where}. {_FREE}")


def _untrusted(said: str) -> str:
    """What to do where pip or uv does not trust a certificate; "" where that is not what it says."""
    if not re.search(r"certificate.verify.failed|invalid peer certificate", said, re.IGNORECASE):
        return ""
    return "Its certificate is not trusted: set SSL_CERT_FILE to a file with the certificates of your authority (PEM)."


_UNSEEN = (
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME",  # they speak of somebody else's environment
    "ACTIONS_", "AWS_", "GH_TOKEN", "GITHUB_", "INPUT_", "MLOPS_",  # a package that is built runs code of its own
)  # fmt: skip


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_UNSEEN)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def _pip_of_a_venv(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a pip command where Python has no pip of its own but can make one."""
    with tempfile.TemporaryDirectory() as scratch:
        made = subprocess.run([sys.executable, "-m", "venv", scratch], capture_output=True, text=True, check=False)
        if made.returncode:
            raise EnvironmentFailed(
                "uv is not installed, and this Python has neither pip nor venv to install it with."
                " Install uv, or your system's packages python3-pip or python3-venv."
            )
        return subprocess.run(
            [str(_python_of(Path(scratch))), *command[1:]], capture_output=True, text=True, check=False
        )


def _name(group: str, requirements: Sequence[Path], packages: Sequence[str], python: str) -> str:
    """`<group>-<hash>[-py<version>]`; without a consumer's packages it is what `scripts/mlops` computes."""
    lock = lock_of(group).read_bytes() if group else b""
    parts = [lock]
    if requirements or packages:
        parts += [_requirements_text(path).encode() for path in requirements]
        parts += ["\n".join(sorted(packages)).encode(), platform.machine().encode()]
        digest = _digest(b"\0".join(parts))
    else:
        digest = _digest(lock)
    suffix = f"-py{re.sub(r'[^A-Za-z0-9.]', '_', python)}" if python else ""
    return f"{group or 'plain'}-{digest}{suffix}"


def _requirements_text(path: Path) -> str:
    """A requirements file with the ones that it includes."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Unusable(f"The requirements file {path} cannot be read: {error.strerror}.") from error
    for local in re.findall(r"^\s*(?:-e\s+|--editable[ =])?(\.{1,2}(?:/\S*)?|/\S+)", text, re.MULTILINE):
        text += _sources(path.parent / local.split("[")[0])
    included = re.findall(r"^\s*(?:-r|--requirement|-c|--constraint)[ =]+(\S+)", text, re.MULTILINE)
    return text + "".join(_requirements_text(path.parent / name) for name in included)


def _sources(folder: Path) -> str:
    """What a package of the consumer's own is made from, so that its environment changes with it."""
    files = sorted([*folder.rglob("*.py"), *folder.glob("pyproject.toml"), *folder.glob("setup.cfg")])
    return "".join(f"{file.relative_to(folder)} {_digest(file.read_bytes())}\n" for file in files)


def _rename(part: Path, folder: Path) -> None:
    """Put a finished folder in its place; when another process was first, its folder stays."""
    try:
        part.rename(folder)
    except OSError:
        if folder.exists() and not _python_of(folder).exists() and not (folder / "bin" / "uv").exists():
            shutil.rmtree(folder)  # its base interpreter is gone: it is of no use to anybody
            part.rename(folder)
        elif not folder.exists():
            raise


def _python_of(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if _WINDOWS else folder / "bin" / "python"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no message"


def python_of_group(group: str) -> Path:
    """The Python of a group's environment, for a launcher: what is made, or is wrong, is told on standard error.

    Raises:
        SystemExit: there is none, and it cannot be made.
    """
    if sys.version_info < OLDEST:
        version = ".".join(str(part) for part in sys.version_info[:3])
        print(f"mlops: Python 3.10 or newer is needed, and python3 is {version}. Set MLOPS_PYTHON.", file=sys.stderr)
        raise SystemExit(2)
    try:
        made = ensure(
            group,
            cache_folder(),
            python=os.environ.get("MLOPS_PYTHON", ""),
            say=lambda text: print(f"mlops: {text}", file=sys.stderr, flush=True),
        )
    except EnvironmentFailed as error:
        on_runner = bool(os.environ.get("GITHUB_ACTIONS"))
        text = " ".join(str(error).split())
        print(f"::error title=No environment::{text}" if on_runner else f"mlops: {text}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    return made.python


def main(arguments: Sequence[str]) -> None:
    """By `scripts/mlops`: print the Python of a group; with `--cache-key` write the outputs of `cache_entry`; with
    `--prepare` make the environments of groups.
    """
    if arguments[0] == "--prepare":
        for group in arguments[1:]:
            python_of_group(group)
        return
    if arguments[0] != "--cache-key":
        print(python_of_group(arguments[0]))
        return
    with open(os.environ.get("GITHUB_OUTPUT", os.devnull), "a", encoding="utf-8") as output:  # noqa: PTH123
        for name, value in cache_entry(arguments[1:], cache_folder(), os.environ).items():
            output.write(f"{name}<<end-of-{name}\n{value}\nend-of-{name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
