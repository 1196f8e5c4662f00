"""What the engine `katib` may use, beside what every engine may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...kubernetes.objects import Cluster
from ..engine import TuningContext


@dataclass(frozen=True)
class KatibContext(TuningContext):
    """What the engine `katib` may use.

    Attributes:
        cluster: the Kubernetes cluster; it is reached with the first call.
        store_secret: Kubernetes secret with the store's keys, which pods get as variables; "" for none.
        keep: when the job is cancelled, whether the Experiment stays in the cluster (its trials stop).
    """

    cluster: Callable[[], Cluster] = field(kw_only=True)
    store_secret: str = ""
    keep: bool = True
