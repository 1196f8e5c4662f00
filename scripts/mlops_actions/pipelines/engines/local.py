"""The engine `local`: this machine."""

from __future__ import annotations

from ...engines import Engine
from ...inputs import CodeInputs
from ..engine import PipelineContext, PipelineEngine


def _make(inputs: CodeInputs, context: PipelineContext) -> PipelineEngine:
    from ..local.engine import LocalEngine

    return LocalEngine(inputs, context)


ENGINE = Engine("local", "this machine", _make)
