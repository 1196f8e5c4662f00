"""Look up the packages of all locks in a database of vulnerabilities (OSV), and fail on one that is known.

An exception is a line of scripts/audit.yaml, with a reason and a last day: from then on it fails again. A package that
could not be looked up is a failure too: what was not audited is not safe.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

SCRIPTS = Path(__file__).resolve().parent


class NotAudited(Exception):
    """Packages could not be looked up, or an exception cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Known:
    """A vulnerability of a package of a lock: its id and other names, and the versions that do not have it."""

    lock: str
    package: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        mend = f"fixed in {', '.join(self.fixed)}" if self.fixed else "not fixed yet"
        return f"{self.lock}: {self.package}: {', '.join(self.names)}; {mend}"


def audit(lock: Path, url: str) -> Iterator[Known]:
    """The known vulnerabilities of a lock's packages.

    Raises:
        NotAudited: a package could not be looked up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # A lock for all systems has packages twice: each version is one to look up, and its mark is of no matter.
        pins = sorted(set(re.findall(r"^([A-Za-z0-9._-]+==[^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)))
        for number, batch in enumerate(_apart(pins)):
            asked = Path(scratch) / f"{number}.txt"
            asked.write_text("\n".join(batch), encoding="utf-8")
            command = [sys.executable, "-m", "pip_audit", "--requirement", str(asked), "--no-deps", "--disable-pip",
                       "--vulnerability-service", "osv", "--osv-url", url, "--format", "json",
                       "--progress-spinner", "off"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                found = json.loads(done.stdout)["dependencies"]
            except (ValueError, KeyError):
                lines = done.stderr.strip().splitlines()
                raise NotAudited(f"{lock.stem}: {lines[-1] if lines else 'pip-audit printed nothing'}") from None
            for one in found:
                if "skip_reason" in one:
                    raise NotAudited(f"{lock.stem}: {one['name']}: {one['skip_reason']}")
                for vulnerability in one["vulns"]:
                    names = (vulnerability["id"], *vulnerability.get("aliases", ()))
                    fixed = tuple(vulnerability.get("fix_versions", ()))
                    yield Known(lock.stem, f"{one['name']} {one['version']}", names, fixed)


def _apart(pins: Sequence[str]) -> list[list[str]]:
    """Lists in which no package stands twice."""
    lists: list[dict[str, str]] = [{}]
    for pin in pins:
        name = pin.partition("==")[0]
        place = next((one for one in lists if name not in one), None)
        if place is None:
            lists.append(place := {})
        place[name] = pin
    return [list(one.values()) for one in lists]


def exceptions(path: Path, today: datetime.date) -> dict[str, str]:
    """What is let pass today, and why; one that is over is told and does not count.

    Raises:
        NotAudited: the file has another form.
    """
    kept = {}
    for place, one in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")) or [], 1):
        if not isinstance(one, dict) or set(one) != {"id", "until", "reason"} or not one["reason"]:
            raise NotAudited(f"{path.name}: exception {place} must have `id`, `until` and `reason`")
        if not isinstance(one["until"], datetime.date):
            raise NotAudited(f"{path.name}: exception {place}: `until` must be a date such as 2027-01-31")
        if one["until"] < today:
            print(f"{one['id']}: the exception ended on {one['until']}", file=sys.stderr)
        else:
            kept[one["id"]] = f"{one['reason']} (until {one['until']})"
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. 0 nothing is known, 1 something is, 3 it could not be looked up."""
    parser = argparse.ArgumentParser(
        prog="scripts/audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("locks", nargs="*", help="names such as `core`; all by default")
    parser.add_argument("--osv-url", default="https://api.osv.dev/v1/query", help="default: %(default)s")
    parser.add_argument("--exceptions", type=Path, default=SCRIPTS / "audit.yaml", help="default: %(default)s")
    given = parser.parse_args(arguments)
    locks = sorted(path for path in (SCRIPTS / "locks").glob("*.txt") if path.name != "commands.txt")
    failed = 0
    try:
        passed = exceptions(given.exceptions, datetime.datetime.now(datetime.timezone.utc).date())
        for lock in locks:
            if given.locks and lock.stem not in given.locks:
                continue
            for known in audit(lock, given.osv_url):
                why = next((passed[name] for name in known.names if name in passed), "")
                print(f"{known}{f'; let pass: {why}' if why else ''}")
                failed += not why
            print(f"{lock.stem}: looked up")
    except NotAudited as error:
        print(f"scripts/audit: not audited: {error}", file=sys.stderr)
        return 3
    print(f"{failed} known vulnerabilities that no exception lets pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
