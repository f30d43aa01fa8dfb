"""Every fault of the matrix has a test named after it, and the page tells which."""

from __future__ import annotations

import pytest

from tests.matrix import (
    PROMISES,
    SCENARIOS,
    TESTS,
    all_tests,
    named_after,
    numbers_in,
    others,
    scenarios_table,
)


def test_there_are_thirty_faults_and_twelve_promises() -> None:
    assert list(SCENARIOS) == list(range(1, 31))
    assert list(PROMISES) == list(range(1, 13))


@pytest.mark.parametrize("number", SCENARIOS)
def test_a_fault_has_a_test_named_after_it(number: int) -> None:
    assert named_after(number)


@pytest.mark.parametrize("number", SCENARIOS)
def test_what_the_table_names_is_there(number: int) -> None:
    one = SCENARIOS[number]
    assert len(others(number)) == len(one.also)
    assert one.promises
    assert set(one.promises) <= PROMISES.keys()
    for test in (*others(number), *named_after(number)):
        assert (TESTS / test.file).is_file()


def test_a_name_with_a_number_is_that_of_a_fault() -> None:
    unknown = {
        test.name for test in all_tests() for n in numbers_in(test.name) if n not in SCENARIOS
    }
    assert unknown == set()


def test_every_promise_but_the_disclaimer_is_attacked() -> None:
    attacked = {promise for one in SCENARIOS.values() for promise in one.promises}
    assert attacked == PROMISES.keys()


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_s14_duplicates", (14,)),
        ("test_s3_s06_a_crash", (3, 6)),
        ("test_sales_are_counted", ()),
        ("test_a_s14_inside", ()),
    ],
)
def test_numbers_are_read_from_names(name: str, numbers: tuple[int, ...]) -> None:
    assert numbers_in(name) == numbers


def test_a_tests_target_follows_its_marker() -> None:
    by_file = {test.file: test.target for test in all_tests()}
    assert by_file["integration/test_pipeline_kafka.py"] == "make test-kafka"
    assert by_file["unit/test_merge.py"] == "make test"


def test_every_test_that_the_page_names_says_how_to_run_it() -> None:
    rows = scenarios_table().splitlines()[2:]
    assert len(rows) == len(SCENARIOS)
    assert all(row.count("](../tests/") == row.count("(`make test") for row in rows)
