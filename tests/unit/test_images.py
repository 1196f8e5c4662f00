"""Images without an engine: names and tags, what is in a context, the content key, Dockerfiles, logins, progress."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.images import dockerignore, names, words
from mlops_actions.images.content import content_key, context_files
from mlops_actions.images.dockerfile import base_images, instructions, line_of_step
from mlops_actions.images.engine import TooManyRequests, push_failure
from mlops_actions.images.login import Credentials, docker_config, stored_credentials
from mlops_actions.images.progress import BuildProgress
from mlops_actions.images.registry import Manifest
from mlops_actions.records import Record
from mlops_actions.reports.sections import section
from mlops_actions.values import parse_texts
from mlops_actions.waiting import retry_after

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


# Names and tags


@pytest.mark.parametrize(
    ("name", "registry", "path"),
    [
        ("flights", "docker.io", "library/flights"),
        ("acme/flights", "docker.io", "acme/flights"),
        ("docker.io/acme/flights", "docker.io", "acme/flights"),
        ("index.docker.io/acme/flights", "docker.io", "acme/flights"),
        ("ghcr.io/acme/team/flights", "ghcr.io", "acme/team/flights"),
        ("localhost/flights", "localhost", "flights"),
        ("localhost:5000/flights", "localhost:5000", "flights"),
        ("127.0.0.1:5000/a/b__c-d.e", "127.0.0.1:5000", "a/b__c-d.e"),
        ("[::1]:5000/flights", "[::1]:5000", "flights"),
    ],
)
def test_a_name_says_its_registry_as_docker_reads_it(name: str, registry: str, path: str) -> None:
    parsed = names.parse_name(name)
    assert (parsed.name, parsed.registry, parsed.path) == (name, registry, path)


@pytest.mark.parametrize("name", ["Flights", "a//b", "a/b:tag", "a@sha256:0", "ghcr.io/", "", "a b", "-a", "a/../b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is not the name of an image"):
        names.parse_name(name)


@pytest.mark.parametrize(
    ("branch", "default", "request_number", "tags"),
    [
        ("main", "main", None, ["0123456789ab", "main", "latest"]),
        ("feature/é x", "main", None, ["0123456789ab", "feature-x"]),
        ("main", "", None, ["0123456789ab", "main"]),
        ("latest", "main", None, ["0123456789ab", "branch-latest"]),
        ("key-0123", "main", None, ["0123456789ab", "branch-key-0123"]),
        ("-.x", "main", None, ["0123456789ab", "x"]),
        ("main", "main", 12, ["0123456789ab", "pr-12"]),
        ("", "", None, ["0123456789ab"]),
    ],
)
def test_default_tags(branch: str, default: str, request_number: int | None, tags: list[str]) -> None:
    found = names.default_tags("0123456789abcdef" * 2, branch, default, request_number)
    assert found == tags
    assert names.check_tags(found) == tags


def test_of_a_pull_request_are_its_number_and_its_commit() -> None:
    commit = "0123456789abcdef" * 2
    own = ["pr-12", "pr-12-gpu", "0123456", "sha-0123456789ab", commit]
    others = ["latest", "main", "v1", "pr-1", "pr-123", "my-pr-12"]
    assert names.moving_tags([*own, *others], commit, 12) == others
    assert names.moving_tags(["latest", "pr-12"], "", 12) == ["latest"]


def test_outside_git_the_tag_is_local() -> None:
    assert names.default_tags("", "", "", None) == ["local"]


def test_a_branch_of_any_length_is_a_tag() -> None:
    assert len(names.check_tags([names.branch_tag("x/" * 200)])[0]) == 128


@pytest.mark.parametrize("tag", ["", "a b", "-a", ".a", "a" * 129, "a:b", "key-1234"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(BadInput):
        names.check_tags([tag])


@pytest.mark.parametrize(
    ("repository", "folder", "name"),
    [("acme/Flight_Delays", "x", "flight-delays"), ("", "My Folder!", "my-folder"), ("", "éé", "image")],
)
def test_default_name(repository: str, folder: str, name: str) -> None:
    assert names.default_name(repository, folder) == name
    names.parse_name(name)


# What is in a context


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def files_of(context: Path) -> list[str]:
    """The files and links that are sent, without git's."""
    found = context_files(context, context / "Dockerfile")
    return [path for path, what in found.items() if not what.startswith("folder") and not path.startswith(".git/")]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context with a Dockerfile, sources in two folders, and what nobody wants in an image."""
    root = tmp_path / "context"
    make(
        root,
        "app.py",
        "src/a.py",
        "src/a.pyc",
        "src/deep/b.py",
        "src/deep/keep.log",
        "data/x.csv",
        ".git/HEAD",
        "x.log",
    )
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . .\n")
    return root


@pytest.mark.parametrize(
    ("ignore", "gone"),
    [
        ("", []),
        ("# app.py\n\n", []),
        ("data\n", ["data/x.csv"]),
        ("/data/\n", ["data/x.csv"]),
        ("*.log\n", ["x.log"]),
        ("**/*.log\n", ["src/deep/keep.log", "x.log"]),
        ("**/*.log\n!src/deep/keep.log\n", ["x.log"]),
        ("src\n!src/deep/b.py\n", ["src/a.py", "src/a.pyc", "src/deep/keep.log"]),
        (
            "*\n!app.py\n!Dockerfile\n",
            ["data/x.csv", "src/a.py", "src/a.pyc", "src/deep/b.py", "src/deep/keep.log", "x.log"],
        ),
        ("src/*.py?\n", ["src/a.pyc"]),
        ("*/*.csv\n", ["data/x.csv"]),
        ("./app.py\n", ["app.py"]),
    ],
)
def test_dockerignore_hides_what_docker_hides(context: Path, ignore: str, gone: list[str]) -> None:
    everything = files_of(context)
    (context / ".dockerignore").write_text(ignore)
    left = [path for path in files_of(context) if path != ".dockerignore"]
    assert sorted(set(everything) - set(left)) == gone
    assert "Dockerfile" in everything


@pytest.mark.parametrize(
    ("ignore", "gone"),
    [
        ("**\n!src/**/*.py\n", ["Dockerfile", "app.py", "data", "src/a.pyc", "src/deep/keep.log", "x.log"]),
        ("**/deep\n", ["src/deep"]),
        ("**deep\n", ["src/deep"]),
        ("sr**\n", ["src"]),
        ("src/**\n", ["src/a.py", "src/a.pyc", "src/deep"]),
        ("src/**/*.log\n", ["src/deep/keep.log"]),
        ("src\n!src/deep\nsrc/deep/b.py\n", ["src/a.py", "src/a.pyc", "src/deep/b.py"]),
        ("src\r\n", ["src"]),
        ("[^a]*.log\n", ["x.log"]),
        (" #a\n\\app.py\n", []),
        ("s\x0brc\n", []),
    ],
)
def test_what_docker_and_its_old_builder_read_differently(context: Path, ignore: str, gone: list[str]) -> None:
    everything = context_files(context, context / "Dockerfile").keys()
    (context / ".dockerignore").write_bytes(ignore.encode())
    left = {path for path in context_files(context, context / "Dockerfile") if path != ".dockerignore"}
    hidden = everything - left - {path for path in everything if path.startswith(".git")}
    assert sorted(path for path in hidden if path.rpartition("/")[0] not in hidden) == gone


@pytest.mark.parametrize("line", ["[", "a[]", pytest.param("a\\", marks=posix), "!", "[b-a]", "!/"])
def test_a_line_that_is_not_a_pattern_is_named(context: Path, line: str) -> None:
    (context / ".dockerignore").write_text(f"app.py\n{line}\n")
    with pytest.raises(BadInput, match="is not a pattern") as caught:
        context_files(context, context / "Dockerfile")
    assert str(caught.value.place) == ".dockerignore:2"


def test_a_dockerfiles_own_ignore_file_comes_first(context: Path) -> None:
    make(context, "docker/train")
    (context / ".dockerignore").write_text("app.py\n")
    (context / "docker/train.dockerignore").write_text("src\n")
    found = context_files(context, context / "docker/train")
    assert "app.py" in found
    assert "src/a.py" not in found


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("COPY app.py src/ /", False),
        ("COPY .gitignore /", False),
        ("COPY *.py [a-z]* /", False),
        ("COPY --from=other . /", False),
        ("COPY <<EOF /x\n.git\nEOF", False),
        ("ADD https://example.invalid/x.git /x", False),
        ("RUN --mount=type=cache,target=/c --mount=type=bind,source=src,target=/s make .git", False),
        ("COPY . .", True),
        ("COPY ./ /", True),
        ('COPY ["src", ".", "/x"]', True),
        ('COPY ".git/HEAD" /', True),
        ("COPY * /", True),
        ("COPY src/../.g?t/HEAD /", True),
        ("ARG WHAT\nADD $WHAT /", True),
        ("RUN --mount=target=/s make", True),
        ("RUN --mount=type=cache,target=/c --mount=type=bind,src=.git,target=/s make", True),
        ("ONBUILD COPY . .", True),
    ],
)
def test_git_counts_only_if_it_is_sent(context: Path, line: str, counts: bool) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch AS other\nFROM scratch\n{line}\n")
    assert (".git/HEAD" in context_files(context, context / "Dockerfile")) is counts
    (context / ".dockerignore").write_text(".git\n")
    assert ".git/HEAD" not in context_files(context, context / "Dockerfile")


# The content key


def key(context: Path, **changed: object) -> str:
    parts: dict[str, object] = {
        "build_args": {"A": "1"},
        "target": "",
        "platforms": ["linux/amd64"],
        "bases": {"b": "sha256:1"},
        "test": "true",
        **changed,
    }
    return content_key(context, context / "Dockerfile", **parts)  # type: ignore[arg-type]


def test_the_key_is_of_content_and_not_of_dates_or_places(context: Path, tmp_path: Path) -> None:
    before = key(context)
    for path in context.rglob("*"):
        os.utime(path, (0, 0))
    assert key(context) == before
    moved = context.rename(tmp_path / "elsewhere")
    assert key(moved) == before
    assert len(before) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"build_args": {"A": "2"}},
        {"build_args": {}},
        {"target": "base"},
        {"platforms": ["linux/arm64"]},
        {"bases": {"b": "sha256:2"}},
        {"test": ""},
    ],
)
def test_the_key_changes_with_each_part(context: Path, change: dict[str, object]) -> None:
    assert key(context, **change) != key(context)


def test_the_order_of_platforms_does_not_count(context: Path) -> None:
    assert key(context, platforms=["a", "b"]) == key(context, platforms=["b", "a"])


def test_the_key_changes_with_files(context: Path) -> None:
    seen = {key(context)}
    (context / "app.py").write_text("changed")
    seen.add(key(context))
    (context / "app.py").rename(context / "renamed.py")
    seen.add(key(context))
    (context / "Dockerfile").write_text("FROM scratch\n")
    seen.add(key(context))
    assert len(seen) == 4
    (context / ".dockerignore").write_text("renamed.py\n")
    hidden = key(context)
    (context / "renamed.py").write_text("hidden from the image")
    assert key(context) == hidden


@posix
def test_the_key_knows_modes_links_and_empty_folders(context: Path) -> None:
    seen = {key(context)}
    (context / "app.py").chmod(0o640)
    seen.add(key(context))
    (context / "app.py").chmod(0o755)
    seen.add(key(context))
    (context / "src").chmod(0o700)
    seen.add(key(context))
    (context / "empty").mkdir()
    seen.add(key(context))
    (context / "link").symlink_to("app.py")
    seen.add(key(context))
    (context / "link").unlink()
    (context / "link").symlink_to("src/a.py")
    seen.add(key(context))
    (context / "dangling").symlink_to("nowhere")
    seen.add(key(context))
    assert len(seen) == 8
    before = key(context)
    os.mkfifo(context / "pipe")  # is not sent, and reading it would never end
    assert key(context) == before


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(context: Path) -> None:
    (context / "app.py").chmod(0)
    with pytest.raises(BadInput, match=r"Cannot read .*app\.py in the build context. Permission denied"):
        key(context)


def test_a_file_that_vanishes_is_named(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = sorted(dockerignore.sent(context, []))
    monkeypatch.setattr(dockerignore, "sent", lambda *_, **__: [*listed, "gone"])
    with pytest.raises(BadInput, match=r"Cannot read .*gone in the build context"):
        key(context)


# Dockerfiles

DOCKERFILE = """\
# syntax=docker/dockerfile:1
# escape=\\

ARG PYTHON=3.11
ARG BASE=python:${PYTHON}-slim
FROM --platform=$BUILDPLATFORM ${BASE} AS base
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
RUN echo one && \\
    # a comment between
    echo two

RUN <<EOF
FROM not/an/image
EOF
FROM base AS train
ARG PYTHON
RUN --mount=type=bind,from=tools:1,target=/t pip install $PYTHON thing
FROM scratch
COPY --from=train /x /x
COPY --from=0 /y /y
"""


def test_instructions_have_the_line_where_they_begin() -> None:
    found = [(one.line, one.name) for one in instructions(DOCKERFILE)]
    assert found == [
        (4, "ARG"), (5, "ARG"), (6, "FROM"), (7, "COPY"), (8, "RUN"), (12, "RUN"), (15, "FROM"), (16, "ARG"),
        (17, "RUN"), (18, "FROM"), (19, "COPY"), (20, "COPY"),
    ]  # fmt: skip


def test_base_images_are_those_of_from_and_copy_with_arguments_filled_in() -> None:
    parsed = instructions(DOCKERFILE)
    assert base_images(parsed, {}) == ["python:3.11-slim", "ghcr.io/astral-sh/uv:0.9", "tools:1"]
    assert base_images(parsed, {"PYTHON": "3.13"})[0] == "python:3.13-slim"
    assert base_images(parsed, {"BASE": "own:1"}, target="base") == ["own:1", "ghcr.io/astral-sh/uv:0.9"]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("ARG A\nFROM ${A:-b:1}\n", "b:1"),
        ('ARG A="b:2"\nFROM $A\n', "b:2"),
        ("ARG A=x\nFROM b:3${A:+-x}\n", "b:3-x"),
        ("from b:4 as c\nFROM C\n", "b:4"),
        ("# escape=`\nFROM `\n  b:5\n", "b:5"),
    ],
)
def test_base_images_in_unusual_dress(text: str, image: str) -> None:
    assert base_images(instructions(text), {}) == [image]


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM a\nRUN echo $((1<<4)) 'x <<EOF' cat<<EOF <<<word\nFROM b\n", ["b"]),
        ('FROM a\nRUN ["cat", "<<EOF"]\nFROM b\n', ["b"]),
        ("FROM a\nRUN <<'E OF' <<-\"X\"\nFROM c\nE OF\nFROM d\n\tX\nFROM b\n", ["b"]),
        ("FROM a\nRUN 3<< E-O.F cat\nFROM c\nE-O.F\nFROM b\n", ["b"]),
        ("FROM a\nONBUILD RUN <<EOF\nFROM c\nEOF\nFROM b\n", ["b"]),
        ("FROM a\nLABEL x=<<EOF\nFROM b\n", ["b"]),
        ("FROM a\r\nRUN <<EOF\r\nFROM c\r\nEOF\r\nFROM b\r\n", ["b"]),
        ("ARG A=1 B='2 x' C\nFROM b:$A-${B%?x}$C\n", ["b:1-2"]),
        ("FROM a AS one\nFROM b AS two\nFROM c\nCOPY --from=ONE / /\n", ["a", "c"]),
        ("FROM a\nFROM b\nFROM c\nCOPY --from=1 / /\n", ["b", "c"]),
        ("FROM a AS one\nFROM one AS two\nFROM unused\nFROM two\n", ["a"]),
        (
            "FROM b\nRUN --mount=from=x,target=/x --mount=type=bind,target=/y,from=y true --mount=from=z\n",
            ["b", "x", "y"],
        ),
        ('FROM b\nRUN --mount="type=bind,from=x,target=/x" --network=none true\n', ["b", "x"]),
        ("FROM b\nCOPY --chown=1 --from=x --link / /\nADD --from=scratch / /\n", ["b", "x"]),
        ("FROM b\nRUN echo --mount=from=z \\\n  && COPY --from=y\n", ["b"]),
        ("# escape=`\n# a comment\nFROM b\nRUN dir c:\\\nFROM c\n", ["c"]),
        ("# comment\n# escape=`\nFROM b\nRUN a `\nFROM c\n", ["c"]),
        ("FROM b\nRUN a \\\\\nFROM c\n", ["c"]),
        ("FROM ${A:?must be given}\n", []),
        ('\ufeffFROM "b"\n', ["b"]),
    ],
)
def test_base_images_are_those_that_buildkit_needs(text: str, images: list[str]) -> None:
    assert base_images(instructions(text), {}) == images


@pytest.mark.parametrize(("target", "image"), [("One", "a"), ("one", "a"), ("0", "a"), ("TWO", "b"), ("", "c")])
def test_a_target_is_a_name_in_any_case_or_a_number(target: str, image: str) -> None:
    assert base_images(instructions("FROM a AS One\nFROM b AS two\nFROM c\n"), {}, target) == [image]


def test_base_images_know_the_variables_that_buildkit_sets() -> None:
    parsed = instructions("ARG TARGETARCH\nFROM b-$TARGETARCH\n")
    assert base_images(parsed, {}, predefined={"TARGETARCH": "arm64"}) == ["b-arm64"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$V ${V} $VX ${N}", "a/b.tar.gz a/b.tar.gz  "),
        ("${E-x} ${E:-x} ${N-x} ${N:-${V}}", " x x a/b.tar.gz"),
        ("${V+x} ${E+x} ${E:+x} ${N+x}", "x x  "),
        ("${V?} ${E?x}", "a/b.tar.gz "),
        ("${V#*/} ${V##*.} ${V#x}", "b.tar.gz gz a/b.tar.gz"),
        ("${V%.*} ${V%%.*} ${V%x}", "a/b.tar a/b a/b.tar.gz"),
        ("${V/./-} ${V//./-} ${V/\\//-} ${V//[x]/-}", "a/b-tar.gz a/b-tar-gz a-b.tar.gz a/b.tar.gz"),
        ("${V#?/} ${V//*/x} ${V///x}", "b.tar.gz x xax/xbx.xtxaxrx.xgxzx"),
        ('\'$V\' "$V" \\$V "a\\"b" a\\b', '$V a/b.tar.gz $V a"b ab'),
        ("$ $$ a$", "$  a$"),
        ("<<EOF", "<<EOF"),
    ],
)
def test_variables_are_replaced_as_buildkit_does(text: str, value: str) -> None:
    assert words.expand(text, {"V": "a/b.tar.gz", "E": ""}) == value


@pytest.mark.parametrize("text", ["${V", "${}", "${V:#x}", "${V^}", "${N?}", "${E:?why}", "'a", '"a', "${V#\\a}", "${"])
def test_substitutions_that_buildkit_refuses(text: str) -> None:
    with pytest.raises(words.SubstitutionError):
        words.expand(text, {"V": "a", "E": ""})


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("[base 3/4] RUN echo one &&     echo two", 8),
        ("[train 2/2] RUN --mount=type=bind,from=tools:1,target=/t pip install 3.11 thing", 17),
        ("[stage-2 2/3] COPY --from=train /x /x", 19),
        ("[internal] load metadata for docker.io/library/python:3.11-slim", 6),
        ("[internal] load metadata for docker.io/library/nosuch:1", None),
        ("exporting to image", None),
    ],
)
def test_a_build_step_is_found_in_the_dockerfile(step: str, line: int | None) -> None:
    text = DOCKERFILE.replace("${BASE}", "python:${PYTHON}-slim")
    assert line_of_step(instructions(text), step) == line


# Progress

FAILED = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 108B done
#1 DONE 0.0s

#4 [base 1/3] FROM docker.io/library/busybox:test
#4 CACHED

#5 [base 2/3] RUN make
#5 0.177 ::error::made
#5 DONE 0.2s

#6 [base 3/3] RUN echo one && nosuch
#6 0.177 one
#6 0.178 /bin/sh: nosuch: not found
#6 ERROR: process "/bin/sh -c echo one && nosuch" did not complete successfully: exit code: 127
------
 > [base 3/3] RUN echo one && nosuch:
0.177 one
0.178 /bin/sh: nosuch: not found
------
Dockerfile:4
--------------------
   2 |     RUN make
   3 |
   4 | >>> RUN echo one && nosuch
--------------------
ERROR: failed to solve: process "/bin/sh -c echo one && nosuch" did not complete successfully: exit code: 127
"""


def read(text: str) -> tuple[BuildProgress, list[str]]:
    progress = BuildProgress()
    return progress, [shown for line in text.splitlines() if (shown := progress.read(line))]


def test_progress_tells_steps_and_their_output_and_keeps_noise_away() -> None:
    progress, shown = read(FAILED)
    assert progress.counted == (3, 1)
    assert "#5 0.177 ::error::made" in shown
    assert not any("transferring" in line or "-----" in line for line in shown)


def test_failure_is_the_failing_step_with_its_own_log() -> None:
    failure = read(FAILED)[0].failure(instructions("FROM busybox:test\nRUN make\n\nRUN echo one && nosuch\n"))
    assert failure.step == "[base 3/3] RUN echo one && nosuch"
    assert failure.line == 4
    assert failure.why == "It failed with exit code 127"
    assert failure.log.splitlines() == ["one", "/bin/sh: nosuch: not found"]


def test_of_steps_that_failed_at_once_the_cancelled_one_is_not_blamed() -> None:
    text = (
        "#5 [a 1/1] RUN sleep\n#5 ERROR: context canceled\n#6 [b 1/1] COPY x /\n"
        '#6 ERROR: "/x" not found\n'
        'ERROR: failed to build: failed to solve: failed to compute cache key: "/x" not found\n'
    )
    failure = read(text)[0].failure(instructions("FROM s AS a\nRUN sleep\nFROM s AS b\nCOPY x /\n"))
    assert (failure.step, failure.line, failure.why) == ("[b 1/1] COPY x /", 4, '"/x" not found')


def test_a_parse_error_has_its_line() -> None:
    text = "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUM\n"
    failure = read(text)[0].failure(instructions("FROM s\nRUM x\n"))
    assert (failure.step, failure.line) == ("", 2)
    assert failure.why == "dockerfile parse error on line 2: unknown instruction: RUM"


# Logins


def test_a_login_is_in_a_private_folder_that_is_gone_afterwards(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "cli-plugins").mkdir(parents=True)
    (own / "cli-plugins/docker-buildx").write_text("plugin")
    settings = {"credsStore": "desktop", "currentContext": "colima", "auths": {"other.io": {"auth": "eA=="}}}
    (own / "config.json").write_text(json.dumps(settings))
    with docker_config({"DOCKER_CONFIG": str(own)}, "ghcr.io", Credentials("me", "s3cret")) as folder:
        file = folder / "config.json"
        if os.name != "nt":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        written = json.loads(file.read_text())
        assert written["auths"] == {"other.io": {"auth": "eA=="}, "ghcr.io": {"auth": "bWU6czNjcmV0"}}
        assert written["credHelpers"] == {"ghcr.io": ""}  # else docker would ask the store, which does not know it
        assert (written["credsStore"], written["currentContext"]) == ("desktop", "colima")
        assert (folder / "cli-plugins/docker-buildx").read_text() == "plugin"
    assert not folder.exists()
    assert (own / "cli-plugins/docker-buildx").exists()
    assert json.loads((own / "config.json").read_text()) == settings


def test_without_a_login_the_users_own_folder_is_used(tmp_path: Path) -> None:
    with docker_config({"DOCKER_CONFIG": str(tmp_path)}, "ghcr.io", None) as folder:
        assert folder == tmp_path


def test_docker_hub_has_its_own_entry(tmp_path: Path) -> None:
    with docker_config({"DOCKER_CONFIG": str(tmp_path)}, "docker.io", Credentials("me", "x")) as folder:
        assert list(json.loads((folder / "config.json").read_text())["auths"]) == ["https://index.docker.io/v1/"]
        assert stored_credentials({"DOCKER_CONFIG": str(folder)}, "docker.io") == Credentials("me", "x")


def test_what_docker_login_left_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.io:5000": {"auth": "bWU6YTpi"}}}))
    assert stored_credentials({"DOCKER_CONFIG": str(tmp_path)}, "r.io:5000") == Credentials("me", "a:b")
    assert stored_credentials({"DOCKER_CONFIG": str(tmp_path)}, "other.io") is None
    (tmp_path / "config.json").write_text("not json")
    assert stored_credentials({"DOCKER_CONFIG": str(tmp_path)}, "r.io:5000") is None


def test_a_password_is_in_no_representation() -> None:
    assert "s3cret" not in repr(Credentials("me", "s3cret"))


# The rest


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("PYTHON=3.10\nEMPTY=\nA=b=c", {"PYTHON": "3.10", "EMPTY": "", "A": "b=c"}),
        ("PYTHON: 3.10\nYES: true", {"PYTHON": "3.10", "YES": "true"}),
        ('{"PYTHON": "3.10", "N": 1}', {"PYTHON": "3.10", "N": "1"}),
        (
            {"PYTHON": "3.10", "N": 1, "YES": True, "NONE": None},
            {"PYTHON": "3.10", "N": "1", "YES": "true", "NONE": ""},
        ),
        ("", {}),
    ],
)
def test_build_arguments_stay_as_they_are_written(given: object, parsed: dict[str, str]) -> None:
    assert parse_texts(given) == parsed


@pytest.mark.parametrize("given", [{"PYTHON": 3.1}, "just words", "[1]", "a: [", 3])
def test_build_arguments_that_cannot_be_told_are_refused(given: object) -> None:
    with pytest.raises(ValueError):
        parse_texts(given)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("12") == 12
    assert retry_after("-1") == 0
    assert retry_after("") == retry_after("soon") == 0
    assert 50 < retry_after(format_datetime(datetime.now(timezone.utc) + timedelta(minutes=1), usegmt=True)) <= 60


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("unauthorized: authentication required", "r.io refused the login"),
        ("denied: requested access to the resource is denied", "r.io refused the login"),
        ('Get "https://r.io/v2/": dial tcp: lookup r.io: no such host', "Cannot reach the registry r.io"),
        ("manifest invalid", "r.io refused the image"),
    ],
)
def test_an_engines_words_about_a_registry_are_understood(text: str, what: str) -> None:
    error = push_failure("r.io", text)
    assert (error.what, error.why) == (what, text)
    assert isinstance(push_failure("r.io", "toomanyrequests: You have reached your limit"), TooManyRequests)


def test_a_manifests_size_is_that_of_its_parts() -> None:
    body = {"config": {"size": 10}, "layers": [{"size": 100}, {"size": 1}]}
    assert Manifest("sha256:0", "m", json.dumps(body).encode()).size == 111
    assert Manifest("sha256:0", "m", b'{"manifests": []}').size == 0


def record(**changed: object) -> Record:
    made: dict[str, object] = {
        "action": "build-image",
        "started": "2026-01-01",
        "seconds": 1.5,
        "reason": "flights:a built, 1 of 3 steps from the cache",
        "outputs": {"tags": ["flights:a", "flights:b"], "digest": "sha256:12", "size": 1984165},
        "details": {
            "found": "", "steps": 3, "cached": 1, "platforms": ["linux/amd64"], "pushed": False, "test": "pytest | x",
            "bases": {"busybox:test": "sha256:34"},
        },
        **changed,
    }  # fmt: skip
    return Record.model_validate(made)


def test_the_report_shows_what_was_built() -> None:
    text = section(record())
    assert "### ✅ build-image" in text
    assert "| image | `flights:a`<br>`flights:b` |" in text
    assert "| id | `sha256:12` |" in text
    assert "| size | 1.984 MB unpacked |" in text
    assert "| base | `busybox:test` (`sha256:34`) |" in text
    assert "| test | `pytest │ x` passed |" in text
    assert "| made | 3 steps, 1 of them from the cache |" in text


def test_the_report_of_a_failed_test_shows_its_log() -> None:
    problem = {"exit_code": 1, "what": "The test failed", "log": "last words"}
    text = section(record(verdict="rejected", problem=problem, outputs={}, details={}))
    assert "The test failed" in text
    assert "last words" in text


def test_the_report_of_a_skipped_build_has_no_table() -> None:
    text = section(record(reason="Skipped: no engine", outputs={}, details={"skipped": "no engine"}))
    assert "Skipped: no engine" in text
    assert "| image |" not in text


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("login attempt to http://127.0.0.1:54299/v2/ failed with status: 401 Unauthorized", "refused the login"),
        ("received unexpected HTTP status: 429 Too Many Requests", "limits the rate of requests"),
        ("push of sha256:4290403401 failed: no such host", "Cannot reach"),
    ],
)
def test_status_of_a_refusal_is_not_read_out_of_a_port_or_a_digest(said: str, what: str) -> None:
    from mlops_actions.images.engine import push_failure

    assert what in str(push_failure("registry.example", said))
