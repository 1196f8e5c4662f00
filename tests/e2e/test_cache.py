"""Environments from act's cache server, which speaks GitHub's protocol, by the actions/cache that the actions name."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from act import make_consumer

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


def test_an_environment_is_kept_by_the_first_job_and_restored_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = os.environ.get("ACTIONS_CACHE")
    if not checkout:
        pytest.skip("ACTIONS_CACHE does not name a checkout of actions/cache")
    consumer = replace(make_consumer(tmp_path, "minimal"), cache=Path(checkout))
    (consumer.folder / ".github" / "workflows" / "mlops.yml").write_text(WORKFLOW)
    consumer.commit()
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "caches"))
    code, log = consumer.run()
    assert code == 0, log
    assert "Preparing the environment core-" in log
    assert "Cache saved with key: mlops-core-" in log

    shutil.rmtree(tmp_path / "caches")  # the next job is on another machine
    code, log = consumer.run()
    assert code == 0, log
    assert "Cache restored from key: mlops-core-" in log
    assert "Preparing the environment" not in log
