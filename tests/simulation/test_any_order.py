"""Orders, refunds and carts in any order and any number: what is counted is what is there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.test_inputs import not_negative
from tests.unit.harness import DAY, HOUR, NOON, SECOND, World, make_book
from triggers.customer import Customer
from triggers.state import MAX_ORDERS

ORDERS = st.sampled_from(["o1", "o2", "o3"])
AMOUNTS = st.sampled_from([0, 1, 99, 100, 101, 2**40])
SKUS = st.sampled_from(["a", "b"])
LINES = st.lists(
    st.builds(
        lambda sku, quantity, price: {"sku": sku, "quantity": quantity, "unit_price": price},
        SKUS, st.sampled_from([1, 3, 2**31]), AMOUNTS,
    ),
    max_size=3,
)  # fmt: skip


def bought(order: str, lines: list[dict[str, Any]], total: int, coupon: int | None) -> Any:
    data: dict[str, Any] = {"order_id": order, "items": lines, "total": total, "currency": "JPY"}
    return "purchase.completed", data if coupon is None else {**data, "coupon_total": coupon}


def given_back(kind: str, order: str, total: int | None) -> Any:
    return kind, {"order_id": order} if total is None else {"order_id": order, "total": total}


def in_cart(kind: str, sku: str, quantity: int) -> Any:
    item = {"sku": sku, "quantity": quantity, "unit_price": 1}
    return kind, {"cart_id": "k", "item": item, "subtotal": 1, "currency": "JPY"}


HAPPENINGS = st.lists(
    st.tuples(
        st.one_of(
            st.builds(bought, ORDERS, LINES, AMOUNTS, st.sampled_from([None, 0, 5])),
            st.builds(
                given_back,
                st.sampled_from(["purchase.refunded", "purchase.cancelled"]),
                ORDERS,
                st.one_of(st.none(), AMOUNTS),
            ),
            st.builds(
                in_cart,
                st.sampled_from(["cart.item_added", "cart.item_removed"]),
                SKUS,
                st.sampled_from([1, 2, 2**53 - 1]),
            ),
        ),
        st.sampled_from([0, SECOND, HOUR, 40 * DAY]),
    ),
    max_size=30,
)
BOOK = make_book({"id": "r", "on": "purchase.completed", "after": "1d"})


def reloaded(world: World) -> Customer:
    """The customer out of what would be stored."""
    world.customer = Customer(
        "c1", {letter: packed for letter, packed in stored(world).items() if packed}
    )
    return world.customer


def stored(world: World) -> dict[str, bytes]:
    world._stored.update(world.customer.take_changes())
    return world._stored


@given(HAPPENINGS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_s15_in_any_order_counts_are_those_of_the_orders_that_are_there(
    happenings: list[Any], reload: bool
) -> None:
    world, at = World(BOOK), NOON
    held: Counter[str] = Counter()
    for (kind, data), later in happenings:
        at += later
        if kind == "cart.item_removed":
            held[data["item"]["sku"]] = max(0, held[data["item"]["sku"]] - data["item"]["quantity"])
        elif kind == "cart.item_added":
            sku = data["item"]["sku"]
            held[sku] = min(2**53 - 1, held[sku] + data["item"]["quantity"])
        world.send(kind, at, **data)
        customer = reloaded(world) if reload else world.customer
        not_negative(customer)
        lines = customer.now.carts[-1].lines if customer.now.carts else {}
        assert {sku: line.quantity for sku, line in lines.items()} == +held
        assert len(customer.orders) <= MAX_ORDERS


@given(HAPPENINGS)
@settings(max_examples=200, deadline=None)
def test_s15_a_refund_never_takes_back_more_than_was_paid(happenings: list[Any]) -> None:
    world, at = World(BOOK), NOON
    for (kind, data), later in happenings:
        at += later
        before = {order.order_id: order.refunded for order in world.customer.orders.values()}
        world.send(kind, at, **data)
        for order in world.customer.orders.values():
            assert before.get(order.order_id, 0) <= order.refunded <= order.total
            assert not order.void or order.refunded == order.total
