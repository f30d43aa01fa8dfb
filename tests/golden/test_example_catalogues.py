"""The catalogue beside each example: what its scenarios use, and without a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.check import run_check
from streams.rulefiles import read_folder
from streams.scenarios import Scenario, read_scenarios

EXAMPLES = Path(__file__).parents[2] / "examples"
TRADES = sorted(path.parent.name for path in EXAMPLES.glob("*/catalog.jsonl"))


def products(trade: str) -> dict[str, dict[str, Any]]:
    """The products of the catalogue file by sku, without what scenarios leave out."""
    text = (EXAMPLES / trade / "catalog.jsonl").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        event = json.loads(line)
        if event["type"] == "catalog.product_set":
            found[event["subject"]] = {**event["data"], "currency": None}
    return found


@pytest.mark.parametrize("trade", TRADES)
def test_check_finds_no_fault_and_warns_of_nothing(
    trade: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = EXAMPLES / trade
    assert run_check(folder / "rules", catalog=folder / "catalog.jsonl") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("trade", TRADES)
def test_scenarios_and_catalogue_tell_of_the_same_products(trade: str) -> None:
    rules = EXAMPLES / trade / "rules"
    scenarios = read_scenarios(rules, read_folder(rules))
    told = products(trade)
    for scenario in scenarios:
        assert isinstance(scenario, Scenario), str(scenario)
        own = scenario.model.setup.catalog.products  # what one scenario changes on purpose
        for sku, fields in scenario.setup.catalog.products.items():
            if sku not in own:
                assert {**fields, "currency": None} == told[sku], (scenario.id, sku)
