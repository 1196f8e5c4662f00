"""Run the whole chain, or a part of it.

Run the whole chain here, by the same plan and with the same records as on GitHub. Finished work is reused, so a run
that was interrupted goes on where it was.

As a step of a job it runs the actions, each as soon as those before it have ended well, in this one
job. Each is a group of the log, and below the group stand how it ended and what is wrong. The workflow `mlops.yml` uses
it with `jobs: one`. Of the secrets each action gets those that it declares.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
from pydantic import Field, SecretStr

from ..actions.plan import ChainInputs, PlanOutputs
from ..console import Console
from ..errors import BadInput, Cancelled, MlopsError
from ..evaluation.matrix import elsewhere
from ..github.context import make_console, read_context
from ..inputs import Outputs, RegistryInputs, is_secret, kebab
from ..processes.scratch import scratch
from ..runtime import chain, config
from ..runtime.action import Action
from ..runtime.execute import prepare, signals
from ..runtime.runs import last_of_folder, run_of_folder
from ..runtime.step import Step
from ..runtime.together import AFTER, LAST, Chain, Part, before, parts_of
from ..suggest import did_you_mean
from ..text import duration
from ..values import Values
from .progress import LOG_LINES, Groups, Lines, Live, View, about, word


class RunInputs(ChainInputs, RegistryInputs):
    """What `run` takes: what decides which parts run, and what these are given."""

    plan: str = Field(
        "",
        description="What `plan` gave as JSON, if it ran before in the same job. By default it is planned here.",
        examples=["${{ toJSON(steps.plan.outputs) }}"],
    )
    until: str = Field("", description="End with this action. By default with `report`.", examples=["register-model"])
    contract: str = Field("", description="The contract of validate-data.")
    parameters: Values = Field(default={}, description="Pipeline parameters, `name=value` lines or YAML.")
    requirements: str = Field("", description="The consumer's requirements file.")
    python: str = Field("", description="Python for the consumer's code: a version such as `3.12`, or a path.")
    kfp_host: str = Field("", description="URL of Kubeflow Pipelines, for the engine `kfp`.")
    kubeconfig: SecretStr | None = Field(None, description="A kubeconfig, for engines on a cluster.")
    kfp_token: SecretStr | None = Field(None, description="Bearer token for Kubeflow Pipelines.")
    kfp_client_secret: SecretStr | None = Field(None, description="Secret of the client of OpenID Connect, for it.")
    signing_key: SecretStr | None = Field(None, description="Private key (PEM) that versions are signed with.")
    gitops_token: SecretStr | None = Field(None, description="Token for the repository of the engine `git`.")
    token: SecretStr | None = Field(None, description="GitHub token for the report's comment and check.")


class RunOutputs(Outputs):
    """What `run` gives."""

    run: str = Field(description="Name of this run of the chain.")
    metrics: dict[str, Any] = Field(description="The model's metrics.")
    version: int | None = Field(description="The registered version.")
    model_uri: str = Field(description="Where the registered model is.")
    records: list[dict[str, Any]] = Field(description="The records of the actions that ran. `report` takes them.")


def run_command() -> click.Command:
    """The command: what the action takes, and what is for a terminal alone."""
    from ..cli import option

    fields = {n: i for n, i in ACTION.fields().items() if n not in ("run", "plan") and not is_secret(i.annotation)}
    own = [
        click.Option(["--from", "begin"], metavar="ACTION", help="Begin with this action; before it, the last run's."),
        click.Option(["--only"], metavar="ACTION", multiple=True, help="Run only this action. May be repeated."),
        click.Option(["--dry-run", "dry"], is_flag=True, help="Say what would be done or reused, and why; do nothing."),
        click.Option(["--open", "show"], is_flag=True, help="Show the report in a browser at the end."),
    ]
    return click.Command(
        "run",
        params=[*own, *(option(name, info) for name, info in fields.items())],
        callback=_run,
        help=" ".join(ACTION.documentation.split("\n\n")[1].split()),
        short_help=ACTION.summary,
    )


@dataclass(frozen=True)
class _Asked:
    """The command's own options."""

    begin: str
    only: tuple[str, ...]
    dry: bool
    show: bool


def _run(**given: Any) -> None:
    from ..cli import given_inputs

    environ = config.environ()
    console = make_console(environ)
    asked = _Asked(**{name: given.pop(name) for name in _Asked.__dataclass_fields__})
    try:
        with signals(), scratch(Path(tempfile.gettempdir())) as folder:
            sys.exit(_chain(asked, given_inputs(ACTION, given, environ), environ, console, folder))
    except MlopsError as error:
        if isinstance(error, Cancelled) and not asked.dry:
            error.fix = "What was done is kept: run it again, and it goes on from there"
        console.failure(error)
        sys.exit(error.exit_code)


def _chain(asked: _Asked, values: Mapping[str, Any], environ: Mapping[str, str], console: Console, folder: Path) -> int:
    for secret in config.secrets_in(environ):
        console.mask(secret)
    step, inputs = prepare(ACTION, values, read_context(environ, _folder(values)), console, environ)
    assert isinstance(inputs, RunInputs)
    planned = _plan(inputs, values, step)
    planned["test-matrix"] = {"include": list(_here(planned["test-matrix"]["include"], console))}
    parts = chosen(parts_of(planned, _texts(values)), asked.begin, asked.only, inputs.until)
    anew, dry = not asked.begin and not asked.only, folder if asked.dry else None
    if dry:
        parts = [part for part in parts if part.action != LAST]
        run = "" if anew else step.run or last_of_folder(step.workspace)
        run = run or f"dry-{secrets.token_hex(6)}"
    else:
        run = planned["run"] if step.run else run_of_folder(replace(step, action=parts[0].action), anew=anew)
    logs = (dry or step.workspace.home) / "runs" / run
    variables = {**environ, **_secrets(inputs), "MLOPS_RUN": run, "MLOPS_REUSE": str(inputs.reuse).lower()}
    on_runner = step.context.on_runner
    view: View = Groups(parts) if on_runner else Lines(parts, quiet=asked.dry)
    if sys.stderr.isatty() and not asked.dry and not on_runner:
        view = Live(parts)
    chain_run = Chain(parts, step.workspace.root, variables, step.workspace.cache, logs, view.said, dry=dry)
    began = time.monotonic()
    try:
        with view:
            chain_run.run(view.show)
    finally:
        if on_runner:
            console.finish(_outputs(run, parts), "\n\n".join(filter(None, (part.summary for part in parts))))
    if asked.dry:
        console.table(["", "action", "because"], [(word(part), part.name, about(part)) for part in parts])
    if not on_runner:  # there it stands below each part's group
        _tell_failed(parts, logs)
    return _ended(parts, time.monotonic() - began, asked.show, console)


def _plan(inputs: RunInputs, values: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """The outputs of `plan`: those that were given, else made now.

    Raises:
        BadInput: what was given is not what `plan` gives, or nothing can be planned.
    """
    if not inputs.plan:
        plan = chain.load("plan")
        own = {name: value for name, value in values.items() if name in plan.inputs.model_fields}
        resolved = config.resolve(plan, own, step.workspace.environ, step.project, inputs.environment)
        made = plan.run(resolved.inputs, replace(step, action=plan.name)).outputs
    else:
        fields = {kebab(name): info.annotation for name, info in PlanOutputs.model_fields.items()}
        try:
            texts = {name: text for name, text in json.loads(inputs.plan).items() if name in fields}
            made = PlanOutputs.model_validate(
                {name: text if fields[name] is str else json.loads(text) for name, text in texts.items()}
            )
        except (ValueError, TypeError, AttributeError) as error:
            first = str(error).split("\n")[0]
            raise BadInput(
                "`plan` is not what `plan` gives", why=first, fix="Give `${{ toJSON(steps.plan.outputs) }}`"
            ) from None
    planned: dict[str, Any] = made.model_dump(mode="json", by_alias=True)
    return planned


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The values for actions, as texts; secrets go another way."""
    own = ("environment", "working_directory", "plan", "until", "run", "reuse")
    shown = {name for name, info in RunInputs.model_fields.items() if not is_secret(info.annotation)}.difference(own)
    return {name: str(value) for name, value in values.items() if name in shown and value not in (None, "")}


def _secrets(inputs: RunInputs) -> dict[str, str]:
    """The secrets that were given, as variables."""
    values = {name: getattr(inputs, name) for name, i in type(inputs).model_fields.items() if is_secret(i.annotation)}
    return {f"MLOPS_{name.upper()}": value.get_secret_value() for name, value in values.items() if value}


def _outputs(run: str, parts: Sequence[Part]) -> dict[str, object]:
    """What the jobs after it need."""
    made = {part.action: part.record.get("outputs", {}) for part in parts if part.state == "done"}
    registered = made.get("register-model", {})
    outputs = RunOutputs(
        run=run,
        metrics=made.get("evaluate-model", {}).get("metrics", {}),
        version=registered.get("version"),
        model_uri=registered.get("model-uri", ""),
        records=[part.record for part in parts if part.record],
    )
    return outputs.model_dump(mode="json", by_alias=True)


def _here(legs: Sequence[Mapping[str, Any]], console: Console) -> Iterator[Mapping[str, Any]]:
    """The environments of the test matrix that can be tested on this machine."""
    for leg in legs:
        if why := elsewhere(leg["runs-on"], gpu=leg.get("gpu", False)):
            console.notice(f"test-model ({leg['name']}) is left out: {why}")
        else:
            yield leg


def _folder(values: Mapping[str, Any]) -> Path:
    return Path(values.get("working_directory") or ".")


def chosen(parts: list[Part], begin: str, only: Sequence[str], until: str = "") -> list[Part]:
    """The parts that were asked for.

    Raises:
        BadInput: an action is not of the chain, or does not run; or options contradict each other.
    """
    if only and (begin or until):
        raise BadInput(f"`--only` does not go with `--{'from' if begin else 'until'}`", fix="Give one of them")
    if until and until not in (*AFTER, LAST):
        raise BadInput(f"{until!r} is not an action of the chain", fix=did_you_mean(until, AFTER, "It has: {}"))
    planned = dict.fromkeys(part.action for part in parts)
    for name in filter(None, (begin, *only)):
        if name not in planned:
            known = name in AFTER
            raise BadInput(
                f"The plan leaves {name} out" if known else f"{name!r} is not an action of the chain",
                fix="See above why" if known else did_you_mean(name, planned, "It has: {}"),
            )
    if until in AFTER:
        up_to = {until, *before(until)}
        if begin and begin not in up_to:
            fix = f"Give {begin} or an action that comes after it, or begin with an earlier one"
            raise BadInput(f"`--until {until}` does not come after `--from {begin}` in the chain", fix=fix)
        parts = [part for part in parts if part.action in up_to]
    if only:
        return [part for part in parts if part.action in only]
    return [part for part in parts if not begin or part.action in (begin, LAST) or begin in before(part.action)]


def _tell_failed(parts: Sequence[Part], logs: Path) -> None:
    """Show the end of the log of each part that failed."""
    for part in parts:
        if part.state == "failed":
            click.echo(f"\n{part.name} (exit code {part.code}; its log is {logs / f'{part.name}.log'})", err=True)
            for line in part.log[-LOG_LINES:]:
                click.echo(f"  {line}", err=True)


def _ended(parts: Sequence[Part], seconds: float, show: bool, console: Console) -> int:
    """Say how it ended; the exit code is that of the first part that failed."""
    page = next((str(p.record["outputs"]["page-file"]) for p in parts if p.action == LAST and p.state == "done"), "")
    counted = Counter(word(part) for part in parts)
    console.say(f"{', '.join(f'{n} {word}' for word, n in counted.items())} in {duration(seconds)}")
    if page:
        console.say(f"The report: {page}")
        if show:
            webbrowser.open(Path(page).as_uri())
    return next((part.code for part in parts if part.code), 0)


ACTION: Action[RunInputs, RunOutputs] = Action("run", "core", RunInputs, RunOutputs, cast(Any, _run), icon="play")
"""What its `action.yml` and README are made of. It is no step of the chain: it runs those that are."""
