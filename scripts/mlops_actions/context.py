"""The code that is worked on, and the event that caused the work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PULL_REQUEST = "pull-request"
"""The environment of the configuration that applies to pull requests, when it has one."""


_BY_US = {"push", "schedule", "workflow_dispatch", "repository_dispatch"}
"""Events that are caused by those who may write to the repository."""


@dataclass(frozen=True)
class Context:
    """The code that is worked on, and the event that caused the work.

    Attributes:
        repository: `owner/name`.
        commit: the full hash; "" outside git.
        branch: its short name; on a push of a tag, the tag's; "HEAD" when no branch is checked out.
        tag: the tag that was pushed; "" for a branch.
        default_branch: of the repository; "" when it is not known.
        event: `push`, `pull_request`, `workflow_dispatch`, `schedule` …; "terminal" off GitHub.
        pull_request: its number, or None.
        actor: who caused the event; on a laptop, git's user.
        fork: whether the pull request comes from another repository.
        run: name of the chain's run; "" on a laptop, where the folder's is found (`runtime.runs`).
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
        return self.event.startswith("pull_request")  # its reviews are events of their own

    @property
    def trusted(self) -> bool:
        """Whether this may change what others use: on the default branch, or where there are no branches.

        Where the default branch is not known, any branch may on a laptop (there is no remote), and none on a runner. A
        commit without a branch may not, nor a tag, whatever its name.
        """
        if self.pull or self.tag or self.branch == "HEAD" or self.by_anybody:
            return False
        return self.branch == self.default_branch if self.default_branch else not self.on_runner

    @property
    def by_anybody(self) -> bool:
        """Whether the event may be caused by who may not write, such as a comment, or the end of another workflow."""
        return self.on_runner and not self.pull and self.event not in _BY_US

    @property
    def outside(self) -> bool:
        """Whether this is a pull request that GitHub gives no secrets: from a fork, or by Dependabot."""
        return self.pull and self.event != "pull_request_target" and (self.fork or self.actor == "dependabot[bot]")

    def source(self) -> dict[str, Any]:
        """What a record keeps of it."""
        kept = ("repository", "commit", "branch", "event", "pull_request", "actor", "url")
        return {name: value for name, value in asdict(self).items() if name in kept and value}
