"""Known faults of Feast, shown in bare Feast: `python tests/feast_faults.py FOLDER` prints what happened as JSON.

Run with a Python that has Feast. The same repositories go through materialize-features in test_features_guards.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd

UTC = timezone.utc
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def store(folder: Path, registry: Any) -> Any:
    """A new client of Feast's."""
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    online = {"type": "sqlite", "path": str(folder / "online.db")}
    given = {"project": "p", "provider": "local", "registry": registry, "online_store": online}
    return FeatureStore(config=RepoConfig(**given, entity_key_serialization_version=3, repo_path=folder))


def objects(folder: Path, name: str = "v", batch: bool = False) -> list[Any]:
    """An entity, a source and a view."""
    from feast import BatchFeatureView, Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64

    user = Entity(name="user", join_keys=["id"], value_type=ValueType.INT64)
    source = FileSource(name=f"{name}_source", path=str(folder / "t.parquet"), timestamp_field="at")
    given: Any = {"name": name, "entities": [user], "source": source, "schema": [Field(name="a", dtype=Float64)]}
    given["ttl"] = timedelta(days=20000)
    return [user, source, BatchFeatureView(mode="pandas", **given) if batch else FeatureView(**given)]


def table(folder: Path, days: int) -> None:
    """A row a day."""
    at = pd.to_datetime([DAY + timedelta(days=day) for day in range(days)], utc=True)
    pd.DataFrame({"id": 1, "at": at, "a": [float(day) for day in range(days)]}).to_parquet(folder / "t.parquet")


def online(client: Any) -> Any:
    """What is served."""
    return client.get_online_features(["v:a"], [{"id": 1}]).to_dict()["a"][0]


def main() -> None:
    """Show each fault."""
    from feast import Entity, ValueType

    folder = Path(sys.argv[1])
    sql = {"registry_type": "sql", "path": f"sqlite:///{folder}/sql.db"}
    table(folder, 3)
    found: dict[str, Any] = {}

    client = store(folder, sql)
    client.apply(objects(folder))
    client.materialize(DAY, DAY + timedelta(days=9), feature_views=["v"])
    store(folder, sql).apply(objects(folder, batch=True))
    found["intervals after the view became a batch view"] = len(
        store(folder, sql).get_feature_view("v").materialization_intervals
    )

    client = store(folder, str(folder / "future.db"))
    client.apply(objects(folder))
    client.materialize_incremental(datetime.now(UTC) + timedelta(days=30), feature_views=["v"])
    table(folder, 5)
    client = store(folder, str(folder / "future.db"))
    try:
        client.materialize_incremental(datetime.now(UTC), feature_views=["v"])
    except Exception as error:
        found["error after an end in the future"] = type(error).__name__
    found["served after an end in the future"] = online(client)

    clients = [store(folder, str(folder / "race.db")) for _ in range(2)]
    for name, client in zip("ab", clients):  # both read, then both write
        client.registry.apply_entity(Entity(name=name, value_type=ValueType.INT64), "p", commit=False)
    for client in clients:
        client.registry.commit()
    left = store(folder, str(folder / "race.db")).list_entities()
    found["entities left after two clients"] = sorted(entity.name for entity in left)

    repository = folder / "repository"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(
        "project: p\nprovider: local\nregistry: r.db\nonline_store: {type: sqlite, path: o.db}\n"
        "entity_key_serialization_version: 3\n"
    )
    (repository / "d.py").write_text(
        "import sys\n"
        f"sys.path.append({str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom feast_faults import objects\n"
        f"user, source, view = objects(Path({str(folder)!r}))\n"
    )
    feast = str(Path(sys.executable).with_name("feast"))
    for step in ("apply", "delete", "apply", "materialize"):
        if step == "delete":
            (repository / "o.db").unlink()
            continue
        times = ["2023-01-01T00:00:00", "2025-01-01T00:00:00"] if step == "materialize" else []
        done = subprocess.run([feast, step, *times], cwd=repository, capture_output=True, text=True, check=False)
    found["materialize after the file was deleted"] = "no such table" in done.stderr + done.stdout
    print("\n" + json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
