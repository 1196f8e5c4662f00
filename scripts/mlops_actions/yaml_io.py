"""YAML as people mean it: numbers are those of YAML 1.2 and JSON (`1e-3` is one, `010` is ten, `12:30` is text), a date
is the text that was written, and a key that stands twice is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import yaml

_MOST = 100_000  # keys and items whose places are kept: more than people write


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which reads YAML 1.1, without its surprises."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping; a key that stands twice is refused, as YAML does, instead of the last one winning."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        "while reading a mapping",
                        node.start_mark,
                        f"the key {key.value!r} stands twice",
                        key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _integer(loader: Loader, node: yaml.ScalarNode) -> int:
    """An integer as YAML 1.2 has them: `010` is ten."""
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_OLD = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_yaml(text: str) -> Any:
    """The value that a YAML (or JSON) text holds.

    Raises:
        yaml.YAMLError: it is no YAML; `problem_mark` has the place.
    """
    return yaml.load(text, Loader)


def places(node: yaml.Node | None) -> Iterator[tuple[tuple[str | int, ...], tuple[int, int]]]:
    """The (line, column), from 1, of every key and item of a composed document, by its path.

    Aliases of aliases can stand for more than there is memory for: then only of the first `_MOST` of them.
    """
    return islice(_places(node, (), frozenset()), _MOST)


def _places(
    node: yaml.Node | None, path: tuple[str | int, ...], above: frozenset[int]
) -> Iterator[tuple[tuple[str | int, ...], tuple[int, int]]]:
    if id(node) in above:
        return  # an alias of what it is in
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, (key.start_mark.line + 1, key.start_mark.column + 1)
            yield from _places(value, here, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), (item.start_mark.line + 1, item.start_mark.column + 1)
            yield from _places(item, (*path, index), above)
