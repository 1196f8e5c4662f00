"""The engines that run Experiments, by the names that users give."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .engine import Engine
from .local import LocalEngine

ENGINES: Mapping[str, Callable[[], Engine]] = {"local": LocalEngine}
