"""validate-data's checks against pandas and pandera, both reading the same files and finding the same.

`python tests/benchmarks/validation.py [rows] [rounds]` prints the seconds of both from opening the file to the last
failure, their ratio and their peak memory (the whole process's VmHWM): for Parquet and CSV that are sound, and for
Parquet of which one row in a hundred is bad. Then the whole action's work, which is also a fingerprint, a summary and
the search for personal data, on these rows and on ten times as many. The sides take turns and medians are printed.
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
        for name in ("sound", "bad"):
            (folder / name).mkdir(exist_ok=True)
        frame.write_parquet(folder / "sound" / f"{part:02}.parquet")
        if rows == chunk:
            frame.write_csv(folder / "sound.csv")
            bad = pl.col("id") % 100 == 7
            spoilt = {"carrier": "ZZ", "tail": "X", "humid": 101.0, "month": 13, "arrival": -1}
            frame.with_columns(
                pl.when(bad).then(pl.lit(value, frame.schema[name])).otherwise(pl.col(name)).alias(name)
                for name, value in spoilt.items()
            ).write_parquet(folder / "bad" / "00.parquet")
    (folder / "airlines.csv").write_text("carrier\n" + "\n".join(CARRIERS) + "\n")
    (folder / "contract.yaml").write_text(CONTRACT)


def sources(data: Path) -> list[Any]:
    """The files of a table."""
    from mlops_actions.data.sources import Source

    files = [data] if data.is_file() else sorted(data.iterdir())
    return [Source(file.name, file) for file in files]


def ours(folder: Path, data: Path) -> dict[str, int]:
    """Failing rows by check, found by the checks of validate-data alone."""
    from mlops_actions.data.contract import read_contract
    from mlops_actions.data.sources import Source
    from mlops_actions.data.validate import check

    contract = read_contract(folder / "contract.yaml", "contract.yaml")
    tables = {"airlines.csv": [Source("airlines.csv", folder / "airlines.csv")]}
    found = check(sources(data), contract, tables)
    return {f"{one.column} {one.name}": one.failed for one in found if one.failed}


def action(folder: Path, data: Path) -> dict[str, int]:
    """The same by the whole of validate-data."""
    from datetime import datetime, timezone

    from mlops_actions.data.contract import read_contract
    from mlops_actions.data.sources import Source
    from mlops_actions.data.validate import Request, validate

    contract = read_contract(folder / "contract.yaml", "contract.yaml")
    tables = {"airlines.csv": [Source("airlines.csv", folder / "airlines.csv")]}
    found = validate(Request(sources(data), contract, datetime.now(timezone.utc), tables=tables))
    return {f"{one.column} {one.name}": one.failed for one in found.failed}


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
        return {f"{column} {check}": len(rows) for (column, check), rows in cases.groupby(["column", "check"])}
    return {}


SIDES = {"ours": ours, "action": action, "pandera": pandera}


def child(side: str, folder: Path, data: Path) -> None:
    """Run one side once, and print what it took: imports are not counted, the file's reading is."""
    if side == "pandera":
        import pandas  # noqa: F401
        import pandera.pandas  # noqa: F401
    else:
        import mlops_actions.data.validate  # noqa: F401
    began, worked = time.perf_counter(), time.process_time()
    found = SIDES[side](folder, data)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu": worked, "peak": peak / 1024, "failures": len(found)}))


def measure(python: Path | str, side: str, folder: Path, data: str) -> dict[str, float]:
    """One run in a process of its own."""
    command = [str(python), __file__, "--child", side, str(folder), str(folder / data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(peer: Path, folder: Path, data: str, rounds: int, side: str = "ours") -> None:
    """Print both sides' medians."""
    taken: dict[str, list[dict[str, float]]] = {side: [], "pandera": []}
    for _ in range(rounds):
        for name, python in ((side, sys.executable), ("pandera", peer)):
            taken[name].append(measure(python, name, folder, data))
    median = {name: statistics.median(run["seconds"] for run in runs) for name, runs in taken.items()}
    cpu = {name: statistics.median(run["cpu"] for run in runs) for name, runs in taken.items()}
    peak = {name: max(run["peak"] for run in runs) for name, runs in taken.items()}
    what = {"ours": "checks", "action": "checks, fingerprint, summary, personal data"}[side]
    print(
        f"{data:<10} {what}: {median[side]:.3f} s ({cpu[side]:.2f} of CPU), {peak[side]:,.0f} MiB; "
        f"pandas + pandera, checks: {median['pandera']:.3f} s ({cpu['pandera']:.2f}), {peak['pandera']:,.0f} MiB; "
        f"ratio {median['pandera'] / median[side]:.1f}, of CPU {cpu['pandera'] / cpu[side]:.1f}"
        f" (failing checks found: {taken[side][0]['failures']}, {taken['pandera'][0]['failures']})",
        flush=True,
    )


def main() -> None:
    """Prepare, take turns, print."""
    from mlops_actions import environments

    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    peer = environments.ensure("", environments.cache_folder(), packages=PEERS, say=print).python
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, rows)
        print(f"{rows:,} rows of 12 columns, {os.cpu_count()} cores, medians of {rounds}")
        for data in ("sound", "sound.csv", "bad"):
            compare(peer, folder, data, rounds)
        compare(peer, folder, "sound", rounds, "action")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, 10 * rows)
        found = measure(sys.executable, "action", folder, "sound")
        print(f"{10 * rows:,} rows, the whole action: {found['seconds']:.1f} s, peak {found['peak']:,.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
