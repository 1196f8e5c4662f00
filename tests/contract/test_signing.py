"""Signatures of versions, with real keys: what OpenSSL and Model Signing's own command accept, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest

import servers
from conftest import Run
from doubles.sign_in import GitHub, Reply
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.registry.manifest import Manifest
from mlops_actions.registry.policy import read_policy
from mlops_actions.registry.promoting import signature
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry, manifest_path
from mlops_actions.registry.signing import GITHUB_ISSUER, Signer, pen_of_job, pen_of_key, sign, signer_of_file, verified
from mlops_actions.runtime.chain import NAMES
from mlops_actions.stores.store import Store, blob_path, to_json
from mlops_actions.workspace import Workspace
from workspaces import Remembering, workspace


def openssl(*arguments: str | Path) -> str:
    command = ["openssl", *(str(one) for one in arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def pair(folder: Path, name: str = "signing", algorithm: Sequence[str] = ("EC", "ec_paramgen_curve:P-256")) -> str:
    """A new pair of keys, as the README makes it: `<name>.pub`, and the private one's text."""
    private = folder / f"{name}.pem"
    options = [part for option in algorithm[1:] for part in ("-pkeyopt", option)]
    openssl("genpkey", "-algorithm", algorithm[0], *options, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", folder / f"{name}.pub")
    return private.read_text()


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return environments.ensure("signing", environments.cache_folder()).python
    except EnvironmentFailed as error:
        pytest.skip(f"no packages: {error}")


@dataclass(frozen=True)
class World:
    """A consumer's folder with a pair of keys and a policy that asks for it, and two versions of `m`, one file each."""

    workspace: Workspace
    registry: Registry
    private: str

    def signed(self, version: int = 1) -> Manifest:
        manifest = self.registry.manifest("m", version)
        sign(self.registry, manifest, self.workspace, pen_of_key(self.private))
        return manifest

    def found(self, version: int = 1) -> tuple[bool, str]:
        """What the policy says of a version as it is in the store now."""
        policy = read_policy(self.workspace.path("policy.yaml"), NAMES)
        (answer,) = signature(self.registry, self.registry.manifest("m", version), policy, self.workspace)
        return answer.met, answer.found

    def signatures(self, version: int = 1) -> Path:
        return self.workspace.home / f"store/models/m/versions/{version}/signatures"


@pytest.fixture
def world(python: Path, tmp_path: Path) -> World:
    made = replace(workspace(tmp_path), cache=environments.cache_folder())
    registry = Registry(made.store)
    (tmp_path / "policy.yaml").write_text("requires: []\nsigned-by:\n- key: signing.pub\n")
    for number in (1, 2):
        model = tmp_path / f"{number}.bin"
        model.write_text(f"model {number}")
        register(registry, Registration("m", model))
    return World(made, registry, pair(tmp_path))


def test_register_model_signs_what_openssl_and_model_signing_verify(python: Path, mlops: Run, tmp_path: Path) -> None:
    private = pair(tmp_path)
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "a.bin").write_text("a")
    (tmp_path / "model" / "sub" / "b c.bin").write_text("b")
    environ = {"MLOPS_STORE": "store", "MLOPS_RUN": "here", "MLOPS_SIGNING_KEY": private}
    done = mlops("register-model", "--model", "m", "--model-uri", "model", "--json", **environ)
    assert done.returncode == 0, done.stderr
    fingerprint = openssl("dgst", "-sha256", "-r", tmp_path / "signing.pub").split()[0]
    assert json.loads(done.stdout)["signed-by"] == f"the key sha256:{fingerprint}"
    (bundle,) = (tmp_path / "store/models/m/versions/1/signatures").iterdir()
    envelope = json.loads(bundle.read_text())["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)  # as DSSE says what is signed
    (tmp_path / "encoded").write_bytes(encoded)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    check = ("-verify", tmp_path / "signing.pub", "-signature", tmp_path / "signature", tmp_path / "encoded")
    assert "Verified OK" in openssl("dgst", "-sha256", *check)

    fetched = tmp_path / "fetched"  # as anybody fetches it who has none of our code
    (fetched / "model" / "sub").mkdir(parents=True)
    text = (tmp_path / "store/models/m/versions/1.json").read_bytes()
    (fetched / "manifest.json").write_bytes(text)
    for file in json.loads(text)["files"]:
        blob = tmp_path / "store/blobs/sha256" / file["digest"].removeprefix("sha256:")
        (fetched / "model" / file["path"]).write_bytes(blob.read_bytes())

    def theirs() -> int:
        command = [python, "-m", "model_signing", "verify", "key", fetched, "--signature", bundle]
        return subprocess.run([*command, "--public_key", tmp_path / "signing.pub"], check=False).returncode

    assert theirs() == 0
    (fetched / "model" / "a.bin").write_text("A")
    assert theirs() != 0

    secret = private.splitlines()[1]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "signing.pem"]
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in done.stdout + done.stderr


def test_a_version_is_signed_once_by_each_key_also_one_that_was_registered_before(world: World) -> None:
    assert world.found() == (False, "it is not signed")
    manifest = world.signed()
    assert world.found()[0] and world.found()[1].startswith("signed by the key sha256:")
    assert sign(world.registry, manifest, world.workspace, pen_of_key(world.private)) is False
    other = pen_of_key(pair(world.workspace.root, "other"))
    assert sign(world.registry, manifest, world.workspace, other) is True
    assert len(world.registry.signatures(manifest)) == 2
    both = [signer_of_file(world.workspace.path(name)) for name in ("other.pub", "signing.pub")]
    assert verified(world.registry, manifest, world.workspace, both)[0] in both


def other_key(world: World) -> str:
    key = pen_of_key(pair(world.workspace.root, "other"))
    sign(world.registry, world.registry.manifest("m", 1), world.workspace, key)
    return f"its signature is not by one of `signed-by`; it names {key.signer}"


def swapped_file(world: World) -> str:
    """Another model's bytes under the signed version's number, in a manifest that is consistent."""
    manifest = world.signed()
    changed = manifest.model_copy(update={"files": world.registry.manifest("m", 2).files})
    world.registry.store.put(manifest_path("m", 1), to_json(changed.model_dump(mode="json")))
    return "it is not what was signed: manifest.json, model/1.bin, model/2.bin"


def swapped_manifest(world: World) -> str:
    """The same files, and metrics that are better."""
    manifest = world.signed()
    changed = manifest.model_copy(update={"metrics": {"auc": 0.99}})
    world.registry.store.put(manifest_path("m", 1), to_json(changed.model_dump(mode="json")))
    return "it is not what was signed: manifest.json"


def signature_of_another_version(world: World) -> str:
    (signed,) = world.registry.signatures(world.signed(2))
    world.registry.add_signature(world.registry.manifest("m", 1), signed)
    return "its signature is of m/2"


def changed_statement(world: World) -> str:
    """The right signature's words, changed to those of another version: nobody's signature."""
    (signed,) = world.registry.signatures(world.signed(2))
    bundle = json.loads(signed)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"m/2", b"m/1")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    world.registry.add_signature(world.registry.manifest("m", 1), json.dumps(bundle).encode())
    return f"its signature is not by one of `signed-by`; it names {pen_of_key(world.private).signer}"


def garbage(world: World) -> str:
    for data in (b"", b"[]", b'{"verificationMaterial": {"certificate": {"rawBytes": "AA=="}}}', b"[" * 100_000):
        world.registry.add_signature(world.registry.manifest("m", 1), data)
    return "its signature cannot be read"


HOSTILE = (other_key, swapped_file, swapped_manifest, signature_of_another_version, changed_statement, garbage)


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_who_can_write_the_store_cannot_sign(world: World, attack: Callable[[World], str]) -> None:
    said = attack(world)
    assert world.found() == (False, said)


def test_a_signed_version_in_the_place_of_another_is_refused(world: World) -> None:
    world.signed(2)
    store = world.registry.store
    store.put(manifest_path("m", 1), store.get(manifest_path("m", 2)))
    with pytest.raises(RemoteFailed, match="is not what the registry writes") as caught:
        world.found(1)
    assert caught.value.why == "It is the manifest of m, version 2"


def test_garbage_beside_a_right_signature_does_no_harm(world: World) -> None:
    garbage(world)
    world.signed()
    assert world.found()[0]


def test_a_manifest_that_is_changed_while_it_is_looked_at_is_refused(world: World) -> None:
    manifest = world.signed()
    swapped_manifest(world)
    with pytest.raises(RemoteFailed, match="was changed meanwhile"):
        verified(world.registry, manifest, world.workspace, [pen_of_key(world.private).signer])


def test_what_somebody_else_put_in_a_versions_place_is_not_signed(world: World, mlops: Run, tmp_path: Path) -> None:
    manifest = world.registry.manifest("m", 1)
    changed = manifest.model_copy(update={"files": world.registry.manifest("m", 2).files})
    world.registry.store.put(manifest_path("m", 1), to_json(changed.model_dump(mode="json")))
    environ = {"MLOPS_STORE": "store", "MLOPS_RUN": "here", "MLOPS_SIGNING_KEY": world.private}
    done = mlops("register-model", "--model", "m", "--model-uri", "1.bin", **environ)
    assert done.returncode == 3 and "Version 1 of m is not signed: it is not what this run registers" in done.stderr
    assert not world.signatures().exists()


def test_promote_model_moves_no_alias_to_what_is_not_signed(world: World, mlops: Run) -> None:
    def promote(version: str) -> subprocess.CompletedProcess[str]:
        where = ("--model", "m", "--version", version, "--policy", "policy.yaml")
        return mlops("promote-model", *where, MLOPS_STORE="store", MLOPS_RUN="here")

    world.signed()
    assert promote("1").returncode == 0
    done = promote("2")
    assert done.returncode == 1
    assert "Version 2 of m may not become champion: signature: it is not signed" in done.stderr
    alias = world.registry.alias("m", "champion")
    assert alias and alias.version == 1


@pytest.mark.parametrize("kind", ["folder", "seaweedfs", "minio"])
def test_bytes_that_were_changed_in_the_store_are_found_and_put_back(tmp_path: Path, kind: str) -> None:
    """Other bytes of the same size, a part of them, none, nothing; of the model, and of its golden rows."""
    server = None if kind == "folder" else getattr(servers, kind)()
    store = Store(server.new_store(), server.options()) if server else Store((tmp_path / "store").as_uri())
    model, golden = tmp_path / "model.bin", tmp_path / "golden.csv"
    model.write_text("model")
    golden.write_text("a,score\n1,1\n")
    registry = Registry(store)
    manifest = register(registry, Registration("m", model, golden=golden)).manifest
    assert manifest.golden and registry.changed(manifest) == ""
    for file, damage in (
        (manifest.files[0], b"MODEL"), (manifest.files[0], b"mod"), (manifest.files[0], b""), (manifest.files[0], None),
        (manifest.golden, b"a,score\n1,9\n"),
    ):  # fmt: skip
        path = blob_path(file.digest)
        if damage is None:
            store.delete(path)
        else:
            store.put(path, damage)
        found = "none" if damage is None else f"sha256:{hashlib.sha256(damage).hexdigest()}"
        said = f"{file.path} was changed in the store: expected {file.digest}, found {found}; register the same model"
        assert registry.changed(manifest).startswith(said)
        assert not register(registry, Registration("m", model, golden=golden)).created
        assert registry.changed(manifest) == "" and store.digest(path) == file.digest


def test_a_signed_version_whose_bytes_were_changed_is_refused_until_it_is_registered_again(
    world: World, mlops: Run
) -> None:
    def call(action: str, *given: str) -> subprocess.CompletedProcess[str]:
        return mlops(action, "--model", "m", *given, MLOPS_STORE="store", MLOPS_RUN="here")

    blob = blob_path(world.signed().files[0].digest)
    world.registry.store.put(blob, b"MODEL 1")
    promotion = ("promote-model", "--version", "1", "--policy", "policy.yaml")
    done = call(*promotion)
    assert done.returncode == 1
    assert "Version 1 of m may not become champion: signature: 1.bin was changed in the store" in done.stderr
    assert world.registry.alias("m", "champion") is None
    assert call("register-model", "--model-uri", "1.bin").returncode == 0
    assert world.registry.store.get(blob) == b"model 1"
    assert call(*promotion).returncode == 0


@pytest.mark.parametrize(
    ("algorithm", "options", "said"),
    [
        (("EC", "ec_paramgen_curve:secp256k1"), (), "is not an EC key on P-256, P-384 or P-521"),
        (("RSA", "rsa_keygen_bits:2048"), (), "is not an EC key on P-256, P-384 or P-521"),
        (("EC", "ec_paramgen_curve:P-256"), ("-aes256", "-passout", "pass:secret"), "encrypted with a password"),
    ],
)
def test_a_key_that_cannot_sign_is_told_before_anything_is_registered(
    mlops: Run, tmp_path: Path, algorithm: Sequence[str], options: Sequence[str], said: str
) -> None:
    private = pair(tmp_path, algorithm=algorithm)
    if options:
        openssl("pkey", "-in", tmp_path / "signing.pem", *options, "-out", tmp_path / "encrypted.pem")
        private = (tmp_path / "encrypted.pem").read_text()
    (tmp_path / "model.bin").write_text("model")
    environ = {"MLOPS_STORE": "store", "MLOPS_RUN": "here", "MLOPS_SIGNING_KEY": private}
    done = mlops("register-model", "--model", "m", "--model-uri", "model.bin", **environ)
    assert done.returncode == 2 and said in done.stderr and "openssl genpkey" in done.stderr
    assert not (tmp_path / "store" / "models").exists()


def test_keyless_is_by_the_workflow_and_the_repository_of_the_job(tmp_path: Path) -> None:
    claims = {
        "iss": GITHUB_ISSUER, "ref": "refs/heads/main", "repository": "me/mine",
        "job_workflow_ref": "they/theirs/.github/workflows/mlops.yml@refs/tags/v1",
    }  # fmt: skip
    with GitHub() as github:
        github.faults.append(Reply(content={"value": jwt.encode(claims, "of-github" * 4)}))
        made = workspace(tmp_path, environ=github.environ())
        pen = pen_of_job(made)
        assert github.seen[0].query["audience"] == "sigstore"
    workflow = "https://github.com/they/theirs/.github/workflows/mlops.yml@refs/tags/v1"
    assert pen.signer == Signer("", GITHUB_ISSUER, workflow, "https://github.com/me/mine", "refs/heads/main")
    assert isinstance(made.console, Remembering) and pen.secret in made.console.masks
    with pytest.raises(BadInput, match="`sign: keyless` needs an OIDC token") as caught:
        pen_of_job(workspace(tmp_path, environ={}))
    assert "id-token: write" in caught.value.fix


def test_a_pair_on_another_curve_of_the_standard_signs_too(world: World) -> None:
    private = pair(world.workspace.root, algorithm=("EC", "ec_paramgen_curve:P-384"))
    sign(world.registry, world.registry.manifest("m", 1), world.workspace, pen_of_key(private))
    assert world.found()[0]
