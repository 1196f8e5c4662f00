"""What this process was told about where it runs: by GitHub's variables and event file, or by git on a laptop.

Variables: https://docs.github.com/actions/reference/variables-reference
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..console import Console
from ..context import Context
from .console import ActionsConsole, TerminalConsole


def read_context(environ: Mapping[str, str], folder: Path) -> Context:
    """The context of this process; `folder` is where git is asked on a laptop."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return _from_git(folder)
    event = _event(environ.get("GITHUB_EVENT_PATH", ""))
    request = event.get("pull_request") or {}
    head = (request.get("head") or {}).get("repo") or {"full_name": ""}  # a fork that is gone
    repository = environ.get("GITHUB_REPOSITORY", "")
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    number = environ.get("GITHUB_RUN_ID", "")
    name = environ.get("GITHUB_EVENT_NAME", "")
    branch = environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME", "")
    default = (event.get("repository") or {}).get("default_branch") or ""
    if not default and environ.get("ACT") == "true":  # act's own event file says nothing: as in a terminal
        default = _from_git(folder).default_branch or branch
    return Context(
        repository=repository,
        commit=(request.get("head") or {}).get("sha") or environ.get("GITHUB_SHA", ""),
        branch=branch,
        tag=environ.get("GITHUB_REF_NAME", "") if environ.get("GITHUB_REF_TYPE") == "tag" else "",
        default_branch=default,
        event=name,
        pull_request=request.get("number"),
        actor=environ.get("GITHUB_ACTOR", ""),
        fork=bool(request) and head.get("full_name", repository) != repository,
        run=f"{number}-{environ.get('GITHUB_RUN_ATTEMPT', '1')}",
        url=f"{server}/{repository}/actions/runs/{number}",
        on_runner=True,
        server=server,
        api=environ.get("GITHUB_API_URL", "https://api.github.com"),
    )


def make_console(environ: Mapping[str, str], *, as_json: bool = False) -> Console:
    """The console for this process. JSON is for a person's scripts, also when they run on a runner."""
    debugging = environ.get("RUNNER_DEBUG") == "1" or bool(environ.get("MLOPS_DEBUG"))
    if environ.get("GITHUB_ACTIONS") == "true" and not as_json:
        output, summary = environ.get("GITHUB_OUTPUT"), environ.get("GITHUB_STEP_SUMMARY")
        return ActionsConsole(
            sys.stdout, Path(output) if output else None, Path(summary) if summary else None, debugging=debugging
        )
    return TerminalConsole(as_json=as_json, debugging=debugging)


def _event(path: str) -> dict[str, Any]:
    try:
        event = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def _from_git(folder: Path) -> Context:
    def git(*arguments: str) -> str:
        if not shutil.which("git"):
            return ""
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--verify", "--quiet", "HEAD")
    branch = git("branch", "--show-current") or ("HEAD" if commit else "")
    default = git("symbolic-ref", "--short", "--quiet", "refs/remotes/origin/HEAD").removeprefix("origin/")
    return Context(run="", commit=commit, branch=branch, default_branch=default, actor=git("config", "user.name"))
