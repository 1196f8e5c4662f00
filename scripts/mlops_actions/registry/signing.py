"""Signatures of versions by OpenSSF Model Signing: who may write to the store cannot make one without the key.

A signature is a Sigstore bundle over an in-toto statement (https://model_signing/signature/v1.0) with the digests of a
folder's files: `manifest.json` is the version's manifest as it stands in the store, and `model/` has its files by the
manifest's paths. So `model_signing verify` accepts it, too. It is beside the manifest, in
`models/<name>/versions/<n>/signatures/`, and named by the digest of its own bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput, RemoteFailed
from ..http.client import HttpClient
from ..http.job_token import job_token
from ..http.tokens import claims_of
from ..untrusted import visible
from ..workspace import Workspace
from .manifest import Manifest
from .registry import Registry

_WORKER = Path(__file__).with_name("signing_worker.py")
_SECONDS = 120.0
"""For a signature with a key it takes one; keyless, Sigstore has to answer."""
GITHUB, GITHUB_ISSUER = "https://github.com", "https://token.actions.githubusercontent.com"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MAKE = (
    "Make a pair: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signing.pem` and"
    " `openssl pkey -in signing.pem -pubout -out signing.pub`"
)


@dataclass(frozen=True)
class Signer:
    """Whose signature it is: of a key, or of an identity that an OIDC issuer vouches for.

    Attributes:
        key: the public key, PEM.
        issuer, subject: URL of the issuer, and whom it vouches for: GitHub for a workflow, whoever calls that.
        repository, ref: with GitHub, URL of the repository and the ref whose run called the workflow.
    """

    key: str = ""
    issuer: str = ""
    subject: str = ""
    repository: str = ""
    ref: str = ""

    def __str__(self) -> str:
        """The key with the SHA-256 of its PEM file, or the identity."""
        if self.key:
            return f"the key sha256:{hashlib.sha256(self.key.encode()).hexdigest()}"
        called = f" for {self.repository}@{self.ref}" if self.repository else ""
        return f"{self.subject}{called} ({self.issuer})"


@dataclass(frozen=True)
class Pen:
    """What a version is signed with: who it is, and the private key or the OIDC token."""

    signer: Signer
    secret: str


def pen_of_key(private: str) -> Pen:
    """Sign with a private key.

    Args:
        private: an EC key on P-256, P-384 or P-521, PEM without a password.

    Raises:
        BadInput: it is not one.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        encrypted = isinstance(error, TypeError)
        why = "It is encrypted with a password" if encrypted else "It is not a private key in PEM that can be used"
        raise BadInput("Cannot sign with `signing-key`", why=why, fix=_MAKE) from None
    return Pen(Signer(_public(key.public_key(), "`signing-key`")), private)


def pen_of_job(workspace: Workspace) -> Pen:
    """Sign by the job's own identity on GitHub, for which Sigstore gives a certificate of ten minutes.

    Raises:
        BadInput: the job may not ask for a token.
        HttpError: GitHub did not give one.
    """
    token = job_token(HttpClient(workspace.environ), workspace.environ, "sigstore", wanted_by="sign: keyless")
    workspace.console.mask(token)
    claims = {name: str(value) for name, value in claims_of(token).items()}
    workflow, repository = (f"{GITHUB}/{claims.get(name, '')}" for name in ("job_workflow_ref", "repository"))
    return Pen(Signer("", claims.get("iss", ""), workflow, repository, claims.get("ref", "")), token)


def signer_of_file(path: Path) -> Signer:
    """Who has the private key to a public one in a file.

    Raises:
        BadInput: it cannot be read, or is not a public key that a version can be signed with.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    what = f"The key {path} of `signed-by`"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{what} cannot be read", why=error.strerror or str(error), fix="Correct the policy") from None
    if b"PRIVATE KEY" in data:
        raise BadInput(f"{what} is a private key", fix=f"Keep that as a secret, and name the public key. {_MAKE}")
    try:
        return Signer(_public(load_pem_public_key(data), what))
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput(f"{what} is not a public key in PEM", fix=_MAKE) from None


def sign(registry: Registry, manifest: Manifest, workspace: Workspace, pen: Pen) -> bool:
    """Sign a version, unless this signer has; whether it was signed now.

    Raises:
        RemoteFailed: the manifest in the store is another one; or Sigstore cannot be used.
    """
    if verified(registry, manifest, workspace, [pen.signer])[0]:
        return False
    how = "key" if pen.signer.key else "keyless"
    bundle = _call(registry, manifest, workspace, {"sign": how}, pen.secret)
    registry.add_signature(manifest, bundle)
    return True


def verified(
    registry: Registry, manifest: Manifest, workspace: Workspace, signers: Sequence[Signer]
) -> tuple[Signer | None, str]:
    """Who of the signers has signed a version, and how that was found, in words: a signature that is right is enough.

    Raises:
        RemoteFailed: the manifest in the store is another one; or the certificates of Sigstore cannot be had.
    """
    signatures = registry.signatures(manifest)
    if not signatures:
        return None, "it is not signed"
    with tempfile.TemporaryDirectory(prefix="mlops-signing-") as scratch:
        folder = Path(scratch)
        paths = [folder / f"{number}.sig" for number in range(len(signatures))]
        for path, data in zip(paths, signatures):
            path.write_bytes(data)
        asked = []
        for number, signer in enumerate(signers):
            asked.append({name: value for name, value in vars(signer).items() if value})
            if signer.key:
                (folder / f"{number}.pub").write_text(signer.key)
                asked[-1]["key"] = str(folder / f"{number}.pub")
        request = {"signatures": [str(path) for path in paths], "signers": asked}
        found: dict[str, Any] = json.loads(_call(registry, manifest, workspace, request))
    if found["signer"] is None:
        other = "its signature is not by one of `signed-by`; it names"
        others = (f"{other} {one}" if one else "its signature cannot be read" for one in map(named, signatures))
        return None, "; ".join(dict.fromkeys(fault or one for fault, one in zip(found["faults"], others)))
    return signers[found["signer"]], f"signed by {signers[found['signer']]}"


def named(signature: bytes) -> str:
    """Whom a signature names: a key, or the subject of a certificate; "" when it is not a signature. That is not
    verified, and may be anything."""
    from cryptography.x509 import SubjectAlternativeName, load_der_x509_certificate

    try:
        material = json.loads(signature)["verificationMaterial"]
        if "publicKey" in material:
            return visible(f"the key sha256:{material['publicKey']['hint']}", 200)
        certificate = load_der_x509_certificate(base64.b64decode(material["certificate"]["rawBytes"]))
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        return visible(str(next(iter(names)).value), 200)
    except Exception:  # anybody may have written it
        return ""


def _public(key: Any, what: str) -> str:
    """A public key as PEM.

    Raises:
        BadInput: it is of another kind or curve than Model Signing takes.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise BadInput(f"{what} is not an EC key on P-256, P-384 or P-521", fix=_MAKE)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _call(
    registry: Registry, manifest: Manifest, workspace: Workspace, more: dict[str, Any], secret: str = ""
) -> bytes:
    """What the worker makes of a version.

    Raises:
        RemoteFailed: it failed, or the environment cannot be made.
    """
    digests = {f"model/{file.path}": file.digest for file in manifest.files}
    digests["manifest.json"] = f"sha256:{hashlib.sha256(registry.stored(manifest)).hexdigest()}"
    request = {
        "name": f"{manifest.name}/{manifest.version}",
        "digests": {path: digest.removeprefix("sha256:") for path, digest in digests.items()},
        **more,
    }
    python = workspace.environment("signing").python
    environ = {k: v for k, v in workspace.child_environ().items() if not k.startswith(("AWS_", "MLOPS_"))}
    with tempfile.TemporaryDirectory(prefix="mlops-signing-") as scratch:
        asked, result = Path(scratch) / "request.json", Path(scratch) / "result.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [str(python), str(_WORKER), str(asked), str(result)]
        try:
            done = subprocess.run(
                command, input=secret, capture_output=True, text=True, env=environ, timeout=_SECONDS, check=False
            )
            if done.returncode == 0:
                return result.read_bytes()
            text = workspace.console.hide(done.stderr.strip())
        except subprocess.TimeoutExpired:
            text = f"It did not end within {_SECONDS:g} s"
    keyless = more.get("sign") == "keyless" or any("issuer" in one for one in more.get("signers", ()))
    doing = "sign" if "sign" in more else "verify the signatures of"
    raise RemoteFailed(
        f"Cannot {doing} version {manifest.version} of {manifest.name}",
        why=text.splitlines()[-1] if text else "The process that does it ended early",
        fix="Let this machine reach fulcio, rekor and tuf-repo-cdn of sigstore.dev" if keyless else "",
        log=text,
    )
