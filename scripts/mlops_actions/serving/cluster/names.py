"""What the objects of a model are called, and the labels and annotations that say whose they are.

None of them is KServe's: its controller deletes what carries its labels and is not its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

DOMAIN = "mlops-actions.io"
MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "mlops-actions"
MODEL, RELEASE, PART = f"{DOMAIN}/model", f"{DOMAIN}/release", f"{DOMAIN}/part"
STABLE, CANDIDATE, PREVIOUS = f"{DOMAIN}/stable", f"{DOMAIN}/candidate", f"{DOMAIN}/previous"
"""Annotations of the model's own Service: the releases in these roles."""
NAME, VERSION, DIGEST = f"{DOMAIN}/name", f"{DOMAIN}/version", f"{DOMAIN}/digest"
SETTINGS = f"{DOMAIN}/settings"
"""Label of KServe's pods: a digest of the settings that they were made by, as nothing else there tells."""
_LONGEST = 40  # of a Service's name there may be 63, and `-v12-1a2b3c4d` is added


def service_of(model: str) -> str:
    """The name of a model's Service: its own where that is a DNS label, else one made of it that no other model has."""
    name = re.sub(r"[^a-z0-9-]+", "-", model.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"m-{name}"
    if name == model and len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 7].rstrip('-')}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"


def name_of(model: str, release: str) -> str:
    """The name of the objects of a release, which is named by its id."""
    return f"{service_of(model)}-{release}"


def labels(model: str, release: str = "") -> dict[str, str]:
    """The labels of a model's own objects, or of a release's objects and pods.

    Args:
        model: its name in the registry.
        release: its id.
    """
    return {MANAGED: MANAGER, MODEL: service_of(model), **({RELEASE: release} if release else {})}


def pod_labels(model: str, release: str) -> dict[str, str]:
    """The labels of pods with a release's model in them, which Services choose them by.

    They are not those of its objects: KServe puts an InferenceService's own labels on all of its pods, also on those of
    a transformer.
    """
    return {**labels(model, release), PART: "model"}


def selector(model: str, release: str = "") -> str:
    """Labels of objects as a label selector of a request."""
    return _selector(labels(model, release))


def pod_selector(model: str, release: str) -> str:
    """The same of pods with the model."""
    return _selector(pod_labels(model, release))


def _selector(chosen: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in chosen.items())
