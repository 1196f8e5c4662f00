"""The KFP SDK, loaded without its API client, which takes two thirds of the time that importing kfp takes."""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
    """Import kfp; its submodules are imported as usual afterwards. `kfp.Client` is still there when it is asked for."""
    before = os.environ.get("_KFP_RUNTIME")
    os.environ["_KFP_RUNTIME"] = "true"  # kfp's own switch: in a component, its client is not wanted
    try:
        import kfp
    finally:
        if before is None:
            del os.environ["_KFP_RUNTIME"]
        else:
            os.environ["_KFP_RUNTIME"] = before

    def late(name: str) -> Any:
        if name == "Client":
            from kfp.client import Client

            return Client
        raise AttributeError(f"module 'kfp' has no attribute {name!r}")

    kfp.__dict__.setdefault("__getattr__", late)
    from kfp import components, dsl  # noqa: F401  a consumer's `kfp.dsl` works after `import kfp`

    return kfp
