"""Katib's controllers and webhooks, doubled on a real API server."""

from .controller import Simulated
from .double import KatibDouble
from .faults import ANNOTATION, Faults

__all__ = ["ANNOTATION", "Faults", "KatibDouble", "Simulated"]
