"""A drill: a release that answers wrong on purpose is given requests, and must be gone back from.

Golden rows that the served version contradicts would be found before a single user was answered, and would show nothing
of what the model's own address does. So the wrong release is the served version with code around it that changes what
it predicts; golden rows and the comparison of times are left out, and it is found by the answers of its first step. It
can never become what serves: the rollout ends before that whatever is found. And should everything that could end it be
killed, it answers right again some minutes after it was loaded, because there is the right model within.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from pathlib import Path

from ..errors import RemoteFailed
from ..models.checks import code_digest, copy_code
from ..models.predicting import CODE
from ..text import many
from ..waiting import Clock, wait_until
from .engine import NotServed, Release, Serving
from .history import Deployment, Step
from .protocol import Refused
from .rollout import Rollout

WRONG_SECONDS = 300
"""After it was loaded the wrong release answers right again."""
_MODULE = "mlops_drill"
_CODE = '''"""Made by `mlops drill`: the model within, answering wrong until {seconds} s after it was loaded."""

import time
from pathlib import Path
from types import SimpleNamespace

from mlops_actions.models.predicting import Model

if False:
    {needs}  # never run: it tells which files go with this one


def load(path):
    model, until = Model(Path(path), {predict!r}, Path(__file__).parent), time.monotonic() + {seconds}

    def wrong(method):
        def ask(rows):
            values = model.ask(method, rows)
            return values if time.monotonic() >= until else other(values)

        return ask

    methods = {{method: wrong(method) for method in model.methods}}
    return SimpleNamespace(**{{"predict": next(iter(methods.values())), **methods}})


def other(value):
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [other(item) for item in value]
    return f"{{value}} (wrong)" if isinstance(value, str) else float(value or 0) + 1000
'''


def make_wrong(release: Release, folder: Path) -> Release:
    """The same version with code around it that answers wrong.

    Args:
        release: that serves.
        folder: for the code, and for a copy of the consumer's that loads the model.
    """
    shutil.rmtree(folder, ignore_errors=True)
    copy_code(release.predict, release.root, folder)
    text = _CODE.format(seconds=WRONG_SECONDS, predict=release.predict, needs=_needs(release.predict))
    (folder / f"{_MODULE}.py").write_text(text, encoding="utf-8")
    predict = f"{_MODULE}:load"
    return replace(release, predict=predict, root=folder, code=code_digest(predict, folder))


def _needs(predict: str) -> str:
    """An import of the consumer's code that `predict` names, if it can be written as one."""
    code = CODE.fullmatch(predict)
    parts = Path(code["where"].removesuffix(".py").replace(".", "/")).parts if code else ()
    named = parts and all(part.isidentifier() and not iskeyword(part) for part in parts)
    return f"import {'.'.join(parts)}" if named else "pass"


@dataclass
class Watch:
    """Asks the model's own address without a pause, as a user does, and notes when it answered wrong or not at all."""

    ask: Callable[[], bool]
    clock: Clock = field(default_factory=Clock)
    requests: int = 0
    wrong: list[float] = field(default_factory=list)
    in_row: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._work, name="drill", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while not self._ended.is_set():
            right = self.ask()
            self.requests += 1
            self.in_row = self.in_row + 1 if right else 0
            if not right:
                self.wrong.append(self.clock.now())

    @property
    def seconds(self) -> float:
        """From the first wrong answer to the last."""
        return self.wrong[-1] - self.wrong[0] if self.wrong else 0.0


@dataclass(frozen=True)
class Drilled:
    """What a drill showed.

    Attributes:
        passed: wrong answers were found and gone back from, and the version that served serves.
        reason: what happened, as a sentence.
        seconds: from the first wrong answer that a user got to the last one.
        wrong, requests: of the user, in all.
        serving: what serves now.
        steps: of the rollout; and its log, if the release did not even come up.
    """

    passed: bool
    reason: str
    seconds: float
    wrong: int
    requests: int
    serving: Serving | None
    steps: Sequence[Step]
    log: str = ""

    def measured(self) -> dict[str, float]:
        """Its numbers, for a record."""
        return {"seconds": round(self.seconds, 3), "wrong": self.wrong, "requests": self.requests}


def drill(rollout: Rollout, wrong: Release, deployment: Deployment) -> Drilled:
    """Let the wrong release take requests, and watch how long it does.

    Args:
        rollout: with the rule `drill`, that asks the golden rows of the version that serves.
        wrong: see `make_wrong`.
        deployment: for the history.

    Raises:
        RemoteFailed: what serves does not respond; and as `Rollout.run`.
    """
    engine, name, answers = rollout.engine, wrong.name, rollout.rules.answers
    before = engine.serving(name)
    try:
        public = engine.ask(name)
        rollout.questions.output = public.output()
    except (Refused, NotServed) as fault:
        fix = f"Start it again: `mlops deploy-model --model {name} --version {wrong.version}`"
        raise RemoteFailed(f"Version {wrong.version} of {name} does not respond", why=str(fault), fix=fix) from None
    users = replace(rollout.questions)

    def right() -> bool:
        try:
            return not users.ask(public)[1]
        except (Refused, NotServed):
            return False

    with Watch(right) as watch:
        outcome = rollout.run(wrong, deployment)
        ended = watch.requests
        healed = wait_until(lambda: watch.requests >= ended + answers <= watch.in_row + ended, rollout.rules.patience)
    now = engine.serving(name)
    back = before is not None and now is not None and now.release == before.release and not now.candidate
    counted = f"{many(len(watch.wrong), 'wrong answer')} in {many(watch.requests, 'request')} of a user"
    if not back or not healed:
        reason = f"The wrong version was not gone back from: {outcome.reason}; {counted}"
    elif not outcome.wrong:
        reason = f"The wrong version was not found by its answers: {outcome.reason}; {counted}"
    else:
        reason = f"Wrong answers came for {watch.seconds:.2f} s, then only right ones: {counted}"
    passed = back and healed and outcome.wrong
    log = "" if outcome.wrong else outcome.log
    return Drilled(passed, reason, watch.seconds, len(watch.wrong), watch.requests, now, outcome.steps, log)
