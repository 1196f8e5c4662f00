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

    def ask(self, worker: Path, asked: Mapping[str, Any], what: str, doing: str) -> dict[str, Any]:
        """What a worker of ours answers there.

        Args:
            worker: a file that is run with the files of its request and of its result.
            asked: the request.
            what: that may not finish, as a sentence begins: "The custom metrics".
            doing: what the process does: "computes the custom metrics".

        Raises:
            ComponentFailed: it takes too long.
            RemoteFailed: the process died.
        """
        with tempfile.TemporaryDirectory(prefix="mlops-code-") as scratch:
            request, result, log = (Path(scratch) / name for name in ("request.json", "result.json", "log.txt"))
            request.write_text(json.dumps(asked), encoding="utf-8")
            command = [str(self.python), str(worker), str(request), str(result)]
            with log.open("wb") as stream:
                group = Group(command, self.root, self.environ, stdout=stream)
            with group:
                ended = group.wait(self.timeout)
                code = group.process.returncode
            said = log.read_text(encoding="utf-8", errors="replace")
            if not ended:
                raise ComponentFailed(f"{what} did not finish within {self.timeout:g} s", log=said)
            try:
                found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                raise RemoteFailed(f"The process that {doing} ended early", why=f"It ended {how}", log=said) from None
            return found


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
    result = consumer.ask(_WORKER, asked, "The custom metrics", "computes the custom metrics")
    if error := result.get("error"):
        name = error["metric"]
        by = metrics[name].function if name else "the predictions"
        what = f"The metric {name} cannot be computed by {by}"
        raise failure(error, what, "Correct `function` of `custom-metrics`")
    for name, one in result.items():
        if not np.isfinite(one["values"]).all():
            raise ComponentFailed(
                f"The metric {name} is {one['values'][0]}, which is not a number", fix="Correct its function"
            )
    return {name: Measured(one["values"], np.array(one["draws"]), units.count) for name, one in result.items()}


def failure(error: Mapping[str, str], what: str, fix: str, *, absent: str = "") -> BadInput | ComponentFailed:
    """What a worker says of the consumer's function, as the error that the user is told.

    Args:
        error: `predicting.told`.
        what: that could not be done.
        fix: where the function is named, if it does not exist.
        absent: what could not be done then, if that has other words.
    """
    if error["type"] == "NotLoadable":
        return BadInput(absent or what, why=error["message"], fix=fix)
    if error["type"] == "NoNumber":
        return ComponentFailed(what, why=error["message"], fix="Correct its function")
    why = f"{error['type']}: {error['message']}".split("\n")[0].rstrip(": ")
    if error["missing"]:
        return BadInput(what, why=why, fix=remedy(error["missing"]).replace("the model is loaded with", "it needs"))
    return ComponentFailed(what, why=why, log=error["traceback"])
