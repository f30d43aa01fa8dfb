"""The audit of topics finds what is missing, twice or of unknown origin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.deadletters import dead_letter, summary_letter
from tests.integration.audit import audit

IN = {("cart", 0): [0, 1, 2], ("purchase", 1): [5, 6]}
DONE = {("cart", 0): 3, ("purchase", 1): 7}


def letter(topic: str, offset: int, reason: str = "not_json", value: bytes = b"x") -> Any:
    partition = 0 if topic == "cart" else 1
    key, kept, headers = dead_letter(reason, "d", topic, partition, offset, b"k", value)
    return SimpleNamespace(key=key, value=kept, headers=headers)


def test_records_are_applied_or_refused() -> None:
    found = audit(IN, DONE, [letter("cart", 1)])
    found.check()
    assert (found.records, found.applied) == (5, 4)
    assert found.refused == {("cart", 0, 1): "not_json"}


@pytest.mark.parametrize(
    ("done", "letters", "said"),
    [
        ({("cart", 0): 2, ("purchase", 1): 7}, [], "cart/0/2 is not applied"),
        ({("cart", 0): 3}, [], "purchase/1/5 is not applied"),
        (DONE, [letter("cart", 9)], "never came in"),
        (DONE, [letter("cart", 1), letter("cart", 1)], "1 dead letters lie there twice"),
        (DONE, [letter("cart", 1), letter("cart", 1, value=b"y")], "two bodies"),
        (DONE, [letter("cart", 1, "odd")], "is no reason of the contract"),
    ],
)
def test_the_audit_bites(done: dict[tuple[str, int], int], letters: list[Any], said: str) -> None:
    found = audit(IN, done, letters)
    assert any(said in fault for fault in found.faults)
    with pytest.raises(AssertionError, match=said):
        found.check()


def test_a_letter_that_stands_for_many_tells_of_each() -> None:
    ((_, value, headers, _),) = summary_letter("not_json", "cart", 0, [0, 2])
    found = audit(IN, DONE, [SimpleNamespace(value=value, headers=headers)])
    found.check()
    assert (found.applied, set(found.refused)) == (3, {("cart", 0, 0), ("cart", 0, 2)})


def test_second_copies_that_a_lost_answer_explains_are_let_pass() -> None:
    audit(IN, DONE, [letter("cart", 1), letter("cart", 1)], copies=1).check()
