"""Templates: one rule with parameters serves several rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.rulefiles import load_folder
from tests.unit.harness import NOON, REASON, World
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.ruletemplates import PARAM_TYPES

HEAD = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY"}
TEMPLATE = {
    "params": {
        "category": "text",
        "from": {"type": "amount", "default": 1000},
        "reason": "texts",
        "span": {"type": "duration", "default": "30m"},
    },
    "rule": {
        "kind": "cross_sell",
        "on": "cart.item_added",
        "when": ["event.item.category == '${category}'", "event.subtotal >= ${from}"],
        "pick": {"complements_of": "event.item.sku"},
        "channel": "onsite",
        "valid_for": "${span}",
        "reason": "${reason}",
    },
}
USE = {"id": "tea", "use": "goes-with", "with": {"category": "tea", "reason": REASON}}


def compiled(*rules: dict[str, Any], template: dict[str, Any] = TEMPLATE) -> Any:
    return compile_content(
        {"book": HEAD, "templates": {"goes-with": template}, "rules": list(rules)}
    )


def offers(book: Book, category: str, subtotal: int) -> list[tuple[str, int, str]]:
    world = World(book)
    world.product("a", category=category)
    world.product("b", price=77)
    world.complement("a", "b")
    item = {"sku": "a", "quantity": 1, "unit_price": subtotal, "category": category}
    world.send("cart.item_added", NOON, cart_id="k", item=item, subtotal=subtotal, currency="JPY")
    return [
        (offer.rule, offer.valid_until - NOON, offer.channel)  # type: ignore[union-attr]
        for offer in world.out.offers
    ]


@pytest.mark.covers("A25")
def test_one_template_serves_three_trades() -> None:
    salon = {**USE, "id": "salon", "with": {**USE["with"], "category": "hair", "span": "1h"}}  # type: ignore[dict-item]
    hotel = {
        **USE,
        "id": "hotel",
        "with": {"category": "room", "from": 20000, "reason": REASON},
        "channel": "sms",
    }
    book = compiled(USE, salon, hotel)
    assert isinstance(book, Book), book
    assert offers(book, "tea", 1000) == [("tea", 1_800_000, "onsite")]
    assert offers(book, "hair", 1000) == [("salon", 3_600_000, "onsite")]
    assert offers(book, "room", 20000) == [("hotel", 1_800_000, "sms")]
    assert offers(book, "tea", 999) == offers(book, "room", 19999) == []


def test_a_rule_from_a_template_is_the_same_as_one_written_out() -> None:
    rule = {**TEMPLATE["rule"], "id": "tea", "valid_for": "30m", "reason": REASON}
    rule["when"] = ["event.item.category == 'tea'", "event.subtotal >= 1000"]
    written = compile_content({"book": HEAD, "rules": [rule]})
    assert isinstance(written, Book)
    assert written.digest == compiled(USE).digest


def test_numbers_and_lists_stand_in_expressions_as_doubles_and_lists() -> None:
    template = {
        "params": {"share": "number", "categories": "list"},
        "rule": {
            **TEMPLATE["rule"],
            "when": [
                "customer.coupon_share < ${share}",
                "event.item.category in ${categories}",
            ],
            "reason": REASON,
            "valid_for": "30m",
        },
    }
    rule = {"id": "r", "use": "goes-with", "with": {"share": 1, "categories": ["tea", "hair"]}}
    book = compiled(rule, template=template)
    assert offers(book, "hair", 1) == [("r", 1_800_000, "onsite")]
    assert offers(book, "room", 1) == []


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        ({"use": "goes-wth"}, ("use",), "no template goes-wth; did you mean goes-with?"),
        ({"with": {"category": "tea"}}, ("use",), "`with` lacks reason, of type texts"),
        ({"with": {**USE["with"], "categry": 1}}, ("with", "categry"), "mean category?"),  # type: ignore[dict-item]
        ({"with": {**USE["with"], "from": "1"}}, ("with", "from"), "from is of type amount"),  # type: ignore[dict-item]
        ({"with": {**USE["with"], "category": "a'b"}}, ("with", "category"), "of type text"),  # type: ignore[dict-item]
        ({"with": []}, ("with",), "must be a mapping"),
        ({"channel": "A B"}, ("channel",), "should match pattern"),
    ],
)
def test_a_wrong_use_is_told_at_the_rule(
    rule: dict[str, Any], path: tuple[str, ...], message: str
) -> None:
    (fault,) = compiled({**USE, **rule})
    assert fault.path == ("rules", 0, *path)
    assert message in fault.message


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"params": {"extra": "text"}}, ("params", "extra"), "the rule does not use extra"),
        ({"params": {"category": "txt"}}, ("params", "category"), "did you mean text?"),
        (
            {"params": {"span": {"type": "duration", "default": "soon"}}},
            ("params", "span"),
            "no duration",
        ),
        ({"rule": {"price": {"off": "${of}"}}}, ("rule", "price", "off"), "no parameter of"),
        ({"rule": {"id": "x"}}, ("rule", "id"), "belongs to the rule that uses"),
        ({"rule": {"channl": "x"}}, ("rule", "channl"), "did you mean channel? (as rule tea"),
        ({"rule": {"when": "event.itm.sku == ''"}}, ("rule", "when", 0), "unknown name event.itm"),
    ],
)
def test_a_fault_of_the_template_is_told_at_the_template(
    change: dict[str, Any], path: tuple[str | int, ...], message: str
) -> None:
    template = {key: {**value, **change.get(key, {})} for key, value in TEMPLATE.items()}
    if "when" in change.get("rule", {}):
        template["params"] = {"reason": "texts", "span": {"type": "duration", "default": "1h"}}
        rule = {"id": "tea", "use": "goes-with", "with": {"reason": REASON}}
    else:
        rule = USE
    found = compiled(rule, template=template)
    assert ("templates", "goes-with", *path) in [fault.path for fault in found]
    assert any(message in fault.message for fault in found), found


def test_faults_of_templates_have_line_and_column_in_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(
        "book: {name: a, timezone: UTC, currency: JPY}\n"
        "rules:\n"
        "  - {id: one, use: hello, with: {ch: push}}\n"
    )
    (tmp_path / "templates.yaml").write_text(
        "templates:\n"
        "  hello:\n"
        "    params: {ch: text}\n"
        "    rule:\n"
        "      kind: follow_up\n"
        "      on: cart.viewed\n"
        "      when: [event.subtotl > 1]\n"
        "      pick: none\n"
        "      channel: ${ch}\n"
        "      reason: {ja: あ, en: a}\n"
    )
    found = load_folder(tmp_path)
    assert [str(fault).removeprefix(f"{tmp_path}/") for fault in found] == [  # type: ignore[union-attr]
        (
            "templates.yaml:7:14: unknown name event.subtotl; did you mean event.subtotal? "
            "(as rule one uses it)"
        )
    ]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("text", "茶", 'a"b'),
        ("texts", {"ja": "あ", "en": "a"}, {"ja": "あ"}),
        ("integer", -1, 1.0),
        ("amount", 0, -1),
        ("number", 1.5, True),
        ("boolean", True, 1),
        ("duration", "30m", "30"),
        ("percent", "4.5%", "4.5"),
        ("list", ["a"], "a"),
        ("expression", "true", ""),
        ("events", ["cart.viewed"], 1),
    ],
)
def test_types_of_parameters(kind: str, good: Any, bad: Any) -> None:
    assert PARAM_TYPES[kind](good)
    assert not PARAM_TYPES[kind](bad)
