"""A few seconds of the fuzzer, and everything that it ever kept."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutate import SIZE_MAX, mutated
from tests.fuzz.run import NAMES, fuzz

SECONDS = 2.5


@pytest.mark.parametrize("name", NAMES)
def test_no_input_makes_a_target_raise_hang_or_fail(name: str) -> None:
    runs, findings = fuzz(SECONDS, seed=7, names=(name,))
    assert findings == []
    assert runs[0].cases > 20
    assert len(runs[0].answers) > 3


def test_the_fuzzer_finds_what_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import targets

    def faulty(given: bytes) -> str:
        assert b"[[[[" not in given
        return ""

    monkeypatch.setattr(targets, "door", faulty)
    _, findings = fuzz(10, seed=7, names=("door",))
    assert len(findings) == 1
    assert b"[[[[" in findings[0].given


def test_inputs_stay_within_their_bound_and_come_again_with_their_seed() -> None:
    pool = [b"x" * 5000, b"{}"]
    one, other = random.Random(3), random.Random(3)
    found = [mutated(one, pool) for _ in range(300)]
    assert found == [mutated(other, pool) for _ in range(300)]
    assert max(map(len, found)) <= SIZE_MAX
