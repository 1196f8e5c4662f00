"""Where a command's words go. Everything that speaks is given a `Console`; `github/` and the terminal implement it.

Beside it, what must never be seen: `Masks` for texts, `hidden` for values.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import quote

from .errors import MlopsError, Place


class Console(Protocol):
    """Where a command's words go. Text may have many lines; nothing a tool printed is taken for a command."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def debug(self, text: str) -> None:
        """Shown when debugging is asked for (RUNNER_DEBUG=1)."""

    def status(self, text: str) -> None:
        """What goes on now: one line that the next one replaces on a terminal, nothing elsewhere."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A small table."""

    def notice(self, text: str, place: Place | None = None) -> None:
        """Worth a look."""

    def warning(self, text: str, place: Place | None = None) -> None:
        """Probably wrong, not fatal."""

    def failure(self, error: MlopsError) -> None:
        """How the command ended, if it failed: the only error annotation."""

    def group(self, title: str) -> AbstractContextManager[None]:
        """Lines that belong together, with the time that they took."""

    def mask(self, value: str) -> None:
        """Never show this value, from now on."""

    def hide(self, text: str) -> str:
        """The text with the values that `mask` was told replaced by `***`."""

    def finish(self, outputs: Mapping[str, object], summary: str) -> None:
        """The command's outputs (JSON values), and its summary in Markdown."""


_LOGIN = re.compile(r"(?<=://)[^/?#\s\"'<>]+(?=@)")
"""What is before the host of a URL: user and password, or a token alone."""
SHORTEST_MASK = 4
"""Characters: what is shorter is in too many words to be hidden."""


class Masks:
    """Values that must not be seen, and text with them hidden."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def add(self, value: str) -> list[str]:
        """Remember a value, each line of it that is long enough to tell, and how programs write both; those new."""
        parts = {value.strip(), *(line.strip() for line in value.splitlines())}
        forms = {form for part in parts if len(part) >= SHORTEST_MASK for form in _forms(part)}
        new = sorted(forms - set(self._values))
        self._values = sorted({*self._values, *new}, key=lambda form: (-len(form), form))
        return [form for form in new if "\n" not in form]

    def hide(self, text: str) -> str:
        """The text with the values, and with user and password in URLs, replaced by `***`."""
        for value in self._values:
            text = text.replace(value, "***")
        return _LOGIN.sub("***", text) if "://" in text else text


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """A JSON value with `hide` applied to each text and key in it, so that it stays a value of the same shape."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hidden(key, hide): hidden(item, hide) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(item, hide) for item in value]
    return value


def _forms(text: str) -> Iterator[str]:
    """A text as it is, and in the quotes of JSON, of Python and of a shell, in a URL, and as base64.

    Base64 also of a longer text that it is in, such as `user:secret` of a header or of Docker's configuration: three
    bytes are four characters, so there are three forms of it, less the characters that its neighbours have a share in.
    """
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield quote(text, errors="surrogatepass")
    yield quote(text, safe="", errors="surrogatepass")
    data = text.encode(errors="surrogatepass")
    yield b64encode(data).decode()
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        inside = b64encode(bytes(before) + data).decode()[shared : (before + len(data)) * 8 // 6]
        if len(inside) >= SHORTEST_MASK:
            yield inside
            yield inside.replace("+", "-").replace("/", "_")
