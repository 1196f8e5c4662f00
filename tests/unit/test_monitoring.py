"""Watching a model: what makes it be trained again, and with what."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_actions.data.sources import DataSource
from mlops_actions.errors import BadInput
from mlops_actions.monitoring.monitor import MonitorRequest, Observation, observe, retrain_parameters

NOW = datetime(2013, 3, 1, tzinfo=timezone.utc)


def write(folder: Path, name: str, **columns: Any) -> DataSource:
    pl.DataFrame(columns).write_parquet(folder / name)
    return DataSource(name, folder / name)


def watch(folder: Path, shift: float = 0.0, **options: Any) -> Observation:
    random = np.random.default_rng(1)
    when = pl.Series([NOW.replace(tzinfo=None) - timedelta(days=d) for d in range(10, 1010)])
    before = write(folder, "before.parquet", x=random.normal(size=1000), y=random.normal(size=1000), t=when)
    now = write(folder, "now.parquet", x=random.normal(shift, size=1000), y=random.normal(size=1000), t=when)
    return observe(MonitorRequest([now], [before], NOW, **options))


def test_the_same_distribution_is_no_reason(tmp_path: Path) -> None:
    found = watch(tmp_path)
    assert (found.reasons, found.rows, found.fingerprint[:7]) == ([], 1000, "sha256:")
    assert found.score < 0.2


def test_drift_is_a_reason_that_names_the_worst_column(tmp_path: Path) -> None:
    found = watch(tmp_path, shift=2)
    assert len(found.reasons) == 1 and found.reasons[0].startswith("1 of 2 columns have drifted, x most (PSI ")


def test_the_share_of_drifted_columns_may_be_asked_for(tmp_path: Path) -> None:
    assert watch(tmp_path, shift=2, min_drifted_share=0.5).reasons
    assert watch(tmp_path, shift=2, min_drifted_share=0.6).reasons == []


def test_old_data_is_a_reason(tmp_path: Path) -> None:
    fresh = watch(tmp_path, time_column="t", max_age=timedelta(days=11))
    assert (fresh.age_hours, fresh.reasons) == (240, [])
    assert watch(tmp_path, time_column="t", max_age=timedelta(days=9)).reasons == ["the newest row is 240 h old"]
    with pytest.raises(BadInput, match="no column of times 'x'"):
        watch(tmp_path, time_column="x")
    with pytest.raises(BadInput, match="`max-age` needs"):
        watch(tmp_path, max_age=timedelta(days=9))
    with pytest.raises(BadInput, match="The metric auc cannot be compared with the registered one"):
        watch(tmp_path, metric="auc")


def test_live_quality_is_compared_with_the_registered(tmp_path: Path) -> None:
    live = write(tmp_path, "live.parquet", label=[0, 1] * 50, score=[0.4, 0.6] * 40 + [0.6, 0.4] * 10)
    bad = watch(tmp_path, predictions=live, registered={"auc": 0.95})
    assert bad.quality and (bad.quality.live, bad.quality.rows, bad.quality.worse) == (0.8, 100, True)
    assert bad.reasons == ["auc in use is 0.8, registered was 0.95"]
    assert watch(tmp_path, predictions=live, registered={"auc": 0.95}, max_regression=0.2).reasons == []
    loss = watch(tmp_path, predictions=live, registered={"brier": 0.05}, metric="brier")
    assert loss.quality and loss.quality.worse
    with pytest.raises(BadInput, match="not both registered and live"):
        watch(tmp_path, predictions=live, registered={})


def test_nothing_to_compare_is_bad_input(tmp_path: Path) -> None:
    a, b = write(tmp_path, "a.parquet", x=["1", "2"]), write(tmp_path, "b.parquet", x=[1, 2])
    with pytest.raises(BadInput, match="No column can be compared") as raised:
        observe(MonitorRequest([b], [a], NOW))
    assert "x is Int64, and String in the reference" in raised.value.why


def test_retraining_is_started_with_the_versions_parameters_and_the_new_data() -> None:
    facts = {"files": "a,b", "fingerprint": "sha256:1"}
    found = retrain_parameters(
        {"data": "$files", "depth": 3, "note": "$$5 ${fingerprint}"}, {"depth": 2, "seed": 1}, facts
    )
    assert found == {"data": "a,b", "depth": 3, "seed": 1, "note": "$5 sha256:1"}
    with pytest.raises(BadInput, match=r"Known: \$files"):
        retrain_parameters({"data": "$fils"}, {}, facts)
