"""Sign a version of a model, or find whose signature of it is right; runs in the environment `signing`.

    python signing_worker.py REQUEST RESULT < SECRET

The request (JSON) has the version's `name`, and under `digests` the SHA-256 of each signed file in hex by its path.
With `sign`, the result is a Sigstore bundle, made with the private key (`key`) or the OIDC token (`keyless`) that
standard input has. Otherwise it is `{"signer": …, "faults": […]}` of the files `signatures`: the position in `signers`
of the first one who has signed, or what is wrong with each file, null where it is of none of them. A signer is
`{"key": file}`, or an `issuer` and a `subject`, with GitHub's also the `repository` and the `ref` whose run it was.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_signing import hashing, manifest, signing, verifying
from sigstore.models import Bundle
from sigstore.verify import policy


class Known(hashing.Config):  # type: ignore[misc]
    """Says what the digests of the files are, in the place of reading the files."""

    def __init__(self, name: str, digests: Mapping[str, str]) -> None:
        super().__init__()
        kind = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
        items = [
            kind.new_item(path, manifest.hashing.Digest("sha256", bytes.fromhex(one))) for path, one in digests.items()
        ]
        self._known = manifest.Manifest(name, items, kind)

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
        """The digests as Model Signing keeps them."""
        return self._known


def sign(request: Mapping[str, Any], result: Path) -> None:
    """Write the bundle."""
    config = signing.Config().set_hashing_config(Known(request["name"], request["digests"]))
    if request["sign"] == "key":
        config.use_elliptic_key_signer(private_key="/dev/stdin")  # so that no file ever has it
    else:
        config.use_sigstore_signer(identity_token=sys.stdin.read())
    config.sign(request["name"], result)


def verify(request: Mapping[str, Any]) -> dict[str, Any]:
    """Whose signature is right."""
    known = Known(request["name"], request["digests"])
    checks = [_check(signer, known) for signer in request["signers"]]
    faults = []
    for path in map(Path, request["signatures"]):
        found = [_fault(path, check, request) for check in checks]
        if "" in found:
            return {"signer": found.index(""), "faults": []}
        faults.append(next(filter(None, found), None))
    return {"signer": None, "faults": faults}


def _check(signer: Mapping[str, str], known: Known) -> Callable[[Path], None]:
    """What raises an error unless the signature in a file is the signer's, and of what is known."""
    config = verifying.Config().set_hashing_config(known)
    if "key" in signer:
        config.use_elliptic_key_verifier(public_key=signer["key"])
    else:
        config.use_sigstore_verifier(identity=signer["subject"], oidc_issuer=signer["issuer"])

    def check(path: Path) -> None:
        config.verify("", path)
        if signer.get("repository"):
            certificate = Bundle.from_json(path.read_bytes()).signing_certificate
            policy.OIDCSourceRepositoryURI(signer["repository"]).verify(certificate)
            policy.OIDCSourceRepositoryRef(signer["ref"]).verify(certificate)

    return check


def _fault(path: Path, check: Callable[[Path], None], request: Mapping[str, Any]) -> str | None:
    """What is wrong with a signature of one signer; "" when it is right, None when it is not that one's."""
    try:
        check(path)
    except Exception as error:  # the file may hold whatever anybody wrote
        if not str(error).startswith("Signature mismatch"):
            return None
        statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))
        of = statement["subject"][0]["name"]
        if of != request["name"]:
            return f"its signature is of {of}"
        signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
        now = request["digests"]
        changed = sorted(name for name in {*signed, *now} if signed.get(name) != now.get(name))
        return f"it is not what was signed: {', '.join(changed[:5])}"
    return ""


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_bytes())
    if asked.get("sign"):
        sign(asked, Path(sys.argv[2]))
    else:
        Path(sys.argv[2]).write_text(json.dumps(verify(asked)), encoding="utf-8")
