"""Lists and mappings that are given as one text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlops_actions.values import check_store, parse_lines, parse_mappings, parse_texts, parse_values


@pytest.mark.parametrize(
    "text", ["#fff", "a #1 b", "010", "@x", "%d", "*x", "[1", "{", "a=b", "1e-3", "null", "yes", "a: b", "- x", "`x`"]
)
def test_text_after_a_name_stays_what_was_written(text: str) -> None:
    assert parse_values(f"s={text}") == {"s": text}
    assert parse_texts(f"s={text}") == {"s": text}


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"1.10"', "1.10"),
        ("'it''s'", "it's"),
        ('"a\\nb"', "a\nb"),
        ('"a" b', '"a" b'),
        ('"', '"'),
        ("  x ", "x"),
        ("", ""),
    ],
)
def test_quotes_around_the_whole_are_taken_off(written: str, text: str) -> None:
    assert parse_values(f"s={written}") == {"s": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\n\n b.c=x=y \n", {"a": "1", "b.c": "x=y"}),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ('{"a": 010}', {"a": 10}),
        ("a: 1\n", {"a": 1}),
        ("", {}),
        ({"a": None}, {"a": None}),
    ],
)
def test_values_come_from_lines_or_yaml(text: Any, expected: dict[str, Any]) -> None:
    assert parse_values(text) == expected


def test_mappings_of_lines_are_read_as_yaml() -> None:
    assert parse_mappings("nightly={cron: '0 3 * * *'}\nother=") == {"nightly": {"cron": "0 3 * * *"}, "other": None}
    with pytest.raises(ValueError, match=r"nightly: '\{cron' is not valid YAML"):
        parse_mappings("nightly={cron")


@pytest.mark.parametrize("parse", [parse_values, parse_mappings, parse_texts])
@pytest.mark.parametrize("text", ["s=a\ns=b", "s=a\nt=b\n s=a", "s: a\ns: b"])
def test_a_name_that_is_given_twice_is_refused(parse: Callable[[object], object], text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        parse(text)


@pytest.mark.parametrize("parse", [parse_lines, parse_values, parse_mappings, parse_texts])
@pytest.mark.parametrize("text", ["[1", "[a, b", "{a: *x}", "[" * 5000, "!!python/object:os.system x", "a: !!int x"])
def test_what_cannot_be_read_is_a_value_error(parse: Any, text: str) -> None:
    try:
        found = parse(text)
    except ValueError as error:
        assert len(str(error)) < 400
    else:
        assert isinstance(found, (dict, list)) or parse in (parse_values, parse_mappings)


def test_lines_are_separated_by_lines_or_commas() -> None:
    assert parse_lines("a\n b ,c\n") == ["a", "b", "c"]
    assert parse_lines('["a,b"]') == ["a,b"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://bucket",
        "s3://my.bucket-1/a/b/",
        "gs://b1/x",
        "az://c1/x y",
        "file:///a/b",
        "file:///C:/a",
        "a/b",
        "C:\\x",
    ],
)
def test_a_store_is_a_url_or_a_folder(url: str) -> None:
    assert check_store(url) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:/x", "write `s3://x`"),
        ("s3:x", "write `s3://x`"),
        ("s3//x", "write `s3://x`"),
        ("s3:///x", "write `s3://x`"),
        ("s3://", "write `s3://bucket/prefix`"),
        ("file:/x", "write `file:///x`"),
        ("file://x", "write `file:///x`"),
        ("file:///", "is not a URL of a folder"),
        ("S3://b", "unknown scheme"),
        ("https://b", "unknown scheme"),
        (" s3://b", "unknown scheme|a space"),
        ("a\nb", "control character"),
        ("s3://b c", "no bucket's name"),
        ("s3://key:word@bucket", "no bucket's name"),
        ("s3://bucket?x=1", "no bucket's name"),
        ("s3://bucket/a?x=1", "`\\?`"),
        ("s3://bucket/../x", "`\\.\\.`"),
        ("s3://bucket//x", "nothing between"),
    ],
)
def test_a_malformed_store_is_refused_with_how_it_is_written(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_store(url)
