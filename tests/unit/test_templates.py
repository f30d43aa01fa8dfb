"""Texts with names in them."""

from __future__ import annotations

import pytest

from tests.unit.test_conditions import make_context
from triggers.catalog import Product
from triggers.context import VARIABLES, event_variables
from triggers.templates import TemplateError, compile_template

NAMES = {**VARIABLES, **event_variables(["cart.item_added"])}


def rendered(text: str, language: str = "en") -> str:
    ctx = make_context()
    ctx.item = Product(sku="m1", name="Card 64 {GB}", price=1980)
    return compile_template(text, language, NAMES).render(ctx)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{item.name} for {item.price}", "Card 64 {GB} for 1980"),
        ("{ item.sku }{event.subtotal}", "m1500"),
        ("{event.session_id}|", "|"),
        ("{cart.skus}", "a, b"),
        ("{cart.items}", "a, b"),
        ("100% {event.item.category}", "100% camera"),
    ],
)
def test_names_are_replaced_once_and_what_is_missing_is_empty(text: str, shown: str) -> None:
    assert rendered(text) == shown


def test_a_list_is_joined_as_its_language_does() -> None:
    assert rendered("{cart.skus}", "ja") == "a、b"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("a {itm.name}", 3, "unknown name itm.name; did you mean item.name?"),
        ("{item.nam}", 1, "did you mean item.name?"),
        ("{}", 1, "unknown name"),
        ("{customer.attributes}", 1, "as a whole"),
        ("{item.name} {open", 13, "a brace without its partner"),
        ("x} {item.name}", 2, "a brace without its partner"),
        ("{{item.name}}", 1, "a brace without its partner"),
        ("x" * 2001, 1, "more than 2000 characters"),
    ],
)
def test_a_wrong_text_is_refused_at_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template(text, "en", NAMES)
    assert message in str(refused.value)
    assert refused.value.column == column
