"""Dead letters as their reader sees them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.deadletters import VALUE_KEPT_BYTES, dead_letter
from streams.errors import UsageError
from streams.letters import Letter, Wanted, parse_places, printable, printable_bytes, read_letter


def record(
    value: bytes | None, reason: str = "not_json", offset: int = 7, at_ms: int = 1_000
) -> Any:
    key, kept, headers = dead_letter(reason, "no JSON text", "cart", 3, offset, b"c-1", value)
    return SimpleNamespace(key=key, value=kept, headers=headers, timestamp=at_ms)


def letter(value: bytes | None = b"{", **changes: Any) -> Letter:
    found = read_letter(record(value, **changes))
    assert found is not None
    return found


@given(st.binary(max_size=200))
def test_a_letter_comes_back_as_it_was_written(value: bytes) -> None:
    found = letter(value)
    assert (found.place, found.reason, found.key) == ("cart/3/7", "not_json", b"c-1")
    assert found.value == value
    assert not found.cut
    assert list(found.offsets()) == [7]


def test_s20_a_long_value_is_cut_and_known_by_the_digest_of_the_whole() -> None:
    whole = letter(b"x" * VALUE_KEPT_BYTES)
    cut = letter(b"x" * (VALUE_KEPT_BYTES + 1))
    assert not whole.cut
    assert cut.cut
    assert len(cut.value) == VALUE_KEPT_BYTES
    ten_megabytes = letter(b"y" * 10_000_000)
    assert ten_megabytes.cut
    assert len(ten_megabytes.value) == VALUE_KEPT_BYTES


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("reason", b"x")],
        [("reason", b"x"), ("topic", b"cart"), ("partition", b"-1"), ("offset", b"1")],
        [("reason", b"x"), ("topic", b"cart"), ("partition", b"1"), ("offset", b"\xff")],
        [("reason", b"x"), ("partition", b"1"), ("offset", b"1"), ("count", b"2")],
    ],
)
def test_a_foreign_record_on_the_topic_is_no_letter(headers: Any) -> None:
    foreign = SimpleNamespace(key=None, value=b"nothing", headers=headers, timestamp=1)
    assert read_letter(foreign) is None


def test_letters_are_chosen_by_place_range_reason_and_time() -> None:
    one = letter(offset=7, at_ms=1_000)
    assert Wanted().takes(one)
    assert Wanted().is_all
    assert Wanted((parse_places("cart/3/7"),)).takes(one)
    assert Wanted((parse_places("cart/3/8"), parse_places("cart/3/5-7"))).takes(one)
    assert not Wanted((parse_places("cart/3/8-9"),)).takes(one)
    assert not Wanted((parse_places("cart/2/7"),)).takes(one)
    assert not Wanted((parse_places("purchase/3/7"),)).takes(one)
    assert Wanted(reason="not_json", topic="cart", number=3).takes(one)
    assert not Wanted(reason="bad_data").takes(one)
    assert Wanted(since_ms=1_000, until_ms=1_000).takes(one)
    assert not Wanted(since_ms=1_001).takes(one)
    assert not Wanted(until_ms=999).takes(one)


@pytest.mark.parametrize("text", ["cart", "cart/1", "cart/1/2-1", "cart/-1/2", "a b/1/2", "/1/2"])
def test_a_place_that_is_none_is_a_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        parse_places(text)


@given(st.text())
def test_nothing_that_moves_a_cursor_reaches_the_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


def test_what_is_shown_of_bytes_is_escaped() -> None:
    assert printable_bytes(None) == "(null)"
    assert printable_bytes(b"\x1b[31mred\xff\n") == "\\x1b[31mred\\xff\\n"
    assert printable("\u202eevil \ud800") == "\\u202eevil \\ud800"
    assert printable("東京 é") == "東京 é"
