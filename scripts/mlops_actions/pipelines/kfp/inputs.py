"""What the engine `kfp` takes beside run-pipeline's own inputs."""

from __future__ import annotations

from pydantic import Field

from ...inputs import KfpInputs


class KfpEngineInputs(KfpInputs):
    """How runs are started on Kubeflow Pipelines, and how it is reached."""

    experiment: str = Field(
        "", description="KFP experiment that the run belongs to; made if missing. By default the pipeline's name."
    )
    version: str = Field(
        "", description="Name of the pipeline's version in KFP. By default the tag, or the commit's first digits."
    )
    service_account: str = Field("", description="Kubernetes service account of the run's pods.")
    pipeline_root: str = Field(
        "", description="Where KFP keeps the run's artifacts, such as `s3://bucket/kfp`. By default its own setting."
    )
    cache: bool = Field(True, description="KFP's own cache of tasks. `reuse: false` turns it off as well.")
    retries: int = Field(0, ge=0, description="How often a run that failed on KFP is retried from its failed tasks.")
    task_timeout: float = Field(0, ge=0, description="Seconds after which a task ends the run on KFP; 0 for no limit.")
    archived_logs: str = Field(
        "",
        description="Where KFP archives the logs of pods that are gone, such as `s3://mlpipeline/artifacts`. They are"
        " read when neither KFP nor Kubernetes has the log any more.",
    )
