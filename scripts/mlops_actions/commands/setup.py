"""Commands for setting a repository up: `init`, `config`, `schema`. They are not actions: no workflow needs them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..console import Masks
from ..errors import BadInput, MlopsError
from ..generated import OWNER
from ..github.console import TerminalConsole
from ..github.context import read_context
from ..inputs import MODEL_NAME, PATTERNS, Inputs, Outputs, kebab
from ..project import repository_of
from ..runtime import chain, config
from ..runtime.action import Action
from ..runtime.result import Result
from ..untrusted import visible
from ..workspace import Workspace

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "starter"
"""What an empty folder gets: a pipeline, data and their contract."""
WORKFLOW = """\
name: {name}
on:
  push: {{branches: [{branch}]}}
  pull_request:
  schedule:
    - cron: "17 3 * * 1"
  workflow_dispatch:
    inputs:
      parameters: {{description: "Pipeline parameters, name=value", type: string}}
      tune: {{description: Tune hyperparameters, type: choice, options: [auto, always, never]}}
      deploy: {{description: Deploy the model, type: choice, options: [auto, always, never]}}
permissions: {{}}
jobs:
  mlops:
    uses: {owner}/.github/workflows/mlops.yml@v1
    permissions: {{contents: read, pull-requests: write, checks: write}}
    with:
{folder}      parameters: ${{{{ inputs.parameters }}}}
      tune: ${{{{ inputs.tune || 'auto' }}}}
      deploy: ${{{{ inputs.deploy || 'auto' }}}}
      store: ${{{{ vars.MLOPS_STORE }}}}
      store-endpoint: ${{{{ vars.MLOPS_STORE_ENDPOINT }}}}
    secrets:
      AWS_ACCESS_KEY_ID: ${{{{ secrets.AWS_ACCESS_KEY_ID }}}}
      AWS_SECRET_ACCESS_KEY: ${{{{ secrets.AWS_SECRET_ACCESS_KEY }}}}
"""


@click.command("init", short_help="Write the workflow file and mlops.yaml for a repository.")
@click.option("--pipeline", default="", help="The pipeline file.  [default: found by its @dsl.pipeline]")
@click.option("--model", default="", help="Name of the model in the registry.  [default: the folder's name]")
@click.option("--branch", default="", help="The default branch.  [default: the remote's, or main]")
@click.option("--example", is_flag=True, help="Write a small pipeline with data too, as in an empty folder.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init_command(pipeline: str, model: str, branch: str, example: bool, force: bool, folder: Path) -> None:
    """Set a folder up: an mlops.yaml with what was found in it, and in its git repository a workflow of about 25 lines.

    A folder with nothing in it gets a small pipeline, data and a data contract as well, which run at once.
    """
    with plain_errors():
        root = folder.resolve()
        repository = repository_of(root)
        if not re.fullmatch(MODEL_NAME, model):
            raise BadInput(f"`--model` must be {PATTERNS[MODEL_NAME]}, not {model!r}", fix="Nothing was written")
        files: dict[Path, str] = {}
        if example or (not pipeline and _is_empty(root)):
            inside = [path for path in sorted(EXAMPLE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
            files = {root / path.relative_to(EXAMPLE): path.read_text(encoding="utf-8") for path in inside}
            pipeline = pipeline or "pipeline.py"
        found = pipeline or find_pipeline(root)
        files |= {
            root / config.FILE: first_config(root, files, found, model or _model_name(root)),
            **_workflow(repository, root, branch or _default_branch(root)),
        }
        if not any((one / ".gitignore").exists() for one in (root, repository)):
            files[root / ".gitignore"] = "__pycache__/\n"
        there = [path for path, text in files.items() if path.exists() and path.read_text("utf-8", "replace") != text]
        if there and not force:
            names = ", ".join(os.path.relpath(path) for path in there)
            raise BadInput(f"{names} already exists", fix="Nothing was written; `--force` writes over it")
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            click.echo(f"wrote {os.path.relpath(path)}")
        click.echo("Next: `mlops run` does the whole chain here, and `mlops doctor` says what it lacks.")
        click.echo("Then commit, push, and open a pull request.")


@click.command("config", short_help="Print each value of an action's inputs, and where it came from.")
@click.argument("action", type=click.Choice(chain.NAMES), required=False)
@click.option("--environment", default="", help="The section of `environments` to apply.")
@click.option(
    "--config",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="The configuration.  [default: the project's mlops.yaml]",
)
@click.option("--all", "everything", is_flag=True, help="Defaults too.")
def config_command(action: str | None, environment: str, file: Path | None, everything: bool) -> None:
    """Explain the configuration: each value that is set (or, with --all, each value) and the file and line, variable or
    default that it came from."""
    with plain_errors():
        project = config.read_project(
            file or config.project_folder(Path.cwd()) / config.FILE, required=file is not None
        )
        any_shown = False
        for name in [action] if action else chain.NAMES:
            declared = chain.load(name)
            resolved = config.resolve(declared, {}, config.environ(), project, environment)
            shown = [
                (kebab(field), getattr(resolved.inputs, field), origin)
                for field, origin in resolved.origins.items()
                if everything or origin != "default"
            ]
            if not shown:
                continue
            any_shown = True
            click.secho(name, bold=True)
            width = max(len(field) for field, _, _ in shown)
            for field, value, origin in shown:
                text = visible(Masks().hide(_show(value)))
                click.echo(f"  {field.ljust(width)}  {text}  " + click.style(f"({origin})", dim=True))
        if not any_shown:
            of = f"for {action} " if action else ""
            click.echo(
                f"Nothing is set {of}in {project.name or config.FILE} or by a variable; --all shows the defaults",
                err=True,
            )


@click.command("schema", short_help="Print the JSON Schema of mlops.yaml.")
def schema_command() -> None:
    """Print the JSON Schema of mlops.yaml, for editors and other tools."""
    click.echo(json.dumps(config.schema(), indent=2))


@click.command("rbac", short_help="Print the Kubernetes manifest of a service account with the rights that are used.")
@click.option("--namespace", required=True, help="Where runs and trials are.")
@click.option("--service-account", default="mlops-actions", show_default=True, help="Its name.")
@click.option("--for", "parts", multiple=True, help="Only for this: `katib`, `kfp` or `kubernetes`; may be repeated.")
def rbac_command(namespace: str, service_account: str, parts: tuple[str, ...]) -> None:
    """Print a service account with exactly the rights that the engines use, each with its reason, for an administrator:

    mlops rbac --namespace team-a | kubectl apply -f -
    """
    from ..kubernetes.rights import PARTS, manifest

    with plain_errors():
        if unknown := [part for part in parts if part not in PARTS]:
            raise BadInput(f"No rights are known for {unknown[0]!r}", fix=f"Known: {', '.join(PARTS)}")
        click.echo(manifest(namespace, service_account, parts or PARTS), nl=False)


def find_pipeline(root: Path) -> str:
    """The one Python file below a folder that declares a pipeline.

    Raises:
        BadInput: there is none, or there are several.
    """
    hidden = re.compile(r"(^|/)(\.|node_modules|site-packages|tests?/)")
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py"))]
    named = re.compile(r"^@(kfp\.)?(dsl\.)?pipeline\b", re.MULTILINE)
    found = [n for n in names if not hidden.search(n) and named.search((root / n).read_text(errors="replace"))]
    if not found:
        raise BadInput(
            f"No file below {root} has a @dsl.pipeline",
            fix="Write one, or name it: --pipeline; `--example` writes a small one",
        )
    if len(found) > 1:
        raise BadInput(f"Several files have a @dsl.pipeline: {', '.join(found)}", fix="Name one with --pipeline")
    return found[0]


def first_config(root: Path, added: Mapping[Path, str], pipeline: str, model: str) -> str:
    """A first `mlops.yaml`, with a section for what the folder has and hints for the rest.

    Args:
        root: the folder.
        added: files that it is about to get.
        pipeline, model: as they are named in it.
    """
    lines = [f"# yaml-language-server: $schema={config.SCHEMA_URL}", f"model: {model}"]
    if (root / "requirements.txt").is_file():
        lines.append("requirements: requirements.txt")
    if root / "contract.yaml" in added:
        data = ", ".join(path.relative_to(root).as_posix() for path in added if path.parent.name == "data")
        lines += ["", "validate-data:", f"  data: {data}", "  contract: contract.yaml"]
    lines += ["", "run-pipeline:", f"  pipeline: {pipeline}"]
    if (root / "experiment.yaml").is_file():
        lines += ["", "tune-hyperparams:", "  experiment: experiment.yaml"]
    if (root / "features" / "feature_store.yaml").is_file():
        lines += ["", "materialize-features:", "  repository: features"]
    if (root / "Dockerfile").is_file():
        lines += ["", "build-image:", "  dockerfile: Dockerfile"]
    lines += [
        "",
        "# evaluate-model:",
        '#   thresholds: {auc: ">= 0.7"}',
        "",
        "# environments:",
        "#   pull-request:            # applied to pull requests: small and fast",
        "#     run-pipeline:",
        "#       parameters: {}",
    ]
    return "\n".join(lines) + "\n"


def _workflow(repository: Path, root: Path, branch: str) -> dict[Path, str]:
    """The workflow's file and text: in the repository's own folder, where alone GitHub looks for it."""
    inside = root.relative_to(repository).as_posix()
    if inside == ".":
        name, title, folder = "mlops", "mlops", ""
    else:
        name, title = f"mlops-{re.sub(r'[^A-Za-z0-9._-]+', '-', inside)}", json.dumps(f"mlops {inside}")
        folder = f"      working-directory: {json.dumps(inside)}\n"
    text = WORKFLOW.format(name=title, branch=json.dumps(branch), owner=OWNER, folder=folder)
    return {repository / ".github" / "workflows" / f"{name}.yml": text}


def _default_branch(root: Path) -> str:
    context = read_context({}, root)
    return context.default_branch or (context.branch if context.branch == "master" else "main")


def _is_empty(root: Path) -> bool:
    """Whether a folder has nothing but what a new repository has."""
    said = re.compile(r"\..*|(readme|license|licence|copying|contributing|codeowners)\b.*", re.IGNORECASE)
    return not root.is_dir() or all(said.fullmatch(path.name) for path in root.iterdir())


def _model_name(root: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", root.name.lower())[:128].strip("-._") or "model"


def _show(value: object) -> str:
    return json.dumps(value, default=str) if not isinstance(value, str | Path) else str(value)


def opened(
    command: str, given: Mapping[str, str] | None = None, inputs: type[Inputs] = Inputs
) -> tuple[Workspace, Inputs]:
    """What a command that is no action works with: this folder's store and configuration, and its inputs.

    Raises:
        BadInput: the configuration or an input is wrong.
    """
    from ..runtime.execute import prepare  # only where the store is needed

    environ = config.environ()
    action = Action(command, "core", inputs, Outputs, lambda *_: Result(Outputs()))
    context = read_context(environ, Path())
    step, taken = prepare(action, given or {}, context, TerminalConsole(), environ)
    return step.workspace, taken


def model_named(command: click.Command) -> click.Command:
    """Let a command take the model as its argument MODEL or, as actions do, by `--model`."""
    callback = command.callback
    assert callback

    def call(named: str, model: str, **given: Any) -> Any:
        if named and model not in ("", named):
            raise click.UsageError(f"MODEL is {named}, and --model {model}: name one")
        return callback(model=named or model, **given)

    command.params[:0] = [
        click.Argument(["named"], metavar="[MODEL]", required=False, default=""),
        click.Option(["--model"], default="", metavar="TEXT", help="The same as MODEL."),
    ]
    command.callback = call
    return command


class plain_errors:
    """A failure as one line and its exit code."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MlopsError):
            TerminalConsole().failure(error)
            sys.exit(error.exit_code)
