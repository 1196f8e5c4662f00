"""`mlops.yaml`: read, checked, and laid together with options and variables into an action's inputs.

The order, first found wins: the option or input; the variable MLOPS_<NAME> (for inputs that several actions share, and
for secrets, which have no option and no place in the file: a command line and a repository are read by others); the
section of the environment (the action's part of it, then its top level); the action's section; the top level; the
default. `Resolved.origins` says which it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from ..context import Context
from ..errors import BadInput, Mistakes, Place
from ..http.proxies import proxy_for
from ..http.tokens import may_ask
from ..inputs import SHARED, Inputs, Outputs, is_secret, kebab, valued
from ..misfits import misfit
from ..project import Path_, Project
from ..stores import identity
from ..stores.identity import Bearer, Keys, Lent
from ..stores.store import StoreOptions
from ..suggest import did_you_mean
from ..yaml_io import read_yaml
from . import chain
from .action import Action

I = TypeVar("I", bound=Inputs)  # noqa: E741
O = TypeVar("O", bound=Outputs)  # noqa: E741

SCHEMA_URL = "https://raw.githubusercontent.com/mlops-actions/mlops-actions/v1/scripts/mlops.schema.json"
FILE = "mlops.yaml"
"""The configuration file's name, where none is given."""
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|PASSWORD|SECRET|(ACCESS|ACCOUNT|API|PRIVATE)_KEY)$")
_CALL_ONLY = ("config", "working_directory", "environment")
"""Inputs that say where the configuration is, and so cannot stand in it."""


@dataclass(frozen=True)
class Resolved(Generic[I]):
    """An action's inputs, and for each one where its value came from, in words."""

    inputs: I
    origins: Mapping[str, str]


def project_folder(start: Path) -> Path:
    """The project that a folder is in: the nearest folder upward with a configuration file, as git finds a repository.

    It is not looked for above the git repository that the folder is in, nor above the user's home; without one it is
    the folder itself.
    """
    folder, home = start.resolve(), None
    with suppress(RuntimeError):  # this user has none
        home = Path.home()
    for one in (folder, *folder.parents):
        if (one / FILE).is_file():
            return one
        if (one / ".git").exists() or one == home:
            break
    return folder


def read_project(path: Path, *, required: bool = False) -> Project:
    """Read and check a configuration file; an absent one is an empty one unless it is required.

    Raises:
        BadInput: with the place of each thing that is wrong, and the nearest known name for an unknown key.
    """
    if not required and not path.exists():
        return Project(path.name)
    values, places = read_yaml(path, path.name, "`mlops init` writes one")
    if values is None:
        return Project(path.name)
    project = Project(path.name, values if isinstance(values, dict) else {}, places)
    try:
        file_model().model_validate(values)
    except ValidationError as error:
        mistakes = Mistakes()
        for problem in error.errors():
            mistakes.add(_mistake(problem, project))
        mistakes.refuse()
    return project


def resolve(
    action: Action[I, O],
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    project: Project,
    environment: str = "",
) -> Resolved[I]:
    """Lay an action's inputs together.

    Args:
        action: whose inputs.
        given: options and inputs by field name; "" and None mean not given.
        environ: variables, for MLOPS_<NAME>.
        project: the configuration.
        environment: the section of it to apply, or "".

    Raises:
        BadInput: values do not fit, or there is no such environment; all that is wrong is told.
    """
    mistakes = Mistakes()
    if environment and environment not in project.environments():
        known = ", ".join(project.environments()) or "none"
        mistakes.add(
            BadInput(
                f"{project.name} has no environment {environment!r}",
                why=f"It has: {known}",
                fix="Add it, or correct `environment`",
                place=project.place(("environments",)),
            )
        )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    places: dict[str, Place] = {}
    for name, info in action.inputs.model_fields.items():
        option = given.get(name)
        variable = f"MLOPS_{name.upper()}"
        if option not in (None, "", ()):
            values[name], origins[name] = option, "input"
        elif (is_shared(name) or is_secret(info.annotation)) and environ.get(variable):
            values[name], origins[name] = environ[variable], f"variable {variable}"
        else:
            for path in () if is_secret(info.annotation) else _paths(action.name, kebab(name), environment):
                found = _dig(project.values, path)
                if found is not None:
                    place = project.place(path)
                    values[name], origins[name], places[name] = found, str(place), place
                    break
            else:
                origins[name] = "default"
    try:
        inputs = action.inputs.model_validate(values)
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]).replace("-", "_")
            where = "" if name in places else f" ({origins.get(name, 'input')})"
            fix = f"See `mlops {action.name} --help`"
            several = get_origin(action.inputs.model_fields[name].annotation) in (dict, list)
            inside = problem["loc"][1:] if several else ()
            text = misfit(".".join(map(str, (kebab(name), *inside))), problem, where)
            mistakes.add(BadInput(text, fix=fix, place=places.get(name)))
    mistakes.refuse()
    return Resolved(inputs, origins)


def sections(project: Project, environment: str) -> dict[str, dict[str, Any]]:
    """Each action's section as it is in an environment: the environment's values over those of all."""
    there = [project.values, (project.values.get("environments") or {}).get(environment) or {}]
    names = [name for name in chain.NAMES if any(name in values for values in there)]
    return {name: {k: v for values in there for k, v in (values.get(name) or {}).items()} for name in names}


def place_of(project: Project, action: str, name: str, environment: str) -> Place | None:
    """Where an input of an action stands, if the file has it."""
    return next((project.place(p) for p in _paths(action, name, environment) if p in project.places), None)


def store_options(
    inputs: Inputs, environ: Mapping[str, str], mask: Callable[[str], None] = lambda _: None
) -> StoreOptions:
    """How to reach the store: the inputs, and the credentials in the variables that every S3 client reads.

    A role comes before keys where there is an identity to take it by; a profile where there are no keys.

    Args:
        inputs: of the action.
        environ: variables.
        mask: told of secrets that come later.
    """
    names = {
        "AWS_ACCESS_KEY_ID": "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
        "AWS_SESSION_TOKEN": "aws_session_token",
    }
    settings = {theirs: environ[ours] for ours, theirs in names.items() if environ.get(ours)}
    scheme, given = inputs.store.partition(":")[0], inputs.store_endpoint.rstrip("/")
    if usual := {"gs": "https://storage.googleapis.com", "az": "https://blob.core.windows.net"}.get(scheme):
        endpoint, address = "", given or usual
        settings |= _address(scheme, given) if given else {}
    else:
        endpoint = given or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")
        address = endpoint or f"https://s3.{inputs.store_region}.amazonaws.com"
    return StoreOptions(
        endpoint=endpoint,
        region=inputs.store_region,
        proxy=proxy_for(address, environ),
        settings=settings,
        lent=_lent(inputs, endpoint, environ, mask),
    )


def _address(scheme: str, url: str) -> dict[str, str]:
    """The settings that name a server of Google's or Azure's; of the latter the URL is of a storage account."""
    if scheme == "gs":
        return {"google_base_url": url}
    parts = urlsplit(url)
    account = parts.path.rpartition("/")[2] or (parts.hostname or "").partition(".")[0]
    return {"azure_endpoint": url, "azure_storage_account_name": account}


def _lent(inputs: Inputs, endpoint: str, environ: Mapping[str, str], mask: Callable[[str], None]) -> dict[str, Lent]:
    """By scheme the keys that live for a while, if there is something that they can be asked for with.

    A role that the input names is taken wherever there is a token; on a runner without keys its lack is told, and in a
    terminal the role is left to the workflow. Variables have the same order as in every SDK.
    """
    scheme = inputs.store.partition(":")[0]
    keys = any(environ.get(name) for name in _STORE_KEYS.get(scheme, ()) if name != identity.TOKEN_FILE)
    file = environ.get(identity.TOKEN_FILE) if scheme == "s3" else ""
    role = inputs.store_role if file or may_ask(environ) or (environ.get("GITHUB_ACTIONS") and not keys) else ""
    found: dict[str, Callable[[], Keys | Bearer]] = {}
    if environ.get("GOOGLE_APPLICATION_CREDENTIALS") or (role and scheme in ("gs", "az")):
        from ..stores import federation  # only of these clouds

        given = federation.Federation(environ, mask)
        if path := federation.google_file_of(environ):
            found["gs"] = lambda: given.google_file(path)
        if role and scheme == "gs":
            found["gs"] = lambda: given.google(role.removeprefix("//iam.googleapis.com/"), inputs.store_audience)
        elif role and scheme == "az":
            tenant, _, client = role.partition("/")
            found["az"] = lambda: given.azure(tenant, client, inputs.store_audience)
    if scheme == "s3":
        role = role or (environ.get(identity.ROLE, "") if file and not keys else "")
        profile = environ.get(identity.PROFILE)
        if role:
            at = environ.get("AWS_ENDPOINT_URL_STS") or endpoint or f"https://sts.{inputs.store_region}.amazonaws.com"
            audience = inputs.store_audience or "sts.amazonaws.com"
            found["s3"] = identity.Role(role, audience, f"{at.rstrip('/')}/", environ, mask).keys
        elif profile and not keys:
            found["s3"] = lambda: identity.of_profile(profile, environ)
    return {scheme: Lent(get, mask) for scheme, get in found.items()}


_STORE_KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID"),
}


def lacks_store(context: Context, store: str, environ: Mapping[str, str]) -> bool:
    """Whether a pull request from outside cannot use the store, as GitHub gives it no keys.

    Its jobs then work with a store of their own machine each: what needs no more than the repository can be run.

    Args:
        context: the event.
        store: as it is configured; "" where it comes from a variable, which GitHub does not give either.
        environ: variables, for keys.
    """
    if not context.outside:
        return False
    keys = _STORE_KEYS.get(store.partition("://")[0])
    if keys is None:
        return not store and environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    return not any(environ.get(name) for name in keys)


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """The values of variables that are secret by their names; of 8 characters, as shorter ones may be words. Of a
    kubeconfig its certificates and tokens, one by one."""
    for name, value in environ.items():
        if _SECRET_NAME.search(name) and len(value) >= 8:
            yield value
    yield from _in_kubeconfig(environ.get("MLOPS_KUBECONFIG", ""))


def secrets_of(action: Action[Any, Any], given: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """The values of an action's secret inputs, before anything is said. Of a kubeconfig its certificates and tokens:
    its lines (`kind: Config`) are words that logs need.
    """
    for name, info in action.inputs.model_fields.items():
        value = given.get(name) or environ.get(f"MLOPS_{name.upper()}")
        if is_secret(info.annotation) and value:
            yield from _in_kubeconfig(str(value)) if name == "kubeconfig" else [str(value)]


@cache
def _in_kubeconfig(text: str) -> list[str]:
    if not text:
        return []
    from ..kubernetes.sources import secrets_in

    return secrets_in(text)


def home(environ: Mapping[str, str]) -> Path:
    """Where embedded engines keep their state: MLOPS_HOME, or mlops-actions in the user's data folder."""
    given, base = environ.get("MLOPS_HOME"), environ.get("XDG_DATA_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".local" / "share") / "mlops-actions"


def environ() -> Mapping[str, str]:
    """This process's variables. Other modules are given what they need of them."""
    return os.environ


def schema() -> dict[str, Any]:
    """The JSON Schema of `mlops.yaml`, for editors."""
    made = file_model().model_json_schema(by_alias=True)
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": SCHEMA_URL, "title": "mlops.yaml"}
    return {**made, **head}


@cache
def file_model() -> type[BaseModel]:
    """The whole file: shared inputs, a section an action, and the same again for each environment."""
    sections: dict[str, Any] = {}
    for name in chain.NAMES:
        action = chain.load(name)
        part = _partial(action.name, action.inputs, _CALL_ONLY, action.summary)
        sections[name.replace("-", "_")] = (part | None, Field(None, description=action.summary))
    shared: dict[str, Any] = {}
    for base in SHARED:
        shared |= _optional(base, _CALL_ONLY)
    environment = create_model("Environment", __config__=_CONFIG, **shared, **sections)
    environments = Annotated[
        dict[str, environment | None] | None,  # type: ignore[valid-type]
        Field(description="Values for one environment, such as staging or production, in the order of promotion."),
    ]
    return create_model("Project", __config__=_CONFIG, **shared, **sections, environments=(environments, None))


_CONFIG = ConfigDict(extra="forbid", alias_generator=kebab)


def _partial(name: str, inputs: type[Inputs], without: tuple[str, ...], summary: str) -> type[BaseModel]:
    title = "".join(part.title() for part in name.split("-"))
    return create_model(title, __config__=_CONFIG, __doc__=summary, **_optional(inputs, without))


def _optional(inputs: type[Inputs], without: tuple[str, ...]) -> dict[str, Any]:
    """The model's fields, each of which may be absent, but not empty. Secrets are left out: they do not belong in a
    file.
    """
    fields: dict[str, Any] = {}
    for name, info in inputs.model_fields.items():
        if name in without or is_secret(info.annotation):
            continue
        annotation: Any = info.annotation
        for extra in info.metadata:
            annotation = Annotated[annotation, extra]
        default = info.get_default(call_default_factory=True)
        example = [default] if isinstance(default, str | int | float | bool) and default != "" else None
        about = Field(None, description=info.description, examples=example, json_schema_extra=_no_default)
        fields[name] = (Annotated[annotation, BeforeValidator(valued)], about)
    return fields


def _no_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)  # null, which no key may have


def _paths(action: str, name: str, environment: str) -> Iterator[Path_]:
    """Where an input may stand in the file, first choice first."""
    shared = is_shared(name.replace("-", "_"))
    for start in ([("environments", environment)] if environment else []) + [()]:
        yield (*start, action, name)
        if shared:
            yield (*start, name)


def is_shared(name: str) -> bool:
    """Whether an input may stand at the top level, and come from a variable: those that several actions have."""
    return any(name in base.model_fields for base in SHARED)


def _dig(values: Any, path: Path_) -> Any:
    for part in path:
        if not isinstance(values, Mapping):
            return None
        values = values.get(part)
    return values


def _mistake(problem: Any, project: Project) -> BadInput:
    """One thing that is wrong in the file, in the user's words."""
    path = tuple(problem["loc"])
    place = project.place(path)
    dotted = ".".join(str(part) for part in path) or project.name
    if problem["type"] == "extra_forbidden":
        fix = did_you_mean(path[-1], _known(path), "Known here: {}")
        return BadInput(f"Unknown key `{dotted}` in {project.name}", fix=fix, place=place)
    action = next((part for part in path if part in chain.NAMES), None)
    fix = f"See `mlops {action} --help`" if action else "See `mlops schema`"
    return BadInput(misfit(dotted, problem), fix=fix, place=place)


def _known(path: Path_) -> list[str]:
    """The names that may stand where the path's last part stands."""
    model: Any = file_model()
    for part in path[:-1]:
        found = next((info.annotation for name, info in model.model_fields.items() if kebab(name) == part), model)
        model = _model_in(found) or model
    return sorted(kebab(name) for name in model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The model that an annotation is, or has as an alternative or as a mapping's values; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
