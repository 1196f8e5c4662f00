"""What a hostile YAML text may cost, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from yaml_bombs import ALIASES, MERGES

resource = pytest.importorskip("resource", reason="Windows has no such limits")


@pytest.mark.parametrize("text", [ALIASES, MERGES], ids=["aliases", "merges"])
def test_a_bomb_costs_little_memory_and_time(text: str, tmp_path: Path) -> None:
    """In a process that may take 100 MB more than Python itself and 10 s of a processor."""
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    code = (
        "import resource, sys; from pathlib import Path; from mlops_actions.yaml_io import NotYaml, load_yaml\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load_yaml(Path(sys.argv[1]).read_text())\n"
        "except NotYaml: pass\n"
        "more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used\n"
        "assert more < 100_000 * (1024 if sys.platform == 'darwin' else 1), more\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], env={"PYTHONPATH": str(ROOT / "scripts"), "PATH": ""}, capture_output=True,
        text=True, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, 10)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
