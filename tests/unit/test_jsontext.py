from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.jsontext import NotJsonError, OutOfRange, is_json, loads, too_deep

_PIECES = [*'[]{},:"\\ \n\x01\x02\x031-.eE0tN', "", '"a":']
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def _nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_nesting, value), default=0)
    return 0


def _stdlib_says(text: str) -> bool:
    try:
        loads(text)
    except NotJsonError:
        return False
    return True


@given(_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_depth_is_counted_outside_of_strings(value: Any, ascii_: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent).encode("utf-8", "replace")
    depth = _nesting(value)
    assert not too_deep(text, depth)
    assert depth == 0 or too_deep(text, depth - 1)


@pytest.mark.parametrize("text", [b'"[[["', b'"\\"[[["', b'"\\\\"', b'["]"]', b'{"{":"}"}'])
def test_brackets_in_strings_nest_nothing(text: bytes) -> None:
    assert not too_deep(text, 1)


@given(_VALUES, st.data())
def test_the_check_without_recursion_agrees_with_the_standard_library(
    value: Any, data: st.DataObject
) -> None:
    text = json.dumps(value)
    assert is_json(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from(_PIECES))
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 1)) :]
        assert is_json(text) == _stdlib_says(text)


@given(st.text(alphabet='[]{},:"\\ 10-.eau\x01\x03', max_size=12))
def test_the_check_without_recursion_agrees_on_any_text(text: str) -> None:
    assert is_json(text) == _stdlib_says(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "[" * 200_000,
        '"' + '\\"' * 100_000,
        '"\\q' * 80_000,
        '{"a":' * 40_000 + "1" + "}" * 40_000,
        "-" * 200_000,
        "1e" * 100_000,
    ],
    ids=["deep", "open", "quotes", "escapes", "objects", "signs", "exponents"],
)
def test_hostile_texts_take_no_more_than_their_length(text: str) -> None:
    started = time.process_time()
    is_json(text)
    too_deep(text.encode())
    assert time.process_time() - started < 1.0


def test_numbers_out_of_range_are_of_no_type_that_a_field_has() -> None:
    found = loads(f"[9007199254740991, 9007199254740992, 1e999, -1e999, {'9' * 9000}, 1e308]")
    assert isinstance(found, list)
    assert [isinstance(one, OutOfRange) for one in found] == [False, True, True, True, True, False]
