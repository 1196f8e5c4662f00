"""Schedules: what a cron means to Kubeflow Pipelines, what is refused before anything is sent, and where one starts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import pytest

import kfp_recorded
from mlops_actions.errors import BadInput, Place
from mlops_actions.pipelines.kfp.client.api import KfpApi
from mlops_actions.pipelines.kfp.schedules.cron import six_fields
from mlops_actions.pipelines.kfp.schedules.recurring import Schedule, Target, _start, checked, plan
from mlops_actions.pipelines.spec import Parameter

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=timezone.utc)
DAY = timedelta(days=1)
TARGET = Target("owner/name", "training", "p", "v1", "v", "e", {"rows": Parameter("rows", "NUMBER_INTEGER", False, 3)})


@pytest.mark.parametrize(
    ("text", "six"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        (" */15  0-6,22 * * MON-FRI ", "0 */15 0-6,22 * * MON-FRI"),
        ("30 0 3 1 jan ?", "30 0 3 1 jan ?"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 31 2 1", "0 0 0 31 2 1"),  # the 31st or a Monday
        ("@Daily", "@daily"),
    ],
)
def test_a_cron_of_github_s_kind_is_one_of_kfp_s(text: str, six: str) -> None:
    assert six_fields(text) == six


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 3 * *", "4 fields"),
        ("@every 5m", "2 fields"),
        ("0 24 * * *", "the hour '24' is not within 0-23"),
        ("0 3 * * 7", "the day of the week '7' is not within 0-6"),
        ("*/0 3 * * *", r"the minute '\*/0'"),
        ("5-1 3 * * *", "the minute '5-1'"),
        ("0 3 * foo *", "the month 'foo' is not a number"),
        ("0 3 L * *", "the day of the month 'L'"),
        ("0 3 1, * *", "the day of the month ''"),
        ("0 3 30 feb *", "none of its months has such a day"),
        ("0 3 31 4,6 ?", "none of its months has such a day"),
    ],
)
def test_a_cron_that_cannot_be_says_where(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        six_fields(text)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule("a b", cron="@daily"), "its name"),
        (Schedule("x"), "it has no time"),
        (Schedule("x", cron="@daily", every=60), "both a cron and an interval"),
        (Schedule("x", every=-5), "negative"),
        (Schedule("x", cron="61 * * * *"), "the minute '61'"),
        (Schedule("x", cron="@daily", start=NOW + 2 * DAY, end=NOW + DAY), "ends before it starts"),
        (Schedule("x", cron="@daily", end=NOW - DAY), "its end is past"),
        (Schedule("x", cron="@daily", end=datetime(2027, 1, 1)), "no time zone"),
        (Schedule("x", cron="@daily", concurrency=11), "11 runs at a time"),
        (Schedule("x", cron="@daily", parameters={"row": 1}), "no parameter 'row'"),
        (Schedule("x", cron="@daily", parameters={"rows": "many"}), "must be an integer"),
    ],
)
def test_a_schedule_that_cannot_be_is_bad_input_with_its_place(schedule: Schedule, words: str) -> None:
    place = Place("mlops.yaml", 7)
    with pytest.raises(BadInput, match=words) as caught:
        checked([replace(schedule, place=place)], TARGET, now=NOW)
    assert caught.value.place == place and caught.value.fix


def test_a_name_stands_once() -> None:
    with pytest.raises(BadInput, match="appears twice"):
        checked([Schedule("x", cron="@daily"), Schedule("x", every=60)], TARGET, now=NOW)


def test_parameters_get_their_types_and_defaults() -> None:
    given, default = checked(
        [Schedule("a", every=60, parameters={"rows": "5"}), Schedule("b", every=60)], TARGET, now=NOW
    )
    assert given.parameters == {"rows": 5} and default.parameters == {"rows": 3}


def earlier(created: datetime, start: datetime | None = None) -> dict[str, Any]:
    periodic = {"interval_second": "86400", **({"start_time": start.isoformat()} if start else {})}
    return {"created_at": created.strftime("%Y-%m-%dT%H:%M:%S.123456789Z"), "trigger": {"periodic_schedule": periodic}}


def test_an_interval_goes_on_where_the_one_before_was() -> None:
    made = NOW - timedelta(days=2, hours=5)
    daily = Schedule("x", every=86400)
    first = _start(daily, earlier(made), NOW)
    assert first == NOW - timedelta(hours=5)  # so that the next run comes in 19 hours, as it would have
    second = _start(daily, earlier(NOW, first), NOW + timedelta(hours=20))
    assert second == NOW + timedelta(hours=19)


@pytest.mark.parametrize("catch_up", [False, True])
def test_a_replacement_does_not_make_up_for_what_its_predecessor_did(catch_up: bool) -> None:
    past = NOW - 10 * DAY
    cron = Schedule("x", cron="@daily", start=past, catch_up=catch_up)
    assert _start(cron, earlier(past), NOW) is None
    interval = Schedule("x", every=86400, start=past, catch_up=catch_up)
    assert _start(interval, earlier(past), NOW + timedelta(hours=1)) == NOW


def test_a_new_schedule_makes_up_for_the_past_only_when_asked_to() -> None:
    past = NOW - 10 * DAY
    for times in ({"cron": "@daily"}, {"every": 86400}):
        assert _start(Schedule("x", start=past, catch_up=True, **times), None, NOW) == past
        assert _start(Schedule("x", start=past, **times), None, NOW) in (None, NOW)
        assert _start(Schedule("x", start=NOW + DAY, **times), None, NOW) == NOW + DAY
        assert _start(Schedule("x", **times), None, NOW) is None


def test_the_recurring_runs_of_a_real_server_are_read() -> None:
    items = json.loads("\n".join(kfp_recorded.lines("recurringruns.json")))["recurringRuns"]

    class Api:
        namespace = ""

        def pages(self, path: str, key: str, **query: object) -> Any:
            return iter(items)

    target = Target(".run-hello-sched/hello", "hello", "", "465b12a47b19", "", "", {})
    changes = plan(cast(KfpApi, Api()), [], target, now=NOW)
    assert {change.schedule: change.action for change in changes} == {"each": "delete", "nightly": "delete"}
    wanted = [Schedule("nightly", cron="0 3 * * *", parameters={}), Schedule("each", every=60, parameters={})]
    for change in plan(cast(KfpApi, Api()), wanted, target, now=NOW):
        assert not any(name in why for why in change.why for name in ("cron", "every", "concurrency", "catch-up"))
