"""Metrics of the consumer's own: a function of the rows, run in the consumer's environment.

They run in a process of that environment, as a model of test-model does, also where they need nothing but numpy: what
they import, print and leave behind is not ours, and a metric that works in training works here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..errors import BadInput, ComponentFailed, RemoteFailed
from ..models.checks import remedy
from ..processes.group import Group
from .golden_rows import tensor
from .resampling import SEED, SHOWN, Units, around, standard_error

_WORKER = Path(__file__).with_name("metric_worker.py")
_SECONDS = 60.0
_LOG = "log.txt"


class CustomMetric(BaseModel):
    """A metric of the consumer's own.

    Attributes:
        function: `module:name` or `file.py:name`: a function of the rows of the predictions file (a pandas DataFrame,
            or a list of dictionaries where there is no pandas) that returns a number.
        direction: whether more is better, in Optuna's words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str = Field(pattern=r"^(?:[A-Za-z_][\w.]*|.+\.py):[A-Za-z_]\w*$")
    direction: Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Measured:
    """A metric of one or two models on the same rows, with its values of each resample: draws × models."""

    values: Sequence[float]
    draws: NDArray[np.float64]
    units: int

    @property
    def error(self) -> float:
        """The standard error of the difference of two models' values, or of the one value."""
        drawn = self.draws[:, 0] - (self.draws[:, 1] if len(self.values) > 1 else 0)
        return standard_error(drawn, self.units)

    @property
    def interval(self) -> tuple[float, float] | None:
        """That of the first model's value."""
        return around(self.values[0], standard_error(self.draws[:, 0], self.units), self.units)


@dataclass(frozen=True)
class Consumer:
    """Where the consumer's code runs: an interpreter, a folder, and variables; `timeout` is in seconds."""

    python: Path
    root: Path
    environ: Mapping[str, str]
    timeout: float = 600.0


def measure(
    metrics: Mapping[str, CustomMetric], tables: Sequence[pl.DataFrame], units: Units, consumer: Consumer
) -> dict[str, Measured]:
    """The metrics of tables that have the same rows.

    Raises:
        BadInput: a function does not exist, or the table has a column of a type that cannot be handed over.
        ComponentFailed: a function fails, takes too long, or does not return a number.
        RemoteFailed: the process died.
    """
    codes = list(range(tables[0].height)) if units.codes is None else units.codes.tolist()
    asked = {
        "root": str(consumer.root), "functions": {name: metric.function for name, metric in metrics.items()},
        "tables": [[tensor(column) for column in table.get_columns()] for table in tables],
        "units": codes, "draws": SHOWN, "seed": SEED, "seconds": _SECONDS,
    }  # fmt: skip
    result = _run(asked, consumer)
    if "error" in result:
        raise _failed(result["error"], metrics)
    for name, one in result.items():
        if not np.isfinite(one["values"]).all():
            raise ComponentFailed(
                f"The metric {name} is {one['values'][0]}, which is not a number", fix="Correct its function"
            )
    return {name: Measured(one["values"], np.array(one["draws"]), units.count) for name, one in result.items()}


def _run(asked: dict[str, Any], consumer: Consumer) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlops-metric-") as scratch:
        folder = Path(scratch)
        (folder / "request.json").write_text(json.dumps(asked), encoding="utf-8")
        command = [str(consumer.python), str(_WORKER), str(folder / "request.json"), str(folder / "result.json")]
        with (folder / _LOG).open("wb") as stream:
            group = Group(command, consumer.root, consumer.environ, stdout=stream)
        with group:
            ended = group.wait(consumer.timeout)
            code = group.process.returncode
        log = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
        if not ended:
            raise ComponentFailed(f"The custom metrics did not finish within {consumer.timeout:g} s", log=log)
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            what = "The process that computes the custom metrics ended early"
            raise RemoteFailed(what, why=f"It ended {how}", log=log) from None
        return result


def _failed(error: dict[str, str], metrics: Mapping[str, CustomMetric]) -> BadInput | ComponentFailed:
    name = error["metric"]
    function = metrics[name].function if name else "the predictions"
    what = f"The metric {name} cannot be computed by {function}"
    if error["type"] == "NotLoadable":
        return BadInput(what, why=error["message"], fix="Correct `function` of `custom-metrics`")
    if error["type"] == "NoNumber":
        return ComponentFailed(what, why=error["message"], fix="Correct its function")
    why = f"{error['type']}: {error['message']}".split("\n")[0].rstrip(": ")
    if error["missing"]:
        return BadInput(what, why=why, fix=remedy(error["missing"]).replace("the model is loaded with", "it needs"))
    return ComponentFailed(what, why=why, log=error["traceback"])
