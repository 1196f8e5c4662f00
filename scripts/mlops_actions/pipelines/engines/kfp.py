"""The engine `kfp`: Kubeflow Pipelines."""

from __future__ import annotations

from ...engines import Engine
from ..engine import PipelineContext, PipelineEngine
from ..kfp.inputs import KfpEngineInputs


def _make(inputs: KfpEngineInputs, site: PipelineContext) -> PipelineEngine:
    from ...kubernetes.connection import connector, is_named
    from ..kfp.engine import KfpEngine

    environ, mask = site.workspace.environ, site.workspace.console.mask
    return KfpEngine(inputs, site, connector(inputs, environ, mask) if is_named(inputs, environ) else None)


ENGINE = Engine("kfp", "Kubeflow Pipelines", _make, KfpEngineInputs, needs=("kfp",), remote=True)
