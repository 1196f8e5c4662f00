"""What the engine `kfp` is told beside the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...context import Context
from ..engine import Origin
from .inputs import KfpEngineInputs


@dataclass(frozen=True)
class KfpSettings:
    """How runs are started on a Kubeflow Pipelines (KFP).

    Attributes:
        inputs: how it is reached, and what users say about runs.
        origin: the code, and the run of the chain.
        image: for components that name none; "" for what the SDK writes.
        variables: for every task, unless it sets them itself: how to reach the store, without secrets.
    """

    inputs: KfpEngineInputs
    origin: Origin = Origin(Context(), "", "")  # noqa: RUF009 - it is frozen
    image: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
