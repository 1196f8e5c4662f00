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
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from .documents import load_yaml
from .errors import Place

if TYPE_CHECKING:
    from .job import Job

__all__ = [
    "Action", "ClusterInputs", "CodeInputs", "GoldenInputs", "Inputs", "KfpInputs", "LineageInputs", "Lines",
    "ModelInputs", "Outputs", "Result", "SignIn", "Values", "kebab",
]  # fmt: skip


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


class GoldenInputs(CodeInputs):
    """What actions take that compare a model with golden predictions."""

    score_column: str = Field("score", description="The golden file's column of expected scores.")
    absolute_tolerance: float = Field(1e-6, ge=0, description="How far a score may be from the expected one.")
    relative_tolerance: float = Field(
        1e-5, ge=0, description="The same, as a share of the expected score. Both add up."
    )


class ModelInputs(Inputs):
    """What actions take that name a registered model."""

    model: str = Field(
        "",
        description="Name of the model in the registry.",
        pattern=r"^([a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?)?$",
        examples=["flight-delays"],
    )


class LineageInputs(Inputs):
    """What actions take whose code reads the data and the features."""

    data_fingerprint: str = Field(
        "",
        description="Fingerprint of the data that the code reads: with a changed one, work is done again."
        " By default the one that validate-data gave in this run.",
    )
    features_digest: str = Field(
        "",
        description="Digest of the features that the code reads: with a changed one, work is done again."
        " By default the one that materialize-features gave in this run.",
    )

    def lineage(self, job: Job) -> dict[str, str]:
        """Both, by their names outside Python: what was given, else what this run of the chain found; else ""."""
        return {
            "data-fingerprint": self.data_fingerprint or job.earlier("validate-data", "fingerprint"),
            "features-digest": self.features_digest or job.earlier("materialize-features", "features-digest"),
        }


class ClusterInputs(Inputs):
    """What actions take that may speak to a Kubernetes cluster."""

    kubeconfig: SecretStr = Field(
        SecretStr(""),
        description="The kubeconfig: its text, plain or as base64, as a secret has it. By default the file that"
        " `KUBECONFIG` names, `~/.kube/config`, or the service account of the pod.",
    )
    kube_context: str = Field("", description="The context of the kubeconfig. By default its current one.")
    namespace: str = Field(
        "", description="The Kubernetes namespace, which is also the one in a multi-user KFP. By default the context's."
    )
    store_secret: str = Field(
        "",
        description="A Kubernetes secret with the store's keys (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`). Tasks"
        " and trials on the cluster get them as variables, beside `MLOPS_STORE` and its endpoint, as they do on one"
        " machine. Not needed where the pods' service account may read the store.",
    )


SignIn = Literal[
    "none", "token", "token-file", "kubernetes", "github", "password", "client-credentials", "login-form", "cookie",
    "user-header",
]  # fmt: skip
"""How a server is signed in to without a browser; see `KfpInputs.kfp_sign_in`."""


class KfpInputs(ClusterInputs):
    """What actions take that may speak to Kubeflow Pipelines."""

    kfp_host: str = Field("", description="URL of Kubeflow Pipelines, or of the Kubeflow that it belongs to.")
    kfp_sign_in: SignIn = Field(
        "none",
        description="How to sign in. `token`: `kfp-token` as bearer. `token-file`: a file that is read again when it"
        " changes. `kubernetes`: a token of the service account `kfp-user`, asked of the cluster. `github`: the job's"
        " own identity (`id-token: write`), exchanged at `kfp-issuer` if one is given. `password`,"
        " `client-credentials`: OpenID Connect grants at `kfp-issuer`. `login-form`: Kubeflow's own page, filled in"
        " with `kfp-user` and `kfp-token`. `cookie`: `kfp-token` is `name=value`. `user-header`: a proxy in between"
        " vouches for `kfp-user`.",
    )
    kfp_token: SecretStr = Field(SecretStr(""), description="The secret of the sign-in: token, password or cookie.")
    kfp_token_file: str = Field("", description="File with the token, for `token-file`.")
    kfp_user: str = Field("", description="User, or service account (`name` or `namespace/name`), that signs in.")
    kfp_issuer: str = Field("", description="URL of the OpenID Connect issuer.")
    kfp_audience: str = Field("", description="Audience of the token. By default the one that KFP expects.")
    kfp_client_id: str = Field("", description="The OAuth client that this is, for grants.")
    kfp_client_secret: SecretStr = Field(SecretStr(""), description="The client's secret.")
    kfp_header: str = Field(
        "", description="Header for the token, such as `Proxy-Authorization` for an identity-aware proxy; for"
        " `user-header`, the one for the user.",
    )  # fmt: skip
    kfp_ca: str = Field("", description="File with the certificates to trust. By default the system's.")
    kfp_client_certificate: str = Field("", description="File with a client certificate (PEM).")
    kfp_client_key: str = Field("", description="File with its key, if it is not in the same file.")


SHARED = (Inputs, CodeInputs, ModelInputs, ClusterInputs, KfpInputs)
"""Inputs that several actions have: they may stand at the top level of `mlops.yaml` and come from a variable."""


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
        checked: False when a gate that was asked for checked nothing: the answer is not no, and not yes.
    """

    outputs: O
    details: dict[str, Any] = field(default_factory=dict)
    passed: bool = True
    reason: str = ""
    subject: dict[str, str] = field(default_factory=dict)
    key: str = ""
    reused: bool = False
    place: Place | None = None
    checked: bool = True


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
        several = {name for base in (*SHARED, LineageInputs) for name in base.model_fields}
        rank = {name: 2 if name in Inputs.model_fields else 1 if name in several else 0 for name in fields}
        return {name: fields[name] for name in sorted(fields, key=lambda name: rank[name])}


def is_secret(annotation: object) -> bool:
    """Whether a field's annotation is a secret, to be masked and left out of records."""
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
