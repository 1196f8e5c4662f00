"""The engine `kfp`: Kubeflow Pipelines."""

from __future__ import annotations

from ...engines import Engine
from ..engine import PipelineContext, PipelineEngine
from ..kfp.inputs import KfpEngineInputs


def _make(inputs: KfpEngineInputs, context: PipelineContext) -> PipelineEngine:
    from ...kubernetes.connection import connector, is_named
    from ..kfp.engine import KfpEngine

    environ, mask = context.workspace.environ, context.workspace.console.mask
    return KfpEngine(inputs, context, connector(inputs, environ, mask) if is_named(inputs, environ) else None)


ENGINE = Engine("kfp", "Kubeflow Pipelines", _make, KfpEngineInputs, needs=lambda _: ("kfp",), remote=True)
