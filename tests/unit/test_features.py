"""Features: what is decided before Feast is started, and the process that it runs in."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.features.materialize import MaterializeRequest, find_repository, key_parts, lock_path
from mlops_actions.features.progress import MaterializeProgress
from mlops_actions.features.results import Materialized, Plan, View
from mlops_actions.features.times import length, times
from mlops_actions.records import Record
from mlops_actions.reports.sections import section

UTC = timezone.utc


class Quiet:
    """A console that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda text, *more: self.said.append(text)

    def group(self, title: str) -> Any:
        from contextlib import nullcontext

        return nullcontext()


@pytest.fixture
def request_(tmp_path: Path) -> MaterializeRequest:
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text("project: p\n")
    (folder / "definitions.py").write_text("x = 1\n")
    (tmp_path / "build.py").write_text("print('built')\n")
    return MaterializeRequest(
        root=tmp_path,
        folder=folder,
        python=Path(sys.executable),
        environ=dict(os.environ),
        prepare="python build.py",
        views=(),
        mode="incremental",
        start=None,
        end=None,
        chunk=None,
        redo=False,
        allow_destructive=False,
        parallel=2,
        sample=20,
        store_timeout=timedelta(minutes=1),
        scratch=tmp_path / "scratch",
    )


def view(**values: Any) -> View:
    given = {
        "name": "weather", "rows": 3, "watermark": "2013-06-01T00:00:00Z", "start": "2013-01-01T07:00:00Z",
        "seconds": 0.2, "features": ["temp"], "compared": 3, "differences": [], "fingerprint": "sha256:1",
    }  # fmt: skip
    return View(**{**given, **values})


def done(*views: View, plan: Plan | None = None) -> Materialized:
    plan = plan or Plan()
    return Materialized(project="p", registry="r", online="", plan=plan, views=list(views), digest="d")


def test_a_date_begins_in_utc_and_a_time_has_its_zone() -> None:
    start, end = times("range", "2013-01-01", "2013-02-01T12:00:00+02:00", print)
    assert start == datetime(2013, 1, 1, tzinfo=UTC)
    assert end == datetime(2013, 2, 1, 10, tzinfo=UTC)


def test_an_end_in_the_future_is_now_with_a_notice() -> None:
    said: list[str] = []
    future = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert times("incremental", "", future, said.append) == (None, None)
    assert "is in the future" in said[0]


@pytest.mark.parametrize(
    ("mode", "start", "end", "message"),
    [
        ("range", "2013-02-01", "2013-01-01", "`start` 2013-02-01 is after `end` 2013-01-01"),
        ("range", "2999-01-01", "", "is after `end` now"),
        ("range", "", "2013-01-01", "`mode: range` needs a `start`"),
        ("incremental", "2013-01-01", "", "`start` does not go with `mode: incremental`"),
        ("incremental", "", "2013-06-01T12:00:00", "`end` '2013-06-01T12:00:00' has no time zone"),
        ("range", "2013-06-01 12", "", "`start` '2013-06-01 12' has no time zone"),
        ("incremental", "", "June", "`end` 'June' is not a time"),
    ],
)
def test_times_that_cannot_be_meant_are_refused(mode: Any, start: str, end: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        times(mode, start, end, print)


def test_a_folder_without_configuration_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"No feature_store\.yaml in empty"):
        find_repository(tmp_path, Path("empty"))
    with pytest.raises(BadInput, match="The folder absent does not exist"):
        find_repository(tmp_path, Path("absent"))


@pytest.mark.parametrize("changed", ["features/definitions.py", "features/feature_store.yaml", "build.py"])
def test_what_decides_the_result_is_in_the_key(request_: MaterializeRequest, changed: str) -> None:
    before = key_parts(request_)
    assert key_parts(request_) == before
    (request_.root / changed).write_text("# changed\n")
    assert key_parts(request_) != before


def test_what_python_leaves_behind_is_not_in_the_key(request_: MaterializeRequest) -> None:
    before = key_parts(request_)
    (request_.folder / "__pycache__").mkdir()
    (request_.folder / "__pycache__" / "definitions.py").write_text("")
    (request_.folder / "online.db").write_bytes(b"rows")
    assert key_parts(request_) == before


def test_headline_says_what_was_done() -> None:
    assert (
        done(view(), view(rows=2000)).headline("incremental")
        == "2 feature views, 2,003 rows written, 6 read back equal"
    )
    assert done(view(rows=0)).headline("incremental") == "1 feature view, nothing new to write, 3 read back equal"
    assert done(plan=Plan(added=["entity a", "entity b"])).headline("plan-only") == "The plan: 2 added"
    assert done(plan=Plan(unchanged=["entity a"])).headline("plan-only") == "The plan: nothing changed"
    differing = view(differences=["weather:temp of origin=JFK: offline 1.0, online 2.0"])
    assert "differs from the source of weather" in done(differing).headline("range")


def test_a_destructive_plan_is_counted_and_its_refusal_says_why() -> None:
    plan = Plan(removed=["feature view a"], destructive=["feature view a: it is removed", "b"])
    assert done(plan=plan).headline("plan-only") == "The plan: 1 removed; 2 changes would be destructive"
    refused = done(plan=plan).model_copy(update={"refused": True})
    assert "destructive: feature view a: it is removed (and 1 more)" in refused.headline("incremental")


def test_the_stalest_view_is_named_when_it_is_older_than_it_may_be() -> None:
    now = datetime(2013, 6, 4, tzinfo=UTC)
    both = done(view(), view(name="old", watermark="2013-05-01T00:00:00Z"))
    assert both.stale(timedelta(days=40), now) == ""
    assert both.stale(timedelta(days=7), now) == "old is 34.0 days old, and `max-age` is 7.0 days"
    assert "never been materialized" in done(view(watermark="")).stale(timedelta(days=7), now)


@pytest.mark.parametrize(("text", "expected"), [("", None), ("36h", timedelta(hours=36)), ("2w", timedelta(days=14))])
def test_a_length_of_time_has_a_unit(text: str, expected: timedelta | None) -> None:
    assert length("chunk", text) == expected


@pytest.mark.parametrize("text", ["7", "d", "0d", "-1d", "soon"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a duration"):
        length("chunk", text)


def test_the_lock_is_of_the_registry_that_the_variables_name(request_: MaterializeRequest) -> None:
    file = request_.folder / "feature_store.yaml"
    file.write_text("project: p\nregistry: ${STORE}/registry.db\n")
    here, there = (lock_path(request_.root, request_.folder, {"STORE": name}) for name in ("a", "b"))
    assert here.startswith("locks/features-") and here != there
    file.write_text("# moved\nregistry: ${STORE}/registry.db\nproject: p\nprovider: local\n")
    assert lock_path(request_.root, request_.folder, {"STORE": "a"}) == here
    file.write_text("project: [")
    assert lock_path(request_.root, request_.folder, {}) not in (here, there)


@pytest.mark.parametrize("shared", [True, False])
def test_projects_have_one_lock_where_they_share_a_registry(request_: MaterializeRequest, shared: bool) -> None:
    file, locks = request_.folder / "feature_store.yaml", set()
    for project in ("one", "two"):
        for form in ("registry: {}", "registry: {{registry_type: file, path: '{}'}}"):
            file.write_text(
                f"project: {project}\n{form.format('s3://b/registry.db' if shared else 'data/registry.db')}\n"
            )
            locks.add(lock_path(request_.root, request_.folder, {}))
    assert len(locks) == (1 if shared else 2)


def test_one_registry_has_one_lock_however_its_path_is_written(request_: MaterializeRequest, tmp_path: Path) -> None:
    file, locks = request_.folder / "feature_store.yaml", set()
    outside = tmp_path.parent / f"{tmp_path.name}-shared" / "registry.db"
    relative = os.path.relpath(outside, request_.folder)
    for project, path in (("one", outside.as_uri()), ("two", str(outside)), ("three", relative)):
        file.write_text(f"project: {project}\nregistry: {path}\n")
        locks.add(lock_path(request_.root, request_.folder, {}))
    assert len(locks) == 1


def test_a_registry_in_the_checkout_has_the_same_lock_wherever_the_checkout_is(request_: MaterializeRequest) -> None:
    locks = set()
    for place in ("here", "there"):
        folder = request_.root / place / "features"
        folder.mkdir(parents=True)
        (folder / "feature_store.yaml").write_text("project: p\nregistry: data/registry.db\n")
        locks.add(lock_path(folder.parent, folder, {}))
    assert len(locks) == 1


def test_progress_has_a_rate_and_an_estimate_and_a_line_now_and_then() -> None:
    seconds = iter([0.0, 1.0, 3.0, 12.0])
    console = Quiet()
    progress = MaterializeProgress(console, clock=lambda: next(seconds))  # type: ignore[arg-type]
    for rows in (100, 300, 500):
        progress.show("v", rows, 1000)
    assert console.said[0] == "v: 100 of 1,000 rows"
    assert console.said[1] == "v: 300 of 1,000 rows, 100 rows/s, 7.0 s to go"
    assert console.said[2] == console.said[3], "the third is said in the log too"


def test_section_shows_views_and_changes() -> None:
    result = done(
        view(), view(name="a|b", differences=["x: offline 1, online 2"]), plan=Plan(changed=["entity carrier"])
    )
    record = Record(
        action="materialize-features",
        started="",
        seconds=7.0,
        reason=result.headline("incremental"),
        outputs={"registry": "r"},
        details={**result.model_dump(mode="json"), "mode": "incremental"},
    )
    text = section(record)
    assert "| weather | 1 | 3 | 2013-06-01 00:00:00 | ✅ 3 equal |" in text
    assert "| a\\|b | 1 | 3 | 2013-06-01 00:00:00 | ❌ 1 differ |" in text
    assert "- x: offline 1, online 2" in text
    assert "| changed | entity carrier |" in text
    assert "<details open><summary>" in text


def test_section_says_what_is_destructive() -> None:
    plan = Plan(removed=["feature view a"], destructive=["feature view a: it is removed"])
    result = done(plan=plan).model_copy(update={"refused": True})
    details = {**result.model_dump(mode="json"), "mode": "incremental"}
    text = section(Record(action="materialize-features", started="", seconds=7.0, details=details, verdict="rejected"))
    assert "**Refused:** these changes take away what is served online, and need `allow-destructive`." in text
    assert "- feature view a: it is removed" in text
