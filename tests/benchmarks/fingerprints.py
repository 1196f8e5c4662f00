"""Throughput of a table's fingerprints, beside what bounds them.

`python tests/benchmarks/fingerprints.py [rows]` prints gigabytes a second (of the columns' bytes as they are hashed) of
the fingerprint in the rows' order and of the one in any order, of rows that are in memory; and of SHA-256 alone on this
processor, in one thread and in as many as there are, and of reading as many bytes of a file. For the fingerprint in any
order also what Python's hashlib takes for as many small values, which is its bound. Medians of five.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
from validation import make, sources

from mlops_actions.data.fingerprint import Fingerprint, UnorderedFingerprint
from mlops_actions.data.tables import Batch, open_table

ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """The median of how long it takes."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def fingerprint(kind: type[Fingerprint | UnorderedFingerprint], batches: list[Batch]) -> str:
    """The fingerprint of rows in memory."""
    taken = kind(batches[0].frame.schema)
    for batch in batches:
        taken.update(batch)
    return taken.value()


def small(data: bytes, width: int) -> None:
    """SHA-256 of each piece of a width, as fast as Python's hashlib does it."""
    fresh = hashlib.sha256().copy
    for start in range(0, len(data), width):
        one = fresh()
        one.update(data[start : start + width])
        one.digest()


def main() -> None:
    """Prepare, measure, print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, rows)
        batches = list(open_table(sources(folder / "sound")).batches())
        texts = sum(batch.frame.get_column(c).str.len_bytes().sum() + 8 * batch.frame.height
                    for batch in batches for c, kind in batch.frame.schema.items() if kind == pl.String)  # fmt: skip
        # eight columns of 8 bytes, one of 1, and a byte of validity of each of the twelve
        size = rows * (8 * 8 + 1 + 12) + texts
        data = os.urandom(size)
        file = folder / "bytes"
        file.write_bytes(data)
        cores = os.cpu_count() or 1
        part = -(-size // cores)
        pieces = [memoryview(data)[start : start + part] for start in range(0, size, part)]

        def threads() -> None:
            with ThreadPoolExecutor(cores) as pool:
                list(pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces))

        def read() -> None:
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while opened.read(1 << 22):
                    pass

        os.sync()
        for what, work in (
            ("fingerprint", lambda: fingerprint(Fingerprint, batches)),
            ("fingerprint in any order", lambda: fingerprint(UnorderedFingerprint, batches)),
            ("SHA-256, one thread", lambda: hashlib.sha256(data).digest()),
            (f"SHA-256, {cores} threads", threads),
            (f"SHA-256 of {rows:,} values", lambda: small(data, size // rows)),
            ("reading from the disk", read),
        ):
            taken = seconds(work)
            print(f"{what:<28} {taken:.3f} s, {size / taken / 1e9:.2f} GB/s", flush=True)


if __name__ == "__main__":
    main()
