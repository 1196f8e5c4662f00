"""Commands for what is served: `rollback` and `drill`, which are deploy-model asked for that, and `history`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ..cli import command, run
from ..inputs import ModelInputs
from ..runtime import chain
from ..text import aligned, cut, duration, json_text, many
from ..untrusted import visible
from .setup import model_named, opened, plain_errors

if TYPE_CHECKING:
    from ..serving.history import Deployment, Deployments

_COLUMNS = ("when", "what", "from → to", "who", "run", "ended", "took", "why and what was found")
_LONGEST = 60
_MODES = ("stop", "rollback", "drill")


def _deploying(mode: str, about: str, left_out: str = "", *own: click.Parameter) -> click.Command:
    """deploy-model in one of its modes: with its options, and its section of mlops.yaml."""
    action = chain.load("deploy-model")

    def call(as_json: bool, **given: Any) -> None:
        sys.exit(run(action, {**given, mode: True}, as_json=as_json))

    taken = [one for one in command(action).params if one.name not in (*_MODES, "model", "version", left_out)]
    return model_named(click.Command(mode, params=[*own, *taken], callback=call, help=about))


rollback_command = _deploying(
    "rollback",
    "Let the last good version of MODEL serve again.\n\nIt comes back through the same checks as any other, with the"
    " packages and the way of asking that it had, and the alias that was moved for the version it replaces goes back,"
    " too. Options are those of deploy-model, whose section of mlops.yaml applies.",
    "alias",
    click.Option(["--to", "version"], metavar="VERSION", help="A version that has served there."),
)

drill_command = _deploying(
    "drill",
    "Try whether a wrong version of MODEL is gone back from, and how fast.\n\nThe version that serves is brought up a"
    " second time with code around it that makes its answers wrong, and gets its first share of the requests as any"
    " other version would. The seconds from the first wrong answer to the last are measured. Users get wrong answers"
    " meanwhile: do it in staging first. It is never left serving. Options are those of deploy-model, whose section of"
    " mlops.yaml applies.",
    "alias",
)


@model_named
@click.command("history", short_help="Show what was deployed: when, by whom, why, how it ended, what was measured.")
@click.option("--environment", default="", help="The section of `environments` to apply.")
@click.option("--store", default="", help="Where the registry is.  [default: as mlops.yaml or MLOPS_STORE says]")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Deployments of each place.")
@click.option("--json", "as_json", is_flag=True, help="Write all that is kept as JSON.")
def history_command(model: str, environment: str, store: str, limit: int, as_json: bool) -> None:
    """Show the deployments of MODEL at each place, the last one first."""
    with plain_errors():
        from ..registry.promoting import name_of
        from ..registry.registry import Registry
        from ..serving.history import places

        given = {"model": model, "environment": environment, "store": store}
        workspace, inputs = opened("history", given, ModelInputs)
        assert isinstance(inputs, ModelInputs)
        name = name_of([], inputs.model)
        found = places(workspace.store, name)
        if not found:
            Registry(workspace.store).known(name)
    if as_json:
        click.echo(json_text([one.model_dump(mode="json") for one in found]))
        return
    if not found:
        click.echo(f"{name} has not been deployed yet, as far as {workspace.store.url} knows", err=True)
    for number, place in enumerate(found):
        click.echo("\n" if number else "", nl=False)
        _show(place, limit)


def _show(place: Deployments, limit: int) -> None:
    live = f"version {place.live.version} serves since {_when(place.live.at)}" if place.live else "nothing serves"
    click.secho(f"{place.name} at {place.place}: {live}", bold=True)
    every = [*([place.under_way] if place.under_way else []), *place.history]
    rows: list[tuple[str, ...]] = [
        ("when", "what", "from → to", "who", "run", "ended", "took", "why and what was found")
    ]
    rows += [_row(one) for one in every[:limit]]
    click.echo("\n".join(aligned([[visible(cell) for cell in row] for row in rows])))
    if len(every) > limit:
        click.echo(f"{many(len(every), 'deployment')}; `--limit {len(every)}` shows all", err=True)


def _row(one: Deployment) -> tuple[str, ...]:
    to = "-" if one.kind == "stop" else str(one.version)
    measured = [step.found for step in one.steps if step.measured and step.passed]
    found = one.outcome if one.ended in ("failed", "cancelled") else "; ".join(measured[:1])
    why = "; ".join(filter(None, (one.reason, f"{one.alias} moved" if one.alias else "", found)))
    return (
        _when(one.at),
        one.kind,
        f"{one.previous or '-'} → {to}",
        one.by,
        one.url.rpartition("/")[2] or (f"…{one.run[-20:]}" if len(one.run) > 20 else one.run),
        one.state,
        duration(one.seconds) if one.seconds else "",
        cut(why, _LONGEST),
    )


def _when(at: str) -> str:
    return at[:16].replace("T", " ") + "Z"
