"""Which cluster, and as whom: a kubeconfig from files, from a secret, or a pod's own service account.

Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..http.faults import is_url, shown
from ..http.tls import read_file
from ..suggest import did_you_mean
from .sources import Config, Entry, read, unbase64

if TYPE_CHECKING:
    from ..inputs import ClusterInputs

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account's token, certificate authority and namespace."""


@dataclass(frozen=True)
class Material:
    """A certificate, key or token: as such, or in a file that may change."""

    text: str = ""
    path: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.path)

    def __repr__(self) -> str:
        return f"Material(path={self.path!r})" if self.path else "Material(…)"

    def read(self) -> str:
        """What it is now; "" if it is not given.

        Raises:
            BadInput: the file cannot be read.
        """
        fix = "Take the output of `kubectl config view --raw --flatten --minify`, which needs no other file"
        return read_file(Path(self.path), "a file that the kubeconfig names", fix).strip() if self.path else self.text


@dataclass(frozen=True)
class Plugin:
    """A program that gives credentials, as `users[].user.exec` names it.

    Attributes:
        command, arguments: what is called; a command with a `/` is relative to the kubeconfig's folder.
        environ: variables on top of ours.
        version: the API version that it speaks.
        hint: what its author says to who does not have it.
        cluster: what it is told of the cluster; empty if it does not ask for that.
    """

    command: str
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    version: str = ""
    hint: str = ""
    cluster: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """The API server, and how to trust it."""

    url: str
    authority: Material = Material()
    insecure: bool = False
    name: str = ""
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True)
class User:
    """How to sign in; all empty for nobody. `impersonate` is sent as headers."""

    name: str = ""
    token: Material = Material()
    certificate: Material = Material()
    key: Material = Material()
    basic: str = field(default="", repr=False)
    plugin: Plugin | None = None
    impersonate: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Settings:
    """A context, resolved."""

    server: Server
    user: User
    namespace: str


def resolve(inputs: ClusterInputs, environ: Mapping[str, str]) -> Settings:
    """Find the kubeconfig, or the service account of the pod that this runs in, and take its context apart.

    Raises:
        BadInput: there is none, it is wrong, or it has no such context, cluster or user.
    """
    config = read(inputs.kubeconfig.get_secret_value(), environ)
    if config is None:
        return _in_cluster(inputs.namespace, environ)
    context = _context(config, inputs.kube_context)
    place = f"the context {context.name} of the kubeconfig"
    cluster = _named(config.clusters, "cluster", str(context.body.get("cluster", "")), place)
    user = str(context.body.get("user") or "")
    server = _server(cluster)
    return Settings(
        server,
        _user(_named(config.users, "user", user, place), server) if user else User(),
        inputs.namespace or str(context.body.get("namespace") or "default"),
    )


def _context(config: Config, wanted: str) -> Entry:
    contexts = config.contexts
    name = wanted or config.current
    if not name and len(contexts) == 1:
        return next(iter(contexts.values()))
    if not name:
        raise BadInput(
            "The kubeconfig has no current context", fix=f"Name one by `kube-context`; there are: {_list(contexts)}"
        )
    return _named(contexts, "context", name, "`kube-context`" if wanted else "`current-context` of the kubeconfig")


def _named(entries: Mapping[str, Entry], what: str, name: str, place: str) -> Entry:
    if name in entries:
        return entries[name]
    raise BadInput(
        f"The kubeconfig has no {what} `{name}`, which {place} names",
        fix=did_you_mean(name, entries, "It has: {}"),
    )


def _list(names: Mapping[str, Entry]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _server(cluster: Entry) -> Server:
    url = str(cluster.body.get("server") or "").rstrip("/")
    if not is_url(url):
        raise BadInput(
            f"`server` of the cluster `{cluster.name}` in the kubeconfig is not a URL",
            why=f"It is {shown(url) or 'empty'}",
            fix="Give it as https://host:port",
        )
    proxy = str(cluster.body.get("proxy-url") or "")
    return Server(
        url,
        _material(cluster, "certificate-authority"),
        bool(cluster.body.get("insecure-skip-tls-verify")),
        str(cluster.body.get("tls-server-name") or ""),
        proxy,
    )


def _user(user: Entry, server: Server) -> User:
    body = user.body
    if body.get("auth-provider"):
        raise BadInput(
            f"The user `{user.name}` of the kubeconfig has an `auth-provider` to sign in by",
            why="Kubernetes 1.26 replaced these by programs",
            fix="Use `exec` (gke-gcloud-auth-plugin, kubelogin), or a service account's token",
        )
    file = str(body.get("tokenFile") or "")
    token = Material(path=_beside(user, file)) if file else Material(str(body.get("token") or "").strip())
    basic = f"{body['username']}:{body['password']}" if body.get("username") and body.get("password") else ""
    impersonate = [("Impersonate-User", str(body["as"]))] if body.get("as") else []
    impersonate += [("Impersonate-Uid", str(body["as-uid"]))] if body.get("as-uid") else []
    impersonate += [("Impersonate-Group", str(group)) for group in body.get("as-groups") or []]
    return User(
        user.name,
        token,
        _material(user, "client-certificate"),
        _material(user, "client-key"),
        basic,
        _plugin(user, server) if body.get("exec") else None,
        tuple(impersonate),
    )


def _plugin(user: Entry, server: Server) -> Plugin:
    body = user.body["exec"]
    if not isinstance(body, Mapping) or not body.get("command") or not body.get("apiVersion"):
        raise BadInput(f"`exec` of the user `{user.name}` of the kubeconfig needs `command` and `apiVersion`")
    if body.get("interactiveMode") == "Always":
        raise BadInput(
            f"The program `{body['command']}` of the user `{user.name}` asks a person to sign in",
            fix="Use a kubeconfig for machines: a service account's token, or a program that needs no terminal",
        )
    command = str(body["command"])
    about: dict[str, Any] = {}
    if body.get("provideClusterInfo"):
        about = {"server": server.url, "tls-server-name": server.name, "insecure-skip-tls-verify": server.insecure}
        about["certificate-authority-data"] = base64.b64encode(server.authority.read().encode()).decode()
    return Plugin(
        _beside(user, command) if "/" in command else command,
        tuple(str(argument) for argument in body.get("args") or []),
        {str(item["name"]): str(item["value"]) for item in body.get("env") or []},
        str(body["apiVersion"]),
        str(body.get("installHint") or ""),
        about,
    )


def _material(entry: Entry, key: str) -> Material:
    """`key-data`, which is base64, or the file that `key` names."""
    data = str(entry.body.get(f"{key}-data") or "")
    if data:
        text = unbase64("".join(data.split()))
        if not text:
            raise BadInput(f"`{key}-data` of `{entry.name}` in the kubeconfig is not base64 of text")
        return Material(text)
    path = str(entry.body.get(key) or "")
    return Material(path=_beside(entry, path)) if path else Material()


def _beside(entry: Entry, path: str) -> str:
    """A path of a kubeconfig is relative to its file."""
    return str((entry.folder or Path()) / Path(path).expanduser())


def _in_cluster(namespace: str, environ: Mapping[str, str]) -> Settings:
    host, port = (environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    token = SERVICE_ACCOUNT / "token"
    if not host or not token.is_file():
        raise BadInput(
            "No cluster is given",
            why="`kubeconfig` and KUBECONFIG are empty, there is no ~/.kube/config, and this is not a pod",
            fix="Set `kubeconfig` to a secret with the output of `kubectl config view --raw --flatten --minify`",
        )
    own = SERVICE_ACCOUNT / "namespace"
    namespace = namespace or (own.read_text().strip() if own.is_file() else "") or "default"
    host = f"[{host}]" if ":" in host else host
    authority = Material(path=str(SERVICE_ACCOUNT / "ca.crt"))
    return Settings(Server(f"https://{host}:{port}", authority), User(token=Material(path=str(token))), namespace)
