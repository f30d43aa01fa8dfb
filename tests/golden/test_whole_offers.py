"""Every offer that the examples make is whole: what it rests on, its reason, its six facts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streams.rulefiles import read_folder
from streams.scenariorun import run_scenario
from streams.scenarios import Scenario, read_scenarios
from triggers.book import Book

ROOT = Path(__file__).parents[2]
TRADES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/catalog.jsonl"))
SIX = ["quantity", "total", "payment", "delivery", "period", "cancellation"]


def scenarios(trade: str) -> tuple[Book, list[Scenario]]:
    folder = ROOT / "examples" / trade / "rules"
    source = read_folder(folder)
    book = source.book()
    assert isinstance(book, Book), book
    return book, [each for each in read_scenarios(folder, source) if isinstance(each, Scenario)]


@cache
def offers(trade: str) -> list[dict[str, Any]]:
    book, found = scenarios(trade)
    made = []
    for scenario in found:
        seen = run_scenario(book, scenario).seen
        made += [each.data for each in seen if each.decision.outcome == "offered"]
    assert made
    return made


@pytest.mark.parametrize("trade", TRADES)
def test_a_trade_has_a_page_that_names_every_rule(trade: str) -> None:
    book, _ = scenarios(trade)
    text = (ROOT / "docs" / "examples" / f"{trade}.md").read_text(encoding="utf-8")
    assert [rule for rule in book.rules if f"`{rule}`" not in text] == []


@pytest.mark.covers("A16", "A18")
@pytest.mark.parametrize("trade", TRADES)
def test_every_offer_names_an_event_that_caused_it_and_its_reason_in_both_languages(
    trade: str,
) -> None:
    for offer in offers(trade):
        assert any(fact.get("event_id") for fact in offer["evidence"]), offer
        assert all(offer["reason"][language].strip() for language in ("ja", "en")), offer
        if offer["kind"] == "up_sell":
            assert all(offer["message"]["benefit"][language] for language in ("ja", "en")), offer


@pytest.mark.covers("X1")
@pytest.mark.parametrize("trade", TRADES)
def test_every_offer_on_the_last_pages_carries_the_six_facts(trade: str) -> None:
    for offer in offers(trade):
        at_checkout = offer["trigger"].get("event", "").startswith("checkout.")
        if at_checkout and offer["placement"] in ("checkout", "payment"):
            assert [*offer["terms"]] == SIX, offer
            assert all(fact["ja"] and fact["en"] for fact in offer["terms"].values()), offer
