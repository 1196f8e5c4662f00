"""Counting: the ML Test Score and the scorecard of level 2 of a version."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict

from ..stores.store import Store
from .evidence import Answer, Found, Missing
from .known import Known, gather
from .rubric import LEVEL_2, ML_TEST_SCORE, TAG, WORDS, Line, Part

BY_HAND = "Let a workflow do it, on a push or a schedule"
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scored(_Part):
    """A line with its points.

    Attributes:
        key: `data-1`, as its tag has it.
        name: of the line.
        points: 0, 0.5 (by hand, and documented) or 1.
        what: what shows it, or why nothing does.
        uri: of the evidence; "" without any.
        raise_by: what would give more; "" when nothing would.
    """

    key: str
    name: str
    points: float
    what: str
    uri: str = ""
    raise_by: str = ""


class Section(_Part):
    """Lines under one title, and their points together."""

    title: str
    points: float
    lines: list[Scored]


class Score(_Part):
    """The ML Test Score of a version and what it means, and how many lines of level 2 it meets."""

    model: str
    version: int
    manifest: str
    ml_test_score: float
    meaning: str
    sections: list[Section]
    level_2: float
    level_2_lines: int
    level_2_sections: list[Section]


def score(store: Store, name: str, wanted: str = "") -> Score:
    """Score a version of a model by what is kept of it; for arguments and errors see `known.gather`."""
    known = gather(store, name, wanted)
    tests = [_section(known, part) for part in ML_TEST_SCORE]
    level = [_section(known, part) for part in LEVEL_2]
    least = min(section.points for section in tests)
    return Score(
        model=known.manifest.name,
        version=known.manifest.version,
        manifest=known.uri,
        ml_test_score=least,
        meaning=next(words for most, words in WORDS if least <= most),
        sections=tests,
        level_2=sum(section.points for section in level),
        level_2_lines=sum(len(section.lines) for section in level),
        level_2_sections=level,
    )


def _section(known: Known, part: Part) -> Section:
    lines = [_scored(known, part, number, line) for number, line in enumerate(part.lines, 1)]
    return Section(title=part.title, points=sum(line.points for line in lines), lines=lines)


def _scored(known: Known, part: Part, number: int, line: Line) -> Scored:
    key, answer = f"{part.key}-{number}", _answer(known, line)
    told = partial(Scored, key=key, name=line.name)
    if isinstance(answer, Found):
        points = 1.0 if answer.automatic else part.by_hand
        by_hand = {} if points == 1 else {"what": f"by hand: {answer.what}", "raise_by": BY_HAND}
        return told(points=points, uri=answer.uri, **{"what": answer.what, **by_hand})
    documented = str(known.manifest.tags.get(f"{TAG}.{key}", ""))
    if 0 < part.by_hand < 1 and documented.startswith(("https://", "http://")):
        return told(points=part.by_hand, what="by hand, documented there", uri=documented, raise_by=line.remedy)
    return told(points=0, what=answer.why, raise_by=line.remedy)


def _answer(known: Known, line: Line) -> Answer:
    """A record of another release may lack what is looked for: then it shows nothing."""
    try:
        found = line.evidence(known)
    except _FAULTS as error:
        return Missing(f"what is kept has another form ({type(error).__name__})")
    return found if isinstance(found, Missing) or found.uri else Missing("it has no address")
