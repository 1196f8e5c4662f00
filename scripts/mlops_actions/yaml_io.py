"""YAML as people mean it, whoever wrote it: the only reader of YAML in the package.

Numbers are those of YAML 1.2 and JSON (`1e-3` is one, `010` is ten, `12:30` is text), a date is the text that was
written, and a key that appears twice is a mistake. Only what JSON can hold is read: no objects, sets or bytes.

A text may come from a pull request, so what it can cost is bounded: its length, its depth, and the number of values
that it stands for when its aliases and merges (`<<`) are written out, which grows exponentially with their nesting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.resolver import Resolver

from .errors import BadInput, Place

try:
    from yaml.cyaml import CParser as _Parser  # type: ignore[attr-defined, unused-ignore]  # libyaml: ten times as fast
except ImportError:

    class _Parser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):  # type: ignore[no-redef]
        def __init__(self, text: str) -> None:
            yaml.reader.Reader.__init__(self, text)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)


LONGEST = 4_000_000
"""Characters of a text."""
LARGEST = 150_000
"""Values that a text may stand for, aliases written out; a long scalar counts as one for each `_SCALAR` characters."""
DEEPEST = 100
"""Levels of lists and mappings in each other."""
_SCALAR = 100
_DIGITS = 400  # of an integer: more than a double has
_TAG = "tag:yaml.org,2002:"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2, section 5.1

Places = dict[tuple[str | int, ...], tuple[int, int]]
"""The (line, column), from 1, of every key and item, by the keys and indices that lead to it."""


class NotYaml(ValueError):
    """A text is not YAML, or more than is read of it; `line` and `column` count from 1, and are 0 when unknown."""

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(problem + (f" (line {line})" if line > 1 else ""))
        self.problem, self.line, self.column = problem, line, column


class Document(NamedTuple):
    """What a document holds, and where its parts stand."""

    value: Any
    places: Places


def load_yaml(text: str, reader: type[Loader] | None = None) -> Any:
    """The value of a text that holds one document of YAML or JSON; None when it is empty.

    Args:
        text: what is read.
        reader: `Loader`, `Yaml11` or `Plain`.

    Raises:
        NotYaml: it is neither, or too large.
    """
    found = _documents(text, reader or Loader)
    return found[0].value if found else None


def read_yaml(source: Path | str, name: str, fix: str = "") -> Document:
    """The document in a file, or in a text; an empty one holds None.

    Args:
        source: a file, or the text itself.
        name: what messages call it.
        fix: what to do when the file cannot be read.

    Raises:
        BadInput: the file cannot be read, or it is not one document of YAML; with the place.
    """
    text = read_text(source, name, fix) if isinstance(source, Path) else source
    found = _explained(lambda: _documents(text, Loader), name)
    return found[0] if found else Document(None, {})


def read_documents(source: Path, name: str, fix: str = "", reader: type[Loader] | None = None) -> list[Document]:
    """The documents of a file, separated by `---`; empty ones are left out. As `read_yaml`."""
    text = read_text(source, name, fix)
    return _explained(lambda: _documents(text, reader or Loader, several=True), name)


def read_json(source: Path, name: str, fix: str = "") -> Any:
    """The value in a JSON file. As `read_yaml`."""
    text = read_text(source, name, fix)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = Place(name, error.lineno, error.colno)
        raise BadInput(f"{name} is not valid JSON", why=error.msg, place=place) from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; too deep
        raise BadInput(f"{name} is not valid JSON", why=str(error), place=Place(name)) from None


def read_text(path: Path, name: str, fix: str = "") -> str:
    """The text of a file of UTF-8, which is not longer than `LONGEST`.

    Raises:
        BadInput: it does not exist, cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4 * LONGEST + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{name} does not exist", fix=fix) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{name} is not UTF-8 text", fix="Save it as UTF-8", place=Place(name, line)) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise BadInput(f"Cannot read {name}", why=getattr(error, "strerror", "") or str(error), fix=fix) from None
    if len(text) > LONGEST:
        raise BadInput(f"{name} is longer than {LONGEST:,} characters", fix=fix, place=Place(name))
    return text


def _explained(read: Callable[[], list[Document]], name: str) -> list[Document]:
    try:
        return read()
    except NotYaml as error:
        place = Place(name, error.line, error.column) if error.line else Place(name)
        why = error.problem[:1].upper() + error.problem[1:]
        raise BadInput(f"{name} is not valid YAML", why=why, fix="Correct that line", place=place) from None


def _documents(text: str, reader: type[Loader], *, several: bool = False) -> list[Document]:
    if len(text) > LONGEST:
        raise NotYaml(f"it is longer than {LONGEST:,} characters")
    if found := _FORBIDDEN.search(text):
        line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
        raise NotYaml(f"it has the character U+{ord(found[0]):04X}, which YAML does not allow", line, column)
    loader = reader(text)
    documents = []
    try:
        if several:
            while loader.check_node():
                documents.append(loader.document(loader.get_node()))
        elif (node := loader.get_single_node()) is not None:
            documents.append(loader.document(node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else ()
        raise NotYaml((error.problem or str(error.context)).removeprefix("but "), *at) from None
    except yaml.YAMLError as error:
        raise NotYaml(str(error).split("\n")[0]) from None
    finally:
        loader.dispose()
    return [document for document in documents if document.value is not None]


class Loader(Composer, _Parser, SafeConstructor, Resolver):
    """PyYAML's safe loader, which reads YAML 1.1, without its surprises and within bounds."""

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._depth = self._size = 0
        self._sizes: dict[int, int] = {}  # of what has an anchor, by its node

    def document(self, node: Any) -> Document:
        """The value of a composed document, and the places of its parts."""
        return Document(self.construct_document(node), dict(_places(node, ())))

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node, if what has been composed with it is within bounds."""
        event: Any = self.peek_event()
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise ComposerError(None, None, "it has an alias that contains itself", mark)
            self._grow(self._sizes[id(node)], mark)
            return node
        self._depth += 1
        if self._depth > DEEPEST:
            raise ComposerError(None, None, f"it is nested more than {DEEPEST} levels deep", mark)
        before = self._size
        self._grow(1 + len(getattr(event, "value", "")) // _SCALAR, mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor:
            self._sizes[id(node)] = self._size - before
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping; a key that appears twice is refused, as YAML does, instead of the last one winning."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if key.value in seen:
                    raise ConstructorError(
                        "while reading a mapping", node.start_mark, f"the key {key.value!r} appears twice",
                        key.start_mark,
                    )  # fmt: skip
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node. One that is not what its tag says is an error at its place."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            what = str(node.tag).replace(_TAG, "!!")
            raise ConstructorError(None, None, f"it is not what {what} stands for", node.start_mark) from None

    def _grow(self, size: int, mark: Any) -> None:
        self._size += size
        if self._size > LARGEST:
            raise ComposerError(None, None, f"up to here it stands for more than {LARGEST:,} values", mark)


class Yaml11(Loader):
    """YAML 1.1 as PyYAML has it, for files that others write and read with it: KFP and Feast."""


class Plain(Loader):
    """Scalars stay the text that they are."""


def _integer(loader: Any, node: Any) -> int:
    """An integer as YAML 1.2 has them: `010` is ten."""
    text = str(loader.construct_scalar(node))
    if len(text) > _DIGITS:
        raise ConstructorError(None, None, f"it has an integer of {len(text)} digits", node.start_mark)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: Any, node: Any) -> float:
    """A number as YAML 1.2 has them."""
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_OLD = {f"{_TAG}{name}" for name in ("timestamp", "int", "float", "value")}
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OLD]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_JSON = [f"{_TAG}{name}" for name in ("null", "bool", "str", "seq", "map")]
Loader.yaml_constructors = {
    tag: made for tag, made in SafeConstructor.yaml_constructors.items() if tag in _JSON or tag is None
}
Loader.add_constructor(f"{_TAG}int", _integer)
Loader.add_constructor(f"{_TAG}float", _float)
Plain.yaml_implicit_resolvers = {}
Yaml11.yaml_implicit_resolvers = yaml.SafeLoader.yaml_implicit_resolvers
Yaml11.yaml_constructors = SafeConstructor.yaml_constructors


def _places(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], tuple[int, int]]]:
    """The place of every key and item; what an alias stands for has the place where it is written."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, (key.start_mark.line + 1, key.start_mark.column + 1)
            yield from _places(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), (item.start_mark.line + 1, item.start_mark.column + 1)
            yield from _places(item, (*path, index))
