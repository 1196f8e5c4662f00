"""Train by a function of the consumer's: run by path, in the consumer's environment.

Only the standard library is imported here, and what the function itself needs. `training_worker.py REQUEST RESULT`: two
JSON files. The request has `root`, `function` (`module:name` or `file.py:name`) and `rows`: what the function is given,
once for each training. The result has `curves`, the losses of each; or `error`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any


def main(request_file: str, result_file: str) -> None:
    """Do what the request says; write the result, whatever happens."""
    from mlops_actions.models import predicting

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    result: dict[str, Any] = {}
    try:
        function = predicting.named(request["function"], Path(request["root"]))
        curves = [[float(loss) for loss in function(rows)] for rows in request["rows"]]
        result["curves"] = [[loss if math.isfinite(loss) else None for loss in curve] for curve in curves]
    except BaseException as error:  # also SystemExit of the consumer's code
        result["error"] = predicting.told(error)
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    # The folder of this file gives way to the package's, which comes after all that the function imports.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[2])]
    main(*sys.argv[1:])
