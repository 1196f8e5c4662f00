"""The conditions of `dsl.If`, `dsl.Elif` and `dsl.Else`, evaluated on typed values.

The text is parsed before values are put in, so that a quote in a value is a part of it, and an error is not `false`.

The compiler writes comparisons, some as `!(…)`, joined by `&&`. It does not escape quotes in string literals, so a
text may be read in several ways; it is used only when one of them stands out, and is an error otherwise.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

_OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_OPERATOR = re.compile(r" (==|!=|>=|<=|>|<) ")
_NAME = re.compile(r"inputs\.parameter_values\['([^']+)'\]")
_CAST = re.compile(r"(int|double)\(")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?|-?inf|nan")
_TRUTH = re.compile(r"true|false")
_CASTS = {"int": int, "double": float}

Node = tuple[Any, ...]


class ConditionError(Exception):
    """A condition that cannot be read, or whose values cannot be compared."""


def evaluate(condition: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition holds for the task's input values.

    Raises:
        ConditionError: it cannot be read in exactly one way, a value is missing, or two values have no order.
    """
    terms = _parse(condition)
    try:
        return all(_holds(term, values) for term in terms)
    except KeyError as error:
        raise ConditionError(f"the condition {condition} needs the value {error}, which does not exist") from error
    except (TypeError, ValueError) as error:
        raise ConditionError(f"the condition {condition} cannot be evaluated: {error}") from error


def _parse(condition: str) -> list[Node]:
    text = condition.strip()
    whole = [terms for terms, end in _terms(text, 0) if end == len(text)]
    plain = [terms for terms in whole if not any("inputs.parameter_values[" in s for s in _literals(terms))]
    if len(plain) != 1:
        ways = "no way" if not plain else f"{len(plain)} ways"
        raise ConditionError(
            f"there is {ways} to read the condition {text}: compare with a value that has no quote and no operator"
        )
    return plain[0]


def _terms(text: str, start: int) -> Iterator[tuple[list[Node], int]]:
    for term, end in _term(text, start):
        yield [term], end
        if text.startswith(" && ", end):
            for more, last in _terms(text, end + 4):
                yield [term, *more], last


def _term(text: str, start: int) -> Iterator[tuple[Node, int]]:
    if text.startswith("!(", start):
        for comparison, end in _comparison(text, start + 2):
            if text.startswith(")", end):
                yield ("not", comparison), end + 1
    else:
        yield from _comparison(text, start)


def _comparison(text: str, start: int) -> Iterator[tuple[Node, int]]:
    for left, end in _operand(text, start):
        if sign := _OPERATOR.match(text, end):
            for right, last in _operand(text, sign.end()):
                yield ("compare", sign[1], left, right), last


def _operand(text: str, start: int) -> Iterator[tuple[Node, int]]:
    if found := _NAME.match(text, start):
        yield ("name", found[1]), found.end()
    elif found := _CAST.match(text, start):
        for inner, end in _operand(text, found.end()):
            if text.startswith(")", end):
                yield ("cast", found[1], inner), end + 1
    elif found := _TRUTH.match(text, start):
        yield ("value", found[0] == "true"), found.end()
    elif found := _NUMBER.match(text, start):
        number = found[0]
        yield ("value", int(number) if re.fullmatch(r"-?\d+", number) else float(number)), found.end()
    elif text.startswith("'", start):
        for quote in re.finditer("'", text[start + 1 :]):
            yield ("value", text[start + 1 : start + 1 + quote.start()]), start + 1 + quote.end()


def _literals(terms: list[Node]) -> Iterator[str]:
    for node in terms:
        if node[0] == "value" and isinstance(node[1], str):
            yield node[1]
        yield from _literals([part for part in node if isinstance(part, tuple)])


def _holds(node: Node, values: Mapping[str, Any]) -> bool:
    if node[0] == "not":
        return not _holds(node[1], values)
    _, sign, left, right = node
    a, b = _value(left, values), _value(right, values)
    if sign in (">", "<", ">=", "<=") and isinstance(a, str) != isinstance(b, str):
        raise TypeError(f"{a!r} and {b!r} have no order")
    return bool(_OPERATORS[sign](a, b))


def _value(node: Node, values: Mapping[str, Any]) -> Any:
    if node[0] == "name":
        return values[node[1]]
    if node[0] == "cast":
        return _CASTS[node[1]](_value(node[2], values))
    return node[1]
