"""What the workflow that calls ours gives it: rights of the job's token, and secrets.

GitHub tells a called workflow neither. The caller's file is in the checkout of its commit, so it is read there.
Sources: https://docs.github.com/actions/how-tos/reuse-automations/reuse-workflows (a called workflow has the rights and
secrets of the job that calls it), https://docs.github.com/actions/reference/workflows-and-actions/variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..yaml_io import read_yaml

_OURS = "/.github/workflows/mlops.yml"
_LEVELS = ("none", "read", "write")


@dataclass(frozen=True)
class Caller:
    """The job that calls the chain.

    Attributes:
        file: the workflow's path in the repository.
        rights: level by scope, `*` for all others; None where the repository's settings decide.
        secrets: the names of those that it passes one by one.
    """

    file: str
    rights: Mapping[str, str] | None
    secrets: frozenset[str]

    def lacks(self, scope: str, level: str) -> bool:
        """Whether it certainly does not grant a right."""
        if self.rights is None:
            return False
        granted = self.rights.get(scope, self.rights.get("*", "none"))
        return granted in _LEVELS and _LEVELS.index(granted) < _LEVELS.index(level)


def read_caller(environ: Mapping[str, str]) -> Caller | None:
    """The caller of this run's chain; None off GitHub, and where it cannot be told which job that is."""
    reference, repository = environ.get("GITHUB_WORKFLOW_REF", ""), environ.get("GITHUB_REPOSITORY", "")
    path = reference.partition("@")[0].removeprefix(f"{repository}/")
    file = Path(environ.get("GITHUB_WORKSPACE", ""), path)
    if not repository or not path.startswith(".github/workflows/") or not file.is_file():
        return None
    try:
        workflow = read_yaml(file, path).value
    except BadInput:
        return None  # GitHub has read it, so it is not for us to refuse
    jobs = workflow.get("jobs") if isinstance(workflow, Mapping) else None
    calls = [job for job in (jobs.values() if isinstance(jobs, Mapping) else ()) if _calls(job)]
    if len(calls) != 1:
        return None
    asked = calls[0].get("permissions", workflow.get("permissions"))
    secrets = calls[0].get("secrets")
    return Caller(path, _rights(asked), frozenset(map(str, secrets)) if isinstance(secrets, Mapping) else frozenset())


def _calls(job: object) -> bool:
    return isinstance(job, Mapping) and _OURS in f"/{str(job.get('uses', '')).partition('@')[0].removeprefix('./')}"


def _rights(asked: Any) -> dict[str, str] | None:
    if isinstance(asked, Mapping):
        return {str(scope): str(level) for scope, level in asked.items()}
    return {"*": asked.removesuffix("-all")} if asked in ("read-all", "write-all") else None
