"""What runs on this machine, as Linux tells it in /proc (proc(5))."""

from __future__ import annotations

from pathlib import Path


def command_lines() -> list[bytes]:
    """The words of every process, each ended by a NUL; none of one that ended while it was looked at."""
    return [line for process in Path("/proc").glob("[0-9]*") if (line := _command_line(process))]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended, or may not be read
        return b""
