"""What is left over on a machine goes, and what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mlops_actions.files import DAY, remove_old


def test_a_folder_goes_when_nothing_in_it_has_changed_for_long(tmp_path: Path) -> None:
    for name in ("old", "logged", "known"):
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "logs" / "trial-1.log").write_text("")
        (tmp_path / name / "journal.jsonl").write_text("")
    then = time.time() - 31 * DAY
    for item in tmp_path.rglob("*"):
        os.utime(item, (then, then))
    os.utime(tmp_path / "logged" / "logs" / "trial-1.log")  # by a trial that runs
    os.utime(tmp_path / "known")
    remove_old([tmp_path / "gone", *tmp_path.glob("*")], 30)
    assert sorted(item.name for item in tmp_path.glob("*")) == ["known", "logged"]
    remove_old(tmp_path.glob("*"), 0)
    assert list(tmp_path.glob("*")) == []
