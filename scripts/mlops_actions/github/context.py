"""What this process was told about where it runs: by GitHub's variables and event file, or by git on a laptop.

Variables: https://docs.github.com/actions/reference/variables-reference
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .console import ActionsConsole, Console, TerminalConsole


@dataclass(frozen=True)
class Context:
    """The code that is worked on, and the event that caused the work.

    Attributes:
        repository: `owner/name`.
        commit: the full hash; "" outside git.
        branch: its short name; on a push of a tag, the tag's.
        tag: the tag that was pushed; "" for a branch.
        default_branch: of the repository; "" when it is not known.
        event: `push`, `pull_request`, `workflow_dispatch`, `schedule` …; "terminal" off GitHub.
        pull_request: its number, or None.
        actor: who caused the event; on a laptop, git's user.
        fork: whether the pull request comes from another repository.
        run: name of the chain's run; on a laptop one for each consumer's folder.
        url: page of the run.
        on_runner: whether this is a step of a workflow.
        server: GitHub's web address.
        api: GitHub's API address.
    """

    repository: str = ""
    commit: str = ""
    branch: str = ""
    tag: str = ""
    default_branch: str = ""
    event: str = "terminal"
    pull_request: int | None = None
    actor: str = ""
    fork: bool = False
    run: str = "local"
    url: str = ""
    on_runner: bool = False
    server: str = "https://github.com"
    api: str = "https://api.github.com"

    @property
    def pull(self) -> bool:
        """Whether this is a pull request."""
        return self.event in ("pull_request", "pull_request_target")

    @property
    def trusted(self) -> bool:
        """Whether this may change what others use: on the default branch, or where no branch is known."""
        return not self.pull and self.branch in ("", self.default_branch or self.branch)

    def source(self) -> dict[str, Any]:
        """What a record keeps of it."""
        kept = ("repository", "commit", "branch", "event", "pull_request", "actor", "url")
        return {name: value for name, value in asdict(self).items() if name in kept and value}


def read_context(environ: Mapping[str, str], folder: Path) -> Context:
    """The context of this process; `folder` is where git is asked on a laptop."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return _from_git(folder)
    event = _event(environ.get("GITHUB_EVENT_PATH", ""))
    request = event.get("pull_request") or {}
    head = (request.get("head") or {}).get("repo") or {}
    repository = environ.get("GITHUB_REPOSITORY", "")
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    number = environ.get("GITHUB_RUN_ID", "")
    name = environ.get("GITHUB_EVENT_NAME", "")
    return Context(
        repository=repository,
        commit=(request.get("head") or {}).get("sha") or environ.get("GITHUB_SHA", ""),
        branch=environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME", ""),
        tag=environ.get("GITHUB_REF_NAME", "") if environ.get("GITHUB_REF_TYPE") == "tag" else "",
        default_branch=(event.get("repository") or {}).get("default_branch") or "",
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


SECRETS = (
    "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "MLOPS_KFP_CLIENT_SECRET", "MLOPS_KFP_TOKEN", "MLOPS_KUBECONFIG", "MLOPS_REGISTRY_PASSWORD", "MLOPS_TOKEN",
)  # fmt: skip
"""Variables that the consumer's code does not see: GitHub's, and those of every action's secret inputs."""


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The variables for a process that runs the consumer's code: this process's, less what steers this one.

    GitHub's command files are left out, so that code under training cannot set a step's outputs; so are the inputs
    and the secrets that are not the store's.
    """
    hidden = ("INPUT_", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
    left_out = {*SECRETS, "PYTHONPATH"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden) and k not in left_out}
    return {**kept, **extra}


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
    run = f"local-{folder.resolve().name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"
    return Context(run=run, commit=commit, branch=git("branch", "--show-current"), actor=git("config", "user.name"))
