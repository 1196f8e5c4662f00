"""Rules that all files of the checkout keep."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from conftest import ROOT


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
