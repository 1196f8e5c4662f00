"""The vocabulary that inputs and outputs are declared with, and the inputs that several actions share.

The fields of an action's `Inputs` are the options of its command, the inputs of its `action.yml`, the rows of its
README's tables and the keys of its section in `mlops.yaml`. Names are kebab-case outside Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from .values import Lines, StoreUrl


def kebab(name: str) -> str:
    """`data_fingerprint` as users write it: `data-fingerprint`."""
    return name.replace("_", "-")


PATH_PART = r"^([^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199})?$"
"""A name that becomes a part of a path in the store, or ""."""
MODEL_NAME = r"^([a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?)?$"
ALIAS_NAME = r"^([a-z]([a-z0-9._-]{0,62}[a-z0-9])?)?$"
PATTERNS = {
    PATH_PART: "at most 200 characters without `/`, `\\` and control characters, and not begin with `.`",
    MODEL_NAME: "lower-case letters, digits, `.`, `_` and `-`, and begin and end with a letter or digit",
    ALIAS_NAME: "small letters, digits, `.`, `_` and `-`, begin with a letter and end with a letter or digit",
}
"""What a name of a pattern must be, in words."""


NO_VALUE = "has no value: give it one, or take it out"


def valued(value: Any) -> Any:
    """A value that stands in a file.

    Raises:
        ValueError: the key is there and nothing after it (null), which would switch off what it asks for.
    """
    if value is None:
        raise ValueError(NO_VALUE)
    return value


class Written(BaseModel):
    """A part of a file that people write: its keys are known ones in kebab-case, and one that is there has a value."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=kebab, validate_by_name=True, validate_by_alias=True
    )

    _valued = field_validator("*", mode="before")(valued)


class Inputs(BaseModel):
    """What every action takes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=kebab, validate_by_name=True, validate_by_alias=True
    )

    working_directory: Path = Field(
        Path(),
        description="The consumer's folder: paths are relative to it, and `mlops.yaml` is looked for in it. In a"
        " terminal by default the nearest folder upward that has `mlops.yaml`, within the git repository.",
    )
    config: Path = Field(Path("mlops.yaml"), description="The configuration file. It may be absent.")
    environment: str = Field("", description="The section of `environments` in the configuration to apply.")
    store: StoreUrl = Field(
        "",
        description="Where objects are kept: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///folder` or a path."
        " Without one, a folder of this machine's user.",
    )
    store_endpoint: str = Field(
        "",
        description="URL of an S3 server that is not AWS, such as MinIO or SeaweedFS; or of Azure's storage account,"
        " `https://ACCOUNT.blob.core.windows.net`.",
    )
    store_region: str = Field("us-east-1", description="Region of the S3 bucket.")
    store_role: str = Field(
        "",
        description="Who may use the store. The job becomes that by its own identity, so that no key is kept anywhere:"
        " by GitHub's OIDC token, with `permissions: id-token: write`. S3: the ARN of a role, at AWS or at"
        " `store-endpoint`, also by the token in the file that `AWS_WEB_IDENTITY_TOKEN_FILE` names. Google: the"
        " workload identity provider, `projects/…/providers/…`. Azure: `TENANT/CLIENT`, the ids of an application or"
        " managed identity with a federated credential.",
    )
    store_audience: str = Field(
        "",
        description="The audience of GitHub's OIDC token when `store-role` is taken; with MinIO its client id. By"
        " default `sts.amazonaws.com`, the provider itself, or `api://AzureADTokenExchange`.",
    )
    run: str = Field(
        "",
        description="Name of the run of the chain that this is a part of. Actions of one run find each other's results"
        " in the store. By default the GitHub run; in a terminal the folder's last one, a new one when an action of it"
        " is run again.",
        pattern=PATH_PART,
    )
    reuse: bool = Field(True, description="Take the result of the same work when it was done before.")


class CodeInputs(Inputs):
    """What actions take that run the consumer's own code."""

    requirements: str = Field(
        "", description="The consumer's requirements file, laid over the action's own packages where its code runs."
    )
    python: str = Field("", description="Python for the consumer's code: a version such as `3.12`, or a path.")


class PredictInputs(CodeInputs):
    """What actions take that load a model."""

    predict: str = Field(
        "",
        description="How the model is asked: `predict`, `predict_proba` or `decision_function`; or code of the"
        " consumer's that loads it, `module:name` or `file.py:name`: a class with `load(path)` and `predict(rows)`, or"
        " a function of the path that returns such an object or the function of the rows (a pandas DataFrame, or a list"
        " of dictionaries where there is no pandas). By default a model of two classes is asked for the probability of"
        " the second, and another one for its prediction.",
        examples=["predict_proba", "model:Model"],
    )


class GoldenInputs(PredictInputs):
    """What actions take that compare a model with golden predictions."""

    score_column: str = Field(
        "score",
        description="The golden file's column of expected scores: of a classifier of two classes the probability of the"
        " positive one (`predict_proba(rows)[:, 1]`), of other models what `predict` gives.",
    )
    absolute_tolerance: float = Field(1e-6, ge=0, description="How far a score may be from the expected one.")
    relative_tolerance: float = Field(
        1e-5, ge=0, description="The same, as a share of the expected score. Both add up."
    )


class ModelInputs(Inputs):
    """What actions take that name a registered model."""

    model: str = Field(
        "",
        description="Name of the model in the registry.",
        pattern=MODEL_NAME,
        examples=["flight-delays"],
    )


class PromotionInputs(ModelInputs):
    """What actions take that let an alias name a version, if the version may."""

    alias: str = Field("", description="The alias to move.", pattern=ALIAS_NAME, examples=["champion"])
    requires: Lines = Field(
        default_factory=lambda: ["evaluate-model", "test-model"],
        description="Actions whose last record for these very bytes must be `passed`, in every environment where they"
        " ran. One that never ran counts as failed. By default also validate-data, if it looked at the training data.",
    )
    policy: Path | None = Field(
        None,
        description="A YAML file with `requires` (which comes before the input) and `metrics`"
        " (`auc: {min: 0.7}`), all of which must hold; `accept-unchecked` names actions that may have checked nothing,"
        " and `signed-by` whose signature the version must have, a list of which one is enough: `key`, the file of a"
        " public key; or `issuer` and `subject`, with GitHub's also `repository` and `ref`.",
    )
    reason: str = Field("", description="Why, for the history.")


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


class RegistryInputs(Inputs):
    """What actions take that pull an image or push one."""

    registry_username: str = Field("", description="User of the registry. By default the login of `docker login`.")
    registry_password: SecretStr | None = Field(None, description="Password or token of that user.")


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


SHARED = (Inputs, CodeInputs, PredictInputs, ModelInputs, RegistryInputs, ClusterInputs, KfpInputs)
"""Inputs that several actions have: they may stand at the top level of `mlops.yaml` and come from a variable."""


class Outputs(BaseModel):
    """What every action gives back. Lists and mappings are written as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=kebab, validate_by_name=True)


def is_secret(annotation: object) -> bool:
    """Whether a field's annotation is a secret, to be masked and left out of records."""
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
