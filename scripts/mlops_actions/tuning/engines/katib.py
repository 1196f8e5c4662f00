"""The engine `katib`: Katib in a Kubernetes cluster."""

from __future__ import annotations

from pydantic import Field

from ...engines import Engine
from ...inputs import ClusterInputs
from ...kubernetes.connection import connector
from ..engine import Engine as TuningEngine
from ..engine import TuningContext


class KatibInputs(ClusterInputs):
    """What the engine `katib` takes."""

    keep: bool = Field(
        True, description="When the job is cancelled: keep the Experiment in the cluster (its trials end in any case)."
    )


def _make(inputs: KatibInputs, context: TuningContext) -> TuningEngine:
    from ..katib.context import KatibContext
    from ..katib.engine import KatibEngine

    cluster = connector(inputs, context.environ, context.mask)
    return KatibEngine(
        KatibContext(**vars(context), cluster=cluster, store_secret=inputs.store_secret, keep=inputs.keep)
    )


ENGINE = Engine("katib", "Katib in a Kubernetes cluster", _make, KatibInputs, needs=lambda _: ("katib",), remote=True)
