"""validate-data's checks against pandas and pandera, both reading the same files and finding the same.

`python tests/benchmarks/validation.py [rows] [rounds]` prints the seconds of both from opening the file to the last
failure and of the whole process from its start (so with imports), their ratios and their peak memory (VmHWM): for
Parquet and CSV that are sound, and for Parquet of which one row in a hundred and one in ten is bad. What bounds it is
printed first: the same files only read, by both libraries. Then the whole action's work, which is also a fingerprint, a
summary and the search for personal data; and ten times as many rows, of Parquet and of CSV (1 GB).
The sides take turns and medians are printed. Both must find the same failing rows, check by check, or it ends with 1.

Two counts cannot agree and are not compared: pandera gives the rows of a key that is there twice without the first
one, and gives a failing row of a check over several columns once a column.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
PEERS = ["pandas==3.1.1", "pandera[pandas]==0.35.0", "pyarrow==25.0.1"]
CARRIERS = ["AA", "B6", "DL", "UA", "WN"]
CONTRACT = """
strict: true
unique: [number, origin]
columns:
  id: {dtype: Int64, ge: 0, unique: true}
  number: {dtype: Int64, ge: 0}
  when: {dtype: "Datetime(time_unit='us', time_zone=None)", ge: 2024-01-01 00:00:00}
  carrier: {dtype: String}
  origin: {dtype: String, isin: [EWR, JFK, LGA]}
  tail: {dtype: String, str_matches: "^N[0-9]{3,5}$"}
  departure: {dtype: Int64, in_range: {min_value: 0, max_value: 1439}}
  arrival: {dtype: Int64, in_range: {min_value: 0, max_value: 3000}}
  delay: {dtype: Float64, nullable: true, in_range: {min_value: -500, max_value: 2000}}
  humid: {dtype: Float64, in_range: {min_value: 0, max_value: 100}}
  month: {dtype: Int64, in_range: {min_value: 1, max_value: 12}}
  late: {dtype: Boolean}
table:
  checks:
    arrives-later: "departure <= arrival"
    late-is-late: "delay < 500 OR late"
  foreign-keys: [{columns: carrier, table: airlines.csv}]
"""


def make(folder: Path, rows: int) -> None:
    """The data, sound and with one bad row in a hundred."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    chunk = min(rows, 1_000_000)
    for part, start in enumerate(range(0, rows, chunk)):
        number = np.arange(start, start + chunk)
        departure = random.integers(0, 1440, chunk)
        frame = pl.DataFrame(
            {
                "id": number,
                "number": number // 3,
                "when": np.datetime64("2024-01-01", "us") + number.astype("timedelta64[s]"),
                "carrier": random.choice(CARRIERS, chunk),
                "origin": np.array(["EWR", "JFK", "LGA"])[number % 3],
                "tail": np.char.add("N", random.integers(100, 99999, chunk).astype(str)),
                "departure": departure,
                "arrival": departure + random.integers(30, 700, chunk),
                "delay": pl.Series(random.normal(8, 40, chunk)).set(pl.Series(random.random(chunk) < 0.02), None),
                "humid": random.uniform(0, 100, chunk),
                "month": random.integers(1, 13, chunk),
                "late": random.random(chunk) < 0.2,
            }
        )
        (folder / "sound").mkdir(exist_ok=True)
        frame.write_parquet(folder / "sound" / f"{part:02}.parquet")
        if rows == chunk:
            frame.write_csv(folder / "sound.csv")
            spoilt = {"carrier": "ZZ", "tail": "X", "humid": 101.0, "month": 13, "arrival": -1}
            for name, every in (("bad", 100), ("worse", 10)):
                bad = pl.col("id") % every == 7
                (folder / name).mkdir(exist_ok=True)
                frame.with_columns(
                    pl.when(bad).then(pl.lit(value, frame.schema[column])).otherwise(pl.col(column)).alias(column)
                    for column, value in spoilt.items()
                ).write_parquet(folder / name / "00.parquet")
    (folder / "airlines.csv").write_text("carrier\n" + "\n".join(CARRIERS) + "\n")
    (folder / "contract.yaml").write_text(CONTRACT)


def sources(data: Path) -> list[Any]:
    """The files of a table."""
    from mlops_actions.data.sources import DataSource

    files = [data] if data.is_file() else sorted(data.iterdir())
    return [DataSource(file.name, file) for file in files]


def ours(folder: Path, data: Path) -> dict[str, int]:
    """Failing rows by check, found by the checks of validate-data alone."""
    from mlops_actions.data.contract import read_contract
    from mlops_actions.data.sources import DataSource
    from mlops_actions.data.validate import check

    contract = read_contract(folder / "contract.yaml", "contract.yaml")
    tables = {"airlines.csv": [DataSource("airlines.csv", folder / "airlines.csv")]}
    found = check(sources(data), contract, tables)
    return _counts(found)


def action(folder: Path, data: Path) -> dict[str, int]:
    """The same by the whole of validate-data."""
    from datetime import datetime, timezone

    from mlops_actions.data.contract import read_contract
    from mlops_actions.data.sources import DataSource
    from mlops_actions.data.validate import ValidationRequest, validate

    contract = read_contract(folder / "contract.yaml", "contract.yaml")
    tables = {"airlines.csv": [DataSource("airlines.csv", folder / "airlines.csv")]}
    found = validate(ValidationRequest(sources(data), contract, datetime.now(timezone.utc), tables=tables))
    return _counts(found.checks)


def _counts(found: list[Any]) -> dict[str, int]:
    """Failing rows by column and check, by pandera's names without arguments."""
    names = {"in": "isin"}  # what pandera knows as a list of values is another table here
    failed = [(one.column, one.name.split("(")[0], one.failed) for one in found if one.failed]
    return {f"{column} {names.get(name, name)}".strip(): count for column, name, count in failed}


def read(folder: Path, data: Path) -> dict[str, int]:
    """The table in memory, by polars: what any check of all columns takes."""
    import polars as pl

    pl.read_csv(data, try_parse_dates=True) if data.is_file() else pl.read_parquet(data)
    return {}


def pandas(folder: Path, data: Path) -> dict[str, int]:
    """The same by pandas."""
    import pandas as pd

    pd.read_csv(data, parse_dates=["when"], engine="pyarrow") if data.is_file() else pd.read_parquet(data)
    return {}


def pandera(folder: Path, data: Path) -> dict[str, int]:
    """The same by pandas and pandera, as its documentation has it."""
    import pandas as pd
    import pandera.pandas as pa

    csv = data.is_file()
    frame = pd.read_csv(data, parse_dates=["when"], engine="pyarrow") if csv else pd.read_parquet(data)
    airlines = pd.read_csv(folder / "airlines.csv")["carrier"]
    C, K = pa.Column, pa.Check
    schema = pa.DataFrameSchema(
        {
            "id": C("int64", K.ge(0), unique=True),
            "number": C("int64", K.ge(0)),
            "when": C(None, K.ge(pd.Timestamp("2024-01-01"))),
            "carrier": C(str, K.isin(list(airlines))),
            "origin": C(str, K.isin(["EWR", "JFK", "LGA"])),
            "tail": C(str, K.str_matches("^N[0-9]{3,5}$")),
            "departure": C("int64", K.in_range(0, 1439)),
            "arrival": C("int64", K.in_range(0, 3000)),
            "delay": C("float64", K.in_range(-500, 2000), nullable=True),
            "humid": C("float64", K.in_range(0, 100)),
            "month": C("int64", K.in_range(1, 12)),
            "late": C("bool"),
        },
        checks=[
            K(lambda f: f["departure"] <= f["arrival"], name="arrives-later"),
            K(lambda f: f["delay"].isna() | (f["delay"] < 500) | f["late"], name="late-is-late"),
        ],
        strict=True,
        unique=["number", "origin"],
    )
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        cases["column"] = cases["column"].where(cases["schema_context"] == "Column", "")
        groups = cases.groupby(["column", cases["check"].str.split("(").str[0]])["index"]
        return {f"{column} {check}".strip(): count for (column, check), count in groups.nunique().items()}
    return {}


SIDES = {"ours": ours, "action": action, "read": read, "pandera": pandera, "pandas": pandas}
PEER = ("pandera", "pandas")


def child(side: str, folder: Path, data: Path) -> None:
    """Run one side once, and print what it took: imports are not counted, the file's reading is."""
    if side == "pandas":
        import pandas
    elif side == "pandera":
        import pandas  # noqa: F401
        import pandera.pandas  # noqa: F401
    elif side == "read":
        import polars  # noqa: F401
    else:
        import mlops_actions.data.validate  # noqa: F401
    began, worked = time.perf_counter(), time.process_time()
    found = SIDES[side](folder, data)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu": worked, "peak": peak / 1024, "found": found}))


def measure(peer: Path, side: str, folder: Path, data: str) -> dict[str, Any]:
    """One run in a process of its own; `process` is the seconds from its start to its end."""
    command = [
        str(peer if side in PEER else sys.executable),
        __file__,
        "--child",
        side,
        str(folder),
        str(folder / data),
    ]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"process": time.perf_counter() - began}


def compare(peer: Path, folder: Path, data: str, rounds: int, sides: tuple[str, str] = ("ours", "pandera")) -> None:
    """Print both sides' medians.

    Raises:
        SystemExit: they do not find the same.
    """
    taken: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken[side].append(measure(peer, side, folder, data))
    found = [taken[side][0]["found"] for side in sides]
    if found[0] != found[1]:
        raise SystemExit(f"{data}: {sides[0]} finds {found[0]}, {sides[1]} {found[1]}")
    median = {
        side: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "process", "peak")}
        for side, runs in taken.items()
    }
    texts = [
        f"{side} {own['seconds']:.3f} s ({own['cpu']:.2f} of CPU; process {own['process']:.2f} s;"
        f" {own['peak']:,.0f} MiB)"
        for side, own in median.items()
    ]
    one, other = (median[side] for side in sides)
    ratios = ", ".join(f"{what} {other[key] / one[key]:.1f}" for what, key in
                       (("ratio", "seconds"), ("of CPU", "cpu"), ("of the process", "process")))  # fmt: skip
    print(f"{data:<10} {'; '.join(texts)}: {ratios}. Failing: {found[0] or 'none'}", flush=True)


def main() -> None:
    """Prepare, take turns, print."""
    import polars as pl

    from mlops_actions import environments

    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    peer = environments.ensure("", environments.cache_folder(), packages=PEERS, say=print).python
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, rows)
        print(f"{rows:,} rows of 12 columns, {os.cpu_count()} cores, medians of {rounds}")
        for data in ("sound", "sound.csv"):
            compare(peer, folder, data, rounds, ("read", "pandas"))
        for data in ("sound", "sound.csv", "bad", "worse"):
            compare(peer, folder, data, rounds)
        for data in ("sound", "bad"):
            compare(peer, folder, data, rounds, ("action", "pandera"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, 10 * rows)
        print(f"{10 * rows:,} rows")
        pl.scan_parquet(folder / "sound").sink_csv(folder / "sound.csv")
        for data in ("sound", "sound.csv"):
            compare(peer, folder, data, 1, ("action", "pandera"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
