"""The `mlops` command: a click group whose commands are made from the actions' declarations, when they are called."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from . import __version__
from .inputs import is_secret, kebab
from .processes.concealing import conceal_environ
from .runtime import chain
from .runtime.action import Action
from .streams import delivered
from .suggest import did_you_mean

_OWN = {
    "run": "commands.run:run_command",
    "init": "commands.setup:init_command",
    "config": "commands.setup:config_command",
    "schema": "commands.setup:schema_command",
    "rbac": "commands.setup:rbac_command",
    "infer-schema": "commands.tables:infer_schema_command",
    "data": "commands.tables:data_command",
    "runs": "commands.runs:runs_command",
    "catalog": "commands.catalog:catalog_command",
    "render": "commands.render:render_command",
    "history": "commands.delivery:history_command",
    "score": "commands.score:score_command",
    "rollback": "commands.delivery:rollback_command",
    "drill": "commands.delivery:drill_command",
}
"""Commands that are not actions, each with its module and function."""
_SERVED = ("render", "history", "score", "rollback", "drill")
_KEPT = ("runs", "catalog")


class _Commands(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*chain.NAMES, *_OWN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in chain.NAMES:
            return command(chain.load(cmd_name))
        if cmd_name in _OWN:
            module, _, function = _OWN[cmd_name].partition(":")
            own = getattr(import_module(f".{module}", __package__), function)
            return own if isinstance(own, click.Command) else own()
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known:
            ctx.fail(f"No such command {args[0]!r}. {did_you_mean(args[0], known)}")
        name, found, rest = super().resolve_command(ctx, args)
        if found:
            _refuse_repeated(found, rest, ctx)
        return name, found, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (
            ("Actions, in the order of the chain", chain.NAMES),
            ("What is served", _SERVED),
            ("What was run and registered", _KEPT),
            ("Setting up, and looking at data", tuple(name for name in _OWN if name not in (*_SERVED, *_KEPT))),
        ):
            rows = [(n, c.get_short_help_str(90)) for n in names if (c := self.get_command(ctx, n))]
            with formatter.section(title):
                formatter.write_dl(rows)


def _refuse_repeated(command: click.Command, args: list[str], parent: click.Context) -> None:
    """Refuse an option with one value that is given several times: click takes the last one, and says nothing.

    Raises:
        click.UsageError: it is.
    """
    context = click.Context(command, parent=parent, info_name=command.name, resilient_parsing=True)
    _, rest, order = command.make_parser(context).parse_args(list(args))
    for one, times in Counter(order).items():
        if isinstance(one, click.Option) and not (one.multiple or one.is_flag or one.count) and times > 1:
            raise click.UsageError(f"Option {one.opts[0]!r} is given {times} times. Give it once.", context)
    if isinstance(command, click.Group) and rest and (inner := command.get_command(context, rest[0])):
        _refuse_repeated(inner, rest[1:], context)


def start() -> None:
    """The command as a process of its own."""
    conceal_environ()
    if sys.argv[1:2] == [chain.STANDBY]:
        del sys.argv[1]
        _stand_by(sys.argv[1])
    with delivered():
        main(prog_name="mlops")


def _stand_by(name: str) -> None:
    """Import what an action needs before its work, and wait for a line. Without one, whoever started this has ended."""
    command(chain.load(name))
    for module in ("github.context", "reports.sections", "runtime.execute"):
        import_module(f".{module}", __package__)
    import_module(".runtime.config", __package__).file_model()
    if not sys.stdin.readline():
        sys.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mlops-actions")
def main() -> None:
    """MLOps Level 2 for any repository: validate data, materialize features, train, tune, evaluate, register, deploy
    and watch models, the same way on a laptop, under act and on GitHub.

    Each command is the action of the same name; its options are the action's inputs. Values come from the option, then
    mlops.yaml (`mlops config` shows which), then the default.
    """


def command(action: Action[Any, Any]) -> click.Command:
    """The click command of an action."""
    fields = action.fields()
    secrets = [f"MLOPS_{name.upper()}" for name, info in fields.items() if is_secret(info.annotation)]
    options: list[click.Parameter] = [option(n, i) for n, i in fields.items() if not is_secret(i.annotation)]
    options.append(click.Option(["--json", "as_json"], is_flag=True, help="Write the outputs as JSON."))

    def call(as_json: bool, **given: Any) -> None:
        sys.exit(run(action, given, as_json=as_json))

    about = _for_terminal(action.documentation)
    if secrets:
        about += f"\n\nSecrets are given as variables, not as options: {', '.join(secrets)}."
    return click.Command(action.name, params=options, callback=call, help=about, short_help=action.summary)


def _for_terminal(text: str) -> str:
    """Markdown as click wraps it: each item of a list is a paragraph of its own, and a block of code stays as it is."""
    prose, code, rest = text.partition("```")
    shown = re.sub(r"\n(?=- )", "\n\n", re.sub(r"\n +", " ", prose.replace("`", "")))
    if not code:
        return shown
    block, _, rest = rest.partition("```")
    kept = "\n".join(f"  {line}" for line in block.partition("\n")[2].rstrip().splitlines())
    return f"{shown}\b\n{kept}\n{_for_terminal(rest)}"


def run(action: Action[Any, Any], given: dict[str, Any], *, as_json: bool = False) -> int:
    """Run an action with the options that were given; the exit code."""
    from .github.context import make_console, read_context
    from .runtime import config
    from .runtime.execute import execute

    environ = config.environ()
    joined = given_inputs(action, given, environ)
    context = read_context(environ, Path(joined.get("working_directory") or "."))
    return execute(action, joined, context, make_console(environ, as_json=as_json))


def given_inputs(action: Action[Any, Any], given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The values that an action is given by its options and, on a runner, by the step's inputs."""
    if environ.get("GITHUB_ACTIONS") == "true":
        inputs = {name: environ.get(f"INPUT_{name.upper()}") for name in action.inputs.model_fields}
        given = {**inputs, **{name: value for name, value in given.items() if value not in (None, ())}}
    return {name: "\n".join(value) if isinstance(value, tuple) else value for name, value in given.items()}


def option(name: str, info: FieldInfo) -> click.Option:
    """The option of an input."""
    flag = f"--{kebab(name)}"
    text = (info.description or "").replace("`", "")
    default = info.get_default(call_default_factory=True)
    if default not in (None, "", [], {}) and not isinstance(default, bool):
        text += f"  [default: {default}]"
    annotation = _plain(info.annotation)
    if annotation is bool:
        text += f"  [default: {'on' if default else 'off'}]"
        return click.Option([f"{flag}/--no-{kebab(name)}"], default=None, help=text)
    if get_origin(annotation) is Literal:
        return click.Option([flag], type=click.Choice([str(choice) for choice in get_args(annotation)]), help=text)
    if get_origin(annotation) in (list, dict):
        again = "May be repeated." if get_origin(annotation) is list else "As name=value; may be repeated."
        return click.Option([flag], multiple=True, metavar="TEXT", help=f"{text} {again}")
    metavar = {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(annotation, "TEXT")
    return click.Option([flag], metavar=metavar, help=text)


def _plain(annotation: Any) -> Any:
    """An optional's own type."""
    if get_origin(annotation) in (Union, UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation
