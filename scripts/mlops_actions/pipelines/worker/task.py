"""One task: loads a component's source and runs its function through KFP's own executor.

Run by path, with the path of a JSON file: `source` (the component's file), `function`, `input` (KFP's ExecutorInput),
`failure` (a file to write the exception to) and `opened` (a file for what it read of the consumer's). The executor's
input does not travel on the command line, whose length is limited, and no shell is needed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> int:
    """Run the task; its exit code."""
    # Both are beside this file, whose folder is on the path until here.
    from opened import Opened  # type: ignore[import-not-found]
    from parent import end_with_parent  # type: ignore[import-not-found]

    sys.path.pop(0)  # the component sees the packages of its environment alone
    del sys.modules["opened"], sys.modules["parent"]
    end_with_parent()
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    source = Path(order["source"])
    os.environ["_KFP_RUNTIME"] = "true"
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    from kfp.dsl import executor, utils

    sys.dont_write_bytecode = True  # nothing of ours stays in the consumer's folder
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # nor of a Python that the component starts
    opened = Opened(str(Path.cwd()), [str(source.parent), *order.get("apart", [])])
    try:
        module = utils.load_module(module_name=source.stem, module_directory=str(source.parent))
        task = executor.Executor(executor_input=order["input"], function_to_execute=getattr(module, order["function"]))
        _place(task.input_artifacts, order["input"]["inputs"]["artifacts"])
        task.execute()
    except Exception as error:
        _print(error, source)
        Path(order["failure"]).write_text(json.dumps(_failure(error, source)), encoding="utf-8")
        return 1
    finally:
        opened.write(Path(order["opened"]))
    return 0


def _place(artifacts: dict[str, Any], messages: dict[str, Any]) -> None:
    """Tell artifacts whose bytes are elsewhere than their URIs say where they are; the executor does not."""
    for name, made in artifacts.items():
        for artifact, message in zip(made if isinstance(made, list) else [made], messages[name]["artifacts"]):
            if message.get("custom_path"):
                artifact.custom_path = message["custom_path"]


def _print(error: Exception, source: Path) -> None:
    """The traceback from the component's first frame on."""
    frame = error.__traceback__
    while frame and Path(frame.tb_frame.f_code.co_filename) != source:
        frame = frame.tb_next
    sys.stdout.flush()
    traceback.print_exception(type(error), error, frame or error.__traceback__)


def _failure(error: Exception, source: Path) -> dict[str, object]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == source]
    line = frames[-1].lineno if frames else None
    if isinstance(error, SyntaxError) and error.filename == str(source):
        line = error.lineno
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return {"type": name, "message": str(error)[:4000], "line": line, "missing": missing}


if __name__ == "__main__":
    sys.exit(main())
