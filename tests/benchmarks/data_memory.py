"""Peak memory of what validate-data and `data diff` do with ten million rows: each in a process of its own.

`python tests/benchmarks/data_memory.py [rows] [what …]` prints seconds and VmHWM of the whole process; the aim is less
than 1 GiB. The second table has another column, and another value in one row of a thousand.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
from validation import make, sources

from mlops_actions.data.contract import Contract, read_contract
from mlops_actions.data.diff import Side, diff
from mlops_actions.data.sources import DataSource
from mlops_actions.data.validate import ValidationRequest, validate

RULES = {
    "the contract of the benchmark": "",
    "drift from a reference": "",
    "fingerprint in any order": "",
    "a key of texts that is unique": "columns: {key: {unique: true}}",
    "a key that no row has alone": "columns: {number: {unique: true}}",
    "a foreign key": "table: {foreign-keys: [{columns: id, table: served.parquet}]}",
    "rows that are held out": "table: {training: {held-out: {data: served.parquet, columns: [id, carrier]}}}",
    "skew, all rows served": "table: {serving: {data: served.parquet, keys: [id]}}",
    "skew, few rows served": "table: {serving: {data: few.parquet, keys: [key]}}",
}
DIFFS: dict[str, list[str]] = {"diff": [], "diff by a number that rises": ["id"], "diff by texts in no order": ["key"]}


def prepare(folder: Path, rows: int) -> None:
    """Two tables, and what was served."""
    make(folder, rows)
    (folder / "other").mkdir()
    for file in sorted((folder / "sound").iterdir()):
        changed = pl.when(pl.col("id") % 1000 == 0).then(pl.col("delay") + 1).otherwise("delay")
        frame = pl.read_parquet(file).with_columns(delay=changed, key=pl.format("key-{}-abcdefgh", pl.col("id")))
        frame.write_parquet(folder / "other" / file.name)
    other = pl.scan_parquet(folder / "other")
    names = ["id", "carrier", "departure", "arrival", "delay", "humid", "month", "late"]
    other.select(names).sink_parquet(folder / "served.parquet")
    other.select("key", *names[1:]).gather_every(rows // 20).collect().write_parquet(folder / "few.parquet")


def work(folder: Path, what: str) -> None:
    """Do one of them."""
    if what in DIFFS:
        first = "other" if DIFFS[what] == ["key"] else "sound"
        sides = (Side(name, sources(folder / name), {}) for name in (first, "other"))
        diff(*sides, key=DIFFS[what])
        return
    path = folder / "contract.yaml"
    if text := RULES[what]:
        path = folder / f"{what}.yaml"
        path.write_text(text)
    names = ("airlines.csv", "served.parquet", "few.parquet")
    table = "other" if what in ("a key of texts that is unique", "skew, few rows served") else "sound"
    whole = what == "the contract of the benchmark"
    request = ValidationRequest(
        sources(folder / table),
        read_contract(path, "contract.yaml") if whole or text else Contract(),
        datetime.now(timezone.utc),
        reference=sources(folder / "other") if what == "drift from a reference" else (),
        any_order=what == "fingerprint in any order",
        tables={name: [DataSource(name, folder / name)] for name in names},
    )
    validate(request)


def child(run: Callable[[], None]) -> None:
    """Run it and print what it took."""
    began = time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    print(f"{seconds:.1f} s, peak {peak:,.0f} MiB{'' if peak < 1024 else ': OVER 1 GiB'}")


def main() -> None:
    """Prepare, and run each."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), rows)
        print(f"{rows:,} rows of 12 and 13 columns")
        for what in sys.argv[2:] or [*RULES, *DIFFS]:
            print(f"{what:<30}", end=" ", flush=True)
            subprocess.run([sys.executable, __file__, "--child", name, what], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(lambda: work(Path(sys.argv[2]), sys.argv[3]))
    else:
        main()
