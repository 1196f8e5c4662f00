"""Which files of a context the builder gets: `.dockerignore` as the docker command and BuildKit read it.

A port, quirks included, of github.com/moby/patternmatcher (how a line becomes a pattern, and what a pattern matches)
and of `filter.go` in github.com/tonistiigi/fsutil (how a folder is walked with patterns). No Python library agrees
with them: docker-py's matcher is that of the builder before BuildKit. A contract test compares this one with BuildKit.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, Place

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
_SPACE += "\u205f\u3000"
"""What Go takes for white space."""

_WILD = "*[]?^" + ("" if os.name == "nt" else "\\")


@dataclass(frozen=True)
class Pattern:
    """One pattern.

    Attributes:
        text: cleaned, without the `!`.
        exception: whether it had a `!`: what it matches is sent after all.
        regex: what it matches, for `fullmatch`.
    """

    text: str
    exception: bool
    regex: re.Pattern[str]

    @property
    def prefix(self) -> str:
        """The text without `/**` and `/*` at its end."""
        return self.text.removesuffix("/**").removesuffix("/*")


def compiled(text: str) -> re.Pattern[str]:
    """The regular expression of a cleaned pattern, for `fullmatch`.

    Raises:
        ValueError: it is not a pattern.
    """
    _check(text)
    if text.startswith("**") and not any(char in text[2:] for char in "*?[]\\"):
        # The rest is compared as text: `**x` and `**/x` match whatever ends with it.
        rest = text[2:]
        return re.compile(f"(?s:.*){re.escape(rest)}" + (f"|{re.escape(rest[1:])}" if rest.startswith("/") else ""))
    if text.endswith("**") and not any(char in text[:-2] for char in "*?[]\\"):
        return re.compile(f"{re.escape(text[:-2])}(?s:.*)")
    if not any(char in text for char in "*?[]\\"):
        return re.compile(re.escape(text))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `[[` and `--` in a set are what they are in Go
            return re.compile(_expression(text), re.ASCII)
    except re.error as error:
        raise ValueError(str(error)) from error


def _expression(text: str) -> str:
    """A pattern with wildcards as moby writes it, character by character, also inside of `[]`."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        char, at = text[at], at + 1
        if text.startswith("*", at) and char == "*":
            at += 2 if text.startswith("/", at + 1) else 1
            parts.append(".*" if at == len(text) else "(.*/)?")
        elif char in "*?":
            parts.append("[^/]*" if char == "*" else "[^/]")
        elif char == "\\":
            parts.append(f"\\{text[at]}" if text[at].isalnum() else re.escape(text[at]))
            at += 1
        else:
            parts.append(f"\\{char}" if char in ".+()|{}$" else char)
    return "".join(parts)


def _check(text: str) -> None:
    """Refuse what Go's `filepath.Match` calls a bad pattern."""
    one = r"(?:\\.|[^\\\]-])"
    if not re.fullmatch(rf"(?s:\\.|\[\^?(?:{one}(?:-{one})?)+\]|[^\\\[])*", text):
        raise ValueError("syntax error in pattern")


def read_ignore_file(file: Path, shown: str) -> list[Pattern]:
    """The patterns of an ignore file, in order.

    Args:
        file: what is read.
        shown: its name, for messages.

    Raises:
        BadInput: a line is not a pattern; BuildKit refuses it too.
    """
    found = []
    text = file.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip(_SPACE)
        if line.startswith("#") or not written:
            continue
        exception = written.startswith("!")
        pattern = written[1:].strip(_SPACE) if exception else written
        if pattern:
            pattern = _clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
        # The line is read twice, by BuildKit and by the matcher: what the first reading leaves may be a `!`.
        pattern = (("!" if exception else "") + pattern).strip(_SPACE)
        if not pattern:
            continue
        pattern = _clean(pattern)
        exception = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        if os.name == "nt":
            pattern = pattern.replace("\\", "/")
        try:
            if not pattern:
                raise ValueError("nothing follows the `!`")
            found.append(Pattern(pattern, exception, compiled(pattern)))
        except ValueError as error:
            raise BadInput(
                f"{written!r} is not a pattern", why=str(error), fix="Correct that line", place=Place(shown, number)
            ) from error
    return found


def sent(context: Path, patterns: list[Pattern], without: str = "") -> Iterator[str]:
    """The paths that the builder gets of a context, relative to it, with `/`: files, links and folders, in any order.

    A folder that is ignored is sent all the same if something in it is.

    Args:
        context: the folder.
        patterns: of its ignore file.
        without: a path that is left out, with all in it.
    """
    exceptions = [pattern for pattern in patterns if pattern.exception]
    plain = not any(char in pattern.prefix for pattern in exceptions for char in _WILD)
    given: set[str] = set()
    folders: list[tuple[str, list[bool]]] = [("", [])]
    while folders:
        folder, parent = folders.pop()
        with os.scandir(context / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path == without:
                    continue
                ignored, matched = _matches(path, patterns, parent)
                kind = entry.stat(follow_symlinks=False).st_mode
                inside = not plain or any(f"{one.prefix}/".startswith(f"{path}/") for one in exceptions)
                if stat.S_ISDIR(kind) and (inside or not ignored):
                    folders.append((path, matched))
                if ignored or not (stat.S_ISDIR(kind) or stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
                    continue
                while path and path not in given:
                    given.add(path)
                    yield path
                    path = posixpath.dirname(path)


def _matches(path: str, patterns: list[Pattern], parent: list[bool]) -> tuple[bool, list[bool]]:
    """Whether a path is ignored, and which patterns matched it; `parent` is that of its folder, [] at the top."""
    ignored = False
    matched = [False] * len(patterns)
    for at, pattern in enumerate(patterns):
        match = bool(parent) and parent[at]
        if not match:
            if pattern.exception != ignored:
                continue
            match = bool(pattern.regex.fullmatch(path))
        matched[at] = match
        if match:
            ignored = not pattern.exception
    return ignored, matched


def _clean(path: str) -> str:
    """Go's `filepath.Clean`."""
    clean = posixpath.normpath(path)
    return f"/{clean.lstrip('/')}" if clean.startswith("//") else clean
