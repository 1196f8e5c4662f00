"""What is missing for a repository's chain on this machine, and how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .environments import EnvironmentFailed, find_uv
from .errors import MlopsError
from .inputs import KfpInputs, RegistryInputs
from .kubernetes.connection import connector
from .workspace import Workspace

if TYPE_CHECKING:
    from .kubernetes.objects import Cluster
    from .serving.cluster.sharing import Sharing
    from .serving.gitops.inputs import GitOpsInputs

State = Literal["ok", "missing", "optional"]
_GIB = 1024**3
_SPACE = 2.0  # GiB: with less, an action's packages may not fit


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its state, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    fix: str = ""


def examine(workspace: Workspace, sections: Mapping[str, Any]) -> list[Finding]:
    """Look at everything that the configuration asks for; each finding names its remedy.

    Args:
        workspace: the consumer's folder, this machine's folders, the store.
        sections: each action's section of `mlops.yaml`, as it is in the environment.
    """
    root = workspace.root
    return [
        Finding("Python", "ok", sys.version.split()[0]),
        _uv(workspace.cache),
        _git(root),
        _space(workspace.cache),
        _store(workspace),
        *_files(root, sections),
    ]


def _lacking(name: str, error: MlopsError) -> Finding:
    return Finding(name, "missing", error.what + (f": {error.why}" if error.why else ""), error.fix)


def _uv(cache: Path) -> Finding:
    try:
        return Finding("uv", "ok", find_uv(cache))
    except EnvironmentFailed as error:
        return Finding("uv", "missing", str(error), "Install uv")


def _git(root: Path) -> Finding:
    if not shutil.which("git"):
        return Finding("git", "optional", "not installed", "Install git: without it no commit is recorded")
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding(
            "git",
            "optional",
            f"{root} is in no git repository with a commit",
            "Commit: without it a version cannot be traced back to its code",
        )
    return Finding("git", "ok", f"commit {done.stdout[:12]}")


def _space(cache: Path) -> Finding:
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free / _GIB
    text = f"{free:.1f} GiB free at {folder}, and the cache has {_size(cache) / _GIB:.1f} GiB"
    fix = "Free some, or set MLOPS_CACHE to a folder on a larger disk"
    return Finding("disk", "ok", text) if free >= _SPACE else Finding("disk", "missing", text, fix)


def _size(folder: Path) -> int:
    """Bytes that a folder takes, without what its links lead to."""
    total, folders = 0, [str(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _store(workspace: Workspace) -> Finding:
    path = workspace.kept(f"doctor/{uuid.uuid4().hex}")
    try:
        store = workspace.store
        created = store.create(path, b"1") and not store.create(path, b"2")
        _, tag = store.get_tagged(path)
        swapped = store.replace(path, b"3", tag) and not store.replace(path, b"4", tag)
        store.delete(path)
    except MlopsError as error:
        return _lacking("store", error)
    if not (created and swapped):
        lacking = "If-None-Match" if not created else "If-Match"
        return Finding("store", "missing", f"{store.url} ignores {lacking}", "Use a store that honours it")
    return Finding("store", "ok", f"{store.url}: reads, writes, create-only and compare-and-swap work")


def _files(root: Path, sections: Mapping[str, Any]) -> list[Finding]:
    """The files that the configuration names."""
    named = (("run-pipeline", "pipeline"), ("tune-hyperparams", "experiment"), ("validate-data", "contract"))
    found = []
    if not sections:
        found.append(
            Finding("configuration", "optional", "nothing is set in mlops.yaml", "Run `mlops init`: it writes one")
        )
    for action, key in named:
        name = (sections.get(action) or {}).get(key)
        if name and not (root / name).is_file():
            found.append(Finding(f"{action}: {key}", "missing", f"no file {name}", f"Write it, or correct `{key}`"))
        elif name:
            found.append(Finding(f"{action}: {key}", "ok", name))
    if (sections.get("requirements")) and not (root / sections["requirements"]).is_file():
        found.append(Finding("requirements", "missing", f"no file {sections['requirements']}", "Write it"))
    return found


def finding_of_docker(environ: Mapping[str, str], wanted: bool, platforms: Sequence[str]) -> Finding:
    """Look for what build-image builds with, as it does: a docker command with BuildKit, and an engine.

    Args:
        environ: variables that name the engine.
        wanted: whether the chain fails without it.
        platforms: that images are built for.
    """
    from .images.buildkit import find_builder
    from .images.engine import Engine

    try:
        builder = find_builder(environ)
        engine = Engine(environ, builder.command)
        builder.check(platforms)
    except MlopsError as error:
        return replace(_lacking("Docker", error), state="missing" if wanted else "optional")
    found = f"an engine for {engine.platform}, and {builder.command} with {'buildx' if builder.buildx else 'BuildKit'}"
    return Finding("Docker", "ok", found)


def findings_of_kfp(inputs: KfpInputs, workspace: Workspace) -> list[Finding]:
    """Look at Kubeflow Pipelines: that it responds, takes the sign-in, lets us look at experiments, and has results."""
    from .pipelines.kfp.client.api import KfpApi
    from .pipelines.kfp.metadata.probe import check_metadata

    mask = workspace.console.mask
    try:
        cluster = connector(inputs, workspace.environ, mask)
        api = KfpApi(inputs, workspace.environ, workspace.root, cluster=cluster, hide=mask, patience=0)
        query = {"namespace": api.namespace or None, "page_size": 1}
        api.get("/apis/v2beta1/experiments", **query)
    except MlopsError as error:
        return [_lacking("Kubeflow Pipelines", error)]
    where = api.url + (f", namespace {api.namespace}" if api.namespace else "")
    findings = [Finding("Kubeflow Pipelines", "ok", where)]
    try:
        check_metadata(api)
        findings.append(Finding("ML Metadata", "ok", f"responds at {api.url}"))
    except MlopsError as error:
        findings.append(_lacking("ML Metadata", error))
    return findings


def findings_of_cluster(open_cluster: Callable[[], Cluster], parts: Sequence[str], gateway: str = "") -> list[Finding]:
    """Look at a cluster: that it answers, the namespace, Katib, its label, KServe, what splits requests, the rights.

    Args:
        open_cluster: reaches the cluster that the inputs name.
        parts: what the configuration asks of it, of `cluster.rights.PARTS`; what it does not ask for is not looked at.
            `gateway` and `knative`, too.
        gateway: the name of the Gateway.
    """
    from .serving.cluster.gateway import Gateway
    from .serving.cluster.knative import Knative

    try:
        cluster = open_cluster()
        findings = [Finding("Kubernetes", "ok", f"{cluster.version or 'an API server'} at {cluster.server}")]
        findings += _namespace(cluster, "katib" in parts)
        if "katib" in parts:
            findings += _katib(cluster)
        if "kserve" in parts:
            findings.append(_kserve(cluster))
        if "gateway" in parts:
            findings.append(_sharing("Gateway API", Gateway(gateway, ""), cluster))
        if "knative" in parts:
            findings.append(_sharing("Knative Serving", Knative(lambda _, release: release, ""), cluster))
        return [*findings, *_rights(cluster, parts)]
    except MlopsError as error:
        return [_lacking("Kubernetes", error)]


def _sharing(name: str, sharing: Sharing, cluster: Cluster) -> Finding:
    """What splits requests, as a rollout finds it."""
    try:
        able = sharing.capabilities(cluster)
    except MlopsError as error:
        return _lacking(name, error)
    return Finding(name, "ok", "splits requests") if able.weights else Finding(name, "missing", able.lacking)


def finding_of_repository(inputs: GitOpsInputs, workspace: Workspace) -> Finding:
    """Look at the repository that Argo CD or Flux applies: that it can be read. Only a push says if it takes one."""
    from .serving.gitops.repository import Repository

    try:
        repository = Repository.of(inputs, workspace)
        repository.read("")
    except MlopsError as error:
        return _lacking("deployments' repository", error)
    return Finding("deployments' repository", "ok", f"{repository.name} can be read")


def finding_of_image(reference: str, inputs: RegistryInputs, workspace: Workspace) -> Finding:
    """Ask an image's registry for it, with the login that it will be pulled with."""
    from .images.login import given_credentials
    from .serving.cluster.image import place_of, registry_for, tag_of

    name = f"image {reference}"
    try:
        registry = registry_for(place_of(reference), given_credentials(inputs), workspace.environ, lambda _: None)
        there = registry.has(tag_of(reference))
    except MlopsError as error:
        return _lacking(name, error)
    if there:
        return Finding(name, "ok", "its registry shows it")
    fix = "Correct its name, or give `registry-username` and `registry-password`, or run `docker login`"
    return Finding(name, "missing", "its registry does not have it, or does not show it to this login", fix)


def findings_of_signing(
    key: str, sign: str, policies: Mapping[str, Path | None], actions: Sequence[str], workspace: Workspace
) -> list[Finding]:
    """Look at what versions are signed with, and at the keys that policies ask for; nothing where neither is asked.

    Args:
        key: the private key, PEM; "" for none.
        sign: how register-model signs: "", `key` or `keyless`.
        policies: the file of each action that has one.
        actions: all there are, which a policy may name.
        workspace: the consumer's folder, and this machine's.
    """
    from .http.tokens import may_ask
    from .registry.policy import read_policy
    from .registry.signing import pen_of_key

    findings, asked = list[Finding](), bool(key or sign)
    if key and sign != "keyless":
        try:
            findings.append(Finding("signing-key", "ok", f"signs as {pen_of_key(key).signer}"))
        except MlopsError as error:
            findings.append(_lacking("signing-key", error))
    elif sign == "key":
        findings.append(Finding("signing-key", "missing", "it is not given", "Give register-model the secret"))
    elif sign == "keyless":
        here = may_ask(workspace.environ)
        on_github = bool(workspace.environ.get("GITHUB_ACTIONS"))
        found = "this job may ask for an identity" if here else "only a job on GitHub with an identity can sign"
        state: State = "ok" if here else "missing" if on_github else "optional"
        findings.append(Finding("sign: keyless", state, found, "" if here else "Give the job `id-token: write`"))
    for action, path in policies.items():
        if path is None:
            continue
        try:
            signers = [one.signer(workspace.path) for one in read_policy(workspace.path(path), actions).signed_by or ()]
        except MlopsError as error:
            findings.append(_lacking(f"{action}: policy", error))
            continue
        asked = asked or bool(signers)
        who = f"; signed by {' or '.join(map(str, signers))}" if signers else ""
        findings.append(Finding(f"{action}: policy", "ok", f"{path}{who}"))
    if asked:
        try:
            findings.append(Finding("packages for signatures", "ok", str(workspace.environment("signing").name)))
        except MlopsError as error:
            findings.append(_lacking("packages for signatures", error))
    return findings


def _namespace(cluster: Cluster, katib: bool) -> list[Finding]:
    """The namespace, and whether Katib may put its collector of metrics into its pods."""
    from .kubernetes.objects import INJECTION_LABEL, NAMESPACE

    name = cluster.namespace
    if not cluster.may("get", NAMESPACE, name=name):
        return [Finding("namespace", "optional", f"{name}: these credentials may not see it", "Apply `mlops rbac`")]
    found = cluster.get(NAMESPACE, name)
    if found is None:
        return [Finding("namespace", "missing", f"no namespace {name}", "Correct `namespace`, or create it")]
    findings = [Finding("namespace", "ok", name)]
    if katib and (found["metadata"].get("labels") or {}).get(INJECTION_LABEL) != "enabled":
        fix = f"`kubectl label namespace {name} {INJECTION_LABEL}=enabled`: without it no trial's metrics are collected"
        findings.append(Finding("namespace's label", "missing", f"{name} has no label {INJECTION_LABEL}=enabled", fix))
    return findings


def _katib(cluster: Cluster) -> list[Finding]:
    """Katib's kinds of objects, its webhook, and what else of it has to run."""
    from .kubernetes.objects import EXPERIMENT, SUGGESTION, TRIAL
    from .tuning.katib.probe import check_parts, check_webhooks

    known = {kind: cluster.versions(kind) for kind in (EXPERIMENT, TRIAL, SUGGESTION)}
    lacking = [kind for kind, versions in known.items() if kind.version not in versions]
    if lacking:
        served = sorted({version for versions in known.values() for version in versions})
        found = f"the cluster does not know {', '.join(kind.kind for kind in lacking)} of {EXPERIMENT.api_version}"
        found += f", only {', '.join(served)}" if served else ""
        fix = "Install Katib: https://www.kubeflow.org/docs/components/katib/installation"
        return [Finding("Katib", "missing", found, fix)]
    findings = [Finding("Katib", "ok", f"{EXPERIMENT.api_version}: Experiment, Trial, Suggestion")]
    try:
        check_webhooks(cluster)
        findings.append(Finding("Katib's webhook", "ok", "responds to an Experiment (dry run)"))
    except MlopsError as error:
        findings.append(_lacking("Katib's webhook", error))
    try:
        if ready := check_parts(cluster):
            findings.append(Finding("Katib's parts", "ok", f"{', '.join(ready)} are ready"))
    except MlopsError as error:
        findings.append(_lacking("Katib's parts", error))
    return findings


def _kserve(cluster: Cluster) -> Finding:
    """KServe's kind of object, in the version that is spoken."""
    from .kubernetes.objects import INFERENCE_SERVICE

    if INFERENCE_SERVICE.version in cluster.versions(INFERENCE_SERVICE):
        return Finding("KServe", "ok", f"{INFERENCE_SERVICE.api_version}: InferenceService")
    found = f"the cluster does not know InferenceService of {INFERENCE_SERVICE.api_version}"
    return Finding("KServe", "missing", found, "Install KServe: https://kserve.github.io/website")


def _rights(cluster: Cluster, parts: Sequence[str]) -> list[Finding]:
    """What is lacking, resource by resource."""
    from .kubernetes.rights import missing

    lacking = missing(cluster, parts)
    if not lacking:
        return [Finding("rights", "ok", f"all in the namespace {cluster.namespace}")] if parts else []
    fix = "`mlops rbac` prints a manifest with them, for an administrator to apply"
    return [
        Finding(f"right: {right}", "optional" if right.optional else "missing", f"needed to {right.reason}", fix)
        for right in lacking
    ]
