"""Why a trial that ended well has no value: what its log shows that it did print."""

from __future__ import annotations

import difflib
import json
import re

from ..engine import Cause
from ..experiment import Experiment
from ..metrics import collect, compiled

_PRINT = "Print the metric in that form, or correct `objectiveMetricName` or `metricsFormat`"


def unreported(experiment: Experiment, log: str) -> Cause:
    """Why the objective's metric of a trial is missing, by what the trial printed."""
    name, spec = experiment.spec.objective.objective_metric_name, experiment.spec.metrics_collector_spec
    what = f"it never reported {name!r} as {' or '.join(spec.formats) or f'{name}=<number>'}"
    if not log.strip():
        return Cause(f"{what}; it printed nothing, or its log is gone", _PRINT)
    if name in collect(log.splitlines(), experiment.spec.objective, spec.formats):
        if spec.collector.kind == "File":
            return Cause(f"it printed {name!r}, but not into {spec.path}, where Katib looks for it", "Write it there")
        return Cause(
            f"it printed {name!r} where Katib does not look: of a shell line only the output of the last command is"
            " collected, and nothing from a process that goes on in the background",
            "Put the commands in parentheses, `(first; second)`, or into a script",
        )
    odd = re.search(rf"(?<![\w|-]){re.escape(name)}\s*=\s*(\S+)", log)
    if odd:
        return Cause(f"{what}, but as {odd[0]!r}", _PRINT)
    printed = _printed(log, spec.formats)
    near = difflib.get_close_matches(name, printed, n=1, cutoff=0.5)
    if near:
        did = f"did you mean `objectiveMetricName: {near[0]}`?"
        return Cause(f"{what}, but printed {near[0]}={printed[near[0]]}: {did}", _PRINT)
    found = ", ".join(f"{n}={v}" for n, v in list(printed.items())[:10]) or "no metric at all"
    return Cause(f"{what}; it printed {found}", _PRINT)


def _printed(log: str, formats: list[str]) -> dict[str, str]:
    """All that looks like a metric: by the formats, by Katib's own, and the numbers of lines that are JSON."""
    found: dict[str, str] = {}
    for line in log.splitlines():
        for pattern in [*compiled(formats), *compiled([])]:
            found |= {m[1].strip(): m[2].strip() for m in pattern.finditer(line) if m[1] and m[2] and m[2].strip()}
        if line.lstrip().startswith("{"):
            try:
                content = json.loads(line)
            except ValueError:
                continue
            found |= {str(key): str(value) for key, value in content.items() if not isinstance(value, dict | list)}
    return found
