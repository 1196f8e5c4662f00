"""Connections to Kubeflow Pipelines (KFP) and to who signs in to it: certificates, and what corrects faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ....errors import BadInput
from ....http.client import Auth, HttpClient
from ....http.faults import HttpError, Remedies, is_url, shown
from ....http.tls import Tls, machine_authority, read_pem

if TYPE_CHECKING:
    from ....inputs import KfpInputs


class ApiError(HttpError):
    """A response that is an error, or no response.

    Args, and attributes beside those of `HttpError` (`status` is 401 when there was nothing to sign in with):
        code: gRPC's, as KFP has it in the response; 0 when there is none.
        message: the server's own words.
    """

    def __init__(self, what: str, *, code: int = 0, message: str = "", **about: Any) -> None:
        super().__init__(what, **about)
        self.code, self.message = code, message


_REMEDIES = Remedies(
    authority="Set `kfp-ca` to the certificate of its CA",
    identity="Set `kfp-client-certificate` and `kfp-client-key`",
)


def connect(inputs: KfpInputs, environ: Mapping[str, str], folder: Path, auth: Auth | None = None) -> HttpClient:
    """A client with the certificates that the inputs name.

    Args:
        inputs: name the certificates.
        environ: variables, for proxies and CA bundles.
        folder: what paths are relative to.
        auth: the sign-in.

    Raises:
        BadInput: a certificate, key or CA cannot be used.
    """
    if inputs.kfp_client_key and not inputs.kfp_client_certificate:
        raise BadInput("`kfp-client-key` is set without a certificate", fix="Set `kfp-client-certificate` too")
    tls = Tls(
        authority=read_pem(inputs.kfp_ca, "`kfp-ca`", folder) or machine_authority(environ),
        certificate=read_pem(inputs.kfp_client_certificate, "`kfp-client-certificate`", folder),
        key=read_pem(inputs.kfp_client_key, "`kfp-client-key`", folder),
        names=("`kfp-ca`", "`kfp-client-certificate`"),
    )
    tls.context()  # a certificate that cannot be used is told before the first request
    return HttpClient(environ, tls=lambda: tls, auth=auth, remedies=_REMEDIES, error=ApiError)


def address_of(host: str) -> str:
    """`kfp-host` without what people copy with it from a browser: a fragment, a query, a slash at the end.

    Raises:
        BadInput: it is not the URL of a server, or has a password in it.
    """
    fix = "Set `kfp-host` to the URL of Kubeflow Pipelines, such as `https://kubeflow.example.com`"
    if not host:
        raise BadInput("`kfp-host` is not set", fix=fix)
    if not is_url(host.strip()):
        raise BadInput(f"`kfp-host` is not a URL: {shown(host)!r}", fix=fix)
    parts = urlsplit(host.strip())
    if "@" in parts.netloc:
        raise BadInput("`kfp-host` has a user in it", fix="Leave it out, and set `kfp-sign-in` and `kfp-token`")
    path = parts.path.partition("/apis/")[0].rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
