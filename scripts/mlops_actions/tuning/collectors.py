"""What a trial reports, read while it runs and once more at its end: Katib's metrics collectors without a sidecar.

Sources: pkg/metricscollector/v1beta1/{file-metricscollector,tfevent-metricscollector} of github.com/kubeflow/katib.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from http.client import HTTPException
from pathlib import Path, PurePath
from typing import Any, Protocol

from prometheus_client.parser import text_string_to_metric_families

from ..waiting import Clock
from .events import Damaged, scalars
from .experiment import MetricsCollector
from .metrics import UNDATED, Observation, number, observations, time_of

POLL = 1.0
"""Seconds between two looks at a trial's HTTP port."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Unreadable(Exception):
    """What a trial wrote is not in the form that the Experiment says; the message says where and why."""


class Reader(Protocol):
    """Reads what one trial reports."""

    def read(self, *, ended: bool = False) -> list[Observation]:
        """What it has reported since the last call; `ended`: nothing more will come.

        Raises:
            Unreadable: it is not in the form that was agreed.
        """

    def close(self) -> None:
        """Nobody will read any more."""


class TextFile:
    """Lines of text, such as the trial's output."""

    def __init__(self, path: Path, metrics: Sequence[str], formats: Sequence[str]) -> None:
        self._lines, self._metrics, self._formats = _Lines(path), metrics, formats

    def read(self, *, ended: bool = False) -> list[Observation]:
        """See `Reader.read`."""
        return list(observations((line for _, line in self._lines.new(ended)), self._metrics, self._formats))

    def close(self) -> None:
        """See `Reader.close`."""


class JsonFile:
    """A JSON object a line; as Katib has it, a metric's value is text: `{"loss": "0.3", "timestamp": …}`."""

    def __init__(self, path: Path, metrics: Sequence[str]) -> None:
        self._lines, self._metrics = _Lines(path), metrics

    def read(self, *, ended: bool = False) -> list[Observation]:
        """See `Reader.read`."""
        found = []
        for place, line in self._lines.new(ended):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                raise Unreadable(f"line {place} of its metrics file is not JSON: {error}") from None
            if not isinstance(values, dict):
                raise Unreadable(f"line {place} of its metrics file is not a JSON object")
            when = _json_time(values.get("timestamp"))
            for name in self._metrics:
                given = values.get(name)
                if given is not None and not isinstance(given, str):
                    why = f"in line {place} of its metrics file {name!r} is {given!r}, and Katib reads only text"
                    raise Unreadable(f'{why}: write "{given}" in quotes')
                value = number(given.strip()) if given is not None else None
                if value is not None:
                    found.append(Observation(name, when, value))
        return found

    def close(self) -> None:
        """See `Reader.close`."""


class EventFiles:
    """A folder with TensorFlow's event files. A metric `test/loss` is `loss` of the files in a folder `test`."""

    def __init__(self, folder: Path, metrics: Sequence[str]) -> None:
        self._folder, self._metrics = folder, metrics
        self._read: dict[Path, int] = {}

    def read(self, *, ended: bool = False) -> list[Observation]:
        """See `Reader.read`."""
        found = []
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file()):
            begin = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(begin)
                try:
                    values, size = scalars(file.read())
                except Damaged:
                    values, size = [], 0  # Katib goes on, too, with a file that is none of TensorFlow's
            self._read[path] = begin + size
            parent = PurePath(os.path.relpath(path.parent, self._folder.parent)).as_posix()
            for value in values:
                when = _EPOCH + timedelta(seconds=value.when)
                names = (name for name in self._metrics if _is_tag(value.tag, parent, name))
                found += [
                    Observation(name, when, value.value) for name in names if number(str(value.value)) is not None
                ]
        return found

    def close(self) -> None:
        """See `Reader.close`."""


class Prometheus:
    """The metrics that a trial serves over HTTP; it is asked every second from another thread.

    Args:
        server: gives its host and port, or "" while they are not known.
        collector: what is asked there.
        metrics: which are wanted.
    """

    def __init__(self, server: Callable[[], str], collector: MetricsCollector, metrics: Sequence[str]) -> None:
        self._server, self._path, self._metrics = server, collector.path, metrics
        get = collector.source.http_get if collector.source else None
        self._scheme = get.scheme.lower() if get else "http"
        self._headers = {header.name: header.value for header in get.http_headers} if get else {}
        self._found: list[Observation] = []
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        threading.Thread(target=self._poll, daemon=True).start()

    def read(self, *, ended: bool = False) -> list[Observation]:
        """See `Reader.read`."""
        with self._lock:
            found, self._found = self._found, []
        return found

    def close(self) -> None:
        """See `Reader.close`."""
        self._closed.set()

    def _poll(self) -> None:
        while not self._closed.is_set():
            if server := self._server():
                asked = urllib.request.Request(f"{self._scheme}://{server}{self._path}", headers=self._headers)
                try:
                    with self._open(asked, timeout=2 * POLL) as response:
                        samples = list(self._samples(response.read(16 * 1024 * 1024).decode(errors="replace")))
                except (OSError, ValueError, HTTPException):
                    samples = []  # it does not serve yet, or no more
                with self._lock:
                    self._found += samples
            Clock().wait(POLL, self._closed)

    def _samples(self, text: str) -> Iterator[Observation]:
        now = datetime.now(timezone.utc)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in self._metrics and number(str(sample.value)) is not None:
                    yield Observation(sample.name, now, float(sample.value))


class Outputs:
    """What `run-pipeline --json` gave: its `metrics`, once it has ended."""

    def __init__(self, path: Path, metrics: Sequence[str]) -> None:
        self._path, self._metrics = path, metrics

    def read(self, *, ended: bool = False) -> list[Observation]:
        """See `Reader.read`."""
        try:
            given: dict[str, Any] = (
                json.loads(self._path.read_text(encoding="utf-8")).get("metrics", {}) if ended else {}
            )
        except (OSError, ValueError):
            return []
        return [Observation(name, UNDATED, float(given[name])) for name in self._metrics if name in given]

    def close(self) -> None:
        """See `Reader.close`."""


class _Lines:
    """The lines of a file that grows, each with its number; a last one without an end waits for it."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._number = path, 0, 0

    def new(self, ended: bool) -> Iterator[tuple[int, str]]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") and not ended:
                    return
                self._offset += len(line)
                self._number += 1
                yield self._number, line.decode(errors="replace")


def _is_tag(tag: str, folder: str, metric: str) -> bool:
    """Katib's rule: the tag begins with the metric's last part, and the folder's name ends with those before it."""
    before, _, last = metric.rpartition("/")
    return tag.startswith(last) and folder.endswith(before)


def _json_time(given: Any) -> datetime:
    if isinstance(given, str):
        return time_of(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return _EPOCH + timedelta(seconds=given)
    return UNDATED
