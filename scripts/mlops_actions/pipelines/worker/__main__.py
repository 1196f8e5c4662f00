"""Compiles a pipeline: `python …/pipelines/worker ORDER`, where ORDER is a JSON file: `file`, `name`, `root`, `result`.

What is found is written to the file `result`; see `compiling.compile_pipeline`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Compile."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # The consumer's modules come first, so the package is found last; its own folder is not on the path at all.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]
    from mlops_actions.pipelines.worker.compiling import compile_pipeline
    from mlops_actions.pipelines.worker.parent import end_with_parent

    end_with_parent()
    result = Path(order.pop("result"))
    result.write_text(json.dumps(compile_pipeline(**order), default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
