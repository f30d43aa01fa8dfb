"""What is known of one customer, as plain values for people to read: nothing is left to decode."""

from collections.abc import Iterable
from typing import Any

from triggers.book import Book
from triggers.catalog import Catalog
from triggers.context import VARIABLES, Context
from triggers.customer import Customer
from triggers.durations import to_text
from triggers.factsused import LIST_MAX, plain
from triggers.present import Timer
from triggers.rings import Made
from triggers.state import Line

_OFFERS_MAX, _ORDERS_MAX = 10, 5


def _at(instant_ms: int) -> str | None:
    return to_text(instant_ms) if instant_ms else None


def facts(customer: Customer, at_ms: int, book: Book, catalog: Catalog) -> dict[str, Any]:
    """Every ``customer.*`` name of conditions with its value at an instant."""
    ctx = Context(None, "", customer, at_ms, book, catalog)
    return {
        name.removeprefix("customer."): plain(variable.get(ctx))
        for name, variable in sorted(VARIABLES.items())
        if name.startswith("customer.")
    }


def _lines(lines: Iterable[Line]) -> list[dict[str, Any]]:
    shown = [{"sku": e.sku, "quantity": e.quantity, "unit_price": e.unit_price} for e in lines]
    return shown[:LIST_MAX]


def state(customer: Customer) -> dict[str, Any]:
    """What carts, orders, usage, support, contracts and views say, the latest first."""
    now, history = customer.now, customer.history
    orders = list(customer.orders.values())[: -_ORDERS_MAX - 1 : -1]
    return {
        "seen_at": _at(now.seen_at),
        "decided_at": _at(now.at),
        "attributes": dict(sorted(now.attributes.items())),
        "consents": dict(sorted(now.consents.items())),
        "carts": [
            {
                "cart_id": cart.cart_id,
                "subtotal": cart.subtotal,
                "at": _at(cart.at),
                "items": _lines(cart.lines.values()),
            }
            for cart in reversed(now.carts)
        ],
        "orders": [
            {
                "order_id": order.order_id,
                "total": order.total,
                "refunded": order.refunded,
                "at": _at(order.at),
                "items": _lines(order.lines),
            }
            for order in orders
        ],
        "usage": {
            metric: {"value": meter.value, "quota": meter.quota or None}
            for metric, meter in sorted(customer.usage.items())
        },
        "support": {
            "open": list(now.tickets),
            "csat": now.csat or None,
            "problems": [{"tag": tag, "at": _at(at)} for tag, at in history.problems[::-1]],
        },
        "contracts": [
            {"contract_id": c.contract_id, "plan": c.plan, "renews_at": c.renews_at}
            for c in reversed(now.contracts)
        ],
        "views": [{"sku": sku, "at": _at(at)} for sku, at in history.views[: -LIST_MAX - 1 : -1]],
    }


def _outcome(made: Made, at_ms: int) -> str:
    if made.ghost:
        return "held_out"
    return made.fate or ("expired" if made.until < at_ms else "open")


def offers(customer: Customer, at_ms: int) -> list[dict[str, Any]]:
    """The last offers with what became of them, the latest first."""
    return [
        {
            "at": to_text(made.at),
            "rule": made.rule,
            "kind": made.kind,
            "channel": made.channel,
            "about": made.about,
            "skus": plain(made.skus),
            "price": made.price,
            "until": to_text(made.until),
            "seen": ("", "shown", "clicked")[made.seen],
            "outcome": _outcome(made, at_ms),
            "reason": made.why,
            "offer_id": made.offer_id,
        }
        for made in customer.offers.made[: -_OFFERS_MAX - 1 : -1]
    ]


def timers(customer: Customer) -> list[dict[str, Any]]:
    """The pending timers, the first due first."""

    def order(timer: Timer) -> tuple[int, str, str]:
        return timer.due_ms, timer.rule, timer.about

    return [
        {
            "rule": timer.rule,
            "about": timer.about,
            "due": to_text(timer.due_ms),
            "armed_by": timer.event_type,
            "event_id": timer.event_id,
            "put_off": timer.deferred,
        }
        for timer in sorted(customer.now.timers, key=order)
    ]
