"""A compiled book says what its text says, with the defaults of the semantics."""

from __future__ import annotations

from typing import Any

import pytest

from triggers.book import Book, Mode, Rule
from triggers.compiler import compile_content
from triggers.shapes import Fault

DAY_MS = 86_400_000
BOOK: dict[str, Any] = {"name": "b", "timezone": "Asia/Tokyo", "currency": "JPY"}


def compiled(*rules: dict[str, Any], **book: Any) -> Book | list[Fault]:
    base = {
        "kind": "cross_sell",
        "on": "cart.item_added",
        "pick": "none",
        "channel": "email",
        "reason": {"ja": "あ", "en": "a"},
    }
    full = [{"id": f"r{place}", **base, **rule} for place, rule in enumerate(rules)]
    return compile_content({"book": {**BOOK, **book}, "rules": full})


def one(**rule: Any) -> Rule:
    found = compiled(rule)
    assert isinstance(found, Book), found
    return found.rules["r0"]


def messages(*rules: dict[str, Any], **book: Any) -> list[str]:
    found = compiled(*rules, **book)
    assert not isinstance(found, Book)
    return [fault.message for fault in found]


def test_what_a_rule_leaves_out_has_its_default() -> None:
    rule = one()
    assert rule.mode is Mode.NOW
    assert (rule.priority, rule.quantity, rule.pick.max, rule.placement) == (50, 1, 1, None)
    assert (rule.once_per, rule.cooldown_ms, rule.skip_after_ms) == ("always", 0, None)
    assert rule.valid_for_ms == DAY_MS
    assert rule.price.kind == "list"


def test_a_follow_up_is_valid_for_a_week() -> None:
    assert one(kind="follow_up").valid_for_ms == 7 * DAY_MS
    assert one(kind="follow_up", valid_for="2h").valid_for_ms == 7_200_000


@pytest.mark.parametrize(
    ("moment", "mode"),
    [
        ({"after": "7d"}, Mode.AFTER),
        ({"after_silence": "60m"}, Mode.AFTER_SILENCE),
        ({"on": "contract.renewal_set", "before": {"date": "event.renews_at", "by": "60d"}},
         Mode.BEFORE),
    ],
)  # fmt: skip
def test_a_rule_with_a_timer_offers_once_about_a_thing(moment: dict[str, Any], mode: Mode) -> None:
    rule = one(**moment)
    assert rule.mode is mode
    assert rule.once_per == "about"
    assert one(**moment, once_per="always").once_per == "always"


def test_once_per_takes_a_duration() -> None:
    rule = one(once_per="30d")
    assert (rule.once_per, rule.once_per_ms) == ("", 30 * DAY_MS)


def test_a_date_in_the_past_is_skipped_unless_the_rule_says_fire() -> None:
    before = {"date": "event.renews_at", "by": "60d"}
    skipped = one(on="contract.renewal_set", before=before).before
    fired = one(on="contract.renewal_set", before={**before, "if_past": "fire"}).before
    assert skipped is not None
    assert fired is not None
    assert (skipped.fire_if_past, fired.fire_if_past) == (False, True)


@pytest.mark.parametrize(("text", "permille"), [("4%", 40), ("2.5%", 25), ("10%", 100)])
def test_a_percentage_is_kept_exactly(text: str, permille: int) -> None:
    assert one(price={"off": text}).price.off_permille == permille


def test_a_price_is_either_off_or_set() -> None:
    assert one(price={"set": 3880}).price.set_minor == 3880
    assert "either" in messages({"price": {"off": "4%", "set": 1}})[0]
    assert "either" in messages({"price": {}})[0]


def test_single_values_may_stand_without_a_list() -> None:
    rule = one(when="event.subtotal > 1", unless="purchase.completed", after="1h")
    assert [condition.source for condition in rule.when] == ["event.subtotal > 1"]
    assert rule.unless == {"purchase.completed"}


def test_rules_are_indexed_by_event_in_the_order_of_their_ids() -> None:
    found = compiled({"id": "b"}, {"id": "a"}, {"id": "c", "on": ["cart.item_removed"]})
    assert isinstance(found, Book)
    assert [rule.id for rule in found.by_event["cart.item_added"]] == ["a", "b"]
    assert [rule.id for rule in found.by_event["cart.item_removed"]] == ["c"]


@pytest.mark.parametrize(
    ("limit", "book", "refused"),
    [
        ({"max": 5, "in": "7d"}, {"max": 3, "in": "7d"}, True),
        ({"max": 5, "in": "168h"}, {"max": 3, "in": "7d"}, True),
        ({"max": 5, "in": "1d"}, {"max": 3, "in": "7d"}, True),
        ({"max": 5, "in": "7d"}, {"max": 3, "in": "1d"}, False),
        ({"max": 5, "in": "7d"}, {"max": 3, "in": "7d", "channel": "push"}, False),
        ({"max": 5, "in": "7d"}, {"max": 3, "in": "7d", "channel": "email"}, True),
        ({"max": 5, "in": "7d"}, {"max": 3, "in": "7d", "kinds": ["follow_up"]}, False),
        ({"max": 3, "in": "7d"}, {"max": 3, "in": "7d"}, False),
    ],
)
def test_a_rule_may_be_stricter_than_the_book_and_never_looser(
    limit: dict[str, Any], book: dict[str, Any], refused: bool
) -> None:
    found = compiled({"limits": [limit]}, limits=[book])
    assert isinstance(found, Book) is not refused


def test_more_offers_than_a_document_remembers_cannot_be_limited() -> None:
    assert messages({}, limits=[{"max": 51, "in": "7d"}])


def test_an_up_sell_is_refused_unless_rule_or_book_asks_for_realised_value() -> None:
    rule = {"kind": "up_sell", "message": {"benefit": {"ja": "あ", "en": "a"}}}
    gate = {"value_realised": True}
    assert "value_realised: true" in messages(rule)[0]
    assert "value_realised: true" in messages({**rule, "gate": {"deployed": True}})[0]
    assert isinstance(compiled({**rule, "gate": gate}), Book)
    assert isinstance(compiled(rule, gate=gate), Book)


def test_a_down_sell_answers_hesitation() -> None:
    assert "hesitation" in messages({"kind": "down_sell"})[0]
    assert one(kind="down_sell", on="checkout.plan_left").kind == "down_sell"


def test_a_key_that_is_wrong_is_named_once_and_not_asked_for_again() -> None:
    rule = {"kind": "up_sell", "message": {"benefit": {"ja": "あ"}}}
    assert messages({**rule, "gate": {"value_realised": True}}) == ["en is missing"]
    told = {"benefit": {"ja": "あ", "en": "a"}}
    bad_gate = {"kind": "up_sell", "message": told, "gate": {"value_realised": False}}
    assert len(messages(bad_gate)) == 1
    assert len(messages({"kind": "up_sell", "message": told}, gate={"value_realised": False})) == 1
    # Another rule's faults, and others of the same rule, are told beside it.
    assert len(messages({**rule, "when": "nobody.knows"})) == 3
