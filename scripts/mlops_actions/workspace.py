"""Where an action works: the consumer's folder, this machine's folders, the store, and environments for their code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import environments
from .console import Console
from .environments import Environment, EnvironmentFailed
from .errors import BadInput, RemoteFailed
from .inputs import CodeInputs
from .stores.store import Store, StoreOptions

HIDDEN = (
    "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "MLOPS_GITOPS_TOKEN", "MLOPS_KFP_CLIENT_SECRET", "MLOPS_KFP_TOKEN", "MLOPS_KUBECONFIG", "MLOPS_REGISTRY_PASSWORD",
    "MLOPS_SIGNING_KEY", "MLOPS_TOKEN",
)  # fmt: skip
"""Variables that the consumer's code does not see: GitHub's, and those of every action's secret inputs."""
RUNNER = ("INPUT_", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
"""Beginnings of variables that steer this step on a runner: its inputs, and the files that its outputs go to."""


@dataclass(frozen=True)
class Workspace:
    """Where an action works.

    Attributes:
        root: the consumer's folder, absolute.
        home: where embedded engines keep their state, outside the consumer's folder.
        cache: where environments and downloaded objects are.
        environ: this process's variables.
        console: told what takes time.
        store_url, store_options: of the store.
        scope: beginning of the paths in the store that are written: "" for what everybody uses, `pulls/<number>/` for
            all that a pull request makes, which nothing else takes.
    """

    root: Path
    home: Path
    cache: Path
    environ: Mapping[str, str]
    console: Console
    store_url: str
    store_options: StoreOptions
    scope: str = ""

    @cached_property
    def store(self) -> Store:
        """The store; opened on first use."""
        return Store(self.store_url, self.store_options, hide=self.console.hide)

    def kept(self, path: str) -> str:
        """Where in the store this run's own `path` is: `pulls/<number>/<path>` in a pull request."""
        return self.scope + path

    def path(self, name: str | Path) -> Path:
        """A path relative to the consumer's folder, as an absolute one."""
        return self.root / name

    def uri(self, text: str) -> str:
        """A URI as it is; a path as an absolute one."""
        return text if "://" in text else str(self.path(text))

    def environment(
        self, group: str, inputs: CodeInputs | None = None, packages: Sequence[str] = (), dependencies: str = ""
    ) -> Environment:
        """The Python environment of a lock, with the consumer's requirements and more packages laid over it.

        Args:
            group: the lock, or "" for none.
            inputs: name the requirements and the Python.
            packages: requirement specifiers beside them.
            dependencies: which versions are taken of those that they allow, see `environments.locked`; "" to leave
                that to the installation.

        Raises:
            BadInput: the requirements file does not exist, cannot be satisfied, conflicts with the lock, or leaves
                nothing to choose; or there is no such Python.
            RemoteFailed: the packages cannot be installed.
        """
        files = [self.path(inputs.requirements)] if inputs and inputs.requirements else []
        for file in files:
            if not file.is_file():
                raise BadInput(f"The requirements file {file} does not exist", fix="Correct `requirements`")
        python = (inputs.python if inputs else "") or self.environ.get("MLOPS_PYTHON", "")
        try:
            if dependencies and (files or packages):
                files = [environments.locked(files, packages, dependencies, self.cache, python=python)]
                packages = ()
            return environments.ensure(
                group, self.cache, requirements=files, packages=packages, python=python, say=self.console.say
            )
        except EnvironmentFailed as error:
            kind = BadInput if error.exit_code == BadInput.exit_code else RemoteFailed
            raise kind("Cannot prepare the Python environment", why=str(error)) from error

    def child_environ(self, **extra: str) -> dict[str, str]:
        """Variables for a process that runs the consumer's code: this process's, less what steers or signs in this one.

        The store is named in them. GitHub's command files are left out, so that code under training cannot set a
        step's outputs; so are the inputs, and the secrets other than the store's.
        """
        left_out = {*HIDDEN, "PYTHONPATH"}
        kept = {k: v for k, v in self.environ.items() if not k.startswith(RUNNER) and k not in left_out}
        return {
            **kept,
            "MLOPS_STORE": self.store_url,
            "MLOPS_HOME": str(self.home),
            **self._store_address(),
            **self._keys(),
            **extra,
        }

    def _keys(self) -> dict[str, str]:
        """Keys for this machine's processes where ours are lent."""
        return self.store_options.variables() if self.store_url.startswith("s3:") else {}

    def store_variables(self) -> dict[str, str]:
        """Variables that say where the store is to a process on another machine; none for a folder of this one."""
        if self.store_url.startswith("file:"):
            return {}
        return {"MLOPS_STORE": self.store_url, **self._store_address()}

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Only one process of this machine at a time holds the lock of a name; it is free when its holder dies."""
        from filelock import FileLock, Timeout

        path = self.home / "locks" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.console.say(f"Waiting for another process working on {name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _store_address(self) -> dict[str, str]:
        options = self.store_options
        address = {"AWS_REGION": options.region}
        if options.endpoint:
            address |= {"AWS_ENDPOINT_URL": options.endpoint, "MLOPS_STORE_ENDPOINT": options.endpoint}
        return address
