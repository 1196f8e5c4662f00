"""Splitting the requests of a model between its releases by an HTTPRoute of the Gateway API.

https://gateway-api.sigs.k8s.io/guides/traffic-splitting/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import urllib3

from ...errors import BadInput
from ...http.faults import HttpError
from ...kubernetes.failures import Refused as ClusterRefused
from ...kubernetes.objects import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, Cluster, Object
from ..engine import Capabilities, NotServed
from ..protocol import Refused, Reply, no_response
from .manifests import GRPC, PORT, Made
from .names import MANAGED, MANAGER, labels, service_of

_TRIES = 5
_RELEASE = r"v\d+-[0-9a-f]{8}"
_PAUSE = 0.25
_WANTED = ("Accepted", "ResolvedRefs")
_GRPC_PATH = "/inference.GRPCInferenceService"
_MIRROR = "HTTPRouteRequestMirror"
INSTALL = "Install the Gateway API (https://gateway-api.sigs.k8s.io/guides) with a controller"


class Gateway:
    """Routes of models on a Gateway. See `sharing.Sharing`.

    Args:
        name: `name` or `namespace/name`; "" for none, when requests can only be moved all at once.
        hostname: of the routes; "" for all of the Gateway's.
    """

    def __init__(self, name: str, hostname: str) -> None:
        self._name, self._hostname = name, hostname
        self._known: bool | None = None

    def capabilities(self, cluster: Cluster) -> Capabilities:
        """See `Sharing`.

        Raises:
            BadInput: the Gateway does not exist, or the cluster has no Gateway API.
        """
        if not self._name:
            return Capabilities(lacking="Set `gateway`: without one a Service leads to one version alone")
        route = self.route(cluster, "any")
        if not route:
            fix = f"{INSTALL}, or leave out `gateway`"
            raise BadInput(f"Cannot use the Gateway {self._name}: the cluster does not know HTTPRoute", fix=fix)
        if route.mirrors():
            return Capabilities(weights=True, mirror=True)
        return Capabilities(weights=True, lacking=f"The GatewayClass of {self._name} cannot mirror requests")

    def route(self, cluster: Cluster, model: str) -> Route | None:
        """See `Sharing`."""
        if self._known is None:
            self._known = bool(self._name) and _knows_routes(cluster)
        return Route(cluster, self._name, self._hostname, model) if self._known else None

    def objects(self, model: str, shares: Mapping[str, int]) -> list[Made]:
        """See `Sharing`."""
        return [http_route(self._name, self._hostname, model, shares)] if self._name else []


class Route:
    """The HTTPRoute of a model, on a Gateway. See `sharing.Route`.

    Args:
        cluster: where.
        gateway: `name` or `namespace/name` of the Gateway.
        hostname: of the route; "" for all of the Gateway's.
        model: its name in the registry.
        timeout: seconds until the Gateway must have taken a change.
    """

    def __init__(self, cluster: Cluster, gateway: str, hostname: str, model: str, timeout: float = 60.0) -> None:
        self._cluster, self._gateway, self._hostname, self._timeout = cluster, gateway, hostname, timeout
        self._model, self._service = model, service_of(model)

    def shares(self) -> dict[str, int]:
        """The weight of each release in the route; none when there is no route."""
        found = self._cluster.get(HTTP_ROUTE, self._service)
        rules = ((found or {}).get("spec") or {}).get("rules") or []
        refs = [ref for rule in rules for ref in rule.get("backendRefs") or [] if self._own(ref)]
        return {self._release(ref): ref.get("weight", 1) for ref in refs}

    def split(self, shares: Mapping[str, int], mirror: str = "") -> None:
        """Give releases these weights, and one of them copies of the requests; returns when the Gateway has it.

        What others have put into the route is left alone.

        Raises:
            NotServed: the Gateway does not accept the route, or does not find a Service.
        """
        kind, made = http_route(self._gateway, self._hostname, self._model, shares, mirror)
        for left in reversed(range(_TRIES)):
            found = self._cluster.get(HTTP_ROUTE, self._service)
            if found is None:
                applied = self._cluster.apply(kind, made)
                break
            if (found["metadata"].get("labels") or {}).get(MANAGED) != MANAGER:
                raise NotServed(
                    f"the HTTPRoute {self._service} belongs to somebody else", fix="Rename it, or the model"
                )
            wanted = {
                **found["spec"],
                "rules": self._merged(found["spec"].get("rules") or [], made["spec"]["rules"], shares, mirror),
            }
            wanted["parentRefs"] = found["spec"].get("parentRefs") or made["spec"]["parentRefs"]
            if wanted == found["spec"]:
                applied = found
                break
            try:
                version = found["metadata"]["resourceVersion"]
                change: Object = {"metadata": {"resourceVersion": version}, "spec": wanted}
                applied = self._cluster.patch(HTTP_ROUTE, self._service, change, repeat=False)
                break
            except HttpError as error:
                if error.status != 409 or not left:
                    raise
        self._wait(applied["metadata"]["generation"])

    def delete(self) -> None:
        """Take the route away, if it is ours."""
        found = self._cluster.get(HTTP_ROUTE, self._service)
        if found and (found["metadata"].get("labels") or {}).get(MANAGED) == MANAGER:
            self._cluster.delete(HTTP_ROUTE, self._service)

    def public(self) -> Through:
        """The way that users' requests take."""
        gateway = self._read_gateway()
        listeners = ((gateway or {}).get("spec") or {}).get("listeners") or []
        addresses = [one["value"] for one in ((gateway or {}).get("status") or {}).get("addresses") or []]
        listener: Object = next((one for one in listeners if one.get("protocol") in ("HTTP", "HTTPS")), {})
        scheme = str(listener.get("protocol") or "http").lower()
        port = int(listener.get("port") or (443 if scheme == "https" else 80))
        address = addresses[0] if addresses else self._hostname
        unread = f" (the Gateway {self._gateway} may not be read with these rights, so its address is not known)"
        hostname = self._hostname or address or self._gateway
        return Through(scheme, address, port, hostname, "" if gateway else unread)

    def mirrors(self) -> bool:
        """Whether the Gateway's controller may mirror requests: not if it lists what it can do without that.

        One that lists nothing, or may not be seen, refuses the route if it cannot.

        Raises:
            BadInput: there is no such Gateway.
        """
        namespace, _, name = self._gateway.rpartition("/")
        try:
            gateway = self._cluster.get(GATEWAY, name, namespace)
            if gateway is None:
                where = namespace or self._cluster.namespace
                what = f"The Gateway {name} does not exist in the namespace {where}"
                raise BadInput(what, fix="Correct `gateway`: `name` or `namespace/name`")
            found = self._cluster.get(GATEWAY_CLASS, gateway["spec"]["gatewayClassName"])
        except HttpError:
            return True
        features = ((found or {}).get("status") or {}).get("supportedFeatures") or []
        names = [one.get("name") if isinstance(one, dict) else one for one in features]
        return not names or _MIRROR in names

    def _read_gateway(self) -> Object | None:
        namespace, _, name = self._gateway.rpartition("/")
        try:
            return self._cluster.get(GATEWAY, name, namespace)
        except HttpError as error:
            if error.status == 403:
                return None  # it is in another namespace, and only its hostname is known then
            raise

    def _own(self, ref: Mapping[str, Any]) -> bool:
        name = str(ref.get("name") or "")
        here = ref.get("namespace") in (None, self._cluster.namespace)
        ours = re.fullmatch(rf"{self._service}-{_RELEASE}", name)
        return ref.get("kind", "Service") == "Service" and here and bool(ours)

    def _release(self, ref: Mapping[str, Any]) -> str:
        return str(ref["name"]).removeprefix(f"{self._service}-")

    def _merged(
        self, rules: Sequence[Object], own: Sequence[Object], shares: Mapping[str, int], mirror: str
    ) -> list[Object]:
        """The rules with our references changed; those of ours that are not there are added."""
        merged, ports = deepcopy(list(rules)), set[int]()
        for rule in merged:
            refs = rule.get("backendRefs") or []
            port = next((int(ref["port"]) for ref in refs if self._own(ref)), 0)
            if not port:
                continue
            ports.add(port)
            rule["backendRefs"] = [*_refs(self._service, port, shares), *(ref for ref in refs if not self._own(ref))]
            filters = [one for one in rule.get("filters") or [] if not self._mirrors_own(one)]
            rule["filters"] = [*filters, *([_mirror(self._service, port, mirror)] if mirror else [])]
            if not rule["filters"]:
                del rule["filters"]
        return [*merged, *(rule for rule in own if rule["backendRefs"][0]["port"] not in ports)]

    def _mirrors_own(self, one: Mapping[str, Any]) -> bool:
        return one.get("type") == "RequestMirror" and self._own(one["requestMirror"]["backendRef"])

    def _wait(self, generation: int) -> None:
        """Until our Gateway has accepted this state of the route and found all Services."""
        clock, namespace, name = self._cluster.clock, *self._gateway.rpartition("/")[::2]
        until = clock.now() + self._timeout
        while True:
            found = self._cluster.get(HTTP_ROUTE, self._service) or {}
            conditions = [
                condition
                for parent in (found.get("status") or {}).get("parents") or []
                if parent["parentRef"].get("name") == name
                and (parent["parentRef"].get("namespace") or self._cluster.namespace)
                == (namespace or self._cluster.namespace)
                for condition in parent.get("conditions") or []
                if condition.get("observedGeneration", 0) >= generation
            ]
            states = {one["type"]: one for one in conditions}
            wrong = [
                states[one] for one in ("Accepted", "ResolvedRefs") if states.get(one, {}).get("status") == "False"
            ]
            late = clock.now() >= until
            if wrong and (late or wrong[0].get("reason") not in ("BackendNotFound", "Pending")):
                text = f"{wrong[0].get('reason')}: {wrong[0].get('message')}"
                raise NotServed(f"the Gateway {self._gateway} does not take the HTTPRoute {self._service}: {text}")
            if not wrong and {*_WANTED} <= states.keys():
                return
            if late:
                raise NotServed(
                    f"the Gateway {self._gateway} has not picked up the HTTPRoute {self._service}"
                    f" within {self._timeout:g} s",
                    fix="Check that `gateway` exists, that its controller runs, and that it allows routes of this"
                    " namespace",
                )
            clock.wait(_PAUSE)


class Through:
    """A transport through a Gateway, as its users' requests go. See `serving.protocol.Transport`.

    Args:
        scheme: http or https.
        address, port: of the Gateway; the address is "" while it has none.
        hostname: that is asked for.
        hint: is added to what is said when it cannot be reached.
    """

    def __init__(self, scheme: str, address: str, port: int, hostname: str, hint: str = "") -> None:
        self._hint = hint
        shown = "" if port == (443 if scheme == "https" else 80) else f":{port}"
        self.address = f"{address}:{port}"
        self.url, self._headers = f"{scheme}://{hostname}{shown}", {"Host": f"{hostname}{shown}"}
        names = {"server_hostname": hostname, "assert_hostname": hostname} if scheme == "https" else {}
        self._pool: urllib3.HTTPConnectionPool | None = None
        if address:
            self._pool = urllib3.connection_from_url(f"{scheme}://{self.address}", retries=False, maxsize=4, **names)

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        """See `Transport`."""
        if self._pool is None:
            raise Refused(0, f"{self.url} has no address yet: set `hostname`, or wait for the Gateway to get one")
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            got = self._pool.request(
                "GET" if data is None else "POST", path, body=data, headers=headers, timeout=timeout, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise Refused(0, f"{no_response(self.url, error, timeout)}{self._hint}") from None
        return Reply(got.status, {name.lower(): value for name, value in got.headers.items()}, got.data)


def http_route(gateway: str, hostname: str, model: str, shares: Mapping[str, int], mirror: str = "") -> Made:
    """The route of a model as we make it.

    With a hostname it takes gRPC, too; the path of such a request does not name the model. That is a rule of the
    HTTPRoute, since a listener takes no GRPCRoute for a hostname that an HTTPRoute has.

    Args:
        gateway: `name` or `namespace/name`.
        hostname: of the route; "" for all of the Gateway's.
        model: its name in the registry.
        shares: the weight of each release.
        mirror: the release that gets copies of the requests; "" for none.
    """
    (namespace, _, name), service = gateway.rpartition("/"), service_of(model)
    parent = {"group": GATEWAY.group, "kind": GATEWAY.kind, "name": name}
    paths = {PORT: f"/v2/models/{model}", **({GRPC: _GRPC_PATH} if hostname else {})}
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": _refs(service, port, shares),
            **({"filters": [_mirror(service, port, mirror)]} if mirror else {}),
        }
        for port, path in paths.items()
    ]
    spec: Object = {
        "parentRefs": [{**parent, **({"namespace": namespace} if namespace else {})}],
        **({"hostnames": [hostname]} if hostname else {}),
        "rules": rules,
    }
    return HTTP_ROUTE, {"metadata": {"name": service, "labels": labels(model)}, "spec": spec}


def _refs(service: str, port: int, shares: Mapping[str, int]) -> list[Object]:
    return [{**_backend(service, port, release), "weight": share} for release, share in shares.items()]


def _backend(service: str, port: int, release: str) -> Object:
    return {"group": "", "kind": "Service", "name": f"{service}-{release}", "port": port}


def _mirror(service: str, port: int, release: str) -> Object:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": _backend(service, port, release)}}


def _knows_routes(cluster: Cluster) -> bool:
    """Whether the cluster has the Gateway API, in the version that we speak."""
    try:
        return HTTP_ROUTE.version in cluster.versions(HTTP_ROUTE)
    except ClusterRefused:
        return False
