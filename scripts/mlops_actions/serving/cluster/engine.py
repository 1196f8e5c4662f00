"""Serving in a cluster: a workload and a Service a release, and what leads the model's requests to one or the other.

What serves is read from the cluster alone: the model's own Service says in its annotations which release is stable,
which is a candidate and which can be gone back to; its selector says who gets the requests, and where there is a
Gateway, the weights of the model's HTTPRoute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import BadInput, RemoteFailed
from ...http.faults import HttpError
from ...kubernetes.connection import connector
from ...kubernetes.failures import RIGHTS
from ...kubernetes.objects import ENDPOINT_SLICE, NETWORK_POLICY, SERVICE, Cluster, Object
from ...kubernetes.rights import missing
from ...waiting import wait_until
from ...workspace import Workspace
from ..engine import Capabilities, NotServed, Release, Serving
from ..protocol import Client
from . import manifests
from .inputs import ServingClusterInputs
from .manifests import Made
from .names import (
    CANDIDATE,
    DIGEST,
    MANAGED,
    MANAGER,
    MODEL,
    PREVIOUS,
    RELEASE,
    STABLE,
    VERSION,
    name_of,
    pod_selector,
    selector,
    service_of,
)
from .pods import digest_of, is_ready, living
from .sharing import Route, Sharing
from .transport import Proxied
from .workload import Workload

_SETTLE = 60.0
"""Seconds in which a Service must lead to the pods that it selects."""
_RESPOND = 30.0
"""Seconds in which a pod that is ready must respond through the API server, and a new address at all."""
_NODES = 10.0
"""Seconds, besides `manifests.DRAIN`, until every node sends new connections to where a Service leads: what does that
there, kube-proxy, gathers changes for 1 s by default, for 10 s on GKE (`--iptables-min-sync-period`)."""


@dataclass(frozen=True)
class State:
    """The roles of releases, by their ids; "" for none. `selected`: whose pods the model's own Service leads to."""

    stable: str = ""
    candidate: str = ""
    previous: str = ""
    selected: str = ""

    @property
    def annotations(self) -> dict[str, str]:
        """As they are kept."""
        return {STABLE: self.stable, CANDIDATE: self.candidate, PREVIOUS: self.previous}

    @staticmethod
    def of(service: Object) -> State:
        """What the model's own Service says."""
        notes = service["metadata"].get("annotations") or {}
        chosen = (service.get("spec") or {}).get("selector") or {}
        roles = (notes.get(STABLE, ""), notes.get(CANDIDATE, ""), notes.get(PREVIOUS, ""))
        return State(*roles, selected=chosen.get(RELEASE, ""))

    def serving(self, url: str, stable: Object | None, percent: int) -> Serving:
        """What serves, as a rollout sees it.

        Args:
            url: of the model.
            stable: the Service of the stable release; None when there is none.
            percent: of the requests that the candidate is sent.
        """
        about = (stable or {}).get("metadata", {}).get("annotations") or {}
        return Serving(
            url=url,
            release=self.stable if stable else None,
            version=int(about[VERSION]) if VERSION in about else None,
            digest=about.get(DIGEST, ""),
            candidate=self.candidate,
            percent=percent,
            previous=self.previous,
        )

    def after(self, release: str) -> State:
        """When a release has become the stable one."""
        previous = self.previous if self.stable == release else self.stable
        return State(stable=release, previous=previous, selected=release)


class ClusterServing:
    """See `serving.engine.ServingEngine`.

    Args:
        engine: its name, for the place's.
        inputs: which cluster, and how requests get to a model.
        workspace: for variables, words and secrets.
        workload: what runs a release.
        sharing: what splits a model's requests.
        image: gives the image of a release; makes it if there is none and the second argument says so.
        part: of `kubernetes.rights.PARTS`, that it needs.
    """

    lasting = ""

    def __init__(
        self,
        engine: str,
        inputs: ServingClusterInputs,
        workspace: Workspace,
        workload: Workload,
        sharing: Sharing,
        image: Callable[[Release, bool], str],
        part: str,
    ) -> None:
        self._name, self._inputs, self._workspace = engine, inputs, workspace
        self._workload, self._sharing, self._image, self._part = workload, sharing, image, part
        self._connect = connector(inputs, workspace.environ, workspace.console.mask)
        self._moved: float | None = None  # when a model's own Service was last seen to lead where it should

    @property
    def place(self) -> str:
        """See `ServingEngine`."""
        cluster = self._connect()
        return f"{self._name}-{cluster.namespace}-{hashlib.sha256(cluster.server.encode()).hexdigest()[:8]}"

    def capabilities(self) -> Capabilities:
        """See `ServingEngine`."""
        return self._sharing.capabilities(self._cluster)

    def serving(self, name: str) -> Serving | None:
        """See `ServingEngine`."""
        state = self._state(name)
        if state is None:
            return None
        stable = self._cluster.get(SERVICE, name_of(name, state.stable)) if state.stable else None
        return state.serving(self.ask(name).url, stable, self._percent(name, state))

    def start(self, release: Release) -> Client:
        """See `ServingEngine`."""
        self._check_rights()
        state = self._state(release.name) or State()
        image = self._image_of(release)
        objects = self._objects(release, image)
        shared = self._sharing.objects(release.name, {release.id: 100}) if self._route(release.name) else []
        public = manifests.public_service(release.name, state.selected, state.annotations)
        for kind, body in (public, *objects, *shared):
            self._cluster.apply(kind, body, dry_run=True, force=True)
        self._keep(release.name, replace(state, candidate=release.id))
        for kind, body in objects:
            self._cluster.apply(kind, body, force=True)
        self._workload.begin(self._cluster, release)
        self._workload.wait(self._cluster, release)
        client = self.ask(release.name, release.id)
        if not wait_until(client.ready, _RESPOND, self._cluster.clock):
            log = digest_of(self._cluster, release.name, release.id)
            raise NotServed("its pods are ready, and do not respond through the API server", log)
        return client

    def ask(self, name: str, release: str = "") -> Client:
        """See `ServingEngine`."""
        service = name_of(name, release) if release else service_of(name)
        route = None if release else self._route(name)
        if route:
            return Client(name, route.public())
        return Client(name, Proxied(self._cluster, service, f"http://{service}.{self._cluster.namespace}.svc"))

    def shift(self, release: Release, percent: int, *, mirror: bool = False) -> None:
        """See `ServingEngine`."""
        state = self._state(release.name) or State()
        if route := self._route(release.name):
            stable = {state.stable: 100 - percent} if state.stable else {}
            route.split({**stable, release.id: percent}, release.id if mirror else "")
        self._select(release.name, state, release.id if percent == 100 else state.stable)
        if not state.stable:  # a gateway may say that it has an address some moments before it does
            wait_until(self.ask(release.name).ready, _RESPOND, self._cluster.clock)

    def finish(self, release: Release) -> None:
        """See `ServingEngine`. One that serves already gets what its settings have become."""
        name = release.name
        state = self._state(name) or State()
        if state.stable != release.id or state.candidate:
            self._wait_for_nodes(name)
            state = state.after(release.id)
            self._keep(name, state)
        else:
            self._renew(release)
        if route := self._route(name):
            route.split({release.id: 100})
        if not self._inputs.network_policy:
            self._open_network(name)
        self._settle(name, release.id)
        self._tidy(name, state)

    def abandon(self, name: str) -> Serving | None:
        """See `ServingEngine`."""
        state = self._state(name)
        if state is None or not state.stable:
            self.stop(name)
            return None
        if (route := self._route(name)) and route.shares():
            route.split({state.stable: 100})
        state = replace(state, candidate="", selected=state.stable)
        self._keep(name, state)
        try:
            self._settle(name, state.stable)
        except RemoteFailed as error:
            self._workspace.console.say(str(error))  # it is worse to let the candidate live than to end it early
        self._tidy(name, state)  # without a wait for nodes: a refused connection is better than a wrong answer
        return self.serving(name)

    def stop(self, name: str) -> Serving | None:
        """See `ServingEngine`."""
        was = self.serving(name)
        if route := self._route(name):
            route.delete()
        if self._state(name):
            self._cluster.delete(SERVICE, service_of(name))
        self._open_network(name)
        self._tidy(name, State())
        return was

    def why(self, name: str) -> str:
        """See `ServingEngine`."""
        state = self._state(name)
        release = (state.candidate or state.stable) if state else ""
        return digest_of(self._cluster, name, release) if release else ""

    def manifests(self, release: Release) -> list[dict[str, Any]]:
        """The objects with which a release alone serves a model, as documents; nothing is applied."""
        image = self._image(release, False) if self._workload.needs_image else ""
        made = [*self._objects(release, image), manifests.public_service(release.name, release.id, {})]
        made += self._sharing.objects(release.name, {release.id: 100})
        return manifests.documents(made, self._inputs.namespace)

    @property
    def _cluster(self) -> Cluster:
        return self._connect()

    def _route(self, name: str) -> Route | None:
        return self._sharing.route(self._cluster, name)

    def _renew(self, release: Release) -> None:
        """Give a release that serves its objects as they are to be now; its pods are replaced one by one.

        Raises:
            RemoteFailed: those that would come do not come up; the others serve on.
        """
        image = self._workload.image(self._cluster, release.name, release.id) if self._workload.needs_image else ""
        objects = self._objects(release, image)
        for kind, body in objects:
            self._cluster.apply(kind, body, force=True)
        for kind in {*self._workload.kinds} - {kind for kind, _ in objects}:
            for one in self._cluster.list(kind, labels=selector(release.name, release.id)):
                self._cluster.delete(kind, one["metadata"]["name"])
        try:
            self._workload.wait(self._cluster, release)
        except NotServed as fault:
            what = (
                f"The new settings of {name_of(release.name, release.id)} do not work; it serves on with the old ones"
            )
            raise RemoteFailed(what, why=str(fault), fix=fault.fix, log=fault.log) from None

    def _image_of(self, release: Release) -> str:
        """The image that a release was served with, as what was tried comes back; else one is found or made."""
        there = "" if self._inputs.image else self._workload.image(self._cluster, release.name, release.id)
        return there or (self._image(release, True) if self._workload.needs_image else "")

    def _objects(self, release: Release, image: str) -> Sequence[Made]:
        made = [manifests.release_service(release), *self._workload.objects(release, image)]
        return [manifests.network_policy(release.name), *made] if self._inputs.network_policy else made

    def _check_rights(self) -> None:
        """Before anything is begun.

        Raises:
            RemoteFailed: a right is lacking.
        """
        lacking = [right for right in missing(self._cluster, (self._part,)) if not right.optional]
        if lacking:
            listed = "; ".join(f"{right} (to {right.reason})" for right in lacking)
            raise RemoteFailed(
                f"Cannot deploy to the namespace {self._cluster.namespace}: a right is missing", why=listed, fix=RIGHTS
            )

    def _state(self, name: str) -> State | None:
        """What the model's own Service says; None when there is none.

        Raises:
            BadInput: a Service of that name is somebody else's, or another model's.
        """
        found = self._cluster.get(SERVICE, service_of(name))
        if found is None:
            return None
        about = found["metadata"]
        own = about.get("labels") or {}
        if own.get(MANAGED) != MANAGER or own.get(MODEL) != service_of(name):
            raise BadInput(
                f"The Service {service_of(name)} in the namespace {self._cluster.namespace} was not made by"
                " mlops-actions",
                fix="Delete it or rename it, or use another namespace",
            )
        return State.of(found)

    def _open_network(self, name: str) -> None:
        """Remove the NetworkPolicy, if there is one; who may not look for it has not made it."""
        try:
            found = self._cluster.get(NETWORK_POLICY, service_of(name))
        except HttpError as error:
            if error.status != 403:
                raise
            return
        if found and (found["metadata"].get("labels") or {}).get(MANAGED) == MANAGER:
            self._cluster.delete(NETWORK_POLICY, service_of(name))

    def _keep(self, name: str, state: State) -> None:
        self._cluster.apply(*manifests.public_service(name, state.selected, state.annotations))

    def _percent(self, name: str, state: State) -> int:
        if not state.candidate:
            return 0
        if route := self._route(name):
            shares = route.shares()
            total = sum(shares.values())
            return round(100 * shares.get(state.candidate, 0) / total) if total else 0
        return 100 if state.selected == state.candidate else 0

    def _select(self, name: str, state: State, release: str) -> None:
        """Let the model's own Service lead to a release; returns when it does.

        There is no moment without pods: the ports of all releases are the same numbers, so the controller replaces the
        pods of one EndpointSlice (for each 100) by one update of it, and those of the release are ready before.
        """
        if not release:
            return
        if state.selected != release:
            self._keep(name, replace(state, selected=release))
        self._settle(name, release)

    def _wait_for_nodes(self, name: str) -> None:
        """Without a route: until new connections from all nodes come to the release that the model's Service leads to.

        The answers do not show it: they come through the API server, which looks the pods up itself. Only then may the
        pods before it end, and may users be told the address of a new model. After a kill it is not known since when
        the Service leads there, so the time begins anew.
        """
        if self._route(name):
            return
        clock = self._cluster.clock
        moved = clock.now() if self._moved is None else self._moved
        clock.wait(moved + _NODES - clock.now())

    def _settle(self, name: str, release: str, timeout: float = _SETTLE) -> None:
        """Until the model's own Service leads to pods of a release that are ready, and to no others.

        Raises:
            RemoteFailed: it does not in time.
        """

        def settled() -> bool:
            pods = living(self._cluster, pod_selector(name, release))
            ready = {pod["metadata"]["name"] for pod in pods if is_ready(pod)}
            found = self._endpoints(service_of(name))
            return bool(found) and found <= ready

        if not wait_until(settled, timeout, self._cluster.clock):
            raise RemoteFailed(
                f"The Service {service_of(name)} does not lead to {release} within {timeout:g} s",
                fix="Check that its pods are ready, and that the cluster's controller manager runs",
            )
        self._moved = self._cluster.clock.now()

    def _endpoints(self, service: str) -> set[str]:
        """The pods that a Service leads to."""
        slices = self._cluster.list(ENDPOINT_SLICE, labels=f"kubernetes.io/service-name={service}")
        return {
            str((one.get("targetRef") or {}).get("name"))
            for found in slices
            for one in found.get("endpoints") or []
            if (one.get("conditions") or {}).get("ready") is not False
        }

    def _tidy(self, name: str, state: State) -> None:
        """End all releases but the one that serves and the one before it, which stays without pods."""
        if state.previous:
            self._workload.rest(self._cluster, name, state.previous)
        for kind in (*self._workload.kinds, SERVICE):
            for one in self._cluster.list(kind, labels=selector(name)):
                if _release(one) not in ("", state.stable, state.previous):
                    self._cluster.delete(kind, one["metadata"]["name"])


def _release(item: Object) -> str:
    return str((item["metadata"].get("labels") or {}).get(RELEASE, ""))
