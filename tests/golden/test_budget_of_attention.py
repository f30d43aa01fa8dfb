"""A budget of none: what sells is silent, and service goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.rulefiles import read_folder
from streams.scenariorun import run_scenario
from streams.scenarios import Scenario, read_scenarios
from triggers.book import Book

RULES = Path(__file__).parents[2] / "examples" / "hotel" / "rules"
SCENARIO = """
scenarios:
  - id: arrival
    given:
      - {at: 0s, event: stay.checked_in, plan: standard}
    setup:
      catalog: {products: {credit-5000: {price: 4800}, late-checkout: {price: 3000}}}
    expect:
      - {at: 0s, rule: house-credit, HOUSE-CREDIT}
      - {at: 0s, rule: late-checkout, LATE-CHECKOUT}
      - {at: 0s, rule: welcome}
"""
HELD_BACK = "outcome: suppressed, reason: fatigue"


def differences(folder: Path, budget: int, credit: str, checkout: str) -> list[str]:
    """How an arrival under this budget a day differs from what is said of the two sales."""
    for name in ("book.yaml", "stays.yaml"):
        text = (RULES / name).read_text(encoding="utf-8")
        changed = text.replace("{budget: 2, per: 1d}", f"{{budget: {budget}, per: 1d}}")
        (folder / name).write_text(changed, encoding="utf-8")
    written = SCENARIO.replace("HOUSE-CREDIT", credit).replace("LATE-CHECKOUT", checkout)
    (folder / "scenarios.yaml").write_text(written, encoding="utf-8")
    source = read_folder(folder)
    book = source.book()
    assert isinstance(book, Book), book
    (scenario,) = read_scenarios(folder, source)
    assert isinstance(scenario, Scenario), scenario
    result = run_scenario(book, scenario)
    return result.differences + [str(fault) for fault in result.faults]


@pytest.mark.covers("B9")
def test_a_budget_of_none_lets_only_service_pass(tmp_path: Path) -> None:
    assert differences(tmp_path, 0, HELD_BACK, HELD_BACK) == []


@pytest.mark.covers("B9")
def test_a_budget_of_one_lets_one_sale_pass(tmp_path: Path) -> None:
    assert differences(tmp_path, 1, "items: [credit-5000]", "outcome: outranked") == []
