"""The mark of the ledger's key: what it tells, and which of several holds."""

import pytest

from streams.erasure import Ledger
from streams.erasurekey import KEY, ErasureKeyError, code_of, read_code


def mark(code: str) -> tuple[bytes, bytes]:
    return KEY, b'{"code":"%s"}' % code.encode()


def test_a_code_tells_keys_apart_and_is_no_customers_digest() -> None:
    codes = {code_of(key) for key in (b"", b"k", b"l")}
    assert len(codes) == 3
    text = "the key of the ledger of the erased"
    assert not any(code.startswith(Ledger(b"k").digest(text)) for code in codes)


def test_of_two_who_began_at_once_the_first_holds() -> None:
    assert read_code([]) is None
    assert read_code([(b"p0", b"{}"), mark("a"), (None, b"x"), mark("b")]) == "a"


def test_what_was_taken_back_holds_no_more() -> None:
    assert read_code([mark("a"), (KEY, None)]) is None
    assert read_code([mark("a"), (KEY, None), mark("b"), mark("c")]) == "b"


@pytest.mark.parametrize("value", [b"{", b"{}", b"\xff", b'{"code":7}', b'{"code":"\xc3\xa4"}'])
def test_a_mark_that_cannot_be_read_is_not_passed_over(value: bytes) -> None:
    with pytest.raises(ErasureKeyError, match="none of ours"):
        read_code([(KEY, value)])
