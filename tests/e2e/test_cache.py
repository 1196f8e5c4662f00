"""Environments from act's cache server, which speaks GitHub's protocol, by the actions/cache that the actions name."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from act import Consumer, in_one_job, make_consumer

WORKFLOW = """\
on: push
jobs:
  plan:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v6
      - uses: mlops-actions/mlops-actions/actions/plan@v1
        with: {store: "${{ vars.MLOPS_STORE }}"}
"""


@pytest.fixture
def caching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Consumer:
    """The example `minimal`, with a cache server, on a machine that keeps its own caches below `caches`."""
    checkout = os.environ.get("ACTIONS_CACHE")
    if not checkout:
        pytest.skip("ACTIONS_CACHE does not name a checkout of actions/cache")
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "caches"))
    return replace(make_consumer(tmp_path, "minimal"), cache=Path(checkout))


def test_an_environment_is_kept_by_the_first_job_and_restored_by_the_next(tmp_path: Path, caching: Consumer) -> None:
    (caching.folder / ".github" / "workflows" / "mlops.yml").write_text(WORKFLOW)
    caching.commit()
    code, log = caching.run()
    assert code == 0, log
    assert "Preparing the environment core-" in log
    assert "Cache saved with key: mlops-core-" in log

    shutil.rmtree(tmp_path / "caches")  # the next job is on another machine
    code, log = caching.run()
    assert code == 0, log
    assert "Cache restored from key: mlops-core-" in log
    assert "Preparing the environment" not in log


def test_one_job_keeps_the_environments_of_all_its_actions_in_one_entry(tmp_path: Path, caching: Consumer) -> None:
    in_one_job(caching)
    code, log = caching.run()
    assert code == 0, log
    saved = re.findall(r"Cache saved with key: (mlops-\S+)", log)
    assert len(saved) == len(set(saved)) >= 2, "those of `plan`, and those of all that is run"

    shutil.rmtree(tmp_path / "caches")
    code, log = caching.run()
    assert code == 0, log
    restored = re.findall(r"Cache restored from key: (mlops-\S+)", log)
    assert {key.lower() for key in saved} <= {key.lower() for key in restored}, "act's server writes keys in lower case"
    locks = [part for key in saved for part in re.findall(r"[a-z]+-[0-9a-f]{16}", key)]
    assert locks and not any(f"Preparing the environment {lock}" in log for lock in locks)
    assert caching.records()[1]["run-pipeline"]["reused"]
