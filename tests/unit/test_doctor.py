"""What doctor looks for: what the engines need by their own inputs, and what it says of a cluster and of keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mlops_actions import doctor
from mlops_actions.engines import engines
from mlops_actions.kubernetes.objects import HTTP_ROUTE, KNATIVE_ROUTE, Cluster, Kind
from mlops_actions.runtime.chain import NAMES, load
from mlops_actions.workspace import Workspace
from workspaces import workspace

DEPLOY = load("deploy-model")


@pytest.mark.parametrize(
    ("engine", "inputs", "needs"),
    [
        ("local", {}, []),
        ("local", {"container": True}, ["docker"]),
        ("kubernetes", {}, ["kubernetes"]),
        ("kubernetes", {"gateway": "public"}, ["kubernetes", "gateway"]),
        ("kserve", {"gateway": "public"}, ["kserve", "gateway"]),
        ("kserve", {"deployment-mode": "Knative"}, ["kserve", "knative"]),
        ("git", {}, ["repository"]),
        ("git", {"gitops-wait": True, "gateway": "public"}, ["repository", "kubernetes", "gateway"]),
        ("git", {"gitops-wait": True, "gitops-objects": "kserve"}, ["repository", "kserve"]),
        ("git", {"gitops-wait": True, "gitops-pull-request": True}, ["repository"]),
    ],
)
def test_an_engine_says_what_it_needs_by_its_inputs(engine: str, inputs: dict[str, Any], needs: list[str]) -> None:
    given = DEPLOY.inputs.model_validate({"engine": engine, **inputs})
    assert list(engines(DEPLOY.engines)[engine].needs(given)) == needs


class Plain:
    """A cluster in which all is allowed, that has these kinds and no objects."""

    version, server, namespace = "v1.34.0", "https://127.0.0.1:6443", "ml"

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    def may(self, *_: Any, **__: Any) -> bool:
        """All."""
        return True

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Only the namespace itself is there."""
        return {"metadata": {"name": name}} if kind.kind == "Namespace" else None

    def versions(self, kind: Kind) -> list[str]:
        """Of the kinds that it has."""
        return [one.version for one in self.kinds if one == kind]


@pytest.mark.parametrize(
    ("part", "kinds", "name", "found"),
    [
        ("gateway", [], "Gateway API", "the cluster does not know HTTPRoute"),
        ("gateway", [HTTP_ROUTE], "Gateway API", "The Gateway public does not exist in the namespace infra"),
        ("knative", [], "Knative Serving", "It does not know Routes of Knative Serving"),
    ],
)
def test_what_splits_requests_is_looked_for_where_it_is_asked_for(
    part: str, kinds: list[Kind], name: str, found: str
) -> None:
    cluster = cast(Cluster, Plain(*kinds))
    findings = {one.name: one for one in doctor.findings_of_cluster(lambda: cluster, [part], "infra/public")}
    assert findings[name].state == "missing" and found in findings[name].found
    assert name not in {one.name for one in doctor.findings_of_cluster(lambda: cluster, ["kubernetes"])}


def test_knative_that_is_there_is_well() -> None:
    cluster = cast(Cluster, Plain(KNATIVE_ROUTE))
    findings = {one.name: one.state for one in doctor.findings_of_cluster(lambda: cluster, ["knative"])}
    assert findings["Knative Serving"] == "ok"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A folder with a pair of keys; the packages for signatures are there."""
    pair = ec.generate_private_key(ec.SECP256R1())
    none = serialization.NoEncryption()
    private = pair.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    public = pair.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "signing.pem").write_bytes(private)
    (tmp_path / "signing.pub").write_bytes(public)
    for name in ("pub", "pem", "gone"):
        (tmp_path / f"{name}.yaml").write_text(f"signed-by:\n- key: signing.{name}\n")
    monkeypatch.setattr(Workspace, "environment", lambda *_: type("Made", (), {"name": "signing-1"}))
    return workspace(tmp_path)


def signing(here: Workspace, key: str = "", sign: str = "", policy: str = "") -> dict[str, tuple[str, str]]:
    policies = {"deploy-model": Path(policy) if policy else None}
    return {one.name: (one.state, one.found) for one in doctor.findings_of_signing(key, sign, policies, NAMES, here)}


def test_keys_that_sign_and_verify_are_named_and_their_packages_made(here: Workspace) -> None:
    found = signing(here, key=(here.root / "signing.pem").read_text(), policy="pub.yaml")
    assert {state for state, _ in found.values()} == {"ok"}
    assert list(found) == ["signing-key", "deploy-model: policy", "packages for signatures"]
    assert "signs as the key sha256:" in found["signing-key"][1]
    assert "signed by the key sha256:" in found["deploy-model: policy"][1]


def test_nothing_is_said_where_nothing_is_signed(here: Workspace) -> None:
    assert signing(here) == {}


@pytest.mark.parametrize(
    ("given", "name", "what"),
    [
        ({"key": "signing.pub"}, "signing-key", "not a private key in PEM"),
        ({"sign": "key"}, "signing-key", "it is not given"),
        ({"policy": "pem.yaml"}, "deploy-model: policy", "is a private key"),
        ({"policy": "gone.yaml"}, "deploy-model: policy", "cannot be read"),
        ({"policy": "nowhere.yaml"}, "deploy-model: policy", "nowhere.yaml"),
    ],
)
def test_a_key_or_a_policy_that_cannot_be_used_is_missing(
    here: Workspace, given: dict[str, str], name: str, what: str
) -> None:
    if given.get("key"):
        given = {**given, "key": (here.root / given["key"]).read_text()}
    state, found = signing(here, **given)[name]
    assert state == "missing" and what in found


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({}, "optional"),
        ({"GITHUB_ACTIONS": "true"}, "missing"),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x.test", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"}, "ok"),
    ],
)
def test_an_identity_to_sign_by_is_asked_of_a_job_on_github_alone(
    here: Workspace, environ: dict[str, str], state: str
) -> None:
    here = workspace(here.root, environ=environ)
    assert signing(here, sign="keyless")["sign: keyless"][0] == state
