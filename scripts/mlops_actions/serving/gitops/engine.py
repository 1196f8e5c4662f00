"""Serving by a repository: the objects that another engine applies as files, which Argo CD or Flux applies.

A model has a folder with a file for each object. Where the cluster can be reached, a rollout is three commits: the
candidate beside what serves, the requests to the candidate, and what is left over removed; each is waited for. Where it
cannot, it is one commit or pull request, after which nothing here knows more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from ...errors import RemoteFailed
from ...kubernetes.objects import SERVICE, Object
from ...waiting import wait_until
from ...workspace import Workspace
from ...yaml_io import load_yaml
from ..cluster import manifests
from ..cluster.engine import ClusterServing, State
from ..cluster.names import RELEASE, name_of, service_of
from ..cluster.pods import digest_of
from ..engine import Capabilities, HandedOver, NotServed, Release, Serving
from ..protocol import Client
from .inputs import GitOpsInputs
from .repository import Repository

_LATER = {"argocd.argoproj.io/sync-wave": "1"}
"""Of what leads requests to a release: Argo CD applies it once the release's pods are ready."""

Documents = Mapping[str, Object]
"""Objects by the names of their files."""


class GitServing(ClusterServing):
    """See `serving.engine.ServingEngine`. What serves is what the repository says.

    Args:
        inputs: which repository, how it is written to, and how pods run.
        workspace: for variables, words and secrets.
        applied: the engine whose objects are written.
    """

    def __init__(self, inputs: GitOpsInputs, workspace: Workspace, applied: ClusterServing) -> None:
        parts = (applied._workload, applied._sharing, applied._image, applied._part)
        super().__init__("git", inputs, workspace, *parts)
        self._git, self._timeout = inputs, manifests.Settings.of(inputs).timeout
        self._repository = Repository.of(inputs, workspace)
        self._waits = inputs.gitops_wait and not inputs.gitops_pull_request

    @property
    def place(self) -> str:
        """See `ServingEngine`."""
        where = "\n".join((self._repository.url, self._repository.branch, self._repository.path))
        return f"git-{hashlib.sha256(where.encode()).hexdigest()[:8]}"

    def capabilities(self) -> Capabilities:
        """See `ServingEngine`."""
        return Capabilities(lacking="A repository has one state at a time: shares need another engine")

    def serving(self, name: str) -> Serving | None:
        """See `ServingEngine`. None where nothing can be asked; the repository must be there all the same."""
        found = self._given(name)
        return found if self._waits else None

    def start(self, release: Release) -> Client:
        """See `ServingEngine`.

        Raises:
            HandedOver: it is written, and nothing can be waited for.
        """
        name, found = release.name, self._documents(release.name)
        image = self._image(release, True) if self._workload.needs_image else ""
        documents = self._with(release, image, found)
        state = _state(name, found) or State()
        if not self._waits:
            raise self._hand_over(release, state, documents)
        self._check_rights()
        state = replace(state, candidate=release.id)
        self._write(name, state, documents, f"Bring up version {release.version} of {name}")
        self._wait(release, image)
        client = self.ask(name, release.id)
        if not wait_until(client.ready, self._timeout, self._cluster.clock):
            log = digest_of(self._cluster, name, release.id)
            raise NotServed("its pods are ready, and do not respond through the API server", log)
        return client

    def shift(self, release: Release, percent: int, *, mirror: bool = False) -> None:
        """See `ServingEngine`."""
        found = self._documents(release.name)
        state = _state(release.name, found) or State()
        to = release.id if percent == 100 else state.stable
        if to:
            self._write(release.name, replace(state, selected=to), found, f"{release.name}: requests go to {to}")
            self._settle(release.name, to)

    def finish(self, release: Release) -> None:
        """See `ServingEngine`."""
        name, found = release.name, self._documents(release.name)
        state = _state(name, found) or State()
        if state.stable == release.id and not state.candidate:
            image = self._image_of(release)
            if self._write(name, state, self._with(release, image, found), f"{name}: settings of {release.id}"):
                self._wait(release, image)
        else:
            self._wait_for_nodes(name)
            self._write(name, state.after(release.id), found, f"Version {release.version} of {name} serves")
        self._settle(name, release.id)

    def abandon(self, name: str) -> Serving | None:
        """See `ServingEngine`."""
        found = self._documents(name)
        state = _state(name, found)
        if state is None or not state.stable:
            self.stop(name)
            return None
        if state.candidate:
            back = replace(state, selected=state.stable)
            if state.selected != state.stable:
                self._write(name, back, found, f"{name}: requests go back to {state.stable}")
                self._settle(name, state.stable)
            self._write(name, replace(back, candidate=""), found, f"{name}: {state.candidate} was not good")
        return self.serving(name)

    def stop(self, name: str) -> Serving | None:
        """See `ServingEngine`.

        Raises:
            HandedOver: a pull request says so, which somebody has to merge.
        """
        was, title = self._given(name), f"{name} is not served any more"
        branch = f"mlops-actions/{service_of(name)}-stop" if self._git.gitops_pull_request else ""
        commit = self._repository.write(service_of(name), {}, title, branch)
        if commit and branch:
            raise HandedOver(
                f"its pull request is {self._repository.propose(branch, title, f'Ends what serves {name}')}"
            )
        return was

    def why(self, name: str) -> str:
        """See `ServingEngine`."""
        state = _state(name, self._documents(name)) if self._waits else None
        release = (state.candidate or state.stable) if state else ""
        return digest_of(self._cluster, name, release) if release else ""

    def _given(self, name: str) -> Serving | None:
        """What serves by the repository; without a URL where nothing can be asked."""
        found = self._documents(name)
        state = _state(name, found)
        if state is None:
            return None
        stable = found.get(_file(SERVICE.kind, name_of(name, state.stable))) if state.stable else None
        percent = 100 if state.candidate and state.selected == state.candidate else 0
        return state.serving(self.ask(name).url if self._waits else "", stable, percent)

    def _with(self, release: Release, image: str, documents: Documents) -> dict[str, Object]:
        """Documents with those of a release as they are to be now, and none that it had before."""
        made = _by_file(manifests.documents(self._objects(release, image), self._git.namespace))
        return {**{file: one for file, one in documents.items() if _release(one) != release.id}, **made}

    def _wait(self, release: Release, image: str) -> None:
        """Until what was written of a release is in the cluster, and its pods are ready.

        Raises:
            NotServed: that is not so in time.
        """
        if not wait_until(lambda: self._has(release, image), self._timeout, self._cluster.clock):
            raise NotServed(
                f"the cluster does not have {name_of(release.name, release.id)} within {self._timeout:g} s",
                fix="Check that Argo CD or Flux applies this folder, and how often; raise `timeout`",
            )
        self._workload.wait(self._cluster, release)

    def _documents(self, name: str) -> dict[str, Object]:
        return {file: load_yaml(text) for file, text in self._repository.read(service_of(name)).items()}

    def _has(self, release: Release, image: str) -> bool:
        """Whether the cluster has what runs a release, not at rest and with this image."""
        for kind, body in self._workload.objects(release, image):
            found = self._cluster.get(kind, body["metadata"]["name"])
            if found is None or found == self._workload.at_rest(kind, found):
                return False
        return self._workload.image(self._cluster, release.name, release.id) == image

    def _settle(self, name: str, release: str, timeout: float = 0) -> None:
        """See `ClusterServing`: the commit must be applied first, and the route that it has is waited for, too."""
        super()._settle(name, release, self._timeout)
        if route := self._route(name):

            def leads() -> bool:
                return {one for one, share in route.shares().items() if share} == {release}

            if not wait_until(leads, self._timeout, self._cluster.clock):
                raise RemoteFailed(
                    f"The route of {name} does not lead to {release} within {self._timeout:g} s",
                    fix="Check that Argo CD or Flux applies this folder, and how often; raise `timeout`",
                )

    def _hand_over(self, release: Release, state: State, documents: Documents) -> HandedOver:
        """Write that the release serves, with what served before beside it until the next one comes."""
        name, title = release.name, f"Version {release.version} of {release.name} serves"
        branch = f"mlops-actions/{name_of(name, release.id)}" if self._git.gitops_pull_request else ""
        commit = self._write(name, state.after(release.id), documents, title, branch, at_rest=False)
        if not commit:
            return HandedOver(f"{self._repository.name} has version {release.version} already")
        if branch:
            text = f"Release {release.id}\n\nDigest of the model: {release.digest}"
            return HandedOver(f"its pull request is {self._repository.propose(branch, title, text)}")
        return HandedOver(f"commit {commit[:12]} of {self._repository.name} has version {release.version}")

    def _write(
        self, name: str, state: State, documents: Documents, message: str, branch: str = "", *, at_rest: bool = True
    ) -> str:
        """Let a model's folder have what a state needs, and no more; the commit, "" when it had that.

        Args:
            name: of the model.
            state: which releases have which roles.
            documents: those of the releases, and others that are left out.
            message: of the commit.
            branch: to push to instead.
            at_rest: whether the release that can be gone back to has no pods.
        """
        kept = {state.stable, state.candidate, state.previous} - {""}
        files = {file: one for file, one in documents.items() if _release(one) in kept}
        resting = state.previous if at_rest and state.previous != state.candidate else ""
        kinds = {kind.kind: kind for kind in self._workload.kinds}
        for file, one in list(files.items()):
            if resting and _release(one) == resting and one["kind"] != SERVICE.kind:
                kind = kinds.get(one["kind"])
                if kind and (rested := self._workload.at_rest(kind, one)):
                    files[file] = rested
                else:
                    del files[file]
        notes = {key: value for key, value in state.annotations.items() if value}
        shared = [manifests.public_service(name, state.selected, {**notes, **_LATER})]
        for kind, route in self._sharing.objects(name, {state.selected: 100}) if state.selected else ():
            route["metadata"] = {**route["metadata"], "annotations": {**_LATER}}
            shared.append((kind, route))
        if self._git.network_policy:
            shared.append(manifests.network_policy(name))
        files |= _by_file(manifests.documents(shared, self._git.namespace))
        texts = {file: dumped(one) for file, one in sorted(files.items())}
        return self._repository.write(service_of(name), texts, message, branch)


def dumped(document: Object) -> str:
    """An object as YAML, its fields in their order."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


def _file(kind: str, name: str) -> str:
    return f"{kind.lower()}-{name}.yaml"


def _by_file(documents: list[dict[str, Any]]) -> dict[str, Object]:
    return {_file(str(one["kind"]), str(one["metadata"]["name"])): one for one in documents}


def _release(item: Object) -> str:
    return str((item["metadata"].get("labels") or {}).get(RELEASE, ""))


def _state(name: str, documents: Documents) -> State | None:
    service = documents.get(_file(SERVICE.kind, service_of(name)))
    return State.of(service) if service else None
