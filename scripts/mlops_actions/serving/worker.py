"""Becomes MLServer, in the serving environment: `worker.py FOLDER`. The standard library and MLServer only.

Before anything else it writes down which process it is, so that whoever started it may be killed at any time and the
next one still finds it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def start_time(pid: int) -> str:
    """When a process was started, in the words of its system; "" if there is none. With the pid it names a process."""
    try:  # Linux: field 22 of stat, in clock ticks since boot; the name in field 2 may hold spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    import subprocess

    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def main() -> None:
    """Write process.json, then serve the folder."""
    folder = Path(sys.argv[1])
    part = folder / f"process.json.{os.getpid()}"
    part.write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
    part.replace(folder / "process.json")

    # By this entry MLServer would find the modules beside this file by their bare names.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    from mlserver.cli.main import main as serve

    sys.argv = ["mlserver", "start", str(folder)]
    serve()


if __name__ == "__main__":
    main()
