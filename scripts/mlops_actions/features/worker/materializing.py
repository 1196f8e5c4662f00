"""One view: its latest values brought to the online store, and a sample of what that gives compared with the source."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .repository import source_name

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, FeatureView

BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""Where a first materialization starts; Feast's own rule, now - ttl, gives nothing for data older than its ttl."""


@dataclass
class Done:
    """What was done with one view, and what its online rows must be."""

    view: FeatureView
    rows: int = 0
    seconds: float = 0.0
    start: datetime | None = None
    watermark: datetime | None = None
    fingerprint: str = ""
    latest: pd.DataFrame | None = None
    differences: list[str] = field(default_factory=list)
    compared: int = 0

    def summary(self) -> dict[str, Any]:
        """The view as the outputs and the report have it."""
        return {
            "name": self.view.name,
            "rows": self.rows,
            "watermark": _text(self.watermark),
            "start": _text(self.start),
            "seconds": round(self.seconds, 3),
            "features": [feature.name for feature in self.view.features],
            "compared": self.compared,
            "differences": self.differences[:5],
            "fingerprint": self.fingerprint,
        }


class Materializer:
    """Materializes views of one store.

    Args:
        store: Feast's.
        mode: `incremental` or `range`.
        start: beginning of the range; None otherwise.
        end: until when.
        sample: entities a view to read back.
        notice: is told what is worth a look.
    """

    def __init__(
        self, store: FeatureStore, mode: str, start: datetime | None, end: datetime, sample: int,
        notice: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.store, self.mode, self.start, self.end = store, mode, start, end
        self.sample, self.notice = sample, notice

    def materialize(self, name: str, other_values: bool) -> Done:
        """Bring a view up to date; from the beginning if the registry's state of it is of no use any more."""
        began = time.monotonic()
        view = self.store.get_feature_view(name)
        done = Done(view)
        before = view.most_recent_end_time
        before = before.replace(tzinfo=timezone.utc) if before and before.tzinfo is None else before
        # An earlier end than last time writes nothing, but what was written then is still what must be read back.
        history = _history(self.store, view, max(self.end, before or self.end))
        lost = before is not None and self.mode == "incremental" and not self._has_online(view, history, before)
        if lost:
            self.notice(f"{name}: the online store has nothing of it any more; it is materialized from the beginning")
        elif before and other_values and self.mode == "incremental":
            self.notice(f"{name}: its definition changed; it is materialized from the beginning")
        fresh = before is None or lost or other_values
        start = self.start or (BEGINNING if fresh or before is None else before)
        column = view.batch_source.timestamp_field
        within = history[(history[column] >= start) & (history[column] <= self.end)]
        if self.mode == "incremental" and not fresh:
            within = within[within[column] > start]
        if len(within):
            # What is recorded is what was there to write: data that arrive later than now are not skipped.
            done.start = max(start, _python(within[column].min(), "floor"))
            done.watermark = _python(within[column].max(), "ceil")
            self.store.materialize(done.start, done.watermark, feature_views=[name])
            done.rows = len(_latest(within, view))
        else:
            done.watermark = before
        self._read_back(done, history, within)
        done.seconds = time.monotonic() - began
        return done

    def _read_back(self, done: Done, history: pd.DataFrame, within: pd.DataFrame) -> None:
        """Fingerprint the rows up to the watermark, and read a sample back."""
        column = done.view.batch_source.timestamp_field
        if done.watermark is None:
            self.notice(f"{done.view.name}: its source has no rows until {self.end:%Y-%m-%d %H:%M} UTC")
            return
        known = history[history[column] <= done.watermark]
        done.fingerprint = _fingerprint(known)
        rows = within if self.mode == "range" else known
        latest = _latest(rows, done.view)
        ties = rows.duplicated([*_keys(done.view, rows), *_times(done.view, rows)], keep=False)
        latest = latest[~ties[latest.index]]  # of two last rows either is right
        sample = latest.iloc[:: max(1, len(latest) // max(1, self.sample))].head(self.sample)
        done.compared = len(sample)
        done.differences = _differences(self.store, done.view, sample)

    def _has_online(self, view: FeatureView, history: pd.DataFrame, until: datetime) -> bool:
        """Whether the online store has something of a view that the registry says is materialized."""
        known = _latest(history[history[view.batch_source.timestamp_field] <= until], view).tail(3)
        found = _online(self.store, view, known)
        return not len(known) or any(value is not None for values in found.values() for value in values)


def _history(store: FeatureStore, view: FeatureView, end: datetime) -> pd.DataFrame:
    """The rows of a view's source until a moment: all of a file; of a warehouse the latest ones of each entity."""
    import pandas as pd
    from feast import FileSource

    source, offline = view.batch_source, store._get_provider().offline_store
    keys = [column.name for column in view.entity_columns]
    pull = offline.pull_all_from_table_or_query
    if not isinstance(source, FileSource):
        pull = offline.pull_latest_from_table_or_query
    job = pull(
        config=store.config,
        data_source=source,
        join_key_columns=[] if keys == ["__dummy_id"] else [source_name(source, key) for key in keys],
        feature_name_columns=[source_name(source, feature.name) for feature in view.features],
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or None,
        start_date=BEGINNING,
        end_date=end,
    )
    rows: pd.DataFrame = job.to_df().rename(columns=source.field_mapping or {})
    rows = rows.reset_index(drop=True)
    rows[source.timestamp_field] = pd.to_datetime(rows[source.timestamp_field], utc=True)
    return rows


def _latest(rows: pd.DataFrame, view: FeatureView) -> pd.DataFrame:
    """The last row of each entity."""
    keys = _keys(view, rows)
    ordered: pd.DataFrame = rows.sort_values(_times(view, rows), kind="stable")
    last: pd.DataFrame = ordered.drop_duplicates(keys, keep="last").sort_values(keys) if keys else ordered.tail(1)
    return last


def _keys(view: FeatureView, rows: pd.DataFrame) -> list[str]:
    return [column.name for column in view.entity_columns if column.name in rows]


def _times(view: FeatureView, rows: pd.DataFrame) -> list[str]:
    """The columns that say which of an entity's rows is the last."""
    source = view.batch_source
    return [name for name in (source.timestamp_field, source.created_timestamp_column) if name and name in rows]


def _online(store: FeatureStore, view: FeatureView, rows: pd.DataFrame) -> dict[str, list[Any]]:
    """What the online store gives for the entities of the rows, by feature."""
    keys = _keys(view, rows)
    if not len(rows):
        return {}
    entities = [dict(zip(keys, values)) for values in rows[keys].to_numpy(dtype=object).tolist()] if keys else [{}]
    names = [f"{view.name}:{feature.name}" for feature in view.features]
    found = store.get_online_features(names, entities).to_dict()
    return {feature.name: list(found[feature.name]) for feature in view.features}


def _differences(store: FeatureStore, view: FeatureView, sample: pd.DataFrame) -> list[str]:
    """How the online values differ from the rows that they were made of."""
    keys = _keys(view, sample)
    found = []
    for name, values in _online(store, view, sample).items():
        for row, online in zip(sample.to_dict("records"), values):
            if not _equal(row[name], online):
                entity = ", ".join(f"{key}={row[key]}" for key in keys)
                found.append(f"{view.name}:{name} of {entity}: offline {row[name]!r}, online {online!r}")
    return found


def _equal(offline: Any, online: Any) -> bool:
    """Whether two values are the same, but for the width of a float and the kind of a missing value or a list."""
    import numpy as np
    import pandas as pd

    if isinstance(offline, np.ndarray | list | tuple | set):
        other = list(online) if online is not None else []
        return len(offline) == len(other) and all(_equal(a, b) for a, b in zip(offline, other))
    if online is None or pd.isna(offline):
        return bool(pd.isna(offline)) and (online is None or bool(pd.isna(online)))
    if isinstance(offline, float | np.floating):
        return bool(np.isclose(float(offline), float(online), rtol=1e-6, atol=0.0))
    if isinstance(offline, pd.Timestamp):
        other = pd.Timestamp(online)
        other = other.tz_localize("UTC") if other.tzinfo is None else other
        mine = offline.tz_localize("UTC") if offline.tzinfo is None else offline
        return bool(abs(mine - other) < pd.Timedelta(seconds=1))
    return bool(offline == online)


def _fingerprint(rows: pd.DataFrame) -> str:
    """A digest of the rows, whatever their order and files."""
    from pandas.util import hash_pandas_object

    ordered = rows.reindex(sorted(rows.columns), axis=1)
    for name in ordered.columns[[kind.kind == "O" for kind in ordered.dtypes]]:
        ordered[name] = ordered[name].map(repr)
    total = int(hash_pandas_object(ordered, index=False).to_numpy().sum(dtype="uint64"))
    return _digest([list(ordered.columns), len(ordered), total])


def _definition(view: FeatureView) -> dict[str, Any]:
    """What a view's values depend on; not where its table is, of which the fingerprint speaks."""
    return {
        "features": {feature.name: str(feature.dtype) for feature in view.features},
        "keys": [column.name for column in view.entity_columns],
        "ttl": view.ttl.total_seconds() if view.ttl else 0,
    }


def digest_of(views: list[Done]) -> str:
    """Digest of definitions, watermarks and source rows: what decides the values that a model is trained on."""
    return _digest({done.view.name: [_definition(done.view), done.fingerprint, str(done.watermark)] for done in views})


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()}"


def _python(moment: Any, rounding: str) -> datetime:
    """A pandas timestamp in Feast's microseconds."""
    rounded = moment.floor("us") if rounding == "floor" else moment.ceil("us")
    result: datetime = rounded.to_pydatetime()
    return result


def _text(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if moment else ""
