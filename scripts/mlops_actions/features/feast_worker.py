"""Plan, apply, materialize and read back one Feast repository, in the consumer's environment.

A stand-alone script: the standard library and Feast, and pandas, which Feast brings. It reads one JSON request from
standard input and writes events to standard output, one JSON a line; what Feast and the consumer's modules print goes
to standard error. All of it is one process, because importing Feast takes longer than the work on a small repository.

Events: `plan`, `view`, `notice`, and last `result` or `error`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, FeatureView

BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""Where a first materialization starts; Feast's own rule, now - ttl, gives nothing for data older than its ttl."""


class Problem(Exception):
    """An end that the user is told about; `place` is a file and line."""

    def __init__(self, what: str, why: str = "", fix: str = "", place: tuple[str, int | None] | None = None) -> None:
        super().__init__(what)
        self.event = {"event": "error", "what": what, "why": why, "fix": fix, "kind": "input"}
        if place:
            self.event |= {"file": place[0], "line": place[1]}


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


class Worker:
    """One request on one repository.

    Args:
        request: `folder` of the repository, `views`, `start`, `end` (ISO 8601 or empty), `mode`, `sample`.
        emit: writes an event.
    """

    def __init__(self, request: dict[str, Any], emit: Any) -> None:
        self.request, self.emit = request, emit
        self.folder = Path(request["folder"])
        self.mode: str = request["mode"]
        self.start = _moment(request["start"])
        self.end = _moment(request["end"]) or datetime.now(timezone.utc)

    def run(self) -> dict[str, Any]:
        """Do it; the result event."""
        raw = self.read_configuration()
        store = self.open(raw)
        contents = self.import_definitions()
        plan, deleted, changed = self.plan(store, contents)
        self.emit({"event": "plan", **plan})
        registry = raw["registry"]["path"] if isinstance(raw["registry"], dict) else raw["registry"]
        result = {
            "event": "result",
            "project": store.project,
            "registry": registry,
            "online": self.online_file(store),
            "plan": plan,
            "views": [],
            "digest": "",
        }
        if self.mode == "plan-only":
            return result
        views = self.chosen(contents)
        self.check_sources(store, views)
        self.apply(store, contents, deleted)
        done = [self.materialize(store, view.name, changed) for view in views]
        result["views"] = [self.summary(item) for item in done]
        result["digest"] = _digest({d.view.name: [_definition(d.view), d.fingerprint, str(d.watermark)] for d in done})
        return result

    def read_configuration(self) -> dict[str, Any]:
        """feature_store.yaml with the variables filled in, as Feast does."""
        file = self.folder / "feature_store.yaml"
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            for name in re.findall(r"\$\{?([A-Za-z_]\w*)\}?", line.split(" #")[0]):
                if name not in os.environ:
                    what = f"feature_store.yaml names the variable {name}, which is not set"
                    raise Problem(what, fix=f"Set {name} in the step's `env`", place=(str(file), number))
        try:
            raw = yaml.safe_load(os.path.expandvars(text))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            why = str(getattr(error, "problem", None) or error)
            place = (str(file), mark.line + 1 if mark else None)
            raise Problem("feature_store.yaml is not YAML", why, place=place) from None
        if not isinstance(raw, dict) or not raw.get("registry") or not raw.get("project"):
            what = "feature_store.yaml needs at least `project`, `registry` and `provider`"
            raise Problem(what, fix="See https://docs.feast.dev/reference/feature-repository", place=(str(file), 1))
        return raw

    def open(self, raw: dict[str, Any]) -> FeatureStore:
        """The feature store. Folders that Feast writes to, but does not make, are made."""
        from feast import FeatureStore
        from feast.repo_config import RepoConfig
        from pydantic import ValidationError

        given = json.loads(json.dumps(raw))
        registry = given["registry"] if isinstance(given["registry"], dict) else {"path": given["registry"]}
        registry["path"] = _plain_path(str(registry.get("path") or ""))  # Feast takes file:// for a relative path
        given["registry"] = registry
        file = self.folder / "feature_store.yaml"
        try:
            config = RepoConfig(**given, repo_path=self.folder)
            paths = [registry["path"], str(getattr(config.online_store, "path", "") or "")]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "the file"
            why = f"{name}: {first['msg']}"
            raise Problem("Feast refuses feature_store.yaml", why, place=(str(file), _line_of(file, name))) from None
        for path in filter(None, paths):
            if "://" not in path:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        return FeatureStore(config=config)

    def online_file(self, store: FeatureStore) -> str:
        """The online store's file, if it is one."""
        path = str(getattr(store.config.online_store, "path", "") or "")
        return str(self.folder / path) if path and "://" not in path else ""

    def import_definitions(self) -> Any:
        """The objects that the repository's modules define."""
        from feast.repo_operations import parse_repo

        os.chdir(self.folder)  # module names are made of paths relative to the working folder
        sys.path.insert(0, str(self.folder))
        sys.dont_write_bytecode = True  # nothing of ours stays in the consumer's folder
        try:
            return parse_repo(self.folder)
        except SyntaxError as error:
            why = f"{type(error).__name__}: {error.msg}"
            place = (str(error.filename), error.lineno)
            raise Problem("The feature definitions are not Python", why, place=place) from None
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            fix = "Add the package to `requirements`" if isinstance(error, ModuleNotFoundError) else ""
            raise Problem(
                "The feature definitions cannot be imported", _short(error), fix, place=self.place(error)
            ) from None

    def place(self, error: BaseException) -> tuple[str, int | None] | None:
        """The last line of the repository's that an exception passed through."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(self.folder)]
        return (frames[-1].filename, frames[-1].lineno) if frames else None

    def plan(self, store: FeatureStore, contents: Any) -> tuple[dict[str, list[str]], list[Any], set[str]]:
        """What applying would add, change, remove and leave; the objects to remove; the views with other values."""
        self.check_sources(store, _materialized(contents))
        try:
            difference, _, _ = store.plan(contents)
        except Exception as error:
            traceback.print_exc()
            raise self.refused(error) from None
        kinds = {"CREATE": "added", "UPDATE": "changed", "DELETE": "removed", "UNCHANGED": "unchanged"}
        plan: dict[str, list[str]] = {kind: [] for kind in kinds.values()}
        deleted, changed = [], set()
        for item in difference.feast_object_diffs:
            kind = item.feast_object_type.value
            if item.name == "__dummy" or kind == "project":
                continue
            differing = sorted({d.property_name for d in item.feast_object_property_diffs if _really_differs(d)})
            transition = item.transition_type.name
            if transition == "UPDATE" and not differing:
                transition = "UNCHANGED"
            name = f"{kind} {item.name}"
            plan[kinds[transition]].append(f"{name} ({', '.join(differing)})" if transition == "UPDATE" else name)
            if transition == "DELETE":
                deleted.append(item.current_feast_object)
            if transition == "UPDATE" and set(differing) & {"features", "entities", "entity_columns", "batch_source"}:
                changed.add(item.name)
        return {kind: sorted(names) for kind, names in plan.items()}, deleted, changed

    def refused(self, error: Exception) -> Problem:
        """Feast's refusal, at the first definition that it names, if there is one."""
        text = _short(error)
        for name in re.findall(r"[\w-]{3,}", str(error)):
            for file in sorted(self.folder.rglob("*.py")):
                for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                    if f'name="{name}"' in line.replace(" ", "").replace("'", '"'):
                        return Problem("The feature repository does not apply", text, place=(str(file), number))
        place = (str(self.folder / "feature_store.yaml"), 1)
        return Problem("The feature repository does not apply", text, place=place)

    def apply(self, store: FeatureStore, contents: Any, deleted: list[Any]) -> None:
        """Register everything, also when nothing changed: the online store of this machine may lack its tables."""
        wanted = [item for kind in contents for item in kind]
        try:
            store.apply(wanted, objects_to_delete=deleted, partial=False)
        except Exception as error:
            traceback.print_exc()
            raise self.refused(error) from None

    def chosen(self, contents: Any) -> list[FeatureView]:
        """The views that were asked for, among those that go to the online store."""
        views = {view.name: view for view in _materialized(contents)}
        for name in self.request["views"]:
            if name not in views:
                near = get_close_matches(name, views, n=1)
                fix = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(views))}"
                raise Problem(f"There is no feature view {name!r} to materialize", fix=fix)
        return [views[name] for name in self.request["views"] or sorted(views)]

    def check_sources(self, store: FeatureStore, views: list[FeatureView]) -> None:
        """Every table that is a file is there, which Feast itself only warns of."""
        from feast import FileSource
        from pyarrow.fs import FileType, LocalFileSystem

        for view in views:
            source = view.batch_source
            if not isinstance(source, FileSource):
                continue
            path = FileSource.get_uri_for_file_path(store.config.repo_path, source.path)
            override = source.file_options.s3_endpoint_override
            try:
                filesystem, name = FileSource.create_filesystem_and_path(path, override)
                found = (filesystem or LocalFileSystem()).get_file_info(name).type != FileType.NotFound
            except OSError as error:
                problem = Problem(f"The table {path} of the feature view {view.name!r} cannot be read", _short(error))
                problem.event["kind"] = "remote"
                raise problem from None
            if not found:
                what = f"There is no table {path}, the source of the feature view {view.name!r}"
                fix = "Give the command that makes it as `prepare`, or correct the source's `path`"
                raise Problem(what, fix=fix, place=self.definition(view.name))

    def definition(self, name: str) -> tuple[str, int | None]:
        """Where a name is written in the repository's modules; else the configuration."""
        for file in sorted(self.folder.rglob("*.py")):
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if re.search(rf"\b{re.escape(name)}\b", line):
                    return str(file), number
        return str(self.folder / "feature_store.yaml"), 1

    def materialize(self, store: FeatureStore, name: str, changed: set[str]) -> Done:
        """Bring one view's latest values to the online store, and compare a sample of what it now gives."""
        began = time.monotonic()
        view = store.get_feature_view(name)
        done = Done(view)
        before = view.most_recent_end_time
        before = before.replace(tzinfo=timezone.utc) if before and before.tzinfo is None else before
        history = _history(store, view, self.end)
        lost = before is not None and self.mode == "incremental" and not self.has_online(store, view, history, before)
        if lost:
            self.notice(f"{name}: the online store has nothing of it any more; it is materialized from the beginning")
        elif before and name in changed and self.mode == "incremental":
            self.notice(f"{name}: its definition changed; it is materialized from the beginning")
        fresh = before is None or lost or name in changed
        start = self.start or (BEGINNING if fresh or before is None else before)
        column = view.batch_source.timestamp_field
        within = history[(history[column] >= start) & (history[column] <= self.end)]
        if self.mode == "incremental" and not fresh:
            within = within[within[column] > start]
        if len(within):
            # What is recorded is what was there to write: data that arrive later than now are not skipped.
            done.start = max(start, _python(within[column].min(), "floor"))
            done.watermark = _python(within[column].max(), "ceil")
            store.materialize(done.start, done.watermark, feature_views=[name])
            done.rows = len(_latest(within, view))
        else:
            done.watermark = before
        self.finish(store, done, history, within)
        done.seconds = time.monotonic() - began
        self.emit({"event": "view", **self.summary(done)})
        return done

    def finish(self, store: FeatureStore, done: Done, history: pd.DataFrame, within: pd.DataFrame) -> None:
        """Fingerprint the rows up to the watermark, and read a sample back."""
        column = done.view.batch_source.timestamp_field
        if done.watermark is None:
            self.notice(f"{done.view.name}: its source has no rows until {self.end:%Y-%m-%d %H:%M} UTC")
            return
        known = history[history[column] <= done.watermark]
        done.fingerprint = _fingerprint(known)
        latest = _latest(within if self.mode == "range" else known, done.view)
        sample = latest.iloc[:: max(1, len(latest) // max(1, self.request["sample"]))].head(self.request["sample"])
        done.compared = len(sample)
        done.differences = _differences(store, done.view, sample)

    def has_online(
        self, store: FeatureStore, view: FeatureView, history: pd.DataFrame, until: datetime
    ) -> bool:
        """Whether the online store has something of a view that the registry says is materialized."""
        known = _latest(history[history[view.batch_source.timestamp_field] <= until], view).tail(3)
        found = _online(store, view, known)
        return not len(known) or any(value is not None for values in found.values() for value in values)

    def notice(self, text: str) -> None:
        """Something worth a look."""
        self.emit({"event": "notice", "text": text})

    def summary(self, done: Done) -> dict[str, Any]:
        """A view as the outputs and the report have it."""
        return {
            "name": done.view.name,
            "rows": done.rows,
            "watermark": _text(done.watermark),
            "start": _text(done.start),
            "seconds": round(done.seconds, 3),
            "features": [feature.name for feature in done.view.features],
            "compared": done.compared,
            "differences": done.differences[:5],
            "fingerprint": done.fingerprint,
        }


def _really_differs(difference: Any) -> bool:
    """Whether a property differs in more than the times at which a source was registered, which Feast compares too."""
    sides = []
    for value in (difference.val_existing, difference.val_declared):
        if hasattr(value, "DESCRIPTOR") and "meta" in value.DESCRIPTOR.fields_by_name:
            copy = type(value)()
            copy.CopyFrom(value)
            copy.ClearField("meta")
            value = copy
        sides.append(value)
    return bool(sides[0] != sides[1])


def _materialized(contents: Any) -> list[FeatureView]:
    """The views that have a table and go to the online store."""
    views = [*contents.feature_views, *contents.stream_feature_views]
    return [view for view in views if view.online and view.batch_source is not None]


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
        join_key_columns=[] if keys == ["__dummy_id"] else [_source_name(source, key) for key in keys],
        feature_name_columns=[_source_name(source, feature.name) for feature in view.features],
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or None,
        start_date=BEGINNING,
        end_date=end,
    )
    rows = job.to_df().rename(columns=source.field_mapping or {})
    rows[source.timestamp_field] = pd.to_datetime(rows[source.timestamp_field], utc=True)
    return rows


def _source_name(source: Any, name: str) -> str:
    """A column's name in the source."""
    return next((raw for raw, mapped in (source.field_mapping or {}).items() if mapped == name), name)


def _latest(rows: pd.DataFrame, view: FeatureView) -> pd.DataFrame:
    """The last row of each entity, as Feast chooses it. Entities with two last rows are left out: either is right."""
    keys = [column.name for column in view.entity_columns if column.name in rows]
    times = [view.batch_source.timestamp_field, view.batch_source.created_timestamp_column]
    times = [name for name in times if name and name in rows]
    ordered = rows.sort_values([*reversed(times[1:]), *keys, times[0]], kind="stable")
    ordered = ordered.sort_values(list(times), kind="stable")
    if not keys:
        return ordered.tail(1)
    return ordered.drop_duplicates(keys, keep="last").sort_values(keys)


def _online(store: FeatureStore, view: FeatureView, rows: pd.DataFrame) -> dict[str, list[Any]]:
    """What the online store gives for the entities of the rows, by feature."""
    keys = [column.name for column in view.entity_columns if column.name in rows]
    if not len(rows):
        return {}
    entities = [dict(zip(keys, values)) for values in rows[keys].to_numpy(dtype=object).tolist()] if keys else [{}]
    names = [f"{view.name}:{feature.name}" for feature in view.features]
    found = store.get_online_features(names, entities).to_dict()
    return {feature.name: list(found[feature.name]) for feature in view.features}


def _differences(store: FeatureStore, view: FeatureView, sample: pd.DataFrame) -> list[str]:
    """How the online values differ from the rows that they were made of."""
    keys = [column.name for column in view.entity_columns if column.name in sample]
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
    for name in ordered.columns[ordered.dtypes == object]:
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


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()}"


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _python(moment: Any, rounding: str) -> datetime:
    """A pandas timestamp in Feast's microseconds."""
    rounded = moment.floor("us") if rounding == "floor" else moment.ceil("us")
    result: datetime = rounded.to_pydatetime()
    return result


def _text(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if moment else ""


def _plain_path(uri: str) -> str:
    return url2pathname(urlsplit(uri).path) if uri.startswith("file://") else uri


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}".rstrip(": ")


def _line_of(file: Path, name: str) -> int:
    key = name.split(".")[0]
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)


def main() -> None:
    """Read the request, write the events, and leave at once: Dask's threads may not end by themselves."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        emit(Worker(json.load(sys.stdin), emit).run())
    except Problem as problem:
        emit(problem.event)
    except Exception as error:
        traceback.print_exc()
        emit({"event": "error", "kind": "remote", "what": "Feast failed", "why": _short(error), "fix": ""})
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
