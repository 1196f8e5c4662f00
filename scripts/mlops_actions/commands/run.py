"""`mlops run`: the whole chain in a terminal, by the same plan and with the same records as on GitHub."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ..console import Console
from ..errors import BadInput, MlopsError
from ..evaluation.matrix import elsewhere
from ..github.console import TerminalConsole
from ..github.context import read_context
from ..runtime import chain, config
from ..runtime.execute import prepare, signals
from ..runtime.runs import run_of_folder
from ..runtime.together import AFTER, LAST, Chain, Part, before, parts_of
from ..suggest import did_you_mean
from ..untrusted import visible

_GLYPHS = {"waiting": "·", "running": "▸", "done": "✓", "failed": "✗", "left": "–", "stale": "▸"}
_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "bold red", "left": "dim", "stale": "bold"}
_LOG_LINES = 15


def run_command() -> click.Command:
    """The command: the options of `plan`, and its own."""
    from ..cli import option

    fields = {name: info for name, info in chain.load("plan").fields().items() if name not in ("run", "reuse")}
    own = [
        click.Option(["--from", "begin"], metavar="ACTION", help="Begin with this action; before it, the last run's."),
        click.Option(["--only"], metavar="ACTION", multiple=True, help="Run only this action. May be repeated."),
        click.Option(["--parameters"], metavar="TEXT", multiple=True, help="Pipeline parameters, name=value lines."),
        click.Option(["--reuse/--no-reuse"], default=True, help="Take finished work.  [default: on]"),
        click.Option(["--dry-run", "dry"], is_flag=True, help="Say what would be done or reused, and why; do nothing."),
        click.Option(["--open", "show"], is_flag=True, help="Show the report in a browser at the end."),
    ]
    return click.Command(
        "run",
        params=[*own, *(option(name, info) for name, info in fields.items())],
        callback=_run,
        help="Run the whole chain here, by the same plan and with the same records as on GitHub. Finished work is"
        " reused, so a run that was interrupted goes on where it was.",
        short_help="Run the whole chain, or a part of it.",
    )


@dataclass(frozen=True)
class _Asked:
    """The command's own options."""

    begin: str
    only: tuple[str, ...]
    parameters: tuple[str, ...]
    reuse: bool
    dry: bool
    show: bool


def _run(**given: Any) -> None:
    console = TerminalConsole()
    asked = _Asked(**{name: given.pop(name) for name in _Asked.__dataclass_fields__})
    try:
        with signals():
            sys.exit(_chain(asked, given, console))
    except MlopsError as error:
        console.failure(error)
        sys.exit(error.exit_code)


def _chain(asked: _Asked, given: Mapping[str, Any], console: Console) -> int:
    environ = config.environ()
    values = {n: "\n".join(v) if isinstance(v, tuple) else v for n, v in given.items() if v not in (None, "", ())}
    plan = chain.load("plan")
    step, inputs = prepare(plan, values, read_context(environ, _folder(values)), console, environ)
    planned = plan.run(inputs, step).outputs.model_dump(mode="json", by_alias=True)
    planned["test-matrix"] = {"include": list(_here(planned["test-matrix"]["include"], console))}
    options = {name: str(value) for name, value in values.items() if name not in ("environment", "working_directory")}
    parts = _chosen(parts_of(planned, options | {"parameters": "\n".join(asked.parameters)}), asked.begin, asked.only)
    if asked.dry:
        parts = [part for part in parts if part.action != LAST]
    first, anew = replace(step, action=parts[0].action), not asked.begin and not asked.only
    run = f"dry-{secrets.token_hex(6)}" if asked.dry else run_of_folder(first, anew=anew)
    logs = step.workspace.home / "runs" / run
    variables = {**environ, "MLOPS_RUN": run, "MLOPS_REUSE": str(asked.reuse).lower()}
    view: _Lines | _Live = _Live(parts) if sys.stderr.isatty() and not asked.dry else _Lines(parts, quiet=asked.dry)
    chain_run = Chain(parts, step.workspace.root, variables, step.workspace.cache, logs, view.said, dry=asked.dry)
    began = time.monotonic()
    try:
        with view:
            chain_run.run(view.wait)
    finally:
        if asked.dry:
            for entry in list(step.workspace.store.list(step.workspace.kept(f"runs/{run}/"))):
                step.workspace.store.delete(entry.path)
            shutil.rmtree(logs, ignore_errors=True)
    if asked.dry:
        console.table(["", "action", "because"], [(_word(part), part.name, _about(part)) for part in parts])
    return _ended(parts, logs, time.monotonic() - began, asked.show, console)


def _here(legs: Sequence[Mapping[str, Any]], console: Console) -> Iterator[Mapping[str, Any]]:
    """The environments of the test matrix that can be tested on this machine."""
    for leg in legs:
        if why := elsewhere(leg["runs-on"]):
            console.notice(f"test-model ({leg['name']}) is left out: {why}")
        else:
            yield leg


def _folder(values: Mapping[str, Any]) -> Path:
    return Path(values.get("working_directory") or ".")


def _chosen(parts: list[Part], begin: str, only: Sequence[str]) -> list[Part]:
    """The parts that were asked for.

    Raises:
        BadInput: an action is not of the chain, or does not run.
    """
    planned = dict.fromkeys(part.action for part in parts)
    for name in filter(None, (begin, *only)):
        if name not in planned:
            known = name in AFTER
            raise BadInput(
                f"The plan leaves {name} out" if known else f"{name!r} is not an action of the chain",
                fix="See above why" if known else did_you_mean(name, planned, "It has: {}"),
            )
    if only:
        return [part for part in parts if part.action in only]
    return [part for part in parts if not begin or part.action in (begin, LAST) or begin in before(part.action)]


def _ended(parts: Sequence[Part], logs: Path, seconds: float, show: bool, console: Console) -> int:
    """Say how it ended; the exit code is that of the first part that failed."""
    failed = [part for part in parts if part.state == "failed"]
    for part in failed:
        click.echo(f"\n{part.name} (exit code {part.code}; its log is {logs / f'{part.name}.log'})", err=True)
        for line in part.log[-_LOG_LINES:]:
            click.echo(f"  {line}", err=True)
    page = next((str(p.record["outputs"]["page-file"]) for p in parts if p.action == LAST and p.state == "done"), "")
    counted = Counter(_word(part) for part in parts)
    console.say(f"{', '.join(f'{n} {word}' for word, n in counted.items())} in {seconds:.1f} s")
    if page:
        console.say(f"The report: {page}")
        if show:
            webbrowser.open(Path(page).as_uri())
    return next((part.code for part in failed if part.code), 0)


def _word(part: Part) -> str:
    """How a part ended."""
    if part.state == "done":
        return "reused" if part.record.get("reused") else "unchecked" if _verdict(part) == "unchecked" else "done"
    if part.state == "failed":
        return "did not pass" if _verdict(part) == "rejected" else "failed"
    return {"left": "left out", "stale": "would run", "waiting": "waiting", "running": "running"}[part.state]


def _verdict(part: Part) -> str:
    return str(part.record.get("verdict", ""))


def _about(part: Part) -> str:
    """What is said of a part beside its name: its last line while it runs, then its result."""
    if part.state == "running":
        return part.log[-1] if part.log else ""
    return part.why or str(part.record.get("reason") or (part.record.get("problem") or {}).get("what") or "")


class _Lines:
    """Progress where it is read later: each line as it comes, with the name of its part."""

    def __init__(self, parts: Sequence[Part], *, quiet: bool) -> None:
        self._parts, self._told = () if quiet else parts, set[str]()
        self._quiet = quiet
        self._width = max((len(part.name) for part in parts), default=0)

    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None:
        self._tell()

    def said(self, part: Part, line: str) -> None:
        if not self._quiet:
            click.echo(f"{part.name:<{self._width}} │ {line}", err=True)

    def wait(self) -> None:
        self._tell()
        time.sleep(0.05)

    def _tell(self) -> None:
        for part in self._parts:
            if part.state not in ("waiting", "running") and part.name not in self._told:
                self._told.add(part.name)
                took = f" in {part.seconds:.1f} s" if part.state in ("done", "failed") else ""
                click.echo(f"{part.name:<{self._width}} {_GLYPHS[part.state]} {_word(part)}{took}", err=True)


class _Live:
    """Progress on a terminal: a table of all parts, which changes in place."""

    def __init__(self, parts: Sequence[Part]) -> None:
        from rich.console import Console as Rich
        from rich.live import Live

        self._parts = parts
        self._live = Live(console=Rich(stderr=True, highlight=False), auto_refresh=False, get_renderable=self._table)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        self._live.refresh()
        self._live.stop()

    def said(self, part: Part, line: str) -> None:
        """The table shows the last line of a part that runs."""

    def wait(self) -> None:
        self._live.refresh()
        time.sleep(0.1)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for part in self._parts:
            seconds = time.monotonic() - part.began if part.state == "running" else part.seconds
            state = "" if part.state in ("waiting", "running") else _word(part)
            table.add_row(
                Text(f"{_GLYPHS[part.state]} {part.name}", _STYLES[part.state]),
                Text(state, "yellow" if state == "unchecked" else "cyan" if state == "reused" else ""),
                f"{seconds:.1f} s" if seconds else "",
                Text(visible(_about(part).replace("\n", " ")), "dim"),
            )
        return table
