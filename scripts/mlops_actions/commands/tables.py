"""Commands for looking at tables: `infer-schema` and `data diff`. They are not actions: they print for a person."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import BadInput
from ..files import write_whole
from ..processes.scratch import temporary_files
from ..text import json_text
from .setup import opened, plain_errors

if TYPE_CHECKING:
    from ..data.diff import Diff, Side
    from ..data.infer import Strictness
    from ..records import Record
    from ..workspace import Workspace


@click.command("infer-schema", short_help="Write a first data contract from data.")
@click.argument("data", nargs=-1, required=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: stdout]")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option(
    "--strictness",
    type=click.Choice(["loose", "normal", "strict"]),
    default="normal",
    show_default=True,
    help="loose: names and types. normal: also nulls, uniqueness, few values, and ranges that leave room. strict: "
    "ranges as they were seen, and no other columns.",
)
def infer_schema_command(data: tuple[str, ...], output: Path | None, force: bool, strictness: Strictness) -> None:
    """Write a data contract that DATA passes, with comments that say what was seen, for a person to tighten.

    DATA are paths, globs, URIs or store:path, as for validate-data.

    mlops infer-schema 'data/*.parquet' -o contract.yaml
    """
    with plain_errors(), temporary_files():
        if output and output.exists() and not force:
            raise BadInput(f"{output} already exists", fix="Nothing was written; `--force` writes over it")
        from ..data.infer import infer
        from ..data.sources import find

        text = infer(find(opened("data")[0], data), strictness)
        if output is None:
            click.echo(text, nl=False)
            return
        _write(output, text)


@click.group("data", short_help="Compare two tables: `mlops data diff A B`.")
def data_command() -> None:
    """Look at data."""


@data_command.command("diff", short_help="Compare two tables, or what two versions were trained on.")
@click.argument("one", metavar="A")
@click.argument("two", metavar="B")
@click.option("--key", multiple=True, help="A column that names a row, so that rows are matched; may be repeated.")
@click.option("--tolerance", default=0.0, help="Floats that differ by no more than this share are equal.")
@click.option("--max-psi", default=0.2, show_default=True, help="A column over this has drifted.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with charts.")
@click.option("--json", "as_json", is_flag=True, help="Write the difference as JSON.")
def diff_command(
    one: str, two: str, key: tuple[str, ...], tolerance: float, max_psi: float, page: Path | None, as_json: bool
) -> None:
    """Compare two tables: columns, rows, distributions, and with --key the values row by row.

    A and B are each a path, glob, folder, URI or store:path, or model@version or model@alias: what that version in the
    registry was trained on. The exit code is 0 when both have the same content, 1 when they differ.

    mlops data diff flights@champion 'data/2013-0*.parquet' --key id
    """
    with plain_errors(), temporary_files():
        from ..data.diff import diff
        from ..records import Record
        from ..reports.sections import section
        from ..untrusted import for_terminal

        workspace, began = opened("data")[0], datetime.now(timezone.utc)
        found = diff(_side(workspace, one), _side(workspace, two), key=key, tolerance=tolerance, max_psi=max_psi)
        record = Record(
            action="data-diff",
            verdict="passed" if found.same else "rejected",
            reason=found.sentence,
            started=began.isoformat(),
            seconds=max(0.0, (datetime.now(timezone.utc) - began).total_seconds()),
            details={"diff": found.as_json()},
        )
        shown = json_text(record.details["diff"]) if as_json else for_terminal(section(record))
        click.echo(shown, nl=as_json)
        if page:
            _write_page(page, record, found)
    sys.exit(0 if found.same else 1)


def _side(workspace: Workspace, named: str) -> Side:
    from ..data.diff import Side
    from ..data.sources import find
    from ..evaluation.champion import version_named
    from ..registry.registry import Registry

    if version := version_named(Registry(workspace.store), workspace.root, [named]):
        from ..monitoring.reference import training_data

        found = training_data(workspace, version, workspace.console.say)
        return Side(named, found.sources, found.types)
    return Side(named, find(workspace, [named]), {})


def _write_page(page: Path, record: Record, found: Diff) -> None:
    from ..data.validate import distributions
    from ..reports import report

    shown = record.model_copy(
        update={"details": {**record.details, "distributions": distributions(found.shown, *found.names)}}
    )
    _write(page, report.page(report.Report({}, [shown], " → ".join(found.names))))


def _write(path: Path, text: str) -> None:
    write_whole(path, text)
    click.echo(f"wrote {path}", err=True)
