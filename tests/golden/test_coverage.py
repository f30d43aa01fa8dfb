"""Every idea is shown by a scenario or a test, and examples/COVERAGE.md says by which."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_page", ROOT / "examples/coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
FOUND = SCRIPT.coverage()


def test_every_idea_is_shown_by_a_scenario_or_a_test() -> None:
    open_ideas = [row for row in SCRIPT.ROWS if not FOUND[row]]
    assert open_ideas == []


def test_scenarios_and_tests_cover_ideas_that_exist() -> None:
    unknown = {row: FOUND[row][0].shown_by for row in FOUND if row not in SCRIPT.ROWS}
    assert unknown == {}


def test_the_page_is_up_to_date() -> None:
    """When it fails: python examples/coverage.py."""
    assert SCRIPT.PAGE.read_text(encoding="utf-8") == SCRIPT.page(FOUND)


def test_a_row_without_proof_is_an_open_line() -> None:
    text = SCRIPT.page({row: [] for row in SCRIPT.ROWS})
    assert "| A4 | The gap to free shipping | – | – |" in text


@pytest.mark.parametrize("row", ["A4", "B14b"])
def test_a_proof_names_its_rules_and_its_scenario(row: str) -> None:
    line = next(each for each in SCRIPT.page(FOUND).splitlines() if each.startswith(f"| {row} |"))
    assert "retail-year: " in line
