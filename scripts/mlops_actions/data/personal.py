"""Personal data that should not be in a training table: by the names of columns, and by what values look like.

A sample of each text or large-integer column is looked at. Values are never shown: only which column, and why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from .tables import Batch

SAMPLE = 10_000
"""Values of a column that are looked at."""
_NAMES = re.compile(
    r"(?:^|_)(?:e_?mail(?:_?address)?|phone(?:_?(?:number|no))?|mobile_?number|ssn|social_?security(?:_?number)?"
    r"|passport(?:_?(?:number|no))?|iban|credit_?card(?:_?number)?|card_?number|cvv|date_?of_?birth|birth_?date|dob"
    r"|first_?name|last_?name|sur_?name|full_?name|home_?address|street_?address|ip_?address|national_?id)$"
)
_EMAIL = r"(?i)\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}\b"
_PHONE = r"^\s*(?:\+\d[\d ().-]{7,17}\d|\(\d{2,4}\)[\d .-]{6,12}\d|\d{3}[-. ]\d{3}[-. ]\d{4})\s*$"
_IBAN = r"^[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?$"
_CARD = r"^\s*\d(?:[ -]?\d){12,18}\s*$"
_LIKELY = r"@|\d\D?\d"
"""What every one of these has: most columns are told by one look."""
_FEW = 0.01
_MOST = 0.5
"""One in ten numbers passes Luhn's check by chance, so most of a column's must."""


@dataclass(frozen=True)
class Personal:
    """A column that looks personal, and why."""

    column: str
    why: str


class Sampler:
    """Keeps the first values of each batch, up to a limit a column.

    Args:
        schema: the table's columns and types.
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        wide = (pl.Int64, pl.UInt64, pl.Int128)
        self._kept: dict[str, list[pl.Series]] = {n: [] for n, kind in schema.items() if kind in (pl.String, *wide)}
        self._names = list(schema)

    def update(self, batch: Batch) -> None:
        """Take from the next rows."""
        for name, kept in self._kept.items():
            room = SAMPLE - sum(len(part) for part in kept)
            if room > 0:
                kept.append(batch.frame.get_column(name).drop_nulls().head(min(room, SAMPLE // 4)).cast(pl.String))

    def judge(self) -> list[Personal]:
        """The columns that look personal, in the table's order."""
        found = []
        for name in self._names:
            parts = self._kept.get(name) or []
            why = _by_values(pl.concat(parts)) if parts else ""
            if not why and _NAMES.search(_snake(name)):
                why = "its name"
            if why:
                found.append(Personal(name, why))
        return found


def luhn(number: str) -> bool:
    """Whether the digits of a payment card's number agree with its check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(char) for char in number if char.isdigit()]
    doubled = [2 * d - 9 if d > 4 else 2 * d for d in digits[-2::-2]]
    return len(digits) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Whether an account number's check digits are right (ISO 13616, modulus 97)."""
    bare = text.replace(" ", "").upper()
    return int("".join(str(int(char, 36)) for char in bare[4:] + bare[:4])) % 97 == 1


def _by_values(values: pl.Series) -> str:
    total = len(values)
    values = values.filter(values.str.contains(_LIKELY))
    if values.is_empty():
        return ""
    tests = (("e-mail addresses", _EMAIL, None, _FEW), ("telephone numbers", _PHONE, None, _MOST))
    tested = (("payment card numbers", _CARD, luhn, _MOST), ("bank account numbers", _IBAN, iban, _MOST))
    for what, pattern, check, least in (*tests, *tested):
        matching = values.filter(values.str.contains(pattern))
        count = sum(check(text) for text in matching) if check else len(matching)
        share = count / total
        if count and share >= least:
            return f"{share:.0%} of its values look like {what}"
    return ""


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
