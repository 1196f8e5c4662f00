"""Code that an action starts cannot read what the action itself was started with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no /proc")

SECRETS = {
    "GITHUB_TOKEN": "ghs-secret", "MLOPS_KFP_TOKEN": "kfp-secret", "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "DATABASE_URL": "postgres://u:db-secret@h/d",
}  # fmt: skip
PARENT = """
import json, os, subprocess, sys
from mlops_actions.processes.concealing import conceal_environ
from mlops_actions.processes.group import Group, guard
conceal_environ()
guard()
with Group([sys.executable, "-c", sys.argv[1]], None, {"PATH": os.environ["PATH"]}) as group:
    seen = json.loads("".join(group.lines()))
inherited = subprocess.run(["env"], capture_output=True, text=True).stdout
print(json.dumps({"seen": seen, "own": dict(os.environ), "inherited": inherited}))
"""
CHILD = """
import json, os
seen = {}
for pid in [os.getppid(), *(int(p) for p in os.listdir("/proc") if p.isdigit())]:
    try:
        parent = [l.split()[1] for l in open(f"/proc/{pid}/status") if l.startswith("PPid")][0]
        if pid == os.getppid() or parent == str(os.getppid()):
            seen[pid] = open(f"/proc/{pid}/environ", "rb").read().decode(errors="replace")
    except OSError as error:
        seen[pid] = str(error)
print(json.dumps(seen))
"""


@pytest.mark.parametrize("user", ["this one", "another than root"])
def test_child_reads_none_of_its_parents_variables(user: str) -> None:
    if user == "another than root" and os.geteuid() != 0:
        pytest.skip("this one is another than root")
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "scripts" / "mlops_actions", Path(folder) / "mlops_actions")
        prefix: list[str] = []
        if user == "another than root":
            prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
            Path(folder).chmod(0o755)
        environ = {**SECRETS, "PATH": os.environ["PATH"], "RUNNER_TRACKING_ID": "github_1", "PYTHONPATH": folder}
        command = [*prefix, python, "-c", PARENT, CHILD]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["seen"]) >= 2, "the parent and its guard"
    assert not any("secret" in text or name in text for text in found["seen"].values() for name in SECRETS)
    assert SECRETS.items() <= found["own"].items(), "it keeps them itself"
    assert all(value in found["inherited"] for value in SECRETS.values()), "and so do children that are to have them"


def test_runner_still_finds_what_a_job_has_left() -> None:
    program = (
        "from mlops_actions.processes.concealing import *; conceal_environ(); print(open('/proc/self/environ').read())"
    )
    environ = {"PATH": os.environ["PATH"], "RUNNER_TRACKING_ID": "github_1", "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[0] == "RUNNER_TRACKING_ID=github_1"
