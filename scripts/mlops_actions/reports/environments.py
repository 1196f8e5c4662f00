"""The environments that a model was tested in, as one table of a report."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation import side_by_side
from ..records import Record
from .sections import render


def environments(records: Sequence[Record]) -> str:
    """Where predictions part and by how much, over all environments of a run, in Markdown; "" for fewer than two."""
    rows = side_by_side.table([record for record in records if record.action == "test-model"])
    if len(rows) < 2:
        return ""
    return render(
        "_environments.md.j2",
        environments=rows,
        parted=side_by_side.parted(rows)[:10],
        packages=side_by_side.differing_packages(rows),
    )
