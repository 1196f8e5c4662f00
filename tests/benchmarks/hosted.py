"""Both examples as on hosted runners, where no job finds what another left, beside a hand-written workflow.

`scripts/bench hosted` (about half an hour; `BENCH_EXAMPLES=minimal` for one example, `BENCH_ARMS` for some ways). act
runs the workflows on this machine. Each job gets caches of its own that are empty, as on a machine that is thrown away;
it shares nothing with others but the store and, where that is measured, GitHub's cache (act's cache server, and a
checkout of actions/cache that ACTIONS_CACHE names). The hand-written workflow does the same work in one job: `pip
install -r` and a script with the same libraries; it has no records, no reuse, no comparison with a champion, and no
report but a table.

Printed are, for each way, the seconds from the first line of the workflow's log to its last, those of each job, and the
minutes that GitHub would bill: each job's rounded up. What GitHub takes to find a machine is in none of them. Nothing
is deployed in either: on a hosted runner a local server ends with its job.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from act import Consumer, make_consumer, plain
from conftest import ROOT

CHECKOUT = re.compile(r"^( *)- uses: actions/checkout@.*$", re.MULTILINE)
MACHINE = """\
- name: a machine of its own
  shell: bash
  run: |
    machine=$(mktemp -d "$MACHINES/XXXXXX")
    for name in MLOPS_CACHE UV_CACHE_DIR PIP_CACHE_DIR; do echo "$name=$machine/$name" >> "$GITHUB_ENV"; done
"""
"""The first step of each job."""
CALLER = """\
on: push
permissions: {{}}
jobs:
  mlops:
    uses: mlops-actions/mlops-actions/.github/workflows/mlops.yml@v1
    permissions: {{contents: read}}
    with:
      {{pipeline: pipeline.py, model: {model}, store: "${{{{ vars.MLOPS_STORE }}}}", deploy: never, reuse: false{more}}}
"""
BY_HAND = """\
on: push
jobs:
  chain:
    runs-on: ubuntu-latest
    env: {{STORE: {store}, MLOPS_STORE: {store}, MLOPS_HOME: {home}}}
    steps:
      - uses: actions/checkout@v6
      - run: |
          python3 -m venv .venv
          .venv/bin/pip install --quiet {requirements}
      - run: .venv/bin/python by_hand.py
"""
PACKAGES = {
    "minimal": "scikit-learn==1.7.2 pandas==2.3.3 pyarrow==21.0.0",
    "flight-delays": "-r requirements.txt -r features/requirements.txt feast==0.67.0 ibis-framework[duckdb]==12.0.0"
    " duckdb==2.0.0 kfp==2.17.0 optuna pandera polars",
}
MODELS = {"minimal": "breast-cancer", "flight-delays": "flight-delays"}


@dataclass
class Took:
    """Seconds of a run of a workflow, and of each of its jobs."""

    seconds: float = 0.0
    jobs: dict[str, float] = field(default_factory=dict)

    @property
    def billed(self) -> int:
        """Minutes."""
        return sum(math.ceil(seconds / 60) for seconds in self.jobs.values())


def main() -> None:
    """Measure, and print a table."""
    examples = os.environ.get("BENCH_EXAMPLES", " ".join(MODELS)).split()
    cache = os.environ.get("ACTIONS_CACHE")
    ways = ["by hand", "many, cold", "one, cold"] + (["many, restored", "one, restored"] if cache else [])
    ways = [way for way in ways if way in os.environ.get("BENCH_ARMS", ";".join(ways)).split(";")]
    print(f"{'example':15}{'way':18}{'seconds':>9}{'jobs':>6}{'billed min':>12}  seconds of each job")
    for example in examples:
        with tempfile.TemporaryDirectory(prefix="hosted-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            consumer = make_consumer(folder, example)
            each_job_has_a_machine(consumer.actions)
            (folder / "machines").mkdir()
            os.environ["MACHINES"] = str(folder / "machines")
            data = folder / "raw"
            if example == "flight-delays":
                uv = shutil.which("uv") or sys.exit("no uv")
                ingest = ROOT / "examples" / example / "ingest.py"
                own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
                ingesting = [uv, "run", "--quiet", ingest, data, "--months", "1-7"]
                subprocess.run(ingesting, check=True, stdout=sys.stderr, env=own)
            for way in ways:
                if "restored" in way:
                    caching = replace(consumer, cache=Path(str(cache)))
                    run(caching, example, way, data)  # keeps what the next one restores
                    took = run(caching, example, way, data)
                else:
                    took = run(consumer, example, way, data)
                jobs = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.jobs.items())
                print(f"{example:15}{way:18}{took.seconds:9.0f}{len(took.jobs):6}{took.billed:12}  {jobs}", flush=True)


def each_job_has_a_machine(actions: Path) -> None:
    """Give each job of the workflows caches of its own."""
    for workflow in (actions / ".github" / "workflows").glob("*.yml"):
        workflow.write_text(CHECKOUT.sub(lambda found: indented(MACHINE, found[1]) + found[0], workflow.read_text()))


def indented(text: str, by: str) -> str:
    """The lines of a text, further right."""
    return "".join(f"{by}{line}\n" for line in text.splitlines())


def run(consumer: Consumer, example: str, way: str, data: Path) -> Took:
    """One run of the chain in an empty store."""
    with tempfile.TemporaryDirectory(dir=consumer.folder.parent, ignore_cleanup_errors=True) as name:
        store, home = Path(name, "store"), Path(name, "home")
        if data.exists():
            shutil.copytree(data, store)
        if way == "by hand":
            text = BY_HAND.format(store=store, home=home, requirements=PACKAGES[example])
            text = CHECKOUT.sub(lambda found: indented(MACHINE, found[1]) + found[0], text)
            shutil.copy(Path(__file__).parent / "by_hand" / f"{example}.py", consumer.folder / "by_hand.py")
        else:
            jobs = f", jobs: {way.partition(',')[0]}"
            text = CALLER.format(model=MODELS[example], more="" if "many" in way else jobs)
        (consumer.folder / ".github" / "workflows").mkdir(parents=True, exist_ok=True)
        (consumer.folder / ".github" / "workflows" / "mlops.yml").write_text(text)
        consumer.commit()
        return timed(replace(consumer, store=store, home=home))


def timed(consumer: Consumer) -> Took:
    """Run act, and look at the clock when a line of a job comes."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    lines, ended = list[str](), set[str]()
    for line in lines_of(consumer):
        lines.append(line)
        now = time.monotonic()
        if found := re.match(r"\[(?:[^\]]*/)?([^/\]]+?) *\]", line):
            first.setdefault(found[1], now)
            last[found[1]] = now
        if found and "Job succeeded" in line:
            ended.add(found[1])
    if any("Job failed" in line for line in lines) or not ended:
        sys.exit("".join(lines[-150:]))
    jobs = {name: last[name] - first[name] for name in first if name in ended}
    return Took(max(last.values()) - min(first.values()), jobs)


def lines_of(consumer: Consumer) -> Iterator[str]:
    """What act prints."""
    command = consumer.command("push")
    with contextlib.ExitStack() as stack:
        environ = {name: value for name, value in consumer.environ().items() if name != "PYTHONPATH"}
        process = subprocess.Popen(
            command, cwd=consumer.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        stack.callback(process.wait)
        assert process.stdout
        for line in process.stdout:
            yield plain(line)


if __name__ == "__main__":
    main()
