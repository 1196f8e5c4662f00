"""KServe's controller, doubled on a real API server."""

from .double import KServeDouble

__all__ = ["KServeDouble"]
