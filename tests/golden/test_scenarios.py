"""Every scenario of the examples, through the whole engine in simulated time."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.rulefiles import read_folder
from streams.scenariorun import run_scenario
from streams.scenarios import Scenario, read_scenarios
from streams.scenariotest import book_folders, report
from triggers.book import Book

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = [*book_folders(EXAMPLES), Path(__file__).parent / "learned"]


def _all() -> list[tuple[Book, Scenario]]:
    found = []
    for folder in FOLDERS:
        source = read_folder(folder)
        book = source.book()
        assert isinstance(book, Book), book
        for scenario in read_scenarios(folder, source):
            assert isinstance(scenario, Scenario), str(scenario)
            found.append((book, scenario))
    return found


EVERY = _all()


@pytest.mark.parametrize(
    ("book", "scenario"), EVERY, ids=[f"{book.name}:{each.id}" for book, each in EVERY]
)
def test_scenario(book: Book, scenario: Scenario) -> None:
    result = run_scenario(book, scenario)
    assert result.passed, "\n".join(report(result))


def test_every_example_has_scenarios() -> None:
    names = {scenario.place.split(":")[0] for _, scenario in EVERY}
    for folder in FOLDERS:
        assert any(name.startswith(str(folder)) for name in names), folder
