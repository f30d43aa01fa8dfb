"""Microseconds a condition: the translated closure beside Google's library, same answers."""

from __future__ import annotations

import sys
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from triggers.book import make_book
from triggers.catalog import Catalog
from triggers.conditions import Expression, Expressions
from triggers.context import FUNCTIONS, VARIABLES, Context, event_variables
from triggers.customer import Customer
from triggers.fields import Item
from triggers.payloads import CartItemAdded
from triggers.present import Cart
from triggers.state import History, Line

SOURCES = (
    "event.item.unit_price >= 400",
    'event.item.category == "camera"',
    "event.subtotal >= 4000 && event.subtotal < 5000",
    '!("memory-card" in cart.categories)',
    "customer.coupon_share >= 0.5 && customer.orders >= 5",
    'customer.attributes.tier == "gold"',
    "cart.items.exists(i, i.quantity >= 2)",
    'views("a", "24h") >= 2',
    "has(event.session_id)",
    'at > timestamp("2026-01-01T00:00:00Z")',
)
# The least of many short rounds: what else the machine does only ever adds.
LOOPS = 2_000
ROUNDS = 50


def make_context() -> Context:
    customer = Customer("c")
    customer.now.attributes = {"tier": "gold"}
    lines = {f"s{n}": Line(f"s{n}", 1, 100, f"kind-{n}") for n in range(6)}
    customer.now.carts = [Cart("k", 4500, "JPY", 0, lines)]
    customer.replace("history", History([("b", 600), ("a", 700), ("a", 800)], []))
    item = Item("a", 1, 450, "camera")
    event = CartItemAdded(cart_id="k", item=item, subtotal=4500, currency="JPY")
    book = make_book("b", "UTC", "JPY", "d", [])
    return Context(event, "cart.item_added", customer, 1_000, book, Catalog())


def microseconds(expression: Expression, ctx: Context) -> float:
    timer = timeit.Timer(lambda: expression.evaluate(ctx))
    return min(timer.repeat(ROUNDS, LOOPS)) / LOOPS * 1e6


def main() -> int:
    known = Expressions({**VARIABLES, **event_variables(["cart.item_added"])}, FUNCTIONS)
    ctx = make_context()
    print(f"{'closure us':>10} {'library us':>10}  condition")
    for source in SOURCES:
        ours, theirs = known.compile(source), known.library(source)
        if ours.evaluate(ctx) != theirs.evaluate(ctx):
            print(f"they differ: {source}", file=sys.stderr)
            return 1
        slow = microseconds(theirs, ctx)
        shown = f"{microseconds(ours, ctx):10.2f}" if ours.translated else f"{'-':>10}"
        print(f"{shown} {slow:10.2f}  {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
