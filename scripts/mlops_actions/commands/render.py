"""The command `render`: what deploy-model would apply, printed and not applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..cli import command
from ..engines import engines
from ..errors import BadInput
from ..runtime import chain, config
from .setup import model_named, plain_errors

_MODES = ("stop", "rollback", "drill", "as_json", "model", "alias")


def _render(**given: Any) -> None:
    """Print the objects with which MODEL is served, and apply nothing."""
    from ..github.context import make_console, read_context
    from ..runtime.execute import prepare

    with plain_errors():
        import yaml

        from ..registry.promoting import name_of, to_deploy
        from ..registry.registry import Registry
        from ..serving.engine import Declarative
        from ..serving.releases import Releases

        environ = config.environ()
        action = chain.load("deploy-model")
        joined = {name: "\n".join(value) if isinstance(value, tuple) else value for name, value in given.items()}
        console = make_console(environ, as_json=True)  # all but the manifests goes where errors go
        inputs: Any
        step, inputs = prepare(action, joined, read_context(environ, Path()), console, environ)
        known = engines(action.engines)
        engine = known[inputs.engine].make(inputs, step.workspace)
        if not isinstance(engine, Declarative):
            able = [name for name, one in known.items() if one.remote]
            fix = f"Set `engine` to one of {', '.join(able)}"
            raise BadInput(f"The engine {inputs.engine} serves without manifests", fix=fix)
        registry = Registry(step.workspace.store)
        name = name_of([], inputs.model)
        manifest, _ = to_deploy(registry, [], name, inputs.version)
        releases = Releases(step.workspace, registry, inputs, inputs.golden)
        release = releases.make(manifest, releases.golden(manifest), releases.environment(manifest))
        text = yaml.safe_dump_all(
            engine.manifests(release), sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
        )
    click.echo(text, nl=False)


render_command = model_named(
    click.Command(
        "render",
        params=[one for one in command(chain.load("deploy-model")).params if one.name not in _MODES],
        callback=_render,
        help="Print the Kubernetes objects with which MODEL would be served, and apply nothing.\n\nThey are those of"
        " the engine, with nothing but this version of the model. The image is named by its digest if it has been"
        " pushed, else by the tag that it will get. Options are those of deploy-model, whose section of mlops.yaml"
        " applies.",
        short_help="Print the manifests with which a version would be served, and apply nothing.",
    )
)
