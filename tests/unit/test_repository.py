"""Rules that the repository's own files keep."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from mlops_actions import commands, generated

PACKAGE = ROOT / "scripts" / "mlops_actions"
MODULES = sorted(PACKAGE.rglob("*.py"))
WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("actions/*/action.yml")])
# Files that run by themselves, in an environment where the package is not.
WORKERS = {"environments.py", "worker", "feast_worker.py", "loading.py", "guard.py"}


def test_generated_files_agree_with_the_declarations() -> None:
    stale = [path for path, text in generated.files() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run scripts/generate"


@pytest.mark.parametrize("name", commands.NAMES)
def test_every_input_and_output_says_what_it_is(name: str) -> None:
    action = commands.load(name)
    for fields in (action.inputs.model_fields, action.outputs.model_fields):
        assert [field for field, info in fields.items() if len(info.description or "") < 10] == []
    assert action.name == name


def imports(path: Path) -> set[str]:
    """What a module imports, as dotted names; relative ones from the package."""
    found = set()
    inside = path.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            found.add(".".join(filter(None, [base, node.module or ""])))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_module_keeps_to_its_room(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    text = path.read_text(encoding="utf-8")
    alone = bool(WORKERS & {path.name, path.parent.name})
    if room not in ("github", "config.py") and not alone:
        assert "os.environ" not in text and "getenv(" not in text, "variables are read in github/ and config.py"
    if room not in ("cli.py", "setup.py", "commands"):
        assert "click" not in imports(path)
    capabilities = {
        "images", "pipelines", "tuning", "features", "data", "evaluation", "registry", "serving", "monitoring",
    }  # fmt: skip
    if room in capabilities:
        assert not any(name.startswith("github") for name in imports(path))
        assert "mlops_actions.commands" not in imports(path)
    if room not in ("github", "setup.py", "generated.py") and not alone:
        assert not re.search(r"(?<![.\w])print\(", text), "words go through the console"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_expression_is_inside_a_script(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = list((document.get("jobs") or {}).values()) or [document["runs"]]
    steps = [step for job in jobs for step in job.get("steps") or []]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_no_file_names_a_package_index_or_this_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    indexes = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("proxy", "golang"), ("deb", "debian")]
    hosts = "|".join(rf"{name}\.{rest}" for name, rest in indexes)
    marks = re.compile("|".join([hosts, re.escape(f"{ROOT}/"), re.escape(f"{Path.home()}/")]))
    found = []
    for name in listed.splitlines():
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            found += [name] if marks.search(path.read_text(encoding="utf-8", errors="ignore")) else []
    assert found == []
