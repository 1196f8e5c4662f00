"""Words of a Dockerfile: quotes, escapes and variables, as BuildKit's `frontend/dockerfile/shell/lex.go` reads them.

Substitutions: https://docs.docker.com/reference/dockerfile/#environment-replacement
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"\d+|[@*#?$!-]|\w+")


class SubstitutionError(ValueError):
    """BuildKit refuses this text: a quote or brace is not closed, or a substitution is not known or not met."""


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """A word with its variables replaced, without quotes and escapes.

    Raises:
        SubstitutionError: BuildKit refuses it.
    """
    return _Lexer(text, variables, escape)._until("")[0]


def split(text: str, *, raw: bool = False) -> list[str]:
    """The words of a text; variables stay as they are written.

    Args:
        text: what to split.
        raw: keep quotes and escapes.

    Raises:
        SubstitutionError: BuildKit refuses it.
    """
    return _Lexer(text, None, "\\", raw)._until("", raw)[1]


class _Lexer:
    """Reads a text from left to right; without `variables` none is replaced."""

    def __init__(self, text: str, variables: Mapping[str, str] | None, escape: str, raw: bool = False) -> None:
        self._text, self._variables, self._escape, self._raw = text, variables, escape, raw
        self._at = 0

    def _next(self) -> str:
        """The next character; "" at the end."""
        self._at += 1
        return self._text[self._at - 1 : self._at]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _until(self, stop: str, raw_escapes: bool = False) -> tuple[str, list[str]]:
        """What stands before an unquoted `stop` ("": the end), as a whole and as words."""
        whole, words, word = "", [], ""
        while char := self._next():
            if char == stop:
                break
            kept = True  # white space in it does not end the word
            if char == "'":
                part = self._single_quoted()
            elif char == '"':
                part = self._double_quoted(raw_escapes)
            elif char == "$":
                part, kept = self._dollar(), False
            elif char == "<" and self._peek() == "<":
                space = re.compile(r"<[\t\r ]*").match(self._text, self._at)
                part = "<" + (space[0] if space else "")
                self._at += len(part) - 1
            elif char == self._escape:
                following = self._next()
                part = (char if raw_escapes else "") + following
            else:
                part, kept = char, False
            whole += part
            pieces = [part] if kept else re.split(r"\s+", part)
            word += pieces[0]
            for piece in pieces[1:]:
                words += [word] if word else []
                word = piece
        else:
            if stop:
                raise SubstitutionError(f"{self._text!r} has no closing {stop}")
        return whole, words + ([word] if word else [])

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise SubstitutionError(f"{self._text!r} has no closing single quote")
        inner, self._at = self._text[self._at : end], end + 1
        return f"'{inner}'" if self._raw else inner

    def _double_quoted(self, raw_escapes: bool) -> str:
        inner = ""
        while char := self._next():
            if char == '"':
                return f'"{inner}"' if self._raw else inner
            if char == "$":
                inner += self._dollar()
            elif char == self._escape and self._peek():
                special = self._peek() in ('"', "$", self._escape)
                inner += (char if raw_escapes else "") + (self._next() if special else char)
            else:
                inner += char
        raise SubstitutionError(f"{self._text!r} has no closing double quote")

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        self._at += len(found[0]) if found else 0
        return found[0] if found else ""

    def _dollar(self) -> str:
        begin = self._at - 1
        if self._peek() != "{":
            name = self._name()
            as_written = self._variables is None or not name
            return self._text[begin : self._at] if as_written else self._value(name)[0]
        self._next()
        name = self._name()
        operator = self._next()
        if not name or not operator:
            raise SubstitutionError(f"{self._text!r} has a bad substitution")
        colon = operator == ":"
        operator = self._next() if colon else operator
        word = replacement = ""
        doubled = False
        if operator and operator in "#%/":
            doubled = self._peek() == operator
            self._at += doubled
            word = self._until("/" if operator == "/" else "}", raw_escapes=True)[0]
            replacement = self._until("}", raw_escapes=True)[0] if operator == "/" else ""
        elif operator and operator in "+-?":
            word = self._until("}")[0]
        if self._variables is None:
            return self._text[begin : self._at]
        return self._substitute(name, operator, word, replacement, colon=colon, doubled=doubled)

    def _substitute(self, name: str, operator: str, word: str, replacement: str, *, colon: bool, doubled: bool) -> str:
        value, known = self._value(name)
        usable = bool(value) if colon else known
        if operator == "}" and not colon:
            return value
        if operator == "-":
            return value if usable else word
        if operator == "+":
            return word if usable else ""
        if operator == "?":
            if not usable:
                raise SubstitutionError(f"{name}: {word or 'must be set'}")
            return value
        if colon or operator not in ("#", "%", "/"):
            raise SubstitutionError(f"{self._text!r} has an unknown modifier `{operator}`")
        if operator == "/":
            once = not doubled or set(word) == {"*"}  # after all of a text Python finds one more match, which is empty
            return re.sub(_glob(word), lambda _: replacement, value, count=int(once))
        if operator == "#":
            return re.sub(rf"\A{_glob(word, greedy=doubled)}", "", value, count=1)
        # The shortest or longest end that matches.
        begins = range(len(value) + 1) if doubled else range(len(value), -1, -1)
        pattern = re.compile(_glob(word))
        return next((value[:begin] for begin in begins if pattern.fullmatch(value, begin)), value)

    def _value(self, name: str) -> tuple[str, bool]:
        known = self._variables or {}
        return known.get(name, ""), name in known


def _glob(pattern: str, *, greedy: bool = True) -> str:
    """The regular expression of a shell pattern: `*` and `?`; a backslash makes them plain."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char, at = pattern[at], at + 1
        if char == "\\":
            following, at = pattern[at : at + 1], at + 1
            if not following or following not in "}/*?\\":
                raise SubstitutionError(f"{pattern!r} has an unknown escape")
            parts.append(re.escape(following))
        elif char in "*?":
            parts.append("." if char == "?" else ".*" if greedy else ".*?")
        else:
            parts.append(re.escape(char))
    return "".join(parts)
