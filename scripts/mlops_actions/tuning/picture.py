"""One picture of an Experiment: how the objective went, which parameters matter, and where good values lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from .engine import Outcome, Trial
from .experiment import Experiment, Parameter

_BEST, _PLAIN, _FAILED, _GOAL = "#d1495b", "#30638e", "#9aa0a6", "#3c8d53"


def draw(experiment: Experiment, outcome: Outcome, target: Path) -> None:
    """Write a PNG of the trials that succeeded. Without importances there is no panel for them."""
    importances = outcome.importances
    figure = Figure(figsize=(11, 8), layout="constrained", dpi=110)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.1))[:, 0]
    axes = above.subplots(1, 2 if importances else 1, width_ratios=(2, 1) if importances else (1,), squeeze=False)[0]
    _history(axes[0], experiment, outcome.trials)
    if importances:
        _importances(axes[1], importances)
    _coordinates(below, experiment, [t for t in outcome.trials if t.value is not None], outcome.best)
    figure.suptitle(f"Experiment {experiment.name}", fontsize=13, fontweight="bold")
    figure.savefig(target, format="png")


def _history(axes: Any, experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Each trial's objective, and the best up to it."""
    objective = experiment.spec.objective
    done = [trial for trial in trials if trial.value is not None]
    numbers = [trial.number + 1 for trial in done]
    values = numpy.array([trial.value for trial in done], dtype=float)
    best = numpy.minimum.accumulate(values) if objective.type == "minimize" else numpy.maximum.accumulate(values)
    axes.plot(numbers, values, "o", color=_PLAIN, alpha=0.7, label="trial")
    axes.step(numbers, best, where="post", color=_BEST, linewidth=2, label="best so far")
    if objective.goal is not None and _near(objective.goal, values):
        axes.axhline(objective.goal, color=_GOAL, linestyle="--", linewidth=1, label=f"goal {objective.goal:g}")
    failed = [trial.number + 1 for trial in trials if trial.failed]
    if failed:
        axes.plot(failed, [values.min()] * len(failed), "x", color=_FAILED, label="failed")
    axes.set(title="History", xlabel="trial", ylabel=objective.objective_metric_name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)


def _near(goal: float, values: numpy.ndarray[Any, Any]) -> bool:
    """Whether the goal can be shown without making the trials a flat line."""
    spread = max(float(values.max() - values.min()), 1e-12)
    return bool(values.min() - spread <= goal <= values.max() + spread)


def _importances(axes: Any, importances: Mapping[str, float]) -> None:
    names = sorted(importances, key=lambda name: importances[name])
    bars = axes.barh(names, [importances[name] for name in names], color=_PLAIN, height=0.5)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set(title="Importance (PED-ANOVA)", xlim=(0, 1.12 * max(importances.values())))
    _plain(axes)


def _coordinates(figure: Any, experiment: Experiment, trials: Sequence[Trial], best: Trial) -> None:
    """Each trial as a line through its parameters to its objective, the better the darker and on top."""
    objective = experiment.spec.objective
    axes = figure.subplots()
    values = [trial.value for trial in trials if trial.value is not None]
    norm = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    colours = ScalarMappable(norm, "viridis" if objective.type == "minimize" else "viridis_r")
    names = [parameter.name for parameter in experiment.spec.parameters]
    scales = [_scale(parameter, trials) for parameter in experiment.spec.parameters]
    scale = _numeric_scale(values, log=False)
    worst_first = sorted(trials, key=lambda t: t.value or 0.0, reverse=objective.type == "minimize")
    for trial in sorted(worst_first, key=lambda t: t.number == best.number):
        heights = [position(trial.parameters[name]) for name, (position, _) in zip(names, scales)]
        heights.append(scale[0](trial.value))
        top = trial.number == best.number
        axes.plot(
            heights,
            color=_BEST if top else colours.to_rgba(numpy.array(trial.value)),
            alpha=1 if top else 0.6,
            linewidth=2.5 if top else 1.2,
        )
    axes.set_xticks(range(len(names) + 1), [*names, objective.objective_metric_name])
    axes.set_xlim(-0.15, len(names) + 0.25)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.set_title("Parameters of the trials (the best in red)")
    for index, (_, ticks) in enumerate([*scales, scale]):
        axes.axvline(index, color="#444444", linewidth=0.8)
        for height, text in ticks:
            axes.annotate(
                text,
                (index, height),
                textcoords="offset points",
                xytext=(4, -3),
                fontsize=8,
                color="#222222",
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
            )
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.colorbar(colours, ax=axes, label=objective.objective_metric_name, pad=0.01)


def _scale(parameter: Parameter, trials: Sequence[Trial]) -> tuple[Any, list[tuple[float, str]]]:
    """How a parameter's value becomes a height from 0 to 1, and the heights that are labelled."""
    choices = parameter.feasible_space.values
    if choices:
        last = max(1, len(choices) - 1)
        heights = {choice: index / last for index, choice in enumerate(choices)}
        return heights.__getitem__, [(height, choice[:20]) for choice, height in heights.items()][:12]
    values = [float(trial.parameters[parameter.name]) for trial in trials]
    return _numeric_scale(values, log=parameter.feasible_space.distribution == "logUniform")


def _numeric_scale(values: Sequence[float], *, log: bool) -> tuple[Any, list[tuple[float, str]]]:
    low, high = (numpy.log(min(values)), numpy.log(max(values))) if log else (min(values), max(values))
    spread = (high - low) or 1.0

    def position(value: Any) -> float:
        return float(((numpy.log(float(value)) if log else float(value)) - low) / spread)

    marks = [low, low + spread / 2, high] if high > low else [low]
    return position, [(float((m - low) / spread), f"{float(numpy.exp(m) if log else m):.3g}") for m in marks]


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
