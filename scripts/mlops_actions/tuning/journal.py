"""An Experiment's journal: what was started and what ended, so that a killed run goes on where it was.

JSON, a line an event. A line is whole or it is not there: a torn last line, left by a kill in the middle of a write, is
cut off when the journal is opened.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .engine import Trial

_FORMAT = 2


class Journal:
    """Open for one process at a time; the caller holds a lock.

    Args:
        path: of the file.
        seed: for a new journal; an old one keeps the seed that it has. None chooses one.
        fresh: start over, whatever is there.

    Attributes:
        seed: of everything that is random.
        trials: by number; those without an end are `Running`.
        past: of earlier runs, in their order: a trial as it was started (`Running`), and again as it ended.
    """

    def __init__(self, path: Path, *, seed: int | None = None, fresh: bool = False) -> None:
        self._path = path
        self.seed = secrets.randbits(31) if seed is None else seed
        self.trials: dict[int, Trial] = {}
        self.past: list[Trial] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        self._unsynced = False
        events = self._read()
        self._file = path.open("ab")
        if events and events[0].get("format") == _FORMAT:
            self.seed = int(events[0]["seed"])
            self._replay(events[1:])
        else:
            self._file.truncate(0)
            self._write({"format": _FORMAT, "seed": self.seed})

    def started(self, trial: Trial) -> None:
        """A trial is about to start."""
        self.trials[trial.number] = trial
        self._write(
            {
                "event": "started",
                "trial": trial.number,
                "name": trial.name,
                "parameters": dict(trial.parameters),
                "labels": dict(trial.labels),
            }
        )

    def finished(self, trial: Trial) -> None:
        """A trial ended by itself."""
        self.trials[trial.number] = trial
        self._write(
            {
                "event": "finished",
                "trial": trial.number,
                "state": trial.state,
                "metrics": dict(trial.metrics),
                "value": trial.value,
                "seconds": round(trial.seconds, 3),
                "message": trial.message,
                "own": trial.own,
            }
        )

    def gave_up(self) -> None:
        """The Experiment failed. When it is run again, the trials that failed are tried again."""
        self._write({"event": "gave-up"})

    def sync(self) -> None:
        """Have on the disk what was written: a power cut cannot take it. A kill never can."""
        if self._unsynced:
            os.fsync(self._file.fileno())
            self._unsynced = False

    def close(self) -> None:
        """Let go of the file."""
        self.sync()
        self._file.close()

    def _replay(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "started":
                begun = Trial(event["trial"], event["name"], event["parameters"], labels=event["labels"])
                self.trials[begun.number] = begun
                self.past.append(begun)
            elif event["event"] == "finished":
                told = ("state", "metrics", "value", "seconds", "message", "own")
                ended = {key: event[key] for key in told if key in event}
                trial = replace(self.trials[event["trial"]], recalled=True, **ended)
                self.trials[trial.number] = trial
                self.past.append(trial)
            else:
                self._forget_failures()

    def _forget_failures(self) -> None:
        for number, trial in self.trials.items():
            if trial.failed:
                self.trials[number] = next(begun for begun in self.past if begun.number == number)
        self.past = [trial for trial in self.past if not trial.failed]

    def _read(self) -> list[dict[str, Any]]:
        """The whole events; what comes after them is cut off."""
        events: list[dict[str, Any]] = []
        whole = 0
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        for line in data.splitlines(keepends=True):
            try:
                event = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(event, dict):
                break
            events.append(event)
            whole += len(line)
        if whole < len(data):
            os.truncate(self._path, whole)
        return events

    def _write(self, event: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        self._unsynced = True
