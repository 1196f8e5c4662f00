"""Pictures of tables, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there is no screen on a runner

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .drift import ColumnDrift

REFERENCE_COLOR, CURRENT_COLOR, DRIFT_COLOR = "#8c959f", "#0969da", "#cf222e"
_SHOWN = 12  # categories in one panel


def draw_drift(columns: Sequence[ColumnDrift], path: Path, *, before: str = "reference", now: str = "now") -> Path:
    """Shares of rows by bin, a panel a column.

    Args:
        columns: what to show, at most six of which look well.
        path: the PNG to write.
        before, now: what the two tables are called.
    """
    wide = min(2, len(columns))
    tall = -(-len(columns) // wide)
    figure, axes = plt.subplots(tall, wide, figsize=(5.2 * wide, 3.1 * tall), squeeze=False, layout="constrained")
    for axis, column in zip(axes.flat, columns):
        _panel(axis, column, before, now)
    for axis in axes.flat[len(columns) :]:
        axis.axis("off")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _panel(axis: Axes, column: ColumnDrift, before: str, now: str) -> None:
    kept = range(len(column.bins))
    if len(column.bins) > _SHOWN:  # those that moved most, in their order
        moved = sorted(kept, key=lambda i: -abs(column.current[i] - column.reference[i]))[:_SHOWN]
        kept = sorted(moved)  # type: ignore[assignment]
    x = np.arange(len(kept))
    axis.bar(x - 0.2, [column.reference[i] for i in kept], 0.4, color=REFERENCE_COLOR, label=before)
    axis.bar(x + 0.2, [column.current[i] for i in kept], 0.4, color=CURRENT_COLOR, label=now)
    labels = [column.bins[i] for i in kept]
    axis.set_xticks(x, labels, fontsize=8)
    if max(map(len, labels)) > 4:
        plt.setp(axis.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g} %")
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    color = DRIFT_COLOR if column.drifted else "black"
    axis.set_title(f"{column.column}   PSI {column.psi:.3f}", fontsize=10, loc="left", color=color)
