"""What must be known of a Dockerfile without building it: its instructions with their lines, stages and base images.

Read as BuildKit reads it (`frontend/dockerfile` in github.com/moby/buildkit).
Syntax: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import words

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"\d*<<(-?)\s*([^<]+)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: where it begins; counts from 1.
        name: in capitals, such as `RUN`.
        text: all of it, continuation lines joined as BuildKit joins them.
        escape: the escape character of the Dockerfile.
    """

    line: int
    name: str
    text: str
    escape: str = "\\"

    @property
    def value(self) -> str:
        """What follows the name."""
        return self.text[len(self.name) :].strip()

    @property
    def does(self) -> Instruction:
        """The instruction that an ONBUILD holds; else this one."""
        if self.name != "ONBUILD" or not self.value:
            return self
        return Instruction(self.line, self.value.split(None, 1)[0].upper(), self.value, self.escape)

    @property
    def flags(self) -> list[tuple[str, str]]:
        """Names and values of its `--name=value`, in order."""
        return self._flags_and_rest[0]

    @property
    def rest(self) -> str:
        """What follows its flags."""
        return self._flags_and_rest[1]

    @property
    def _flags_and_rest(self) -> tuple[list[tuple[str, str]], str]:
        rest, found = self.value, []
        while rest.startswith("--") and (word := _word(self.escape).match(rest)):
            name, _, value = _unquoted(word[0], self.escape)[2:].partition("=")
            found.append((name, value))
            rest = rest[word.end() :].lstrip()
        return found, rest


@dataclass
class Stage:
    """One stage of a build.

    Attributes:
        name: in lower case, or "".
        base: what it begins from: an image or an earlier stage's name, variables filled in; "" if BuildKit refuses it.
        instructions: those after its FROM.
        earlier: the stage that it begins from, by number, or None.
    """

    name: str
    base: str
    earlier: int | None
    instructions: list[Instruction] = field(default_factory=list)


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, in order."""
    return list(_instructions(text.removeprefix("\ufeff").split("\n")))


def stages(
    parsed: Sequence[Instruction], build_args: Mapping[str, str], predefined: Mapping[str, str] | None = None
) -> list[Stage]:
    """The stages of a Dockerfile, in order.

    Args:
        parsed: the instructions.
        build_args: what replaces the defaults of `ARG` before the first `FROM`.
        predefined: variables that BuildKit sets, such as TARGETARCH.
    """
    found: list[Stage] = []
    variables = {name: build_args.get(name, value) for name, value in (predefined or {}).items()}
    for instruction in parsed:
        if instruction.name == "FROM":
            operands = instruction.rest.split()
            base = _expanded(operands[0], variables, instruction.escape) if operands else ""
            named = {stage.name: number for number, stage in enumerate(found) if stage.name}
            found.append(Stage(operands[2].lower() if len(operands) > 2 else "", base, named.get(base.lower())))
        elif found:
            found[-1].instructions.append(instruction.does)
        elif instruction.name == "ARG":
            for word in _word(instruction.escape).finditer(instruction.value):
                name, given, default = word[0].partition("=")
                if name in build_args:
                    variables[name] = build_args[name]
                elif given:
                    variables[name] = _expanded(default, variables, instruction.escape)
    return found


def stage_number(found: Sequence[Stage], target: str) -> int | None:
    """Which stage a target is: by its name in any case, or its number; the last one for ""; None if there is none."""
    if not target:
        return len(found) - 1 if found else None
    numbers = [number for number, stage in enumerate(found) if stage.name == target.lower()]
    if numbers:
        return numbers[-1]
    return int(target) if target.isdecimal() and int(target) < len(found) else None


def base_images(
    parsed: Sequence[Instruction],
    build_args: Mapping[str, str],
    target: str = "",
    predefined: Mapping[str, str] | None = None,
) -> list[str]:
    """The images that a build begins from or copies from, other than its own stages and `scratch`.

    Args:
        parsed: the instructions.
        build_args: what replaces the defaults of `ARG` before the first `FROM`.
        target: the stage that is built; "" for the last. Stages that it does not need do not count.
        predefined: variables that BuildKit sets, such as TARGETARCH.
    """
    found = stages(parsed, build_args, predefined)
    named = {stage.name: number for number, stage in enumerate(found) if stage.name}
    number = stage_number(found, target)
    waiting = [] if number is None else [number]
    needed: set[int] = set()
    images: dict[tuple[int, int], str] = {}
    while waiting:
        number = waiting.pop()
        if number in needed:
            continue
        needed.add(number)
        stage = found[number]
        if stage.earlier is None:
            images[number, 0] = stage.base
        else:
            waiting.append(stage.earlier)
        for place, (source, by_number) in enumerate(_other_sources(stage.instructions), 1):
            if source.lower() in named:
                waiting.append(named[source.lower()])
            elif not (by_number and source.isdecimal()):
                images[number, place] = source
            elif int(source) < len(found):
                waiting.append(int(source))
    ordered = (image for _, image in sorted(images.items()))
    return [image for image in dict.fromkeys(ordered) if image not in ("", "scratch")]


def context_sources(parsed: Sequence[Instruction]) -> Iterator[str]:
    """The paths of the context that the instructions read; with wildcards and variables as they are written."""
    for instruction in (one.does for one in parsed):
        if instruction.name in ("COPY", "ADD") and not dict(instruction.flags).get("from"):
            for source in _operands(instruction.rest)[:-1]:
                if not source.startswith("<<"):
                    yield source if "$" in source else _unquoted(source, instruction.escape)
        elif instruction.name == "RUN":
            for mount in _mounts(instruction):
                if not mount.get("from") and mount.get("type", "bind") not in ("cache", "tmpfs", "secret", "ssh"):
                    yield mount.get("source") or mount.get("src") or "."


def _other_sources(within: Sequence[Instruction]) -> Iterator[tuple[str, bool]]:
    """The stages and images that instructions copy or mount from, and whether a number there means a stage."""
    for instruction in within:
        if instruction.name in ("COPY", "ADD"):
            yield from ((value, True) for name, value in instruction.flags if name == "from" and value)
        elif instruction.name == "RUN":
            yield from ((mount["from"], False) for mount in _mounts(instruction) if mount.get("from"))


def _mounts(instruction: Instruction) -> Iterator[dict[str, str]]:
    for name, value in instruction.flags:
        if name == "mount":
            fields = (item.partition("=") for item in next(csv.reader([value]), []))
            yield {key.lower(): text for key, _, text in fields}


def _operands(text: str) -> list[str]:
    if text.startswith("["):
        try:
            return [str(word) for word in json.loads(text)]
        except ValueError:
            pass
    return text.split()


def _word(escape: str) -> re.Pattern[str]:
    one = re.escape(escape)
    return re.compile(rf"""(?:[^\s'"{one}]|{one}.?|'[^']*'?|"(?:[^"{one}]|{one}.?)*"?)+""", re.DOTALL)


def _unquoted(word: str, escape: str) -> str:
    return re.sub(rf"(['\"])|{re.escape(escape)}(.?)", lambda found: found[2] or "", word, flags=re.DOTALL)


def _expanded(text: str, variables: Mapping[str, str], escape: str) -> str:
    """A word with its variables filled in; "" if BuildKit refuses it, which it will say itself."""
    try:
        return words.expand(text, variables, escape)
    except words.SubstitutionError:
        return ""


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
    one = re.escape(escape)
    continued = re.compile(rf"(?<!{one}){one}[ \t]*$")
    at = 0
    while at < len(lines):
        parts: list[str] = []
        begin, more = at, True
        while more and at < len(lines):
            line = lines[at].rstrip("\r")
            at += 1
            if line.lstrip().startswith("#") or (not line.strip() and parts):
                continue  # comments and empty lines may stand between continuation lines
            begin = begin if parts else at - 1
            cut = continued.search(line)
            more = bool(cut)
            parts.append(line[: cut.start()] if cut else line)
        text = "".join(parts).strip()
        if not text:
            continue
        instruction = Instruction(begin + 1, text.split(None, 1)[0].upper(), text, escape)
        yield instruction
        for tabs, word in _heredocs(instruction):
            while at < len(lines) and (lines[at].lstrip("\t") if tabs else lines[at]).rstrip("\r") != word:
                at += 1
            at += 1


def _escape(lines: list[str]) -> str:
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if not directive or directive[1].lower() not in _DIRECTIVES:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _heredocs(instruction: Instruction) -> Iterator[tuple[bool, str]]:
    """The heredocs of an instruction: whether tabs may stand before the end, and the word that ends it."""
    is_list = instruction.does.rest.startswith("[") and _is_json(instruction.does.rest)
    if instruction.does.name not in _WITH_HEREDOCS or "<<" not in instruction.text or is_list:
        return
    try:
        for word in words.split(instruction.text, raw=True):
            found = _HEREDOC.fullmatch(word)
            ends = words.split(found[2]) if found else []
            if found and len(ends) == 1:
                yield bool(found[1]), ends[0]
    except words.SubstitutionError:
        return  # BuildKit refuses it, and says so


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _pattern(value: str) -> re.Pattern[str]:
    """What an instruction looks like once its variables are replaced; a heredoc's body may follow."""
    parts = [re.escape(part) for part in re.split(r"\$\{[^}]*\}|\$\w+", _squeeze(value))]
    return re.compile(".*".join(parts))
