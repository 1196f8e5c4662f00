"""A repository's folder, changed as a whole: one commit has one state, and no commit is made when nothing changed."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from github import Auth, Github, GithubException

from ...errors import BadInput, RemoteFailed
from ...http.tls import trusted_file
from ...text import without_login
from ...workspace import Workspace
from .inputs import GitOpsInputs

_ATTEMPTS = 5
"""How often a change is made anew when somebody else has pushed meanwhile."""
_TIMEOUT = 300  # seconds for one git command
_GITHUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")

Files = Mapping[str, str]
"""Texts by name of file."""


@dataclass(frozen=True)
class Repository:
    """A folder of a branch of a repository.

    Attributes:
        name: `owner/name` on GitHub, a URL or a path.
        branch: "" for the repository's own.
        path: of the folder for models.
        token: for HTTPS; "" for what git itself knows.
        environ: variables, for git and GitHub's addresses.
        root: that a path is relative to.
    """

    name: str
    branch: str
    path: str
    token: str
    environ: Mapping[str, str]
    root: Path

    @classmethod
    def of(cls, inputs: GitOpsInputs, workspace: Workspace) -> Repository:
        """The one that an action's inputs name.

        Raises:
            BadInput: they name none, or a pull request is asked for that cannot be opened there.
        """
        token = inputs.gitops_token.get_secret_value()
        named = (inputs.gitops_repository, inputs.gitops_branch, inputs.gitops_path.strip("/"))
        made = cls(*named, token, workspace.environ, workspace.root)
        if inputs.gitops_pull_request:
            made.check_proposing()
        return made

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInput("There is no repository to write to", fix="Set `gitops-repository`")
        if ".." in PurePosixPath(self.path).parts or self.path.startswith("/"):
            raise BadInput(f"`gitops-path` is {self.path!r}", fix="Give a folder of the repository")

    @property
    def url(self) -> str:
        """That git is given."""
        if self.on_github and not (self.root / self.name).exists():
            return f"{self.environ.get('GITHUB_SERVER_URL') or 'https://github.com'}/{self.name}.git"
        return self.name if re.match(r"[\w+.-]+://|[\w.-]+@[\w.-]+:", self.name) else str(self.root / self.name)

    @property
    def on_github(self) -> bool:
        """Whether it is named as GitHub does."""
        return bool(_GITHUB.fullmatch(self.name))

    def read(self, folder: str) -> dict[str, str]:
        """The files of a model's folder, as they are in the branch now.

        Raises:
            RemoteFailed: the repository cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="gitops-") as scratch:
            clone = self._clone(Path(scratch))
            return _files(clone / self.path / folder)

    def write(self, folder: str, files: Files, message: str, to: str = "") -> str:
        """Let a model's folder have these files and no others; the commit, or "" when it had them.

        Args:
            folder: its name.
            files: {} to remove it.
            message: of the commit.
            to: a branch to push to instead, whatever it has; "" for the branch itself.

        Raises:
            RemoteFailed: the repository cannot be read or written to.
        """
        for attempt in range(_ATTEMPTS):
            with tempfile.TemporaryDirectory(prefix="gitops-") as scratch:
                clone = self._clone(Path(scratch))
                place = clone / self.path / folder
                if _files(place) == dict(files):
                    return ""
                shutil.rmtree(place, ignore_errors=True)
                for name, text in files.items():
                    place.mkdir(parents=True, exist_ok=True)
                    (place / name).write_text(text, encoding="utf-8")
                self._git(clone, "add", "--all", "--", str(place))
                self._git(clone, "commit", "--quiet", "--message", message)
                commit = self._git(clone, "rev-parse", "HEAD").strip()
                branch = to or self._git(clone, "branch", "--show-current").strip()
                force = ["--force"] if to else []
                try:
                    self._git(clone, "push", "--quiet", *force, "origin", f"HEAD:refs/heads/{branch}")
                except RemoteFailed as error:
                    if attempt + 1 < _ATTEMPTS and re.search(r"fetch first|non-fast-forward|stale info", error.why):
                        continue
                    raise
                return commit
        raise AssertionError  # the last attempt returns or raises

    def check_proposing(self) -> None:
        """See whether a pull request can be opened, before anything is written.

        Raises:
            BadInput: the repository is not on GitHub, or there is no token.
        """
        if not self.on_github or not self.token:
            lacking = "`gitops-token`" if self.on_github else "`gitops-repository` as `owner/name` on GitHub"
            raise BadInput("A pull request cannot be opened", fix=f"Set {lacking}, or leave `gitops-pull-request` out")

    def propose(self, branch: str, title: str, text: str) -> str:
        """The pull request of a branch that was pushed: the one that is open, or a new one; its URL.

        Raises:
            RemoteFailed: GitHub refuses or cannot be reached.
        """
        api = self.environ.get("GITHUB_API_URL") or "https://api.github.com"
        try:
            auth = Auth.Token(self.token)
            client = Github(auth=auth, base_url=api, timeout=20, lazy=True, verify=trusted_file(self.environ))
            repository = client.get_repo(self.name)
            base = self.branch or repository.default_branch
            owner = self.name.partition("/")[0]
            for found in repository.get_pulls(state="open", base=base, head=f"{owner}:{branch}"):
                found.edit(title=title, body=text)
                return found.html_url
            return repository.create_pull(base=base, head=branch, title=title, body=text).html_url
        except (GithubException, OSError) as error:
            fix = "Give the token `contents: write` and `pull-requests: write` for that repository"
            raise RemoteFailed(f"Cannot open a pull request in {self.name}", why=str(error), fix=fix) from error

    def _clone(self, scratch: Path) -> Path:
        clone = scratch / "clone"
        branch = ["--branch", self.branch] if self.branch else []
        self._git(scratch, "clone", "--quiet", "--depth", "1", *branch, "--", self.url, str(clone))
        return clone

    def _git(self, folder: Path, *arguments: str) -> str:
        """Run git; what it prints. The token is in its environment, so that no list of processes shows it."""
        environ = {**self.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        for role in ("AUTHOR", "COMMITTER"):
            environ.setdefault(f"GIT_{role}_NAME", environ.get("GITHUB_ACTOR") or "mlops-actions")
            environ.setdefault(f"GIT_{role}_EMAIL", "mlops-actions@users.noreply.github.com")
        if self.token and self.url.startswith("https:"):
            basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
            host = "https://" + urlsplit(self.url).netloc
            header = {f"http.{host}/.extraHeader": f"Authorization: Basic {basic}"}
            environ["GIT_CONFIG_COUNT"] = str(len(header))
            for number, (key, value) in enumerate(header.items()):
                environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                env=environ, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT,
            )  # fmt: skip
        except FileNotFoundError:
            raise BadInput("git is not installed", fix="Install git") from None
        except subprocess.TimeoutExpired:
            raise RemoteFailed(f"Timed out waiting for git {arguments[0]} after {_TIMEOUT} s") from None
        if done.returncode:
            lines = done.stderr.splitlines()
            told = [line for line in lines if not line.startswith("warning:")] or lines
            why = without_login(" ".join(" ".join(told).split()))[-600:]
            doing = "write to" if arguments[0] == "push" else "read"
            raise RemoteFailed(
                f"Cannot {doing} the repository {without_login(self.name)}",
                why=why,
                fix="Check `gitops-repository` and `gitops-branch`, and that `gitops-token` may write there",
            )
        return done.stdout


def _files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*")) if path.is_file()}
