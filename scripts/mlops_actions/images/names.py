"""Names of images: what a reference may look like, which registry it means, and which tags an image gets.

Grammar: https://github.com/distribution/reference/blob/main/reference.go
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BadInput

HUB = "docker.io"
KEY_TAG = "key-"
"""A tag `key-<content key>` is set when all else is done: it says that this content was built and passed its test.
Before it stands whose it is, if it is a pull request's: see `key_tag`."""

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ImageName:
    """The name of an image without a tag.

    Attributes:
        name: as it was given, such as `ghcr.io/owner/name`.
        registry: the host, and port if any; `docker.io` when the name gives none.
        path: in the registry; Docker Hub's own images are under `library/`.
    """

    name: str
    registry: str
    path: str

    @property
    def is_explicit(self) -> bool:
        """Whether the name says where to push: a registry, or at least an owner."""
        return "/" in self.name


def parse_name(name: str) -> ImageName:
    """Take an image's name apart.

    Raises:
        BadInput: it is not the name of an image, or it has a tag or digest.
    """
    registry, path = _apart(name)
    if not _PATH.fullmatch(path) or not _HOST.fullmatch(registry):
        tagged = re.fullmatch(r"(.+?)(?::[\w.-]+|@sha256:.*)", path)
        why = (
            "It has a tag" if tagged else "A name is lower-case letters, digits, `.`, `_`, `-`, with `/` between parts"
        )
        fix = "Give the tag in `tags`" if tagged else "Correct `image`, for example `ghcr.io/owner/name`"
        raise BadInput(f"{name!r} is not the name of an image", why=why, fix=fix)
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    return ImageName(name, registry, path)


def registry_of(reference: str) -> str:
    """The registry of an image that may have a tag or a digest, as Docker reads it."""
    return _apart(reference)[0]


def _apart(name: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    has_host = bool(rest) and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    registry, path = (first, rest) if has_host else (HUB, name)
    return HUB if registry == "index.docker.io" else registry, path


def is_local(registry: str) -> bool:
    """Whether a registry is this machine's own, which may be spoken to without TLS, as Docker does."""
    host = registry.rpartition(":")[0] or registry
    return host in ("localhost", "[::1]") or host.startswith("127.")


def check_tags(tags: list[str]) -> list[str]:
    """The tags without repetitions.

    Raises:
        BadInput: one is not a tag, or begins as those that mark content keys.
    """
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise BadInput(
                f"{tag!r} is not a tag",
                why="A tag is at most 128 letters, digits, `.`, `_`, `-`, and does not begin with `.` or `-`",
                fix="Correct `tags`: tags only, without the image's name",
            )
        if re.match(rf"(pr-[0-9]+-)?{KEY_TAG}", tag):
            raise BadInput(f"{tag!r} is reserved: `{KEY_TAG}` marks content keys", fix="Choose another in `tags`")
    return list(dict.fromkeys(tags))


def key_tag(key: str, scope: str = "") -> str:
    """The tag that marks a content key: everybody's, or that of one pull request (`pr-<number>`)."""
    return f"{scope}-{KEY_TAG}{key}" if scope else KEY_TAG + key


def default_name(repository: str, folder: str) -> str:
    """The name of an image for which none is given: the repository's, else the folder's."""
    text = (repository.rpartition("/")[2] or folder).lower()
    parts = re.findall(r"[a-z0-9]+", text)
    return "-".join(parts) or "image"


def default_tags(commit: str, branch: str, default_branch: str, pull_request: int | None) -> list[str]:
    """The tags of an image for which none are given.

    The commit's first 12 digits; then `pr-<number>` or the branch; `latest` only on the default branch.
    """
    tags = [commit[:12]] if commit else []
    if pull_request is not None:
        tags.append(f"pr-{pull_request}")
    elif branch:
        tags.append(branch_tag(branch))
        if branch == default_branch:
            tags.append("latest")
    return tags or ["local"]


def moving_tags(tags: list[str], commit: str, pull_request: int) -> list[str]:
    """Those tags that others than this pull request use, such as `latest`, a branch's or a version.

    Its own are `pr-<number>`, alone or with something after it, and what names its commit by 7 digits or more.
    """
    own = re.compile(rf"pr-{pull_request}(?![0-9]).*")
    return [tag for tag in tags if not own.fullmatch(tag) and not (commit and commit[:7] in tag)]


def branch_tag(branch: str) -> str:
    """A branch's name as a tag. It is never one that means something else: `latest`, or a content key."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", branch).lstrip(".-")[:128]
    if not text or text == "latest" or text.startswith(KEY_TAG):
        return f"branch-{text}"[:128]
    return text
