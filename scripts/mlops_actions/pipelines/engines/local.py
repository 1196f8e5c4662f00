"""The engine `local`: this machine."""

from __future__ import annotations

from ...engines import Engine
from ...inputs import CodeInputs
from ..engine import PipelineContext, PipelineEngine


def _make(inputs: CodeInputs, site: PipelineContext) -> PipelineEngine:
    from ..local.engine import LocalEngine

    return LocalEngine(inputs, site)


ENGINE = Engine("local", "this machine", _make)
