"""Each example by trade: nothing to say against it, a page, and one catalogue in two places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.check import run_check

ROOT = Path(__file__).parents[2]
TRADES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/catalog.jsonl"))


def lines(trade: str) -> list[dict[str, Any]]:
    text = (ROOT / "examples" / trade / "catalog.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("trade", TRADES)
def test_check_has_no_word_against_the_book_and_its_catalogue(
    trade: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ROOT / "examples" / trade
    assert run_check(folder / "rules", catalog=folder / "catalog.jsonl") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("trade", TRADES)
def test_the_catalogue_holds_what_the_scenarios_sell(trade: str) -> None:
    text = (ROOT / "examples" / trade / "rules" / "scenarios.yaml").read_text(encoding="utf-8")
    catalog = yaml.load(text, yaml.CSafeLoader)["setup"]["catalog"]
    prices = {
        record["subject"]: record["data"]["price"]
        for record in lines(trade)
        if record["type"] in ("catalog.product_set", "catalog.bundle_set")
    }
    sold = {**catalog["products"], **catalog.get("bundles", {})}
    assert prices == {sku: product["price"] for sku, product in sold.items()}
    edges = {
        (record["subject"], record["data"]["to"], record["data"]["weight"])
        for record in lines(trade)
        if record["type"] == "catalog.relation_set"
    }
    assert edges == {(r["sku"], r["to"], r["weight"]) for r in catalog.get("relations", ())}


@pytest.mark.parametrize("trade", TRADES)
def test_each_trade_has_a_page_that_says_how_to_try_it(trade: str) -> None:
    page = (ROOT / "docs" / "examples" / f"{trade}.md").read_text(encoding="utf-8")
    assert f"tsuide test examples/{trade}" in page
