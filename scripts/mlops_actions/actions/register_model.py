"""Register the model of this run as an immutable version, with its lineage, evidence and card.

Files are kept by their digest, the manifest is created once, and a version never changes. The manifest names the
commit, the pipeline and its parameters, the data's fingerprint, the features, the image, the packages, the metrics
and every check that was made of exactly these bytes. Registering the same model of the same pipeline run again
finds the version that is there; two registrations at once never overwrite each other.

With `signing-key` or `sign: keyless` the version is signed by OpenSSF Model Signing: its manifest and all its files.
The signature is kept beside the manifest; `signed-by` of a policy says whose is required to promote and deploy it.

No code of ours is needed to fetch a model: `models/<name>/versions/<n>.json` lists the files, and
`blobs/sha256/<hex>` has them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from ..errors import BadInput, RemoteFailed
from ..inputs import ModelInputs, Outputs
from ..records import Record
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines, Values

if TYPE_CHECKING:
    from ..registry.registering import Registered
    from ..registry.registry import Registry
    from ..registry.signing import Pen
    from ..runtime.step import Step


class RegisterModelInputs(ModelInputs):
    """What `register-model` takes."""

    model_uri: str = Field(
        "", description="The model: a URI or a path of a file or folder. By default run-pipeline's of this run."
    )
    predictions_uri: str = Field(
        "",
        description="Its predictions on test rows, which a later model is compared with."
        " By default run-pipeline's of this run.",
    )
    golden_uri: str = Field(
        "",
        description="Rows with the scores that the model must give, which deploy-model asks for."
        " By default run-pipeline's of this run.",
    )
    aliases: Lines = Field(
        default_factory=list,
        description="Aliases to move to the version without asking for evidence, such as `candidate`."
        " What serves is moved with promote-model.",
    )
    tags: Values = Field(
        default_factory=dict,
        description="Tags, as `name=value` lines. `license`, `language`, `task` and `dataset` are put in the card's"
        " front matter.",
    )
    signing_key: SecretStr = Field(
        SecretStr(""),
        description="The private key that the version is signed with: EC on P-256, PEM, as"
        " `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes it.",
    )
    sign: Literal["", "key", "keyless"] = Field(
        "",
        description="How the version is signed: `key` by `signing-key`; `keyless` by the job's own identity at"
        " Sigstore, with `permissions: id-token: write`. By default by `signing-key`, if there is one.",
    )
    description: Path | None = Field(
        None, description="A Markdown file for the model card: what the model is for, and what it is not for."
    )


class RegisterModelOutputs(Outputs):
    """What `register-model` gives."""

    version: int = Field(description="The version's number.")
    model_uri: str = Field(description="URI of the model's bytes; of the manifest, if the model has several files.")
    manifest_uri: str = Field(description="URI of the manifest, which names every file by its digest.")
    card_uri: str = Field(description="URI of the model card.")
    digest: str = Field(description="Digest of the model.")
    kind: str = Field(
        description="Kind of the model: `sklearn`, `skops`, `xgboost`, `lightgbm`, `catboost`, `onnx` or `mlflow`;"
        " empty where only code that `predict` names can load it."
    )
    created: bool = Field(description="False when the same model had been registered before.")
    signed_by: str = Field(description="Who signed it: a key by the SHA-256 of its public PEM, or an identity.")


def run(inputs: RegisterModelInputs, step: Step) -> Result[RegisterModelOutputs]:
    """Register the model, or find the version that is the same."""
    from ..registry.registering import Registration, is_dirty, register, same_as_recorded
    from ..registry.registry import Registry

    if not inputs.model:
        raise BadInput("The model has no name", fix="Give `model`, or set it at the top of mlops.yaml")
    pen = _pen(inputs, step)
    records = step.records()
    trained = next((record for record in reversed(records) if record.action == "run-pipeline"), None)
    uri = inputs.model_uri or _given(trained, "model-uri")
    if not uri:
        raise step.lacks("model to register", "run-pipeline", "`model-uri`")
    with tempfile.TemporaryDirectory() as scratch:
        own = trained if uri == _given(trained, "model-uri") else None
        model = _fetch(step, uri, Path(scratch) / "model")
        same_as_recorded(own, uri, model)
        predictions = inputs.predictions_uri or _given(own, "predictions-uri")
        golden = inputs.golden_uri or _given(own, "golden-uri")
        registry = Registry(step.workspace.store)
        dirty = is_dirty(step.workspace.root)
        if not step.context.commit:
            step.console.warning("No commit is known: the version cannot be traced back to its code")
        elif dirty:
            step.console.warning("There are uncommitted changes: the version is not the code of the commit alone")
        done = register(
            registry,
            Registration(
                name=inputs.model,
                model=model,
                predictions=_fetch(step, predictions, Path(scratch) / "predictions") if predictions else None,
                golden=_fetch(step, golden, Path(scratch) / "golden") if golden else None,
                records=records,
                source=step.context.source(),
                run=step.run,
                dirty=dirty,
                description=_text(step.workspace.path(inputs.description)) if inputs.description else "",
                tags=inputs.tags,
            ),
        )
    if pen:
        _sign(registry, done, pen, step)
    moved = _move_aliases(registry, done, inputs, step)
    return _result(registry, done, moved, str(pen.signer) if pen else "", step)


def _pen(inputs: RegisterModelInputs, step: Step) -> Pen | None:
    """What the version is to be signed with.

    Raises:
        BadInput: it is not there, or is no key.
    """
    from ..registry.signing import pen_of_job, pen_of_key

    key = inputs.signing_key.get_secret_value()
    if inputs.sign == "keyless":
        return pen_of_job(step.workspace)
    if inputs.sign == "key" and not key:
        raise BadInput("`sign: key` needs `signing-key`", fix="Give it the secret with the private key")
    return pen_of_key(key) if key else None


def _sign(registry: Registry, done: Registered, pen: Pen, step: Step) -> None:
    """Sign what was registered now, or the same version of before; never what somebody else put in its place.

    Raises:
        RemoteFailed: it is not what this run registers; or it cannot be signed.
    """
    from ..registry.signing import sign

    version = f"Version {done.manifest.version} of {done.manifest.name}"
    if done.differs:
        raise RemoteFailed(
            f"{version} is not signed: it is not what this run registers",
            why=f"What the registry has for the same model differs in its {', '.join(done.differs)}",
            fix="Find out who wrote it; run the pipeline again with `reuse: false` for a version of its own",
        )
    now = sign(registry, done.manifest, step.workspace, pen)
    step.console.say(f"{version} {'is signed' if now else 'was signed before'} by {pen.signer}")


def _given(record: Record | None, output: str) -> str:
    return str(record.outputs.get(output) or "") if record else ""


def _fetch(step: Step, uri: str, folder: Path) -> Path:
    """Download to a folder, under the last part of the URI's path."""
    from ..stores.store import fetch

    source = step.workspace.uri(uri)
    return fetch(
        source, folder / source.rstrip("/").replace("\\", "/").rpartition("/")[2], step.workspace.store_options
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The description {path} cannot be read", why=str(error), fix="Correct `description`") from None


def _move_aliases(registry: Registry, done: Registered, inputs: RegisterModelInputs, step: Step) -> list[str]:
    from ..registry.promoting import move_now

    moved = []
    for alias in inputs.aliases:
        _, changed = registry.move_alias(
            done.manifest, alias, move_now(done.manifest, step.context.actor, step.run, "register-model")
        )
        moved += [alias] if changed else []
    return moved


def _result(
    registry: Registry, done: Registered, moved: list[str], signer: str, step: Step
) -> Result[RegisterModelOutputs]:
    from ..registry.registry import manifest_path
    from ..stores.store import blob_path

    manifest, store = done.manifest, step.workspace.store
    manifest_uri = store.uri(manifest_path(manifest.name, manifest.version))
    single = len(manifest.files) == 1
    reason = f"Version {manifest.version} of {manifest.name}" + ("" if done.created else " was registered before")
    if done.added:
        reason += f"; {done.added} newer checks were added to it"
    for alias in moved:
        step.console.say(f"The alias {alias} names version {manifest.version} now")
    return Result(
        RegisterModelOutputs(
            version=manifest.version,
            model_uri=store.uri(blob_path(manifest.files[0].digest)) if single else manifest_uri,
            manifest_uri=manifest_uri,
            card_uri=store.uri(blob_path(manifest.card.digest)) if manifest.card else "",
            digest=manifest.digest,
            kind=manifest.kind,
            created=done.created,
            signed_by=signer,
        ),
        details={
            "manifest": manifest.model_dump(mode="json"),
            "evidence": [item.model_dump(mode="json") for item in registry.evidence(manifest)],
            "aliases": moved,
            "added": done.added,
        },
        reason=reason,
        subject={"model": manifest.digest, "name": manifest.name, "version": str(manifest.version)},
        reused=not done.created,
    )


ACTION = Action(
    "register-model",
    "core",
    RegisterModelInputs,
    RegisterModelOutputs,
    run,
    icon="archive",
    shared=True,
)
