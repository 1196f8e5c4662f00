"""`mlops catalog`: the registry as a static site."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import BadInput
from ..files import whole_folder
from ..text import many
from .setup import opened, plain_errors


@click.command("catalog", short_help="Write the registry as a static site.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, file_okay=False), required=True, help="The site's folder."
)
@click.option("--environment", default="", help="The section of `environments` to apply.")
@click.option("--store", default="", help="Where the registry is.  [default: as mlops.yaml or MLOPS_STORE says]")
def catalog_command(output: Path, environment: str, store: str) -> None:
    """Write all models of the registry as a static site: versions, metrics over time with their gates, aliases,
    deployments, lineage, cards, and any two versions side by side.

    Open its index.html, or publish the folder: it needs no server and loads nothing from elsewhere. A site that is
    there is replaced as a whole, if nothing else is in it; equal registries give equal bytes. What cannot be read is a
    line on the model's page.

    mlops catalog --output site
    """
    with plain_errors():
        from ..catalog.collect import collect
        from ..catalog.site import MARK, write

        workspace = opened("catalog", {"environment": environment, "store": store})[0]
        models = collect(workspace.store)
        target = Path(output).resolve()
        if not models and (target / MARK).is_file():
            why = f"It would replace the catalogue in {output}"
            fix = "Correct `store`, or remove that folder if it shall be empty"
            raise BadInput(f"The registry in {workspace.store.url} has no model", why=why, fix=fix)
        try:
            with workspace.lock(f"the catalogue in {target}"), whole_folder(target, MARK) as folder:
                written = write(models, folder)
        except FileExistsError as error:
            fix = (
                "Move that elsewhere, or choose a folder that is empty, absent, or a catalogue with nothing else in it"
            )
            raise BadInput(f"Cannot write {output}: {error} is not part of a catalogue", fix=fix) from None
        except OSError as error:
            fix = "Choose a folder that you can write to"
            raise BadInput(f"Cannot write {output}", why=error.strerror or str(error), fix=fix) from None
    told = f"; {many(written.problems, 'object')} could not be read" if written.problems else ""
    click.echo(f"wrote {output}: {many(written.models, 'model')}, {many(written.versions, 'version')}{told}", err=True)
