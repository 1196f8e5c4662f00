"""What we take for a build's context against what BuildKit gets of it, over contexts and ignore files made at random.

More than the few that every run tries: `MLOPS_CONTEXTS=2000 pytest tests/contract/test_build_context.py`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import docker_engine as servers
from docker_engine import DockerEngine
from mlops_actions.errors import BadInput
from mlops_actions.images.content import content_key, context_files

CONTEXTS = int(os.environ.get("MLOPS_CONTEXTS", "80"))
NAMES = ["a", "b", "ab", "a.b", "x.log", "b.log", ".a", ".git", "a b", "é", "[a]", "#a", "!a", "a^", "a\\b", "$a", "(a"]
MODES = [0o644, 0o644, 0o600, 0o755, 0o444, 0o4755, 0o664]
FOLDER_MODES = [0o755, 0o755, 0o700, 0o1777, 0o2775]
GLOBS = [
    "*",
    "**",
    "?",
    "*.log",
    "a*",
    "*b",
    "**a",
    "a**",
    "[ab]",
    "[^a]",
    "[a-c]*",
    "\\*",
    "\\a",
    "***",
    ".*",
    ".",
    "..",
]

pytestmark = pytest.mark.skipif(bool(servers.missing()), reason=servers.missing() or "-")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with servers.docker_engine() as started:
        if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode:
            pytest.skip("no buildx: apt-get install docker-buildx-plugin")
        yield started


def fill(folder: Path, draw: random.Random, depth: int = 0) -> None:
    for name in draw.sample(NAMES, draw.randint(0 if depth else 2, 5 - depth)):
        path = folder / name
        kind = draw.random()
        if kind < 0.45 and depth < 3:
            path.mkdir()
            fill(path, draw, depth + 1)
            path.chmod(draw.choice(FOLDER_MODES))
        elif kind < 0.55:
            path.symlink_to(draw.choice([*NAMES, "../a", "nowhere"]))
        else:
            path.write_text(draw.choice(["", "one", "two"]))
            path.chmod(draw.choice(MODES))


def pattern(draw: random.Random) -> str:
    parts = [draw.choice(NAMES if draw.random() < 0.6 else GLOBS) for _ in range(draw.randint(1, 3))]
    text = "/".join(parts)
    if draw.random() < 0.1:
        text = draw.choice(["/", "./", "../", "//"]) + text
    if draw.random() < 0.1:
        text += draw.choice(["/", "/.", " ", "\t", "//"])
    if draw.random() < 0.35:
        text = draw.choice(["!", "!", "! ", "!/", "!!"]) + text
    return draw.choice(["", "", "", "", " "]) + text


def make(folder: Path, seed: int) -> Path:
    """A context, always the same for a seed."""
    draw = random.Random(seed)
    context = folder / f"context-{seed}"
    context.mkdir()
    fill(context, draw)
    lines = [draw.choice(["", "# a", "*", "**"])] if draw.random() < 0.4 else []
    lines += [pattern(draw) for _ in range(draw.randint(0, 4))]
    ending = draw.choice(["\n", "\n", "\r\n"])
    text = draw.choice(["", "", "\ufeff"]) + ending.join(lines) + draw.choice(["", ending])
    if draw.random() < 0.9:
        (context / ".dockerignore").write_bytes(text.encode())
        (context / ".dockerignore").chmod(0o644)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / "Dockerfile").chmod(0o644)
    return context


def received(engine: DockerEngine, context: Path, dockerfile: str = "Dockerfile") -> dict[str, str] | None:
    """What BuildKit has of a context after `COPY . /`, said as `context_files` says it; None if it refused."""
    command = ["docker", "buildx", "build", "--quiet", "--output=type=tar,dest=-"]
    done = subprocess.run(
        [*command, "--file", str(context / dockerfile), str(context)],
        env={**os.environ, **engine.environ, "BUILDX_GIT_INFO": "false"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        assert b"pattern" in done.stderr, done.stderr.decode()
        return None
    found = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            data = tar.extractfile(member) if member.isreg() else None
            kind = f"link {member.linkname}" if member.issym() else f"folder {member.mode:o}"
            if data:
                kind = f"file {member.mode:o} {hashlib.sha256(data.read()).hexdigest()}"
            found[member.name.rstrip("/")] = kind
    return found


def expected(context: Path) -> dict[str, str] | None:
    try:
        return context_files(context, context / "Dockerfile")
    except BadInput:
        return None


def key_of(context: Path) -> str:
    return content_key(context, context / "Dockerfile", build_args={}, target="", platforms=[], bases={}, test="")


def test_the_key_is_that_of_what_buildkit_gets(engine: DockerEngine, tmp_path: Path) -> None:
    contexts = [make(tmp_path, seed) for seed in range(CONTEXTS)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda context: received(engine, context), contexts))
    different = [
        describe(context, one, ours)
        for context, one in zip(contexts, got, strict=True)
        if one != (ours := expected(context))
    ]
    assert not different, f"{len(different)} of {CONTEXTS}:\n" + "\n".join(different[:5])
    pairs = {(str(sorted(one.items())), key_of(context)) for context, one in zip(contexts, got, strict=True) if one}
    assert len({content for content, _ in pairs}) == len({key for _, key in pairs}) == len(pairs)


def describe(context: Path, got: dict[str, str] | None, ours: dict[str, str] | None) -> str:
    ignore = context / ".dockerignore"
    lines: Sequence[bytes] = ignore.read_bytes().split(b"\n") if ignore.is_file() else []
    return (
        f"{context.name}: {lines}\n  only BuildKit: {sorted(set((got or {}).items()) - set((ours or {}).items()))}"
        f"\n  only we: {sorted(set((ours or {}).items()) - set((got or {}).items()))} ({got is None}, {ours is None})"
    )
