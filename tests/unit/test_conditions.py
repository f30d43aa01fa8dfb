"""Translated conditions and the library agree; an error is not truth."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers.book import make_book
from triggers.catalog import Catalog
from triggers.conditions import Condition, ExpressionError, Expressions
from triggers.context import FUNCTIONS, VARIABLES, Context, event_variables
from triggers.errors import EvalError
from triggers.fields import Item
from triggers.payloads import CartItemAdded
from triggers.state import Cart, Customer, Line

EXAMPLES = int(os.environ.get("TSUIDE_TEST_EXAMPLES", "300"))
EXPRESSIONS = Expressions({**VARIABLES, **event_variables(["cart.item_added"])}, FUNCTIONS)


def make_context() -> Context:
    customer = Customer("c")
    customer.now.attributes = {"tier": "gold", "score": 7, "ratio": 0.5, "vip": True}
    customer.now.orders = 3
    lines = {"a": Line("a", 1, 100, "camera"), "b": Line("b", 2, 200, "card")}
    customer.now.carts = [Cart("k", 500, "JPY", 0, lines)]
    event = CartItemAdded(
        cart_id="k", item=Item("a", 1, 100, "camera"), subtotal=500, currency="JPY"
    )
    book = make_book("b", "UTC", "JPY", "d", [])
    return Context(event, "cart.item_added", customer, 1_000, book, Catalog())


def value(source: str, library: bool = False) -> object:
    expression = EXPRESSIONS.library(source) if library else EXPRESSIONS.compile(source)
    try:
        return expression.evaluate(make_context())
    except EvalError:
        return "error"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('event.item.category == "camera"', True),
        ('!("memory-card" in cart.categories)', True),
        ("event.subtotal >= 400 && event.subtotal < 500", False),
        ("has(event.session_id)", False),
        ("has(event.item.category) && event.item.unit_price > 50", True),
        ('cart.items.exists(i, i.sku == "b")', True),
        ("cart.items.all(i, i.quantity >= 2)", False),
        ('customer.attributes.tier == "gold"', True),
        ("customer.attributes.missing == 1", "error"),
        ("1 / 0 == 1 || true", True),
        ("1 / 0 == 1 && false", False),
        ("1 / 0 == 1 || false", "error"),
        ("9223372036854775807 + 1 > 0", "error"),
        ("-7 / 2 == -3 && -7 % 2 == -1", True),
        ('cart.categories.filter(c, c.startsWith("ca")).size() == 2', True),
        ('views("a", "24h") == 0 && !bought("a")', True),
        ("customer.orders == 3 ? true : false", True),
    ],
)
def test_an_expression_means_what_the_library_says(source: str, expected: object) -> None:
    assert value(source) == value(source, library=True) == expected


def test_an_error_is_no_match_and_is_counted() -> None:
    condition = EXPRESSIONS.condition("customer.attributes.missing == 1")
    assert not condition.holds(make_context())
    assert condition.errors == 1


def test_only_what_is_exactly_true_matches() -> None:
    assert not Condition(EXPRESSIONS.compile("customer.attributes.score")).holds(make_context())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("event.totl > 3", "unknown name event.totl; did you mean event."),
        ("customer.orders > 1.0", "no matching overload"),
        ('cart.items.map(i, i.sku + "x") == []', "concatenation inside a macro"),
        ("event.subtotal", "must be true or false"),
        ("1 +", "Syntax error"),
        (f'"{"x" * 2050}" == ""', "more than 2048 bytes"),
    ],
)
def test_a_wrong_expression_is_refused(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        EXPRESSIONS.condition(source)
    assert message in str(refused.value)


INTS = st.sampled_from(
    ["0", "1", "-3", "7", "event.subtotal", "customer.orders", "cart.items.size()",
     "9223372036854775807", "customer.attributes.score"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ['"gold"', '""', "event.item.category", "event.item.sku", "customer.attributes.tier",
     "customer.attributes.missing"]
)  # fmt: skip


def _ints(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(["+", "-", "*", "/", "%"])
    return st.tuples(children, operator, children).map(lambda t: f"({t[0]} {t[1]} {t[2]})")


INT = st.recursive(INTS, _ints, max_leaves=4)
COMPARE = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
ATOM = st.one_of(
    st.tuples(INT, COMPARE, INT).map(" ".join),
    st.tuples(TEXTS, COMPARE, TEXTS).map(" ".join),
    st.tuples(TEXTS, TEXTS).map(lambda t: f"{t[0]}.contains({t[1]})"),
    TEXTS.map(lambda t: f"{t} in cart.skus"),
    TEXTS.map(lambda t: f"cart.items.exists(i, i.category == {t})"),
    INT.map(lambda n: f"cart.items.all(i, i.quantity < {n})"),
    INT.map(lambda n: f"cart.items.exists_one(i, i.unit_price > {n})"),
    st.sampled_from(["true", "false", "has(event.session_id)", "customer.attributes.vip"]),
)


def _bools(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(children, st.sampled_from(["&&", "||"]), children).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        children.map(lambda t: f"!({t})"),
        st.tuples(children, children, children).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.recursive(ATOM, _bools, max_leaves=5))
def test_closures_and_the_library_agree(source: str) -> None:
    try:
        EXPRESSIONS.compile(source)
    except ExpressionError:
        return
    assert value(source) == value(source, library=True), source
