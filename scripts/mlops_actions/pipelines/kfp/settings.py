"""What the engine `kfp` is told beside the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...inputs import KfpInputs
from ...workspace import Workspace
from ..engine import Origin
from .connection import Host
from .inputs import KfpEngineInputs


@dataclass(frozen=True)
class KfpSettings:
    """How runs are started on a Kubeflow Pipelines (KFP).

    Attributes:
        host: how to reach it.
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

    host: Host
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


def settings_of(inputs: KfpEngineInputs, workspace: Workspace, origin: Origin) -> KfpSettings:
    """The settings that an action's inputs say."""
    context = origin.context
    return KfpSettings(
        host=host_of(inputs, workspace),
        experiment=inputs.experiment,
        version=inputs.version,
        service_account=inputs.service_account,
        pipeline_root=inputs.pipeline_root,
        cache=inputs.cache,
        variables=workspace.store_variables(),
        store_secret=inputs.store_secret,
        retries=inputs.retries,
        task_timeout=inputs.task_timeout,
        archived_logs=inputs.archived_logs,
        description=context.repository and f"{context.repository} at {context.commit[:12]}",
        code_source_url=f"{context.server}/{context.repository}" if context.repository else "",
        commit=context.commit,
        tag=context.tag,
        run=origin.run,
    )


def host_of(inputs: KfpInputs, workspace: Workspace) -> Host:
    """The Kubeflow Pipelines that the inputs name. Paths are the consumer's."""

    def file(name: str) -> str:
        return str(workspace.path(name)) if name else ""

    return Host(
        url=inputs.kfp_host,
        namespace=inputs.namespace,
        sign_in=inputs.kfp_sign_in,
        token=inputs.kfp_token.get_secret_value(),
        token_file=file(inputs.kfp_token_file),
        user=inputs.kfp_user,
        issuer=inputs.kfp_issuer,
        audience=inputs.kfp_audience,
        client_id=inputs.kfp_client_id,
        client_secret=inputs.kfp_client_secret.get_secret_value(),
        header=inputs.kfp_header,
        ca=file(inputs.kfp_ca),
        client_certificate=file(inputs.kfp_client_certificate),
        client_key=file(inputs.kfp_client_key),
        environ=workspace.environ,
    )
