"""The engines that run Experiments, by the names that users give."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .engine import Engine, Site


def _local(site: Site) -> Engine:
    from .local import LocalEngine

    return LocalEngine(site)


def _katib(site: Site) -> Engine:
    from .katib.engine import KatibEngine

    return KatibEngine(site)


ENGINES: Mapping[str, Callable[[Site], Engine]] = {"local": _local, "katib": _katib}
