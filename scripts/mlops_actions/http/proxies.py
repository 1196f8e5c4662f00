"""The proxy that the usual variables name for a URL.

`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case; lower case wins, as in curl. `requests` has
such a function too, but it sets variables of the process on its way, which threads do not take well.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str:
    """The URL of the proxy for requests to a URL; "" for none."""

    def variable(name: str) -> str:
        return environ.get(name) or environ.get(name.upper(), "")

    proxy = variable(f"{urlsplit(url).scheme}_proxy") or variable("all_proxy")
    if not proxy or _without(url, variable("no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _without(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a URL's host: by name, by a domain that it is in, by address or network, or by `*`.

    A name with a port is for that port only, as in Go and so in kubectl.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    names = [name.strip().lower() for name in no_proxy.split(",")]
    if "*" in names or host in names:
        return True
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        domains = tuple("." + name.removeprefix("*").lstrip(".") for name in names if name)
        return f".{host}".endswith(domains) or f".{parts.hostname}".endswith(domains)
    return any(address in network for network in map(_network, names) if network)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """An address or a network; None for a name."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
