"""Commands for looking at tables: `infer-schema` and `data diff`. They are no actions: they print for a person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import config
from .action import Action, Inputs, Outputs, Result
from .errors import BadInput
from .setup import plain_errors

if TYPE_CHECKING:
    from .data.infer import Strictness
    from .job import Job


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
    with plain_errors():
        if output and output.exists() and not force:
            raise BadInput(f"{output} exists already", fix="Nothing was written; `--force` writes over it")
        from .data.infer import infer
        from .data.sources import find

        text = infer(find(_job(), data), strictness)
        if output is None:
            click.echo(text, nl=False)
            return
        half = output.with_name(f".{output.name}.{os.getpid()}")
        half.write_text(text, encoding="utf-8")
        half.replace(output)
        click.echo(f"wrote {output}", err=True)


@click.group("data")
def data_command() -> None:
    """Look at data."""


def _job() -> Job:
    """What finds data: the store and the keys of this folder's configuration."""
    from .github.context import make_console, read_context
    from .job import prepare

    environ = config.environ()
    context = read_context(environ, Path())
    anything = Action("data", "data", Inputs, Outputs, lambda *_: Result(Outputs()))
    return prepare(anything, {}, context, make_console(environ, as_json=False), environ)[0]
