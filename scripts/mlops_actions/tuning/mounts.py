"""The folders that Katib shares with a trial's container: where it writes metrics, and where it finds checkpoints.

In a container they are mounted where the Experiment says. A process has no file system of its own, so in its command
and variables their paths are replaced by those of the trial's own folders.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname

from .engine import PARENT, Trial
from .experiment import Experiment


@dataclass(frozen=True)
class Mount:
    """A folder of the trial's container (an absolute POSIX path) that is one of this machine."""

    inside: str
    outside: Path


def inside(experiment: Experiment) -> dict[str, str]:
    """The shared folders by what they are for: `metrics`, `checkpoints`."""
    collector = experiment.spec.metrics_collector_spec
    found = {}
    if collector.collector.kind == "File":
        found["metrics"] = dirname(collector.path)
    elif collector.collector.kind == "TensorFlowEvent":
        found["metrics"] = collector.path.rstrip("/")
    if experiment.spec.algorithm.algorithm_name == "pbt":
        found["checkpoints"] = experiment.spec.algorithm.settings["suggestion_trial_dir"].rstrip("/")
    return found


def mounts(experiment: Experiment, trial: Trial, state: Path) -> list[Mount]:
    """The folders of a trial."""
    return [Mount(path, _folder(trial.name, purpose, state)) for purpose, path in inside(experiment).items()]


def prepare(experiment: Experiment, trial: Trial, state: Path) -> None:
    """Make the folders of a trial that begins: empty, but that its checkpoints are a copy of its parent's."""
    for purpose in inside(experiment):
        folder = _folder(trial.name, purpose, state)
        shutil.rmtree(folder, ignore_errors=True)
        parent = _folder(trial.labels[PARENT], purpose, state) if PARENT in trial.labels else None
        if purpose == "checkpoints" and parent and parent.is_dir():
            shutil.copytree(parent, folder)
        folder.mkdir(parents=True, exist_ok=True)


def _folder(trial: str, purpose: str, state: Path) -> Path:
    return state / "trials" / trial / purpose


def replaced(text: str, mounts: Iterable[Mount]) -> str:
    """A text with the folders of this machine for those of the container."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.inside)):
        text = _pattern(mount.inside).sub(lambda _: str(mount.outside), text)  # noqa: B023 - it is called at once
    return text


def names(text: str, path: str) -> bool:
    """Whether a text names a folder of the container, or something below it."""
    return bool(_pattern(path).search(text))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w./-]){re.escape(path)}(?=/|$|[^\w.-])")
