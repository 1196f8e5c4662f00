"""How an action is declared: once, in Python.

The fields of an action's `Inputs` are the options of its command, the inputs of its `action.yml`, the rows of its
README's tables and the keys of its section in `mlops.yaml`. Names are kebab-case outside Python.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from .documents import load_yaml
from .errors import Place

if TYPE_CHECKING:
    from .job import Job

__all__ = ["Action", "CodeInputs", "Inputs", "Lines", "ModelInputs", "Outputs", "Result", "Values", "kebab"]


def kebab(name: str) -> str:
    """`data_fingerprint` as users write it: `data-fingerprint`."""
    return name.replace("_", "-")


def _parse_lines(value: object) -> object:
    """Text as a list: an item a line, or separated by commas; a YAML or JSON list as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return load_yaml(text)
    return [item.strip() for item in re.split(r"[\n,]", text) if item.strip()]


def _parse_values(value: object) -> object:
    """Text as a mapping: `name=value` lines (each value read as YAML), or a YAML or JSON mapping."""
    if not isinstance(value, str):
        return value
    lines = [line for line in value.splitlines() if line.strip()]
    if lines and all(re.match(r"\s*[\w.-]+=", line) for line in lines):
        pairs = (line.strip().split("=", 1) for line in lines)
        return {name: load_yaml(text) if text else "" for name, text in pairs}
    try:
        return load_yaml(value) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"neither name=value lines nor a YAML mapping: {error}") from None


Lines = Annotated[list[str], BeforeValidator(_parse_lines)]
"""A list of strings, given as lines, comma separated, or as a YAML list."""
Values = Annotated[dict[str, Any], BeforeValidator(_parse_values)]
"""A mapping, given as `name=value` lines or as YAML or JSON."""


class Inputs(BaseModel):
    """What every action takes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=kebab, validate_by_name=True, validate_by_alias=True
    )

    working_directory: Path = Field(
        Path(), description="The consumer's folder: paths are relative to it, and `mlops.yaml` is looked for in it."
    )
    config: Path = Field(Path("mlops.yaml"), description="The configuration file. It may be absent.")
    environment: str = Field("", description="The section of `environments` in the configuration to apply.")
    store: str = Field(
        "",
        description="Where objects are kept: `s3://bucket/prefix`, `gs://…`, `az://…` or `file:///folder`."
        " Without one, a folder of this machine's user.",
    )
    store_endpoint: str = Field("", description="URL of an S3 server that is not AWS, such as MinIO or SeaweedFS.")
    store_region: str = Field("us-east-1", description="Region of the S3 bucket.")
    run: str = Field(
        "",
        description="Name of the run of the chain that this is a part of. Actions of one run find each other's results"
        " in the store. By default the GitHub run, or one for the folder in a terminal.",
    )
    reuse: bool = Field(True, description="Take the result of the same work when it was done before.")


class CodeInputs(Inputs):
    """What actions take that run the consumer's own code."""

    requirements: str = Field(
        "", description="The consumer's requirements file, laid over the action's own packages where its code runs."
    )
    python: str = Field("", description="Python for the consumer's code: a version such as `3.12`, or a path.")


class ModelInputs(Inputs):
    """What actions take that name a registered model."""

    model: str = Field(
        "",
        description="Name of the model in the registry.",
        pattern=r"^([a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?)?$",
        examples=["flight-delays"],
    )


class Outputs(BaseModel):
    """What every action gives back. Lists and mappings are written as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=kebab, validate_by_name=True)


I = TypeVar("I", bound=Inputs)  # noqa: E741
O = TypeVar("O", bound=Outputs)  # noqa: E741


@dataclass(frozen=True)
class Result(Generic[O]):
    """What an action's function returns.

    Attributes:
        outputs: the values for the steps that follow.
        details: JSON for the report's template: what a person wants to see.
        passed: False when the work was done and the answer is no (exit code 1).
        reason: one sentence: why the answer is no, or what was done.
        subject: what this result speaks of, such as {"model": "sha256:…"}; evidence is matched by it.
        key: hash of all that decides the result; the same key finds it again.
        reused: the result was found, not made.
        place: where the annotation stands when the answer is no.
    """

    outputs: O
    details: dict[str, Any] = field(default_factory=dict)
    passed: bool = True
    reason: str = ""
    subject: dict[str, str] = field(default_factory=dict)
    key: str = ""
    reused: bool = False
    place: Place | None = None


@dataclass(frozen=True)
class Action(Generic[I, O]):
    """One action, one command.

    Its documentation is that of the module which declares it: the first line, and the rest in Markdown.

    Attributes:
        name: kebab-case, a verb first.
        group: the lock file (scripts/locks/<group>.txt) of the environment that it runs in.
        inputs, outputs: the declarations.
        run: does it.
        icon: of the Marketplace, from Feather's set.
    """

    name: str
    group: str
    inputs: type[I]
    outputs: type[O]
    run: Callable[[I, Job], Result[O]]
    icon: str = "box"

    @property
    def documentation(self) -> str:
        """What users read: in `--help`, `action.yml` and the README."""
        return inspect.cleandoc(sys.modules[self.run.__module__].__doc__ or "")

    @property
    def summary(self) -> str:
        """Its first line."""
        return self.documentation.partition("\n")[0]

    def fields(self) -> dict[str, FieldInfo]:
        """The inputs in the order in which people read them: the action's own first, those of all actions last."""
        fields = self.inputs.model_fields
        several = {*CodeInputs.model_fields, *ModelInputs.model_fields}
        rank = {name: 2 if name in Inputs.model_fields else 1 if name in several else 0 for name in fields}
        return {name: fields[name] for name in sorted(fields, key=lambda name: rank[name])}


def is_secret(annotation: object) -> bool:
    """Whether a field's annotation is a secret, to be masked and left out of records."""
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
