"""``tsuide check`` over a catalogue: prices out of bounds, extras preselected; and its warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.check import run_check
from streams.doctor import prices
from tests.unit.harness import World, make_book

BOOK = """\
book: {name: b, timezone: Asia/Tokyo, currency: JPY}
rules:
  - id: start
    kind: follow_up
    on: checkout.started
    pick: none
    default_selection: standard
    channel: onsite
    reason: {ja: あ, en: a}
"""
RULE = """\
  - id: cart
    kind: cross_sell
    on: cart.item_added
    pick: {complements_of: event.item.sku}
    channel: onsite
    reason: {ja: あ, en: a}
"""


def product(sku: str, price: int, step: int = 0) -> tuple[str, str, dict[str, Any]]:
    data: dict[str, Any] = {"name": sku, "price": price, "currency": "JPY"}
    if step:
        data["ladder"] = {"name": "plans", "step": step}
    return "catalog.product_set", sku, data


def checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *events: Any, book: str = BOOK
) -> tuple[int, list[str]]:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "book.yaml").write_text(book, encoding="utf-8")
    lines = [
        json.dumps(
            {"specversion": "1.0", "id": str(number), "source": "shop", "type": kind,
             "time": "2026-03-02T12:00:00Z", "subject": subject, "data": data}
        )
        for number, (kind, subject, data) in enumerate(events)
    ]  # fmt: skip
    file = tmp_path / "catalog.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    status = run_check(rules, catalog=file)
    return status, [
        line.replace(str(tmp_path), "") for line in capsys.readouterr().err.splitlines()
    ]


PLANS = [product("basic", 10_000, 1), product("standard", 12_500, 2)]
SET = ("catalog.bundle_set", "night", {"items": ["tea", "mug"], "price": 3_880, "currency": "JPY"})
PARTS = [product("tea", 3_000), product("mug", 1_000)]


@pytest.mark.covers("A12b", "A13a")
def test_a_catalogue_within_its_bounds_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [*PLANS, product("premium", 16_000, 3), *PARTS, SET]
    assert checked(tmp_path, capsys, *events) == (0, [])


@pytest.mark.covers("A12b", "A13a")
def test_a_tier_and_a_set_out_of_bounds_are_named_with_the_prices_that_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dear = ("catalog.bundle_set", "night", {**SET[2], "price": 3_881})
    status, lines = checked(tmp_path, capsys, *PLANS, product("premium", 16_251, 3), *PARTS, dear)
    assert status == 1
    assert lines == [
        (
            "/catalog.jsonl:6:1: bundle night: 3881 is not 3 to 5 % under the sum of its parts, "
            "4000: give it a price from 3800 to 3880, or allow it with a reason"
        ),
        (
            "/catalog.jsonl:3:1: ladder plans: premium at 16251 is not 20 to 30 % over standard at "
            "12500: give it a price from 15000 to 16250, or allow it with a reason"
        ),
    ]


def test_what_the_book_allows_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allow = "currency: JPY, allow: {ladders: [plans], bundles: [night], reason: old tariffs}}"
    dear = ("catalog.bundle_set", "night", {**SET[2], "price": 3_881})
    events = [*PLANS, product("premium", 16_251, 3), *PARTS, dear]
    book = BOOK.replace("currency: JPY}", allow)
    assert checked(tmp_path, capsys, *events, book=book) == (0, [])


def test_a_paid_extra_that_a_rule_preselects_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (line,) = checked(tmp_path, capsys, product("standard", 500))
    assert status == 1
    assert line.startswith("/catalog.jsonl:1:1: standard is no plan of a ladder")


def test_a_line_that_is_no_event_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (line,) = checked(tmp_path, capsys, ("catalog.product_set", "a", {"name": "a"}))
    assert (status, line.startswith("/catalog.jsonl:1:1: bad_data")) == (1, True)


def test_a_warning_names_its_place_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (line,) = checked(tmp_path, capsys, *PLANS, book=BOOK + RULE)
    assert status == 0
    assert line.startswith("/rules/book.yaml:10:5: warning: a cross_sell without content")


def test_doctor_names_what_is_passed_over_and_forbids_no_start() -> None:
    world = World(make_book())
    for sku, step, price in (("a", 1, 10_000), ("b", 2, 13_001)):
        world.product(sku, price, ladder={"name": "plans", "step": step})
    finding = prices(world.catalog, world.book)
    assert finding.ok
    assert finding.text.startswith("passed over: ladder plans: b at 13001")
    world.product("b", 13_000, ladder={"name": "plans", "step": 2})
    assert prices(world.catalog, world.book).text == "all sets and tiers within their bounds"
