"""What must be known of a Dockerfile without building it: its instructions with their lines, and its base images.

Syntax: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"^#\s*(\w+)\s*=\s*(\S+)\s*$")
_HEREDOC = re.compile(r"<<(-?)\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?([-+])([^}]*))?\})")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: where it begins; counts from 1.
        name: in capitals, such as `RUN`.
        text: all of it, continuation lines joined as BuildKit joins them.
    """

    line: int
    name: str
    text: str

    @property
    def value(self) -> str:
        """What follows the name."""
        return self.text[len(self.name) :].strip()


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, in order."""
    return list(_instructions(text.splitlines()))


def base_images(parsed: Sequence[Instruction], build_args: Mapping[str, str], target: str = "") -> list[str]:
    """The images that a build begins from or copies from, other than its own stages and `scratch`.

    Args:
        parsed: the instructions.
        build_args: what replaces the defaults of `ARG` before `FROM`.
        target: stages after this one are not built; "" for all.
    """
    variables: dict[str, str] = {}
    stages: list[str] = []
    found: list[str] = []
    for instruction in parsed:
        if instruction.name == "ARG" and not stages:
            name, _, default = instruction.value.partition("=")
            variables[name] = build_args.get(name, _expand(default.strip("\"'"), variables))
        elif instruction.name == "FROM":
            if target and target in stages:
                break
            words = [word for word in instruction.value.split() if not word.startswith("--")]
            image = _expand(words[0], variables) if words else ""
            if image.lower() not in stages:
                found.append(image)
            stages.append(words[2].lower() if len(words) > 2 else f"#{len(stages)}")
        elif instruction.name in ("COPY", "ADD", "RUN"):
            source = re.search(r"(?:--from=|--mount=\S*\bfrom=)([^\s,]+)", instruction.value)
            image = _expand(source[1], variables) if source else ""
            if image and not image.isdigit() and image.lower() not in stages:
                found.append(image)
    return [image for image in dict.fromkeys(found) if image and image != "scratch"]


def line_of_step(parsed: Sequence[Instruction], step: str) -> int | None:
    """Where the instruction of a build step stands; BuildKit names a step `[stage 2/5] RUN make` after it."""
    text = re.sub(r"^\[[^\]]*\]\s*", "", step)
    if text.startswith("load metadata for "):
        return _line_of_base(parsed, text.split()[-1])
    name, _, value = text.partition(" ")
    same_kind = [instruction for instruction in parsed if instruction.name == name.upper()]
    exact = [one for one in same_kind if _squeeze(one.value) == _squeeze(value)]
    if exact:
        return exact[0].line
    # BuildKit shows the step with its variables replaced, and long heredocs cut.
    near = [one for one in same_kind if _pattern(one.value).match(_squeeze(value))]
    candidates = near or same_kind
    return candidates[0].line if len(candidates) == 1 else None


def _line_of_base(parsed: Sequence[Instruction], image: str) -> int | None:
    """Where `FROM` names an image; BuildKit shows it in full, such as docker.io/library/python:3.12."""
    shorter = {image, image.removeprefix("docker.io/"), image.removeprefix("docker.io/library/")}
    names = {*shorter, *(name.removesuffix(":latest") for name in shorter)}
    for one in parsed:
        words = [word for word in one.value.split() if not word.startswith("--")]
        if one.name == "FROM" and words and any(_pattern(words[0]).fullmatch(name) for name in names):
            return one.line
    return None


def _instructions(lines: list[str]) -> Iterator[Instruction]:
    escape = _escape(lines)
    at = 0
    while at < len(lines):
        begin = at
        parts: list[str] = []
        while at < len(lines):
            line = lines[at]
            at += 1
            if line.lstrip().startswith("#") or (not line.strip() and parts):
                continue  # comments and empty lines may stand between continuation lines
            more = line.rstrip().endswith(escape)
            if not parts:
                begin = at - 1
            parts.append(line.rstrip()[: -len(escape)] if more else line)
            if not more:
                break
        text = "".join(parts).strip()
        if not text:
            continue
        name = text.split(None, 1)[0].upper()
        if name in ("RUN", "COPY", "ADD"):
            at = _after_heredocs(lines, at, text)
        yield Instruction(begin + 1, name, text)


def _escape(lines: list[str]) -> str:
    for line in lines:
        directive = _DIRECTIVE.match(line)
        if not directive:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _after_heredocs(lines: list[str], at: int, text: str) -> int:
    for tabs, _, word in _HEREDOC.findall(text):
        while at < len(lines) and (lines[at].lstrip("\t") if tabs else lines[at]) != word:
            at += 1
        at += 1
    return at


def _expand(text: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        given = variables.get(found[1] or found[2], "")
        if found[3] == "-":
            return given or found[4]
        if found[3] == "+":
            return found[4] if given else ""
        return given

    return _VARIABLE.sub(value, text)


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _pattern(value: str) -> re.Pattern[str]:
    """What an instruction looks like once its variables are replaced; a heredoc's body may follow."""
    parts = [re.escape(part) for part in re.split(r"\$\{[^}]*\}|\$\w+", _squeeze(value))]
    return re.compile(".*".join(parts))
