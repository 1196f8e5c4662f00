"""The rooms of the package: which may know which, that there is no circle, and that an engine is one module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from conftest import ROOT
from mlops_actions import engines
from mlops_actions.actions.run_pipeline import RunPipelineInputs
from mlops_actions.context import Context
from mlops_actions.errors import BadInput
from mlops_actions.pipelines.engine import Origin, PipelineContext
from mlops_actions.pipelines.engines import kfp
from mlops_actions.pipelines.kfp.engine import KfpEngine
from workspaces import workspace

PACKAGE = ROOT / "scripts" / "mlops_actions"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Files that run by themselves, in an environment where the package is not.
WORKERS = {
    "environments.py",
    "worker",
    "worker.py",
    "golden_worker.py",
    "metric_worker.py",
    "training_worker.py",
    "signing_worker.py",
    "guard.py",
}
CAPABILITIES = {
    "catalog", "data", "doctor", "evaluation", "features", "images", "models", "monitoring", "pipelines", "planning",
    "registry", "reports", "scoring", "serving", "tuning",
}  # fmt: skip
FLOORS: list[set[str]] = [
    {
        "__init__", "console", "context", "engines", "environments", "errors", "files", "inputs", "misfits",
        "processes", "project", "records", "streams", "suggest", "text", "untrusted", "values", "waiting", "yaml_io",
    },
    {"code_files", "http", "kubernetes", "stores", "workspace"},
    CAPABILITIES,
    {"github", "runtime"},
    {"__main__", "actions", "cli", "commands", "generated"},
]  # fmt: skip
"""Rooms from the ground up: each may know those of its own floor and of the floors below."""

Graph = Mapping[str, set[str]]


def name_of(path: Path) -> str:
    """A module's dotted name below the package; the package's own is `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def imported(path: Path, text: str, modules: frozenset[str]) -> frozenset[str]:
    """The modules of the package that a module imports anywhere: at its top, in functions, for the type checker."""
    return frozenset(_imported(path.relative_to(PACKAGE).parts[:-1], text, modules))


def _imported(parts: tuple[str, ...], text: str, modules: frozenset[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]
            elif (node.module or "").split(".")[0] == PACKAGE.name:
                base = (node.module or "").split(".")[1:]
            else:
                continue
            dotted = ".".join(filter(None, base))
            for alias in node.names:
                inner = f"{dotted}.{alias.name}".lstrip(".")
                yield inner if inner in modules else dotted or "__init__"
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith(f"{PACKAGE.name}."))


def graph_of(texts: Mapping[Path, str]) -> dict[str, set[str]]:
    """Which module imports which."""
    modules = frozenset(name_of(path) for path in texts)
    return {name_of(path): {*imported(path, text, modules)} - {name_of(path)} for path, text in texts.items()}


def floor_of(module: str) -> int:
    """The number of the floor that a module is on."""
    return next(number for number, rooms in enumerate(FLOORS) if module.split(".")[0] in rooms)


def upward(graph: Graph) -> list[str]:
    """Imports of a room on a higher floor."""
    return sorted(f"{a} imports {b}" for a, found in graph.items() for b in found if floor_of(b) > floor_of(a))


def circle(graph: Graph) -> list[str]:
    """The modules of one circle of imports; none when there is no circle."""
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> list[str]:
        if module in above:
            return above[above.index(module) :]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := visit(other, [*above, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in MODULES}


def test_every_room_has_its_floor(texts: dict[Path, str]) -> None:
    rooms = {name_of(path).split(".")[0] for path in texts}
    assert rooms == set().union(*FLOORS)


def test_no_room_knows_a_higher_floor(texts: dict[Path, str]) -> None:
    assert upward(graph_of(texts)) == []


def test_there_is_no_circle_of_imports(texts: dict[Path, str]) -> None:
    assert circle(graph_of(texts)) == []


@pytest.mark.parametrize(
    ("room", "line", "found"),
    [
        ("data/drift.py", "from ..runtime.step import Step", "runtime.step"),
        ("tuning/local.py", "def f():\n    from ..actions import run_pipeline", "actions.run_pipeline"),
        ("stores/store.py", "if TYPE_CHECKING:\n    from ..registry.registry import Registry", "registry.registry"),
        ("pipelines/kfp/run/runs.py", "from ....github.console import ActionsConsole", "github.console"),
        ("errors.py", "import mlops_actions.workspace", "workspace"),
    ],
)
def test_a_planted_import_of_a_higher_floor_is_found(texts: dict[Path, str], room: str, line: str, found: str) -> None:
    path = PACKAGE / room
    assert upward(graph_of({**texts, path: f"{texts[path]}\n{line}\n"})) == [f"{name_of(path)} imports {found}"]


def test_a_planted_circle_is_found(texts: dict[Path, str]) -> None:
    path = PACKAGE / "pipelines" / "engine.py"
    text = f"{texts[path]}\ndef f():\n    from .local.engine import LocalEngine\n"
    assert set(circle(graph_of({**texts, path: text}))) >= {"pipelines.engine", "pipelines.local.engine"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_room_for_it_reads_variables_prints_or_speaks_click(path: Path) -> None:
    room = name_of(path).split(".")[0]
    text = path.read_text(encoding="utf-8")
    if WORKERS & {path.name, path.parent.name}:
        return
    if name_of(path) not in ("runtime.config", "processes.concealing", "serving.server.process"):
        assert "os.environ" not in text and "getenv(" not in text, "variables are read in runtime/config.py"
    if room not in ("cli", "commands"):
        assert not re.search(r"^\s*(import|from) click\b", text, re.MULTILINE)
    if room not in ("github", "commands", "generated"):
        assert not re.search(r"(?<![.\w])print\(", text), "words go through the console"


def test_an_engine_is_added_by_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "mlops_actions.pipelines.engines"
    (tmp_path / "alias.py").write_text(
        "from dataclasses import replace\n\nfrom mlops_actions.pipelines.engines import kfp\n\n"
        'ENGINE = replace(kfp.ENGINE, name="kfp-europe", summary="the Kubeflow Pipelines in Europe")\n',
        encoding="utf-8",
    )
    from mlops_actions.pipelines import engines as pipeline_engines

    monkeypatch.setattr(pipeline_engines, "__path__", [*pipeline_engines.__path__, str(tmp_path)])
    engines.engines.cache_clear()
    try:
        found = engines.engines(package)
        assert list(found) == ["local", "kfp", "kfp-europe"]
        assert found["kfp-europe"] == replace(kfp.ENGINE, name="kfp-europe", summary="the Kubeflow Pipelines in Europe")
        inputs = engines.with_engines(RunPipelineInputs, package, "What the pipeline runs on.")
        made = inputs.model_validate({"engine": "kfp-europe", "kfp-host": "http://127.0.0.1:1", "retries": 2})
        assert made.model_dump()["retries"] == 2
        assert "`kfp-europe`: the Kubeflow Pipelines in Europe" in str(inputs.model_fields["engine"].description)
        with pytest.raises(ValueError, match="kfp-europe"):
            inputs.model_validate({"engine": "kfp-asia"})
        context = PipelineContext(workspace(tmp_path), Origin(Context(), "consumer", ""))
        assert isinstance(found["kfp-europe"].make(made, context), KfpEngine)
        with pytest.raises(BadInput, match="Set `kfp-host`"):
            found["kfp-europe"].make(inputs.model_validate({"engine": "kfp-europe"}), context)
    finally:
        engines.engines.cache_clear()
