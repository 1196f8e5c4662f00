"""The command `score`: the ML Test Score and the scorecard of level 2 of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..inputs import ModelInputs, Outputs
from ..runtime import config
from ..runtime.action import Action
from ..runtime.result import Result
from ..untrusted import visible
from .setup import model_named, plain_errors

NOTE = """\
Half a point: a person did it. Documented elsewhere: half a point, too, by the tag ml-test-score.<line> with the
document's URL (`tags` of register-model). A point: it runs by itself, on a push or a schedule."""

if TYPE_CHECKING:
    from ..scoring.score import Score


@model_named
@click.command("score", short_help="Score how ready a version is for production, by what is kept of it.")
@click.option("--version", default="", help="A number or an alias.  [default: champion, else the last version]")
@click.option("--environment", default="", help="The section of `environments` to apply.")
@click.option("--store", default="", help="Where the registry is.  [default: as mlops.yaml or MLOPS_STORE says]")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
def score_command(model: str, version: str, environment: str, store: str, form: str) -> None:
    """Score how ready a version of MODEL is for production, by its records, its manifest and its deployments.

    The ML Test Score (Breck et al. 2017) has 28 tests in four sections. One that a person did and documented is half a
    point, one that runs by itself (on a push, a schedule) is a point, and the score is that of the weakest section. The
    scorecard of level 2 has the components and automated stages of MLOps level 2.

    Each line names what shows it, and what would raise it. What nothing shows is 0: nothing is guessed. A test that is
    done outside of this chain, and documented, is half a point: give the version the tag ml-test-score.data-2 (or
    another line) with the URL of the document, by the input tags of register-model.
    """
    from ..github.context import make_console, read_context
    from ..runtime.execute import prepare

    with plain_errors():
        from pathlib import Path

        from ..registry.promoting import name_of
        from ..reports.sections import render
        from ..scoring.score import score

        environ = config.environ()
        action = Action("score", "core", ModelInputs, Outputs, lambda *_: Result(Outputs()))
        given = {"model": model, "environment": environment, "store": store}
        console = make_console(environ, as_json=form != "text")
        step, inputs = prepare(action, given, read_context(environ, Path()), console, environ)
        assert isinstance(inputs, ModelInputs)
        found = score(step.workspace.store, name_of([], inputs.model), version)
        if form == "json":
            click.echo(found.model_dump_json(indent=2))
        else:
            click.echo(_text(found) if form == "text" else render("score.md.j2", score=found), nl=form == "text")


def _text(found: Score) -> str:
    lines = [
        click.style(f"{found.model}, version {found.version}", bold=True),
        f"ML Test Score {found.ml_test_score:g} of 7: {found.meaning}",
        f"Level 2: {found.level_2:g} of {found.level_2_lines}",
    ]
    for section in (*found.sections, *found.level_2_sections):
        lines += ["", click.style(f"{section.title}: {section.points:g} of {len(section.lines)}", bold=True)]
        for line in section.lines:
            lines.append(f"  {line.points:<4g}{line.key:<17}{line.name}")
            lines += [f"{'':23}{visible(text)}" for text in (line.what, line.uri) if text]
            lines += [f"{'':23}→ {line.raise_by}"] if line.raise_by else []
    return "\n".join([*lines, "", NOTE])
