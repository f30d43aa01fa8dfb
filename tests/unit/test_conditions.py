"""Translated conditions and the library agree; an error is not truth."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triggers.book import make_book
from triggers.catalog import Catalog
from triggers.conditions import Condition, ExpressionError, Expressions
from triggers.context import FUNCTIONS, VARIABLES, Context, event_variables
from triggers.customer import Customer
from triggers.errors import EvalError
from triggers.fields import Item
from triggers.payloads import CartItemAdded
from triggers.present import Cart
from triggers.state import Line

EXAMPLES = int(os.environ.get("TSUIDE_TEST_EXAMPLES", "300"))
EXPRESSIONS = Expressions({**VARIABLES, **event_variables(["cart.item_added"])}, FUNCTIONS)


def make_context() -> Context:
    customer = Customer("c")
    customer.now.attributes = {
        "tier": "gold", "score": 7, "ratio": 0.5, "vip": True, "whole": 1.0, "big": 2**63 - 1,
        "tags": [1, "a"], "nested": {"k": 1, "deep": 2.5}, "nothing": None,
    }  # fmt: skip
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


OF_LINES = [
    f"cart.items.{macro}(i, i.{field} {compare} {constant})"
    for macro in ("exists", "all")
    for compare in ("==", "!=", "<", "<=", ">", ">=")
    for field, constant in (
        ("sku", '"b"'),
        ("quantity", "2"),
        ("unit_price", "100"),
        ("category", '""'),
    )
]


@pytest.mark.parametrize("source", OF_LINES)
def test_a_quantifier_over_lines_means_what_the_library_says(source: str) -> None:
    """For no line, one, and two that differ, of which one has no category."""
    ours, theirs, ctx = EXPRESSIONS.compile(source), EXPRESSIONS.library(source), make_context()
    assert ours.translated
    lines = {"a": Line("a", 1, 100), "b": Line("b", 2, 200, "card")}
    for skus in ("", "a", "b", "ab"):
        cart = Cart("k", 500, "JPY", 0, {sku: lines[sku] for sku in skus})
        ctx.customer.now.carts, ctx._cart = [cart], None
        assert ours.evaluate(ctx) is theirs.evaluate(ctx), skus


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
        # Where only run time knows the types.
        ("cart.skus[customer.attributes.whole] == 'b'", True),
        ("cart.skus[customer.attributes.tags] == 'b'", "error"),
        ("customer.attributes.whole == 1", True),
        ("customer.attributes.vip == 1", False),
        ("customer.attributes.big < 9223372036854775807.0", False),
        ("customer.attributes.big == 9223372036854775807.0", True),
        ("customer.attributes.tier + 1 == 2", "error"),
        ("customer.attributes.tier > customer.attributes.score", "error"),
        ("customer.attributes.score + 0.5 > 0.0", "error"),
        ('(true ? customer.attributes.ratio : "x").contains("x")', "error"),
        ("customer.attributes.missing in []", "error"),
        ("1 in customer.attributes.tags", True),
        ("1 in [true, 'a']", False),
        ("[] in customer.attributes.nested", "error"),
        ('"k" in customer.attributes.nested', True),
        ("customer.attributes.nested.k == 1", True),
        ("customer.attributes.nothing == null", True),
        ("has(customer.attributes.missing)", False),
        ("has(customer.attributes.vip)", True),
        ("[[1], [2.0]].all(i, has(i.sku))", "error"),
        ("cart.items[2].quantity == 1", "error"),
        ("cart.items[-1].quantity == 1", "error"),
        ('cart.items.exists(i, i.colour == "red")', "error"),
        ("cart.items.exists(i, i.quantity / 0 == 1 || i.quantity == 2)", True),
        ("cart.items.exists_one(i, i.quantity / 0 == 1)", "error"),
        ('cart.items.map(i, i.sku) == ["a", "b"]', True),
        ("-9223372036854775808 / -1 > 0", "error"),
        ("1 % 0 == 0", "error"),
        ("1.0 / 0.0 > 1e308", True),
        ("int(1e300) == 0", "error"),
        ('int("x") == 0', "error"),
        ('views("a", "soon") == 0', "error"),
        ('at > timestamp("2020-01-01T00:00:00Z")', False),
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
        ('cart.items.all(i, [i.sku] + ["x"] == [])', "concatenation inside a macro"),
        ('present("x")', "write has()"),
        ("present(event.cart_id)", "write has()"),
        ("event.item", "unknown name event.item; did you mean event.item.sku?"),
        ("event.subtotal", "must be true or false"),
        ("1 +", "Syntax error"),
        (f'"{"x" * 2050}" == ""', "more than 2048 bytes"),
    ],
)
def test_a_wrong_expression_is_refused(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        EXPRESSIONS.condition(source)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("event.totl > 3", 1),
        ("true && evnt.total > 3", 9),
        ("has(event.session_id) && foo == 1", 26),
        ('has(event.session_id) || "日本" == foo', 34),
        ("customer.orders > 1.0", 17),
        ("true &&\n foo", 10),
    ],
)
def test_a_fault_points_at_its_column(source: str, column: int) -> None:
    with pytest.raises(ExpressionError) as refused:
        EXPRESSIONS.condition(source)
    assert refused.value.column == column


INTS = st.sampled_from(
    ["0", "1", "-3", "7", "event.subtotal", "customer.orders", "cart.items.size()",
     "9223372036854775807", "-9223372036854775808", "customer.attributes.score",
     "customer.attributes.whole", "customer.attributes.big", "cart.items[0].quantity"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ['"gold"', '""', "event.item.category", "event.item.sku", "customer.attributes.tier",
     "customer.attributes.missing", "cart.skus[1]", "string(event.subtotal)",
     "(event.cart_id + customer.attributes.tier)"]
)  # fmt: skip


def _ints(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(["+", "-", "*", "/", "%"])
    return st.tuples(children, operator, children).map(lambda t: f"({t[0]} {t[1]} {t[2]})")


INT = st.recursive(INTS, _ints, max_leaves=4)
DOUBLES = st.sampled_from(
    ["0.0", "-0.0", "1.5", "1e308", "9223372036854775807.0", "customer.csat",
     "customer.attributes.ratio", "double(event.subtotal)", "(1.5 / 0.0)"]
)  # fmt: skip
LISTS = st.sampled_from(
    ["cart.skus", "[1, 2]", '["a", "b"]', "[]", "customer.attributes.tags",
     "customer.attributes.nested", "[1.0, 1, true]", "[[1], [1.0]]",
     "cart.items.map(i, i.sku)", "cart.items.map(i, i.quantity)",
     "cart.skus.filter(s, s != 'a')"]
)  # fmt: skip
ANY = st.one_of(INT, TEXTS, DOUBLES, LISTS)
COMPARE = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
ATOM = st.one_of(
    st.tuples(INT, COMPARE, INT).map(" ".join),
    st.tuples(TEXTS, COMPARE, TEXTS).map(" ".join),
    st.tuples(TEXTS, TEXTS).map(lambda t: f"{t[0]}.contains({t[1]})"),
    TEXTS.map(lambda t: f"{t} in cart.skus"),
    TEXTS.map(lambda t: f"cart.items.exists(i, i.category == {t})"),
    INT.map(lambda n: f"cart.items.all(i, i.quantity < {n})"),
    st.tuples(ANY, COMPARE, ANY).map(" ".join),
    st.tuples(ANY, LISTS).map(" in ".join),
    st.tuples(LISTS, st.sampled_from(["==", "!="]), LISTS).map(" ".join),
    st.tuples(LISTS, st.sampled_from(["exists", "all", "exists_one"]), COMPARE, ANY).map(
        lambda t: f"{t[0]}.{t[1]}(i, i {t[2]} {t[3]})"
    ),
    TEXTS.map(lambda t: f"cart.items.filter(i, i.sku == {t}).size() == 1"),
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


@example("0 == (-9223372036854775808 % -1)")
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.recursive(ATOM, _bools, max_leaves=5))
def test_closures_and_the_library_agree(source: str) -> None:
    try:
        EXPRESSIONS.compile(source)
    except ExpressionError:
        return
    assert value(source) == value(source, library=True), source
