"""What the engine `kfp` is told beside the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...action import KfpInputs


@dataclass(frozen=True)
class KfpSettings:
    """How runs are started on a Kubeflow Pipelines (KFP).

    Attributes:
        inputs: how to reach it, and how to sign in.
        environ: variables, for proxies, CA bundles, and GitHub's OIDC token.
        folder: what paths in the inputs are relative to.
        experiment: that runs belong to, made if missing; by default the pipeline's name.
        version: name of the pipeline's version, which must then be new or have the same spec; by default `tag`, else
            the first digits of `commit`, with some of the spec's own digits where the commit alone does not decide it.
        service_account: Kubernetes service account of the run's pods; "" for KFP's own.
        pipeline_root: where KFP keeps artifacts, such as `s3://bucket/prefix`; "" for its own setting.
        cache: whether KFP may take results of its own cache; off also when the request does not reuse.
        image: for components that name none; "" for what the SDK writes.
        variables: for every task, unless it sets them itself: how to reach the store, without secrets.
        store_secret: Kubernetes secret with the store's keys, which every task gets as variables; "" for none.
        retries: how often a run that failed is retried from its failed tasks.
        task_timeout: seconds after which a task that still runs ends the run; 0 for no limit.
        archived_logs: where Argo keeps the logs of pods that are gone: a folder, such as `s3://mlpipeline/artifacts`,
            or a log's whole URI with `{namespace}`, `{workflow}`, `{year}`, `{month}`, `{day}`, `{pod}`; "" for the
            places that KFP's own manifests say, in the bucket of the run's artifacts.
        description: of the pipeline, for people.
        code_source_url: page of the code, for people.
        commit: of the code, in full; "" outside a repository.
        tag: of the commit, when the run was started by it.
        run: name of the run of the chain.
    """

    inputs: KfpInputs
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path = Path()
    experiment: str = ""
    version: str = ""
    service_account: str = ""
    pipeline_root: str = ""
    cache: bool = True
    image: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    store_secret: str = ""
    retries: int = 0
    task_timeout: float = 0.0
    archived_logs: str = ""
    description: str = ""
    code_source_url: str = ""
    commit: str = ""
    tag: str = ""
    run: str = ""
