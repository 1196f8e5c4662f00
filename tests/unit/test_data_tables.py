"""Tables in files: what text becomes when it is parsed."""

from __future__ import annotations

from itertools import product

import polars as pl
import pytest

from mlops_actions.data.tables import parse_times

TIMES = [
    "2013-01-01T05:00:00", "2013-01-01 05:00:00", "2013-01-01T05:00:00Z", "2013-01-01T05:00:00.5",
    "2013-01-01T05:00:00.123456", "2013-01-01T05:00:00.123456789", "2013-01-01T05:00:00.123456Z",
    "2013-01-01T05:00:60", "2013-02-30T00:00:00", "2013-01-01T24:00:00", "2013-1-1T5:0:0", "1969-12-31T23:59:59.25",
    "1969-12-31T23:59:59.123456789", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "2013-01-01", "x", "",
    "2013-01-01T05:00:00+02:00", "2013-01-01T05:00", "2013-01-01T05:00:00 ", "２013-01-01T05:00:00",
    "2013-01-01T05:00:00\n", None,
]  # fmt: skip


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_that_are_parsed_by_position_are_those_that_polars_parses(unit: pl.datatypes.TimeUnit, zone: str) -> None:
    kind = pl.Datetime(unit, zone)

    def read(texts: pl.Series, *, by_position: bool) -> pl.Series | type[Exception]:
        try:
            if by_position:
                return parse_times(texts, kind)
            return texts.str.to_datetime(time_unit=unit, time_zone=zone, strict=False)
        except pl.exceptions.PolarsError as error:
            return type(error)

    for one, other in product(TIMES, TIMES):
        texts = pl.Series([one, other, one], dtype=pl.String)
        expected, found = read(texts, by_position=False), read(texts, by_position=True)
        if isinstance(expected, pl.Series):
            assert isinstance(found, pl.Series) and found.dtype == expected.dtype, (one, other)
            assert found.equals(expected, null_equal=True), (one, other)
        else:
            assert found is expected, (one, other)


def test_a_column_of_times_of_one_layout_is_read_whole() -> None:
    moments = pl.Series([0, 1, None, 10**15 + 1]).cast(pl.Datetime("us"))
    for layout in ("%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%dT%H:%M:%S%.6fZ"):
        zone = "UTC" if layout.endswith("Z") else None
        read = parse_times(moments.dt.strftime(layout), pl.Datetime("us", zone))
        assert read.to_physical().to_list() == [0, 1, None, 10**15 + 1]
