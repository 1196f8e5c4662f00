"""A version's model card: Markdown with the YAML front matter that model hubs read.

Front matter: https://huggingface.co/docs/hub/model-cards (model-index, by the papers-with-code convention).
"""

from __future__ import annotations

from typing import Any

import yaml

from ..reports.sections import render
from .manifest import Manifest

_LIBRARIES = {".pt": "pytorch", ".keras": "keras"}
"""Libraries of models that only code of the consumer's can load, by the names of their files."""


def model_card(manifest: Manifest, description: str = "") -> str:
    """The card of a version. It has no version number, so that equal versions have equal cards.

    Args:
        manifest: of the version; its number and its card are not looked at.
        description: Markdown by a person, put under the title.
    """
    front = yaml.safe_dump(_front_matter(manifest), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return render(
        "model-card.md.j2",
        front=front.strip(),
        manifest=manifest,
        lineage=manifest.lineage,
        description=description.strip(),
    )


def _front_matter(manifest: Manifest) -> dict[str, Any]:
    tags = manifest.tags
    known = [tags[name] for name in ("license", "language", "task") if name in tags]
    front: dict[str, Any] = {name: tags[name] for name in ("license", "language") if name in tags}
    suffixes = [file.path[file.path.rfind(".") :] for file in manifest.files]
    libraries = [_LIBRARIES[suffix] for suffix in suffixes if suffix in _LIBRARIES]
    if library := manifest.kind or next(iter(libraries), ""):
        front["library_name"] = library
    front["tags"] = [f"{name}:{value}" for name, value in tags.items() if value not in known]
    if manifest.metrics:
        front["metrics"] = sorted(manifest.metrics)
        result = {
            "task": {"type": str(tags.get("task", "tabular-classification"))},
            "dataset": {"name": str(tags.get("dataset", "test data of the run")), "type": "private"},
            "metrics": [{"type": n, "value": v, "name": n} for n, v in sorted(manifest.metrics.items())],
        }
        front["model-index"] = [{"name": manifest.name, "results": [result]}]
    return front
