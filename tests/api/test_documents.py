"""Bytes become plain documents, or problems; never anything else, never slowly."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from api.documents import parse_json, parse_yaml
from search.problems import Invalid

PARSERS = (parse_json, parse_yaml)
Parser = Callable[[bytes], Any]


@pytest.mark.parametrize("parse", PARSERS)
def test_a_plain_document_is_read(parse: Parser) -> None:
    assert parse(b'{"a": [1, 2.5, true, null, "x"]}') == {"a": [1, 2.5, True, None, "x"]}


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", [b"[" * 20_000, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 5000])
def test_twenty_thousand_brackets_are_one_problem_at_once(parse: Parser, text: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(Invalid, match="nested deeper than 32 levels"):
        parse(text)
    assert time.monotonic() - start < 1.0


def test_yaml_that_expands_is_refused() -> None:
    laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"
    with pytest.raises(Invalid, match="alias"):
        parse_yaml(laughs.encode())


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [id]", "!!bool x", "!!int x"])
def test_yaml_tags_are_refused(tag: str) -> None:
    with pytest.raises(Invalid, match="tag"):
        parse_yaml(f"a: {tag}".encode())


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"a": {"b": NaN}}', "spec"),
        (b'{"a": {"b": 1e999}}', "a.b"),
        (b'{"a": ["\\u0000"]}', "a[0]"),
        (b'{"a": "\\ud800"}', "a"),
        (b'{"a": 99999999999999999999}', "a"),
        (b"1" * 5000, "spec"),
        (b'\xff\xfe"', "spec"),
        (b'{"a"', "spec"),
    ],
)
def test_json_that_nothing_could_store_is_refused(text: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_json(text)
    assert caught.value.problems[0].field == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"a: 2026-11-21", "a"),
        (b"a: .nan", "a"),
        (b"1: x", "spec"),
        (b"a: b: c", "spec"),
        (b"a: 2026-99-99", "spec"),
        (b"{[a]: 1}", "spec"),
        (b"a: 1\n---\nb: 2", "spec"),
    ],
)
def test_yaml_that_is_not_json_is_refused(text: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_yaml(text)
    assert caught.value.problems[0].field == field


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.one_of(st.binary(max_size=200), st.text("[]{}:,-!&*#|>%@'\"\n 01ax._", max_size=60)))
def test_any_bytes_are_a_document_or_a_problem(parse: Parser, text: bytes | str) -> None:
    with suppress(Invalid):
        parse(text if isinstance(text, bytes) else text.encode())


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abc äß-: #'\"", max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_is_written_is_what_is_read(document: Any) -> None:
    assert parse_json(json.dumps(document).encode()) == document
    assert parse_yaml(yaml.safe_dump(document).encode()) == document
