"""``tsuide test``: the scenarios and examples of every rule book below a folder."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from streams.errors import UsageError
from streams.rulefiles import read_folder
from streams.scenariorun import Result, run_scenario
from streams.scenarios import Scenario, read_scenarios
from streams.strictyaml import Fault
from triggers.book import Book

_BOOK = re.compile(r"^book:", re.MULTILINE)
_SKIPPED = frozenset({"node_modules", "tests"})


def book_folders(folder: Path) -> Iterator[Path]:
    """The folders of rule books in and below ``folder``, in the order of their names."""
    if any(_holds_book(file) for file in sorted(folder.glob("*.yaml"))):
        yield folder
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith(".") and below.name not in _SKIPPED:
            yield from book_folders(below)


def _holds_book(file: Path) -> bool:
    try:
        return _BOOK.search(file.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False


def run_tests(folder: Path, as_json: bool = False, only: str = "", covers: str = "") -> int:
    """Run what is found below ``folder``; 0 when everything came as expected, else 1.

    ``only`` is a part of the ids to run; ``covers`` the row that they cover. Differences and
    faults go to standard error, each with its place.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    books = scenarios = failed = faults = 0
    for path in book_folders(folder):
        books += 1
        found, problems = results(path, only, covers)
        for fault in problems:
            print(fault, file=sys.stderr)
        for result in found:
            for line in report(result):
                print(line, file=sys.stderr)
        scenarios += len(found)
        failed += sum(1 for result in found if not result.passed)
        faults += len(problems)
    if not books:
        print(f"{folder}: no rule book here or below", file=sys.stderr)
    if books and not scenarios and not faults:
        print(f"{folder}: no scenarios here or below", file=sys.stderr)
    summary = {"books": books, "scenarios": scenarios, "failed": failed, "faults": faults}
    if as_json:
        print(json.dumps(summary))
    else:
        print(f"{scenarios - failed} of {scenarios} scenarios passed, {books} rule books")
    return 0 if scenarios and not failed and not faults else 1


def results(folder: Path, only: str = "", covers: str = "") -> tuple[list[Result], list[Fault]]:
    """Run the scenarios and examples of one book's folder; and the faults that prevent it."""
    source = read_folder(folder)
    book = source.book()
    if not isinstance(book, Book):
        return [], book
    found = read_scenarios(folder, source)
    runnable = [each for each in found if isinstance(each, Scenario)]
    faults = [each for each in found if isinstance(each, Fault)]
    chosen = [
        each for each in runnable if only in each.id and (not covers or covers in each.model.covers)
    ]
    return [run_scenario(book, each) for each in chosen], faults


def report(result: Result) -> Iterator[str]:
    """The lines that tell of a scenario that did not hold; none when it did."""
    if result.passed:
        return
    for fault in result.faults:
        yield str(fault)
    if result.differences:
        rows = (
            f" ({', '.join(result.scenario.model.covers)})" if result.scenario.model.covers else ""
        )
        yield f"{result.scenario.place}: {result.scenario.id}{rows}"
        yield from (f"    {line}" for line in result.differences)
