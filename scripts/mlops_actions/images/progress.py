"""Parses BuildKit's output (`--progress=plain`): steps, their logs, and which one failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .dockerfile import Instruction, line_of_step

_LINE = re.compile(r"^#(\d+) (.*)$")
_LOG = re.compile(r"^\d+\.\d+ (.*)$")
_NOISE = re.compile(r"^(sha256:[0-9a-f]{64}$|sha256:\S+ .*/ .*|transferring |\[internal\] |\.\.\.$|resolve \S+ )")
_AT_LINE = re.compile(r"(?:parse error (?:on )?line|^\S*[Dd]ockerfile\S*:)\s*(\d+)")
_PREFIXES = re.compile(
    r"^(?:(?:ERROR|failed to (?:build|solve(?: with frontend \S+)?|create LLB definition|compute cache key)"
    r"|rpc error: code = \w+ desc =):? )+"
)
_KEPT = 200


@dataclass
class BuildStep:
    """One step of a build.

    Attributes:
        title: such as `[stage 2/5] RUN make`.
        log: the last lines that it printed.
        cached: whether it came from the cache.
        error: why it failed, or "".
    """

    title: str = ""
    log: list[str] = field(default_factory=list)
    cached: bool = False
    error: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a build failed.

    Attributes:
        step: the failing step's title, or "".
        why: what BuildKit said.
        line: of the Dockerfile, or None.
        log: the last lines of the step's log.
    """

    step: str
    why: str
    line: int | None
    log: str


class BuildProgress:
    """Collects the steps of a build from its output."""

    def __init__(self) -> None:
        self.steps: dict[int, BuildStep] = {}
        self._tail: list[str] = []

    def read(self, line: str) -> str:
        """Read one line; returns it for display, or "" if it is noise."""
        line = line.rstrip()
        found = _LINE.match(line)
        if not found:
            self._tail = [*self._tail[-_KEPT:], line]
            return ""  # the summary of a failure: shown once, at the end
        step = self.steps.setdefault(int(found[1]), BuildStep())
        text = found[2]
        if not step.title:
            step.title = text
        logged = _LOG.match(text)
        if logged:
            step.log = [*step.log[-_KEPT:], logged[1]]
        elif text == "CACHED":
            step.cached = True
        elif text.startswith("ERROR: "):
            step.error = text.removeprefix("ERROR: ")
        internal = step.title.startswith("[internal]")
        return "" if _NOISE.match(text) or (internal and text.startswith("DONE")) else line

    @property
    def counted(self) -> tuple[int, int]:
        """How many of the Dockerfile's steps ran, and how many of these came from the cache."""
        own = [step for step in self.steps.values() if re.match(r"\[(?!internal)[^\]]*\d+/\d+\]", step.title)]
        return len(own), sum(step.cached for step in own)

    def failure(self, parsed: Sequence[Instruction]) -> Failure:
        """The failing step, found in the Dockerfile."""
        failed = [step for step in self.steps.values() if step.error and "context canceled" not in step.error]
        said = [line for line in self._tail if line.strip() and not line.startswith(("-----", " > "))]
        last = next((line for line in reversed(said) if not line.startswith("   ")), "")
        # Several may have failed at once: BuildKit's last line is about one of them.
        step = next((one for one in failed if one.error in last), failed[0] if failed else BuildStep())
        told = next((int(at[1]) for text in said if (at := _AT_LINE.search(text))), None)
        line = line_of_step(parsed, step.title) if step.title else None
        title = "" if step.title.startswith("[internal]") else " ".join(step.title.split())
        return Failure(title, _plain(last or step.error), line or told, "\n".join(step.log))


def _plain(text: str) -> str:
    """BuildKit's last line without what it repeats: where the error came through, and the whole command."""
    ended = re.search(r"\bexit code: (\d+)$", text)
    if ended:
        return f"It failed with exit code {ended[1]}"
    return _PREFIXES.sub("", text)
