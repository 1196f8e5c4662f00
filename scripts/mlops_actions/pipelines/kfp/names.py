"""Names: from those that git, GitHub and the SDK allow to those that KFP does.

KFP keeps pipelines in a database or as Kubernetes objects, and only the database takes capitals, `_` and `/`. So that
a pipeline has one name wherever it goes, names are always those of Kubernetes.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 127
"""Characters of a version's name that KFP's database has room for; the pipeline's is one longer."""


def pipeline_name(name: str) -> str:
    """A pipeline's name: `Flight_Delays` as `flight-delays`."""
    return _mapped(name, "a-z0-9")


def version_name(name: str) -> str:
    """A version's name; dots stay: `release/v1.2` as `release-v1.2`."""
    return _mapped(name, "a-z0-9.")


def shortened(name: str, most: int = LONGEST) -> str:
    """A name of at most so many characters: a long one is cut and gets a hash of the whole, so that it stays apart."""
    if len(name) <= most:
        return name
    return f"{name[: most - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _mapped(name: str, allowed: str) -> str:
    """In lower case, each run of other characters a `-`, a letter or digit at both ends."""
    mapped = re.sub(rf"[^{allowed}]+", "-", name.lower())
    mapped = re.sub(r"-*\.[-.]*", ".", mapped).strip("-.")
    return shortened(mapped) if mapped else f"p-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
