"""The engine `local`: trials on this machine."""

from __future__ import annotations

from ...engines import Engine
from ...inputs import Inputs
from ..engine import Engine as TuningEngine
from ..engine import TuningContext


def _make(_: Inputs, context: TuningContext) -> TuningEngine:
    from ..local import LocalEngine

    return LocalEngine(context)


ENGINE = Engine("local", "this machine", _make)
