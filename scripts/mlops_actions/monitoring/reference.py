"""The data that a version was trained on, found again by its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from pydantic import ValidationError

from ..data.contract import read_contract
from ..data.sources import DataSource, find
from ..data.validate import fingerprint
from ..errors import BadInput
from ..records import Record
from ..registry.manifest import Manifest
from ..stores.store import Store
from ..workspace import Workspace


@dataclass(frozen=True)
class Reference:
    """The files, and the types of the contract that they were validated with."""

    sources: Sequence[DataSource]
    types: Mapping[str, pl.DataType] = field(default_factory=dict)


def training_data(where: Workspace, manifest: Manifest, say: Callable[[str], None]) -> Reference:
    """The files that validate-data gave the version's data fingerprint for.

    Args:
        where: where data, and the records of validate-data, are looked up.
        manifest: of the version.
        say: is told what it was trained on.

    Raises:
        BadInput: the version names no data, no record has it, or the files have changed since.
    """
    name, wanted = f"{manifest.name} version {manifest.version}", manifest.lineage.data_fingerprint
    fix = "Give `reference`: the files that it was trained on"
    if not wanted:
        raise BadInput(f"The lineage of {name} names no data", why="validate-data was not in its run", fix=fix)
    record = _validated(where.store, wanted)
    if record is None:
        raise BadInput(f"No record of validate-data has the data of {name}", why=f"It is {wanted}", fix=fix)
    patterns, contract = record.inputs["data"], record.inputs.get("contract")
    say(f"{name} was trained on {', '.join(patterns)}")
    path = where.root / str(contract) if contract else None
    types = read_contract(path, str(contract)).types() if path and path.is_file() else {}
    sources = find(where, patterns)
    any_order = record.inputs.get("fingerprint-order") == "any"
    if fingerprint(sources, types, any_order=any_order)[0] != wanted:
        what = f"{', '.join(patterns)} is not what {name} was trained on anymore"
        raise BadInput(what, why="It has changed", fix=fix)
    return Reference(sources, types)


def _validated(store: Store, wanted: str) -> Record | None:
    for entry in store.list("work/validate-data/"):
        try:
            record = Record.model_validate(store.get_json(entry.path))
        except (FileNotFoundError, ValidationError, ValueError):
            continue
        if record.subject.get("data") == wanted and record.inputs.get("data"):
            return record
    return None
