"""What is left over on a machine goes, and what is in use stays."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from mlops_actions.files import DAY, remove_old, whole_folder


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


@pytest.mark.parametrize("moment", ["writing", "put aside"])
def test_what_a_killed_one_left_is_removed_or_put_back(tmp_path: Path, moment: str) -> None:
    site, (part, old) = tmp_path / "site", (tmp_path / f".site.{kind}" for kind in ("part", "old"))
    with whole_folder(site, "list") as made:
        (made / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt), whole_folder(site, "list") as made:
        (made / "b").mkdir()
        (made / "b" / "c").write_text("half")
        shutil.copytree(made, tmp_path / "left")
        raise KeyboardInterrupt
    assert (site / "list").read_text() == "a\nlist\n"
    (tmp_path / "left").rename(part)
    if moment == "put aside":
        site.rename(old)
    with pytest.raises(OSError, match="full"), whole_folder(site, "list"):
        raise OSError("full")
    assert (site / "a").read_text() == "1"
    assert [one.name for one in tmp_path.iterdir()] == ["site"]
