"""From a `.py` file with a `@dsl.pipeline`, or compiled YAML, to the pipeline's spec as JSON."""

from __future__ import annotations

import importlib.util
import json
import linecache
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import BadInput
from ...yaml_io import Yaml11, read_documents
from . import sdk

Compiled = dict[str, Any]


def compile_pipeline(file: str, name: str, root: str) -> Compiled:
    """The spec of the pipeline in a file, or why there is none.

    Args:
        file: absolute path.
        name: the pipeline to take, by its name or its function's; "" for the only one.
        root: the consumer's folder: its modules can be imported, and errors are placed in its files.

    Returns:
        `spec`, `platforms`, `kfp` (the SDK's version); or `error`: kind, message, and file and line where known.
    """
    path = Path(file)
    kfp = sdk.load()
    if path.suffix != ".py":
        return _read(path) | {"kfp": kfp.__version__}
    try:
        source = path.read_text(encoding="utf-8")
        compile(source, file, "exec")
    except SyntaxError as error:
        return _error("syntax", error.msg, file, error.lineno, error.offset)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return _error("unreadable", str(error), file)
    try:
        module = _load(path, root)
    except BaseException as error:  # a pipeline file may also call sys.exit
        return _raised(error, Path(root), file)
    found = _pipelines(module)
    chosen = [p for p in found if name in (p.name, p.pipeline_func.__name__)] if name else found
    if len(chosen) != 1:
        kind = "unknown" if name and found else "several" if found else "none"
        return _error(kind, "", file) | {"names": [p.name for p in found]}
    return {
        "spec": _as_dict(chosen[0].pipeline_spec),
        "platforms": _as_dict(chosen[0].platform_spec).get("platforms", {}),
        "kfp": kfp.__version__,
    }


def _read(path: Path) -> Compiled:
    """Compiled YAML: the pipeline's spec, and perhaps a second document with settings for platforms."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        documents = [found.value for found in read_documents(path, path.name, reader=Yaml11) if found.value]
        spec = documents[0] if documents else None
        if isinstance(spec, dict) and str(spec.get("apiVersion", "")).startswith("argoproj.io/"):
            return _error("argo", f"it is of the kind {spec.get('kind', 'Workflow')}, which KFP 1 compiled", str(path))
        if not isinstance(spec, dict) or "root" not in spec or "pipelineInfo" not in spec:
            return _error("not-a-pipeline", "it has no `pipelineInfo` and `root`", str(path))
        parsed = pipeline_spec_pb2.PipelineSpec()
        json_format.ParseDict(spec, parsed)
    except BadInput as error:
        return _error("not-a-pipeline", error.why or error.what, str(path), error.place.line if error.place else None)
    except json_format.ParseError as error:
        return _error("not-a-pipeline", str(error), str(path))
    platforms = documents[1].get("platforms", {}) if len(documents) > 1 and isinstance(documents[1], dict) else {}
    return {"spec": _as_dict(parsed), "platforms": platforms}


def _load(path: Path, root: str) -> ModuleType:
    sys.path[:0] = [str(path.parent), root] if str(path.parent) != root else [root]
    module_name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"pipeline_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader
    sys.dont_write_bytecode = True  # nothing of ours stays in the consumer's folder
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _pipelines(module: ModuleType) -> list[Any]:
    """The pipelines that the file itself defines, in its order; imported ones are parts, not the pipeline."""
    from kfp.dsl.graph_component import GraphComponent

    values = {id(v): v for v in vars(module).values() if isinstance(v, GraphComponent)}.values()
    return [value for value in values if value.pipeline_func.__module__ == module.__name__]


def _as_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    # Protobuf's maps have no order; the same pipeline shall give the same text, and its tasks the same values.
    values: dict[str, Any] = json.loads(json.dumps(json_format.MessageToDict(message), sort_keys=True))
    return values


def _raised(error: BaseException, root: Path, file: str) -> Compiled:
    """The consumer's line: the innermost one in a file of theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if _is_own(f.filename, root, file)]
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename, root, file):
        return _error("syntax", error.msg, error.filename, error.lineno, error.offset)
    last = own[-1] if own else None
    linecache.clearcache()
    found = _error(
        "raised",
        f"{type(error).__name__}: {error}",
        last.filename if last else file,
        last.lineno if last else None,
    )
    return found | {"log": "".join(traceback.format_exception(type(error), error, error.__traceback__))}


def _is_own(filename: str, root: Path, file: str) -> bool:
    path = Path(filename)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return filename == file or (not installed and root in path.parents)


def _error(kind: str, message: str, file: str, line: int | None = None, column: int | None = None) -> Compiled:
    return {"error": {"kind": kind, "message": message}, "file": file, "line": line, "column": column}
