"""What check refuses or warns about in words, places and promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.check import run_check
from tests.unit.harness import REASON, World, make_book
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.contradictions import impossible
from triggers.decisions import Offer
from triggers.lints import FEAR, OURS

HEAD = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY"}
RULE: dict[str, Any] = {
    "id": "r",
    "kind": "follow_up",
    "on": ["cart.item_added"],
    "channel": "email",
    "pick": "none",
    "reason": REASON,
}
WORTH = dict.fromkeys(("price", "effort", "payback"), REASON)


def found(rule: dict[str, Any], **content: Any) -> list[tuple[tuple[str | int, ...], str, int]]:
    """Faults of one rule: path inside the rule, message, column."""
    answer = compile_content({"book": HEAD, "rules": [{**RULE, **rule}], **content})
    if isinstance(answer, Book):
        return []
    return [(fault.path[2:], fault.message, fault.column) for fault in answer]


def warned(rule: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    book = compile_content({"book": HEAD, "rules": [{**RULE, **rule}]})
    assert isinstance(book, Book), book
    return [(warning.path[2:], warning.message) for warning in book.warnings]


@pytest.mark.parametrize(
    ("language", "word"), [(language, word) for language in FEAR for word in FEAR[language]]
)
@pytest.mark.covers("A14d")
def test_every_word_of_fear_is_refused_at_its_column(language: str, word: str) -> None:
    text = f"合格まで{word}。" if language == "ja" else f"So {word.capitalize()}, we say."
    ((path, message, column),) = found({"reason": {**REASON, language: text}})
    assert path == ("reason", language)
    assert message.endswith("plays on fear: say what the customer gains")
    assert text[column - 1 :].lower().startswith(word.lower())


@pytest.mark.parametrize(
    "text", ["Fearless hiking boots", "Regretfully yours", "an elsewhere", "{item.name} is fine"]
)
def test_a_word_that_only_holds_a_word_of_fear_is_fine(text: str) -> None:
    assert found({"reason": {"ja": "安心です。", "en": text}}) == []


def test_fear_is_refused_in_messages_and_variants_too() -> None:
    fear = {"ja": "手遅れです", "en": "fine"}
    assert found({"message": {"story": fear}})[0][0] == ("message", "story", "ja")
    variants = {"a": {"share": "50%", "reason": fear}, "b": {"share": "50%"}}
    assert found({"variants": variants})[0][0] == ("variants", "a", "reason", "ja")


@pytest.mark.parametrize(
    ("language", "word"), [(language, word) for language in OURS for word in OURS[language]]
)
def test_a_reason_of_our_gain_alone_is_refused(language: str, word: str) -> None:
    text = f"{word}のためです。" if language == "ja" else f"It is good for {word}."
    ((path, message, _),) = found({"reason": {**REASON, language: text}})
    assert path == ("reason", language)
    assert "speaks of our gain alone" in message


@pytest.mark.parametrize(
    "reason",
    [
        {"ja": "お客様のご要望が売上の上位でした。", "en": "x"},
        {"ja": "x", "en": "From our stock to your door."},
    ],
)
def test_our_gain_beside_the_customers_is_fine(reason: dict[str, str]) -> None:
    assert found({"reason": reason}) == []


def test_an_offer_through_sales_says_what_it_is_worth() -> None:
    rule = {"kind": "cross_sell", "channel": "sales"}
    ((path, message, _),) = found(rule)
    assert (path, "says what it is worth" in message) == ((), True)
    assert found({**rule, "message": {"for_whom": REASON}})[0][0] == ("message",)
    lacking = {"price": REASON, "effort": REASON}
    assert found({**rule, "message": {"worth": lacking}})[0][0] == ("message", "worth", "payback")
    assert found({**rule, "message": {"worth": WORTH}}) == []
    assert found({**rule, "kind": "follow_up"}) == []


def test_what_it_is_worth_travels_with_the_offer() -> None:
    worth = {**WORTH, "payback": {"ja": "1年", "en": "Within {customer.orders} years"}}
    world = World(
        make_book({**RULE, "kind": "cross_sell", "channel": "sales", "message": {"worth": worth}})
    )
    (offer,) = world.add("a").offers
    assert isinstance(offer, Offer)
    assert offer.message["worth"]["payback"] == {"ja": "1年", "en": "Within 0 years"}
    assert offer.message["worth"]["price"] == REASON


def test_an_up_sell_that_does_not_say_for_whom_is_warned_about() -> None:
    rule = {"kind": "up_sell", "gate": {"value_realised": True}}
    (warning,) = warned({**rule, "message": {"benefit": REASON}})
    assert "whom it is for" in warning[1]
    assert warned({**rule, "message": {"benefit": REASON, "for_whom": REASON}}) == []


@pytest.mark.parametrize(
    ("placement", "on", "fits"),
    [
        ("cart", "cart.item_added", True),
        ("cart", "checkout.started", False),
        ("cart-drawer", "purchase.completed", False),
        ("checkout", "cart.item_added", False),
        ("product", "product.viewed", True),
        ("product", "stay.checked_in", False),
        ("thanks", "purchase.completed", True),
        ("thanks", "product.viewed", False),
        ("reception", "stay.checked_in", True),
        ("reception", "cart.viewed", False),
        ("anywhere", "stay.checked_out", True),
        ("cart", "seat.reserved", True),
    ],
)
def test_a_placement_fits_the_events_moment(placement: str, on: str, fits: bool) -> None:
    events = {"seat.reserved": {"topic": "usage"}}
    faults = found({"placement": placement, "on": [on]}, events=events)
    assert [path for path, _, _ in faults] == ([] if fits else [("placement",)])


@pytest.mark.parametrize(
    ("when", "fine"),
    [
        ([], False),
        (["customer.orders == 0"], False),
        (["customer.stage == 'new'"], True),
        (["segment.beginner"], True),
        (["segment.other"], False),
    ],
)
def test_copy_for_newcomers_has_a_condition_on_the_stage(when: list[str], fine: bool) -> None:
    segments = {
        "fresh": "customer.stage == 'new'",
        "beginner": "segment.fresh && customer.orders == 0",
        "other": "customer.orders == 0",
    }
    faults = found({"tags": ["new_customer"], "when": when}, segments=segments)
    assert [path for path, _, _ in faults] == ([] if fine else [("tags", 0)])


def test_other_tags_ask_for_nothing() -> None:
    assert found({"tags": ["spring"]}) == []


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["event.total >= 5000", "event.total < 5000"], 1),
        (["event.total >= 5000", "event.total <= 5000"], None),
        (["event.total > 5000 && event.total <= 5000"], 0),
        (["event.total > 5000", "event.total == 5000"], 1),
        (["customer.stage == 'new'", "at > at", 'customer.stage == "heavy"'], 2),
        (["customer.stage == 'new'", "customer.stage != 'new'"], 1),
        (["customer.stage == 'new' || true", "customer.stage == 'heavy'"], None),
        (["event.total > 5", "event.subtotal < 5"], None),
        (["!(event.total > 5 && event.subtotal < 5)", "event.subtotal > 5"], None),
        (["false"], 0),
        (["true", "customer.orders == 0 && false"], 1),
    ],
)
def test_lines_that_exclude_each_other(lines: list[str], place: int | None) -> None:
    answer = impossible(lines)
    assert (None if answer is None else answer[0]) == place


def test_a_rule_that_can_never_offer_is_warned_about() -> None:
    never = {"when": ["event.subtotal > 5", "event.subtotal < 5"]}
    ((path, message),) = warned(never)
    assert path == ("when", 1)
    assert "(event.subtotal): the rule cannot be reached" in message
    assert warned({"limits": [{"max": 0, "in": "7d"}]})[0][0] == ("limits", 0)
    assert warned({"holdout": {"share": "100%", "salt": "s"}})[0][0] == ("holdout",)
    assert warned({"limits": [{"max": 1, "in": "7d"}], "when": ["event.subtotal > 5"]}) == []


def test_check_prints_warnings_with_their_place_and_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.yaml").write_text(
        "book: {name: a, timezone: UTC, currency: JPY}\n"
        "rules:\n"
        "  - id: old\n"
        "    kind: follow_up\n"
        "    on: cart.viewed\n"
        "    retire: {from: 2020-01-01, to: 2020-12-31}\n"
        "    pick: none\n"
        "    channel: push\n"
        "    reason: {ja: あ, en: a}\n"
    )
    assert run_check(tmp_path, as_json=True) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{tmp_path}/book.yaml:6:36: warning: this date has passed")
    assert '"warnings": 1' in captured.out
