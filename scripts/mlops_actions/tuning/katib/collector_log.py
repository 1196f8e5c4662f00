"""The log of Katib's metrics collector: what the trial printed, and what the collector says of itself.

The collector (container `metrics-logger-and-collector`) follows the trial's output and prints each line by klog, at
level I and from main.go. What it says of itself comes from other files, at other levels, or in words that are known.
Sources: cmd/metricscollector/v1beta1/{file-metricscollector/main.go,tfevent-metricscollector/main.py} and
pkg/metricscollector/v1beta1/{common/pns.go,file-metricscollector/file-metricscollector.go} of
github.com/kubeflow/katib.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..engine import Cause

COLLECTORS = ("metrics-logger-and-collector", "metrics-collector")
"""The container's names: for the collectors StdOut and File, and for the others."""
DATABASE = (
    "Check that Katib's database manager and its database run: kubectl get pods --all-namespaces --selector"
    " 'katib.kubeflow.org/component in (db-manager, mysql, postgres)'"
)
_KLOG = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ ([^\s\]:]+):\d+\] ?")
"""What klog puts before a message: level, date, time, thread, file and line."""
_STOPPED = "Training container is early stopped"
_REPORTED = "Metrics reported. :"
_OWN = (_STOPPED, _REPORTED, "Trial Name: ", "Trial status is successfully updated")
_OF_THE_TRIAL = ("training container is failed", "unable to find marker")
"""Failures of the collector that only say that the trial's container has failed."""


@dataclass(frozen=True)
class CollectorLog:
    """What is in the collector's log.

    Attributes:
        printed: what the trial printed.
        stopped: whether the collector ended the trial early, by a rule of early stopping.
        failure: with which words the collector ended, if it failed and the trial had not.
    """

    printed: str = ""
    stopped: bool = False
    failure: str = ""


def parse(log: str) -> CollectorLog:
    """Tell the trial's lines from the collector's."""
    printed: list[str] = []
    stopped, failure = False, ""
    for line in log.splitlines():
        head = _KLOG.match(line)
        if head is None:
            continue  # the rest of a message of several lines: the reported metrics, or a goroutine's stack
        text = line[head.end() :]
        if head[1] == "F":
            failure = text
        elif (head[1], head[2]) == ("I", "main.go") and not text.startswith(_OWN):
            printed.append(text + "\n")
        stopped = stopped or text.startswith(_STOPPED)
    if not failure and "Traceback (most recent call last)" in log:  # the collector of TensorFlow's event files
        failure = log.rstrip().rpartition("\n")[2]
    return CollectorLog("".join(printed), stopped, "" if any(words in failure for words in _OF_THE_TRIAL) else failure)


def cause(failure: str, container: str, code: int | None) -> Cause:
    """Why a collector failed.

    Args:
        failure: its last words; "" when they are not known.
        container: its name.
        code: its exit code.
    """
    for pattern, message, fix in _CAUSES:
        if re.search(pattern, failure, re.IGNORECASE):
            return Cause(f"{message}: {failure}", fix, own=False)
    ended = f"its metrics collector (container {container}) ended with exit code {code}"
    return Cause(
        f"{ended}: {failure}" if failure else ended, "Check the collector's log, or use another one", own=False
    )


_CAUSES = (
    (
        "unable to find main pid",
        "it ended before Katib's metrics collector had started, so that its metrics were not read",
        "Let each trial run for some seconds, for example by `sleep 10` at the end of its command",
    ),
    (
        "failed to report logs|could not connect to DB manager|ReportObservationLog|StatusCode.UNAVAILABLE",
        "Katib's database manager cannot be reached, so that its metrics were not stored",
        DATABASE,
    ),
    (
        "multiple children processes|get children proceses|unable to terminate child",
        "Katib could not stop it early, because its command does not run exactly one process",
        "Let `command` start one process, such as `python train.py`",
    ),
    (
        "set trial status|could not connect to early stopping|check process status|create mark file|write to file",
        "its metrics collector failed when it stopped it early",
        "Check the log of the algorithm's service: it writes the trial's status",
    ),
    (
        "failed to open the file|could not watch metrics file",
        "it did not write the file from which its metrics are read",
        "Write that file, or correct `path` of `metricsCollectorSpec`",
    ),
    (
        "failed to parse the json|failed to unmarshal",
        "its metrics file is not what `format` says",
        "Write a JSON object a line, or correct `format` of `metricsCollectorSpec`",
    ),
    (
        "unable to parse value",
        "early stopping needs numbers, and a value of its metric is not a number",
        "Print the metric as a number",
    ),
)
"""By a pattern of the collector's last words: what happened, and what to do."""
