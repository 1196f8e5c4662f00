"""`mlops runs`: the runs of the chain that the store has, listed, shown and compared in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from ..runtime import chain
from ..text import aligned, cut, duration, json_text, many
from ..untrusted import visible
from .setup import opened, plain_errors

if TYPE_CHECKING:
    from ..reports.runs import Run
    from ..stores.store import Store

_LONGEST = 60
_GIVEN = click.core.ParameterSource.COMMANDLINE


def _where_it_is(function: Callable[..., None]) -> Callable[..., None]:
    """The options that each of these commands has."""
    for one in (
        click.option("--json", "as_json", is_flag=True, help="Write all that is known as JSON."),
        click.option("--store", default="", help="Where runs are kept.  [default: as mlops.yaml or MLOPS_STORE says]"),
        click.option("--environment", default="", help="The section of `environments` to apply."),
    ):
        function = one(function)
    return function


@click.group("runs", invoke_without_command=True, short_help="List, show and compare the runs of the chain.")
@click.option("--where", multiple=True, metavar="CONDITION", help="Only runs that are so; may be repeated.")
@click.option("--sort", default="", metavar="NAME", help="Highest first; `-NAME`: lowest first.  [default: last first]")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Runs that are shown.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Runs that are left out before.")
@_where_it_is
@click.pass_context
def runs_command(
    context: click.Context, /, where: tuple[str, ...], sort: str, limit: int, offset: int, as_json: bool, **given: str
) -> None:
    """List the runs of the chain, those of pull requests too; the one that was at work last comes first.

    A condition is a name, one of = != < <= > >= and a value; text may have * and ?. Names are run, pull, started,
    verdict, branch, commit, event, actor, model, version, an action (its verdict), a metric or a parameter, or
    group.name with the groups metrics, parameters, data, features, image, environment and code.

    \b
    mlops runs --where branch=main --where 'auc>=0.8' --sort auc
    mlops runs --where evaluate-model=rejected
    mlops runs show last
    mlops runs compare 8812-1 8840-1
    """
    if context.invoked_subcommand:
        _hand_down(context, context.invoked_subcommand)
        return
    with plain_errors():
        from ..reports.runs import check_names, condition, folders, read

        conditions = [condition(text) for text in where]
        store = _store(given)
        found = folders(store)
        every: list[Run] = []  # that were read
        runs: Iterator[Run] = (
            run for run in _kept(read(store, found), every) if all(holds(run) for _, holds in conditions)
        )
        if sort:
            runs = iter(_sorted([*runs], sort))
        page = list(islice(runs, offset, offset + limit))
        more = next(runs, None) is not None
        if found and (sort or not page):  # then all were read
            named = {name: f"--where {text}" for text, (name, _) in zip(where, conditions)}
            check_names(named | ({sort.lstrip("-"): f"--sort {sort}"} if sort else {}), every, chain.NAMES)
    if as_json:
        click.echo(json_text([run.as_json() for run in page]))
    elif page:
        columns = [name.rpartition(".")[2] for name in [name for name, _ in conditions] + [sort.lstrip("-")]]
        _table(("run", "when", "steps", "took", "branch", "commit", "metrics"), [_row(run, columns) for run in page])
    else:
        why = "is so" if found and where else "is left" if found else "has been kept yet"
        click.echo(f"No run {why} in {store.url}", err=True)
    if more:
        said = "" if where else f"{many(len(found), 'run')}; "
        click.echo(f"{said}`--offset {offset + limit}` shows more", err=True)


@runs_command.command("show", short_help="Show one run: its steps and what it was made of.")
@click.argument("run")
@_where_it_is
def show_command(run: str, as_json: bool, **given: str) -> None:
    """Show the RUN with this name, with a part of it that no other one has, or `last`."""
    with plain_errors():
        from ..reports.described import shown
        from ..reports.runs import find

        (found,) = find(_store(given), run)
    if as_json:
        whole = [record.model_dump(mode="json") for record in found.records]
        click.echo(json_text({**found.as_json(), "records": whole}))
        return
    _title(found.name)
    _table(("", ""), [(name, shown(value)) for name, value in found.about.items() if name != "run"])
    _title("steps")
    _table(
        ("step", "verdict", "took", "what it said"),
        [
            (step, record.verdict, "reused" if record.reused else duration(record.seconds), _said(record))
            for step, record in zip(found.labels, found.records)
        ],
    )
    for group, values in found.described.items():
        if values and group != "code":
            _title(group)
            _table(("", ""), [(name, shown(value)) for name, value in sorted(values.items())])


@runs_command.command("compare", short_help="Compare two runs: only what differs.")
@click.argument("before", metavar="A")
@click.argument("now", metavar="B")
@_where_it_is
def compare_command(before: str, now: str, as_json: bool, **given: str) -> None:
    """Compare the runs A and B, named as for `show`: parameters, metrics, data, features, image, packages, code."""
    with plain_errors():
        from ..reports.described import differences, shown
        from ..reports.runs import find

        a, b = find(_store(given), before, now)
        found = [
            *differences({"steps": a.steps}, {"steps": b.steps}),
            *differences(a.described, b.described),
        ]
    if as_json:
        click.echo(json_text([one._asdict() for one in found]))
        return
    if not found:
        click.echo("Nothing differs")
        return
    rows = [(one.group, one.name, shown(one.before, _LONGEST), shown(one.now, _LONGEST)) for one in found]
    _table(("", "", a.name, b.name), rows)


def _hand_down(context: click.Context, name: str) -> None:
    """Options that stand before a subcommand are its own, as if they stood after it.

    Raises:
        UsageError: it does not have one.
    """
    takes = {option.name for option in runs_command.commands[name].params}
    given = [one for one in context.command.params if context.get_parameter_source(one.name or "") is _GIVEN]
    for one in given:
        if one.name not in takes:
            raise click.UsageError(f"{one.opts[0]} is for the list of runs; `mlops runs {name}` does not take it")
    context.default_map = {name: {one.name: context.params[one.name] for one in given if one.name}}


def _store(given: dict[str, str]) -> Store:
    return opened("runs", given)[0].store


def _kept(runs: Iterator[Run], every: list[Run]) -> Iterator[Run]:
    for run in runs:
        every.append(run)
        yield run


def _sorted(runs: list[Run], name: str) -> list[Run]:
    """By a value, highest first or with `-` lowest first; runs that do not have it come last."""
    from ..reports.runs import sort_key

    down, name = not name.startswith("-"), name.lstrip("-")
    having = [run for run in runs if run.value(name) is not None]
    return sorted(having, key=lambda run: sort_key(run.value(name)), reverse=down) + [
        run for run in runs if run.value(name) is None
    ]


def _row(run: Run, more: Sequence[str]) -> tuple[str, ...]:
    from ..reports.described import shown

    passed = sum(verdict == "passed" for verdict in run.steps.values())
    others = [f"{step} {verdict}" for step, verdict in run.steps.items() if verdict != "passed"]
    steps = ", ".join([*([f"{passed} passed"] if passed else []), *others])
    metrics: dict[str, Any] = {**run.headline}
    metrics |= {name: run.described["metrics"][name] for name in more if name in run.described["metrics"]}
    branch = f"#{run.pull} {run.about.get('branch', '')}".rstrip() if run.pull else str(run.about.get("branch", ""))
    return (
        run.name,
        run.started[:16].replace("T", " ") + "Z" if run.started else "",
        cut(steps, _LONGEST),
        duration(run.seconds),
        cut(branch, 30),
        str(run.about.get("commit", ""))[:7],
        cut("  ".join(f"{name} {shown(value)}" for name, value in metrics.items()), _LONGEST),
    )


def _said(record: Any) -> str:
    return cut(record.problem.what if record.problem else record.reason, 100)


def _title(text: str) -> None:
    click.secho(f"\n{visible(text)}", bold=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = aligned([[visible(cell) for cell in row] for row in (head, *rows)])
    click.echo("\n".join(lines if any(head) else lines[1:]))
