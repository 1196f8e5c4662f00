"""Compute metrics of the consumer's own: run by path, in the consumer's environment.

Only the standard library is imported here, and what the metrics themselves need. `metric_worker.py REQUEST RESULT`: two
JSON files. The request has `root`, `functions` (`module:function` by metric), `tables` (the same rows as several models
predict them, as tensors), `units` (the block of each row, from 0), `draws`, `seed` and `seconds` (the longest that one
metric is resampled). The result has by metric `values`, one a table, and `draws`, those of each resample of blocks; or
`error` with the metric that failed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class NoNumber(Exception):
    """A function returned what is no number."""


def main(request_file: str, result_file: str) -> None:
    """Do what the request says; write the result, whatever happens."""
    from mlops_actions.models import predicting, tensors

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {}
    name = ""
    try:
        tables = [tensors.table(table) for table in request["tables"]]
        for name, where in request["functions"].items():
            function = predicting.named(where, Path(request["root"]))
            result[name] = measured(function, tables, request)
    except BaseException as error:  # also SystemExit of the consumer's code
        result = {"error": {"metric": name, **predicting.told(error)}}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def measured(function: Callable[[Any], Any], tables: list[Any], request: dict[str, Any]) -> dict[str, Any]:
    """The metric of each table, and of resamples of whole blocks, the same ones of each table."""
    blocks: dict[int, list[int]] = {}
    for row, unit in enumerate(request["units"]):
        blocks.setdefault(unit, []).append(row)
    units, chance = list(blocks.values()), random.Random(request["seed"])
    values, draws = [number(function(table)) for table in tables], []
    ends = time.perf_counter() + request["seconds"]
    for _ in range(request["draws"]):
        rows = [row for unit in chance.choices(units, k=len(units)) for row in unit]
        draws.append([number(function(taken(table, rows))) for table in tables])
        if time.perf_counter() > ends:
            break
    return {"values": values, "draws": draws}


def number(value: Any) -> float:
    """What a function returned, as a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise NoNumber(f"It returned {value!r:.80}, which is not a number") from None


def taken(table: Any, rows: list[int]) -> Any:
    """Some rows of a table."""
    return table.iloc[rows].reset_index(drop=True) if hasattr(table, "iloc") else [table[row] for row in rows]


if __name__ == "__main__":
    # The folder of this file gives way to the package's, which comes after all that the model imports.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[2])]
    main(*sys.argv[1:])
