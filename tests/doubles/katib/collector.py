"""Katib's metrics collector for StdOut and File: what runs beside the training container, and how it reads metrics.

This file is the program of the container `metrics-logger-and-collector` that the double adds to a trial's pod, so it
needs Python's standard library only and imports nothing of ours. Where Katib's reports to its database over gRPC, this
one prints the report as its last line, where the double reads it.

Source: cmd/metricscollector/v1beta1/file-metricscollector/main.go, pkg/metricscollector/v1beta1/common/pns.go and
pkg/metricscollector/v1beta1/file-metricscollector/file-metricscollector.go of github.com/kubeflow/katib.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

Log = dict[str, str]
"""One reported value: `timestamp`, `name`, and `value` as it was written."""
Rule = tuple[str, float, str, int]
"""Of early stopping: metric, limit, `less`, `greater` or `equal`, start step."""
DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
UNAVAILABLE = "unavailable"
REPORT = "Metrics reported. : "
UNREACHABLE = "unreachable"
"""As the database manager's address: reporting fails, as when the name is not known."""
_NO_TIME = "0001-01-01T00:00:00Z"
_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_POLL = 0.1


def text_metrics(lines: Iterable[str], metrics: Sequence[str], filters: Sequence[str]) -> list[Log]:
    """The metrics in lines of text, by the filters, or by Katib's own when there is none."""
    patterns = [re.compile(text, re.ASCII) for text in filters or [DEFAULT_FILTER]]
    found = []
    for line in lines:
        if not any(metric in line for metric in metrics):
            continue
        first, space, _ = line.partition(" ")
        dated = bool(space and _RFC3339.match(first))
        when = first if dated else _NO_TIME
        if not dated:
            untimed(line, first if space else "")
        for pattern in patterns:
            for match in pattern.finditer(line) if pattern.groups >= 2 else ():
                name, value = (match[1] or "").strip(), (match[2] or "").strip()
                if name in metrics:
                    found.append({"timestamp": when, "name": name, "value": value})
    return found


def json_metrics(lines: Iterable[str], metrics: Sequence[str]) -> list[Log]:
    """The metrics in lines that are JSON objects. A value that is not a string is no metric, as in Katib.

    Raises:
        ValueError: a line is no JSON.
    """
    found: list[Log] = []
    for line in lines:
        if line:
            values = json.loads(line)
            when = _json_time(values.get("timestamp"))
            reported = ((metric, values.get(metric)) for metric in metrics)
            found += [{"timestamp": when, "name": n, "value": v} for n, v in reported if isinstance(v, str)]
    return found


def _json_time(value: Any) -> str:
    if isinstance(value, str) and _RFC3339.match(value):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, timezone.utc).isoformat().replace("+00:00", "Z")
    return _NO_TIME


def untimed(line: str, first: str) -> None:
    """What the collector says of each line with a metric that does not begin with a time."""
    why = f"error parsing time {first}: cannot parse" if first else f"{line} doesn't begin with timestamp string"
    say(f"Metrics will not have timestamp since {why}", "W", "file-metricscollector.go:103")


def observation_log(found: list[Log], metrics: Sequence[str]) -> list[Log]:
    """What is reported: all, or that the objective (the first metric) is unavailable when it was never printed."""
    if any(item["name"] == metrics[0] for item in found):
        return found
    return [{"timestamp": _NO_TIME, "name": metrics[0], "value": UNAVAILABLE}]


class StopRules:
    """Early stopping: a trial stops when each rule has been met.

    Args:
        objective, kind: the objective's metric and type; of it the best value so far is compared.
    """

    def __init__(self, rules: Iterable[Rule], objective: str, kind: str) -> None:
        self._rules = list(rules)
        self._objective, self._kind = objective, kind
        self._best: float | None = None
        self._steps = {name: step for name, _, _, step in self._rules if step}

    def met(self, name: str, value: float) -> bool:
        """Take one more value of a metric; whether all rules have been met."""
        for rule in [rule for rule in self._rules if rule[0] == name]:
            if self._meets(rule, value):
                self._rules.remove(rule)
        return not self._rules

    def _meets(self, rule: Rule, value: float) -> bool:
        name, limit, comparison, _ = rule
        if name == self._objective:
            best = max if self._kind == "maximize" else min
            value = self._best = value if self._best is None else best(value, self._best)
        if name in self._steps:
            self._steps[name] -= 1
            if self._steps[name] != 0:
                return False
        return {"less": value < limit, "greater": value > limit, "equal": value == limit}[comparison]


def say(text: str, level: str = "I", place: str = "main.go:139") -> None:
    """Print as klog does, the library that Katib's collector prints with."""
    now = datetime.now(timezone.utc)
    sys.stdout.write(f"{level}{now:%m%d %H:%M:%S.%f} {os.getpid():7d} {place}] {text}\n")
    sys.stdout.flush()


def fail(text: str) -> NoReturn:
    """Print why and a stack, and end as klog.Fatalf does."""
    say(text, "F")
    sys.stdout.write("\ngoroutine 1 [running]:\nmain.main()\n\t/build/main.go:1 +0x1\n")
    sys.stdout.flush()
    sys.exit(255)


def processes() -> Iterator[tuple[int, int, str]]:
    """The pod's processes: id, parent's id, command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                yield int(folder.name), parent, (folder / "cmdline").read_text()
            except OSError:
                continue  # it has ended meanwhile


def main_process(folder: Path) -> int | None:
    """The process of the primary container: the one whose command will write the marker."""
    marker = f"echo completed > {folder}"
    return min((pid for pid, parent, words in processes() if parent == 0 and marker in words), default=None)


class Collector:
    """One trial's collector, from the start of its container to its end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._file = Path(options.path)
        self._metrics = options.m.split(";")
        self._filters = options.f.split(";") if options.f else []
        self._json = options.format == "JSON"
        rules = [rule.split(";") for rule in options.stop_rule]
        parsed = [(name, float(value), how, int(step)) for name, value, how, step in rules]
        self._rules = StopRules(parsed, self._metrics[0], options.o_type)
        self._watching, self._stopped = bool(parsed), False
        self._database = options.s_db
        self._read, self._rest = 0, ""
        say(f"Trial Name: {options.t}", place="main.go:400")

    def run(self) -> None:
        """Follow the file until the primary container's process has ended, then report."""
        pid = self._process()
        while Path(f"/proc/{pid}").exists():
            self._follow(pid)
            time.sleep(_POLL)
        self._follow(pid)
        if self._rest:
            say(self._rest)
        self._check_marker(pid)
        try:
            found = self._parse(self._file.read_text(errors="replace").split("\n"))
        except OSError as error:
            fail(f"Failed to collect logs: failed to open the file: {error}")
        except ValueError as error:
            fail(f"Failed to collect logs: failed to parse the json object: {error}")
        if self._database == UNREACHABLE:
            fail(
                'Failed to Report logs: rpc error: code = Unavailable desc = connection error: desc = "transport: Error'
                ' while dialing: dial tcp: lookup katib-db-manager.kubeflow: no such host"'
            )
        report = {"metric_logs": observation_log(found, self._metrics), "early_stopped": self._stopped}
        say(REPORT + json.dumps(report))

    def _parse(self, lines: Sequence[str]) -> list[Log]:
        return json_metrics(lines, self._metrics) if self._json else text_metrics(lines, self._metrics, self._filters)

    def _process(self) -> int:
        """The process to wait for. One that has ended before this one started is not found."""
        found = main_process(self._file.parent)
        if found is None:
            known = sorted(pid for pid, _, _ in processes())
            fail(f"Failed to wait for worker container: unable to find main pid from the process list {known}")
        return found

    def _check_marker(self, pid: int) -> None:
        file = self._file.parent / f"{pid}.pid"
        found = file.read_text().strip() if file.exists() else ""
        if not found:
            fail(
                f"Failed to wait for worker container: training container is failed. Unable to read file {file} "
                f"for pid {pid}, error: open {file}: no such file or directory"
            )
        if found != "completed":
            fail(f"Failed to wait for worker container: unable to find marker: completed in file: {file}")

    def _follow(self, pid: int) -> None:
        try:
            with self._file.open(errors="replace") as file:
                file.seek(self._read)
                new = file.read()
                self._read = file.tell()
        except OSError:
            return
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            say(line)
            if self._watching and not self._stopped and self._stops(line):
                self._stop(pid)

    def _stops(self, line: str) -> bool:
        try:
            # A list, since each value of the line is to be taken, also after the one that stops.
            return any(list(self.rules_met(line)))
        except ValueError as error:
            fail(f"Unable to parse value of the metric: {error}")

    def rules_met(self, line: str) -> Iterator[bool]:
        """After each value in a line, whether all rules have been met."""
        for item in self._parse([line]):
            yield self._rules.met(item["name"], float(item["value"]))

    def _stop(self, pid: int) -> None:
        say("Training container is early stopped")
        self._stopped = True
        (self._file.parent / f"{pid}.pid").write_text("early-stopped")
        children = [child for child, parent, _ in processes() if parent == pid]
        if len(children) != 1:
            fail(f"Multiple children processes are not supported. Children processes: {children}")
        os.kill(children[0], signal.SIGTERM)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The arguments with Katib's names."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("-t", "-m", "-o-type", "-s-db", "-path", "-f", "-format", "-w", "-s-earlystop"):
        parser.add_argument(name, default="", dest=name.lstrip("-").replace("-", "_"))
    parser.add_argument("-stop-rule", action="append", default=[], dest="stop_rule")
    return parser.parse_args(words)


if __name__ == "__main__":
    Collector(arguments(sys.argv[1:])).run()
