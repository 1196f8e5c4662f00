"""Whether a training is sane: its loss falls, it can learn a few rows by heart, and the same training gives the same.

The checks that practitioners make before they trust a training (E. Breck, S. Cai, E. Nielsen, M. Salib and D. Sculley,
"The ML Test Score", IEEE Big Data 2017, sections Infra 1 and 2; A. Karpathy, "A Recipe for Training Neural Networks",
2019). A training is known here by its curve: the loss after each step, epoch or tree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .custom import Consumer, failure
from .gates import Gate, compared, missing, parse_limits
from .metric import TRAINING

_WORKER = Path(__file__).with_name("training_worker.py")
LIMITS = dict(zip(TRAINING, ("< 1", "<= 0.1", "<= 1e-6"), strict=True))
"""What each must be where `thresholds` do not say."""


@dataclass(frozen=True)
class Sanity:
    """What the trainings showed.

    Attributes:
        values: `training_loss_ratio`: the last loss as a share of the first. `training_overfit_ratio`: the same of a
            training on a few rows. `training_repeat_difference`: the largest difference of two curves, as a share of
            the first loss.
        why: of those that are not defined, the reason.
    """

    values: Mapping[str, float]
    why: Mapping[str, str]


def sanity(curves: Sequence[Sequence[float]]) -> Sanity:
    """Judge three curves: of a training, of the same again, and of one on a few rows."""
    first, again, few = curves
    values: dict[str, float] = {}
    why: dict[str, str] = {}
    for name, curve in zip(TRAINING, (first, few), strict=False):
        if fault := _fault(curve):
            why[name] = fault
        else:
            values[name] = curve[-1] / curve[0]
    name = TRAINING[2]
    if fault := _fault(first) or _fault(again):
        why[name] = fault
    elif len(first) != len(again):
        why[name] = f"one training has {len(first)} steps and the other {len(again)}"
    else:
        values[name] = max(abs(a - b) for a, b in zip(first, again, strict=True)) / first[0]
    return Sanity(values, why)


def _fault(curve: Sequence[float]) -> str:
    """Why a curve cannot be judged; "" if it can."""
    if len(curve) < 2:
        return "a curve must have the losses of two steps or more"
    broken = next(((step, loss) for step, loss in enumerate(curve, 1) if not math.isfinite(loss)), None)
    if broken:
        return f"the loss of step {broken[0]} is {broken[1]}"
    return "" if curve[0] > 0 else f"the first loss is {curve[0]:g}, and must be above 0"


def training_gates(found: Sanity, limits: dict[str, str]) -> list[Gate]:
    """The gates of a training; limits of them are taken out of `limits`."""
    gates = []
    for name, usual in LIMITS.items():
        for limit in parse_limits(limits.pop(name, usual), name):
            if name in found.values:
                gates.append(compared("training", name, found.values[name], limit, None))
            else:
                gates.append(missing("training", name, str(limit), found.why[name]))
    return gates


def train(function: str, rows: int, consumer: Consumer) -> Sanity:
    """Have the consumer's function train three times.

    Args:
        function: `module:name` or `file.py:name`: given the number of rows to train on, or None for all, it returns the
            losses.
        rows: the few rows.
        consumer: where it runs.

    Raises:
        BadInput: it does not exist, or lacks a package.
        ComponentFailed: it fails, takes too long, or does not return losses.
        RemoteFailed: the process died.
    """
    asked = {"root": str(consumer.root), "function": function, "rows": [None, None, rows]}
    result = consumer.ask(_WORKER, asked, f"The trainings by {function}", "trains")
    if error := result.get("error"):
        what, absent = f"The training by {function} failed", f"The training by {function} cannot run"
        raise failure(error, what, "Correct `training`", absent=absent)
    return sanity([[math.nan if loss is None else loss for loss in curve] for curve in result["curves"]])
