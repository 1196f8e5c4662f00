"""The engine `katib`: Katib in a Kubernetes cluster."""

from __future__ import annotations

from dataclasses import replace

from ...engines import Engine
from ...inputs import ClusterInputs
from ...kubernetes.connection import connector
from ..engine import Engine as TuningEngine
from ..engine import TuningContext


def _make(inputs: ClusterInputs, site: TuningContext) -> TuningEngine:
    from ..katib.engine import KatibEngine

    cluster = connector(inputs, site.environ, site.mask)
    return KatibEngine(replace(site, cluster=cluster, store_secret=inputs.store_secret))


ENGINE = Engine("katib", "Katib in a Kubernetes cluster", _make, ClusterInputs, needs=("katib",), remote=True)
