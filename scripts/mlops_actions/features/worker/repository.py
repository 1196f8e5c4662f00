"""One Feast repository: read and checked, with every refusal at its file and line."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlops_actions.yaml_io import NotYaml, Yaml11, load_yaml

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView


_CLIENTS = {"sqlite3", "redis", "psycopg", "psycopg_pool", "sqlalchemy", "grpc"}
_NUMBERS = ("INT32", "INT64", "FLOAT", "DOUBLE", "BOOL", "UNIX_TIMESTAMP")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)(:|$)")


class Problem(Exception):
    """A failure to report to the user; `place` is a file and line."""

    def __init__(self, what: str, why: str = "", fix: str = "", place: tuple[str, int | None] | None = None) -> None:
        super().__init__(what)
        self.event: dict[str, Any] = {"event": "error", "what": what, "why": why, "fix": fix, "kind": "input"}
        if place:
            self.event |= {"file": place[0], "line": place[1]}


def remote(what: str, why: str = "", fix: str = "") -> Problem:
    """A failure that a store, a server or an engine caused."""
    problem = Problem(what, why, fix)
    problem.event["kind"] = "remote"
    return problem


class Repository:
    """A Feast repository and the store that it describes.

    Args:
        folder: which holds feature_store.yaml.
        writes: whether a registry that is a file or an object may be written. Feast makes one that is absent, and adds
            the project to one that does not have it, as soon as it looks.

    Attributes:
        registry: its URI; of a file that of the place where Feast finds it.
        store: Feast's store.
        contents: the objects that the modules define.

    Raises:
        Problem: feature_store.yaml or a module is wrong.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes
        raw = self._configuration()
        given = raw["registry"] if isinstance(raw["registry"], dict) else {"path": raw["registry"]}
        # Feast takes file:// for a relative path.
        registry = given | {"path": _plain_path(str(given.get("path") or ""))}
        self.registry = _without_password(registry["path"])
        self._registry_file = (folder / registry["path"]).resolve() if _is_a_file(registry) else None
        if self._registry_file:
            self.registry = self._registry_file.as_uri()
        self._check_syntax()  # before Feast is imported, which takes seconds
        self.store = self._open(raw | {"registry": registry})
        self.contents = self._import_definitions()

    @property
    def online_file(self) -> str:
        """The online store's file, if it is one."""
        path = str(getattr(self.store.config.online_store, "path", "") or "")
        return str((self.folder / path).resolve()) if path and "://" not in path else ""

    @property
    def views(self) -> list[FeatureView]:
        """The views that have a table and go to the online store."""
        views = [*self.contents.feature_views, *self.contents.stream_feature_views]
        return [v for v in views if v.online and v.batch_source is not None and getattr(v, "enabled", True)]

    @property
    def on_demand_views(self) -> list[Any]:
        """The on-demand views that are kept online."""
        return [view for view in self.contents.on_demand_feature_views if view.write_to_online_store]

    def chosen(self, names: list[str]) -> list[str]:
        """The names that were asked for, if there are such views; without any, all."""
        views = sorted(view.name for view in self.views)
        for name in names:
            if name not in views:
                near = get_close_matches(name, views, n=1)
                fix = f"Did you mean {near[0]!r}?" if near else f"The repository has: {', '.join(views)}"
                raise Problem(f"The feature view {name!r} does not exist, or has nothing to materialize", fix=fix)
        return names or views

    def check_places(self, root: Path) -> list[str]:
        """Find what Feast keeps in the checkout.

        Args:
            root: the checkout.

        Returns:
            a sentence for each.
        """
        online = Path(self.online_file) if self.online_file else None
        kept = [
            ("registry", self._registry_file, "${MLOPS_STORE}/features/registry.db"),
            ("online store", online, "${MLOPS_HOME}/online.db"),
        ]
        return [
            f"The {what} {file.relative_to(root).as_posix()} is in the checkout: a runner deletes both after the job,"
            f" and the next one starts from nothing. Use a path that stays, such as `{better}`"
            for what, file, better in kept
            if file and file.is_relative_to(root)
        ]

    def check_sources(self) -> list[str]:
        """Every table that is a file is there, with the columns that its view needs; Feast applies without them.

        Returns:
            a sentence for each thing worth a look.
        """
        from feast import FileSource
        from pyarrow.fs import FileType, LocalFileSystem

        warnings = {}
        for view in self.views:
            source = view.batch_source
            if not isinstance(source, FileSource):
                continue
            path = FileSource.get_uri_for_file_path(self.store.config.repo_path, source.path)
            override = source.file_options.s3_endpoint_override
            try:
                filesystem, name = FileSource.create_filesystem_and_path(path, override)
                found = (filesystem or LocalFileSystem()).get_file_info(name).type != FileType.NotFound
            except OSError as error:
                what = f"The table {path} of the feature view {view.name!r} cannot be read"
                raise remote(what, short(error)) from None
            if not found:
                what = f"The table {path}, the source of the feature view {view.name!r}, does not exist"
                fix = "Set `prepare` to the command that makes it, or correct the source's `path`"
                raise Problem(what, fix=fix, place=self._definition(view.name))
            if is_plain(view):
                columns = dict(source.get_table_column_names_and_types(self.store.config))
                self._check_columns(view, list(columns))
                self._check_types(view, columns)
                for name in filter(None, (source.timestamp_field, source.created_timestamp_column)):
                    kind = columns.get(source_name(source, name), "")
                    if kind.startswith("timestamp") and "tz=" not in kind:
                        warnings[path, name] = (
                            f"The column {name!r} of the source of {view.name!r} has times without a zone; they are"
                            " taken as UTC, as Feast takes them"
                        )
        return list(warnings.values())

    def _check_columns(self, view: FeatureView, there: list[str]) -> None:
        """A table has the timestamp, the join keys and the features of its view."""
        source = view.batch_source
        keys = [column.name for column in view.entity_columns if column.name != "__dummy_id"]
        wanted = [*keys, *(feature.name for feature in view.features)]
        for name in [source.timestamp_field, *(source_name(source, name) for name in wanted)]:
            if name and name not in there:
                what = f"The source of the feature view {view.name!r} has no column {name!r}"
                why = f"It has: {', '.join(there)}"
                raise Problem(what, why, "Correct the name, or the table", place=self._definition(name))

    def _check_types(self, view: FeatureView, types: dict[str, str]) -> None:
        """The timestamp is a time and a text is not a number: Feast notices halfway, without saying where."""
        source = view.batch_source
        found = types[source_name(source, source.timestamp_field)]
        if not found.startswith(("timestamp", "date")):
            what = f"The column {source.timestamp_field!r} of the source of {view.name!r} is {found}, not a time"
            fix = "Write it as a timestamp, with a time zone"
            raise Problem(what, fix=fix, place=self._definition(source.timestamp_field))
        for feature in view.features:
            column = source_name(source, feature.name)
            numeric = feature.dtype.to_value_type().name in _NUMBERS
            if numeric and types[column].startswith(("string", "large_string", "binary", "list", "struct", "map")):
                what = f"The column {column!r} of the source of {view.name!r} is {types[column]} and the feature is"
                fix = "Correct the table, or the field's dtype"
                raise Problem(f"{what} {feature.dtype}", fix=fix, place=self._definition(feature.name))

    def _configuration(self) -> dict[str, Any]:
        """feature_store.yaml with the variables filled in, as Feast does."""
        file = self.folder / "feature_store.yaml"
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            for name in re.findall(r"\$\{?([A-Za-z_]\w*)\}?", line.split(" #")[0]):
                if name not in os.environ:
                    what = f"feature_store.yaml uses the variable {name}, which is not set"
                    raise Problem(what, fix=f"Set {name} in the step's `env`", place=(str(file), number))
        try:
            raw = load_yaml(os.path.expandvars(text), Yaml11)
        except NotYaml as error:
            place = (str(file), error.line or None)
            raise Problem("feature_store.yaml is not YAML", error.problem, place=place) from None
        if not isinstance(raw, dict) or not raw.get("registry") or not raw.get("project"):
            what = "feature_store.yaml needs at least `project`, `registry` and `provider`"
            raise Problem(what, fix="See https://docs.feast.dev/reference/feature-repository", place=(str(file), 1))
        return raw

    def _check_syntax(self) -> None:
        """Every module of the repository is Python."""
        for file in sorted(self.folder.rglob("*.py")):
            try:
                compile(file.read_bytes(), str(file), "exec")
            except SyntaxError as error:
                why = f"{type(error).__name__}: {error.msg}"
                raise Problem("The feature definitions are not Python", why, place=(str(file), error.lineno)) from None

    def _open(self, raw: dict[str, Any]) -> FeatureStore:
        """The feature store. Folders that Feast writes to, but does not make, are made."""
        from feast import FeatureStore
        from feast.repo_config import RepoConfig
        from pydantic import ValidationError

        given = json.loads(json.dumps(raw))
        registry = given["registry"]
        if self._registry_file and not registry.get("registry_store_type"):
            registry["registry_store_type"] = f"{__package__}.registry_file.WholeFileRegistryStore"
        file = self.folder / "feature_store.yaml"
        try:
            config = RepoConfig(**given, repo_path=self.folder)
            paths = [registry["path"], str(getattr(config.online_store, "path", "") or "")]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "the file"
            why = f"{name}: {first['msg']}"
            raise Problem("Feast rejects feature_store.yaml", why, place=(str(file), _line_of(file, name))) from None
        except Exception as error:  # an unknown kind of store, or one whose packages are not installed
            traceback.print_exc()
            raise Problem("Feast rejects feature_store.yaml", short(error), place=(str(file), 1)) from None
        for path in filter(None, paths):
            if "://" not in path:
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        if not self._writes:
            from feast.infra.registry.registry import NoopRegistryStore, Registry

            Registry.commit = lambda made: setattr(made, "_registry_store", NoopRegistryStore())
            if registry.get("registry_type") == "sql":
                return self._read_sql(given)
        # Without its folder Feast takes a relative registry from the working folder.
        return FeatureStore(repo_path=str(self.folder), config=config)

    def _read_sql(self, given: dict[str, Any]) -> FeatureStore:
        """The feature store over a registry of tables, of which Feast makes those that are missing unless it is told
        not to. One without tables is an empty one.
        """
        from feast import FeatureStore
        from feast.infra.registry import sql
        from feast.repo_config import RepoConfig

        sql.SqlRegistry._maybe_init_project_metadata = lambda *_: None
        sql.SqlRegistry._sync_feast_metadata_to_projects_table = lambda *_: None
        there = {**given, "registry": {**given["registry"], "schema_mode": "verify"}}
        try:
            store = FeatureStore(repo_path=str(self.folder), config=RepoConfig(**there, repo_path=self.folder))
            _ = store.registry  # now, and not when it is first used
            return store
        except sql.FeastRegistrySchemaError:
            empty = {**given, "registry": {"path": str(Path(tempfile.mkdtemp()) / "registry.db")}}
            return FeatureStore(repo_path=str(self.folder), config=RepoConfig(**empty, repo_path=self.folder))

    def _import_definitions(self) -> Any:
        """The objects that the repository's modules define."""
        from feast.repo_operations import parse_repo

        os.chdir(self.folder)  # module names are made of paths relative to the working folder
        sys.path.insert(0, str(self.folder))
        sys.dont_write_bytecode = True  # nothing of ours stays in the consumer's folder
        try:
            return parse_repo(self.folder)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            fix = "Add the package to `requirements`" if isinstance(error, ModuleNotFoundError) else ""
            raise Problem(
                "The feature definitions cannot be imported", short(error), fix, place=self._place(error)
            ) from None

    def _place(self, error: BaseException) -> tuple[str, int | None] | None:
        """The last line of the repository's that an exception passed through."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(self.folder)]
        return (frames[-1].filename, frames[-1].lineno) if frames else None

    def refused(self, error: Exception) -> Problem:
        """Feast's refusal, at the first definition that it names, if there is one; or a store's that fails."""
        if is_of_a_store(error):
            config = self.store.config
            what = f"Cannot use the registry or the online store ({config.online_store.type})"
            return remote(what, short(error), "Check that it runs, can be reached and written to, and has space")
        text = short(error)
        for name in re.findall(r"[\w-]{3,}", str(error)):
            for file in sorted(self.folder.rglob("*.py")):
                for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                    if f'name="{name}"' in line.replace(" ", "").replace("'", '"'):
                        return Problem("The feature repository cannot be applied", text, place=(str(file), number))
        place = (str(self.folder / "feature_store.yaml"), 1)
        return Problem("The feature repository cannot be applied", text, place=place)

    def _definition(self, name: str) -> tuple[str, int | None]:
        """Where a name is written in the repository's modules; else the configuration."""
        for file in sorted(self.folder.rglob("*.py")):
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if re.search(rf"\b{re.escape(name)}\b", line):
                    return str(file), number
        return str(self.folder / "feature_store.yaml"), 1


def is_plain(view: Any) -> bool:
    """Whether a view's features are columns of its source as they are."""
    made = ("feature_transformation", "aggregations", "source_views")
    return view.batch_source is not None and not any(getattr(view, name, None) for name in made)


def is_of_a_store(error: BaseException) -> bool:
    """Whether an exception speaks of a server, a disk or a connection, and not of a value."""
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & _CLIENTS)


def has_credentials(source: Any) -> bool:
    """Whether a source is read with credentials of its own, which Feast has since 0.67."""
    return hasattr(source, "resolve_credentials") and bool(source.resolve_credentials())


def engine_of(store: FeatureStore, view: Any) -> str:
    """Feast's name of the engine that materializes a view."""
    own = getattr(view, "batch_engine", None)
    given = own if isinstance(own, dict) and "type" in own else store.config.batch_engine_config
    return str(given.get("type", "local") if isinstance(given, dict) else given)


def source_name(source: Any, name: str) -> str:
    """A column's name in the source."""
    return next((raw for raw, mapped in (source.field_mapping or {}).items() if mapped == name), name)


def _is_a_file(registry: dict[str, Any]) -> bool:
    """Whether a registry's configuration names a file of this machine."""
    return registry.get("registry_type", "file") == "file" and "://" not in registry["path"]


def _plain_path(uri: str) -> str:
    return url2pathname(urlsplit(uri).path) if uri.startswith("file://") else uri


def _without_password(uri: str) -> str:
    """A URI without the name and password in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def short(error: BaseException) -> str:
    """An exception in one line; of one that has another process's traceback in it, that one's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = next((place for place, line in enumerate(lines) if line.startswith("Traceback (most recent")), None)
    if own is not None:
        lines = [*lines[:own], next((line for line in reversed(lines) if _RAISED.match(line)), lines[-1])]
    return f"{type(error).__name__}: {' '.join(' '.join(lines).split())[:400]}".rstrip(": ")


def _line_of(file: Path, name: str) -> int:
    key = name.split(".")[0]
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
