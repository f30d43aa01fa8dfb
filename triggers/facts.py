"""How each event changes a customer's document: one table, event type to applier.

Appliers get the customer, the payload, the decision time in ms and the catalogue. They replace
what readers may hold (cart lines, consents) instead of changing it in place, so that gates can
look at the state before the event; owned skus are kept for them where a rule looks at those.
"""

from collections.abc import Callable
from typing import Any

from triggers import usage
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.events import Item
from triggers.fields import STORED_MAX
from triggers.present import Cart, Checkout, Contract
from triggers.rings import Order, pack_lines
from triggers.sizes import held_within, kept_attributes
from triggers.state import (
    MAX_CART_LINES,
    MAX_CARTS,
    MAX_CHECKOUTS,
    MAX_CONSENTS,
    MAX_CONTRACTS,
    MAX_DEPLOYED,
    MAX_ORDER_LINES,
    MAX_ORDERS,
    MAX_OWNED,
    MAX_PROBLEMS,
    MAX_TICKETS,
    MAX_VIEWS,
    History,
    Line,
)

Applier = Callable[[Customer, Any, int, Catalog], None]


def _cart(customer: Customer, cart_id: str) -> Cart:
    """The cart of that id, moved to the end of the list as the latest one."""
    carts = customer.now.carts
    if carts and carts[-1].cart_id == cart_id:
        return carts[-1]
    for index, cart in enumerate(carts):
        if cart.cart_id == cart_id:
            carts.append(carts.pop(index))
            return cart
    cart = Cart(cart_id)
    carts.append(cart)
    if len(carts) > MAX_CARTS:
        del carts[0]
        customer.lose("carts")
    return cart


def _line(item: Item, quantity: int) -> Line:
    return Line(item.sku, quantity, item.unit_price, item.category or "")


def _cart_changed(customer: Customer, data: Any, at: int, catalog: Catalog) -> Cart:
    cart = _cart(customer, data.cart_id)
    cart.subtotal = data.subtotal
    cart.currency = data.currency
    cart.at = at
    return cart


def _item_added(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    cart = _cart_changed(customer, data, at, catalog)
    item = data.item
    known = cart.lines.get(item.sku)
    if known is None and len(cart.lines) >= MAX_CART_LINES:
        customer.lose("cart_lines")
        return
    quantity = item.quantity if known is None else held_within(item.quantity + known.quantity)
    cart.lines = {**cart.lines, item.sku: _line(item, quantity)}


def _item_removed(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    cart = _cart_changed(customer, data, at, catalog)
    item = data.item
    known = cart.lines.get(item.sku)
    if known is None:
        return
    left = known.quantity - item.quantity
    lines = dict(cart.lines)
    if left > 0:
        lines[item.sku] = _line(item, left)
    else:
        del lines[item.sku]
    cart.lines = lines


def _cart_viewed(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    _cart_changed(customer, data, at, catalog)


def _product_viewed(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    history = customer.history
    views = customer.newest("views", [*history.views, (data.sku, at)], MAX_VIEWS)
    customer.replace("history", History(views, history.problems))


def _checkout(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    now = customer.now
    rest = [c for c in now.checkouts if c.checkout_id != data.checkout_id]
    rest.append(Checkout(data.checkout_id, data.cart_id, data.total, data.currency))
    now.checkouts = customer.newest("checkouts", rest, MAX_CHECKOUTS)


def _purchase(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    now = customer.now
    orders = customer.orders
    if data.cart_id:
        now.carts = [cart for cart in now.carts if cart.cart_id != data.cart_id]
    order_id = data.order_id
    if order_id in orders:
        return  # a second event about a known order changes no count
    lines = [_line(item, item.quantity) for item in data.items]
    order = Order(
        order_id,
        at,
        data.total,
        data.coupon_total or 0,
        data.cart_id or "",
        _margin_micro(lines, catalog),
        pack_lines(lines[:MAX_ORDER_LINES]),
    )
    orders[order_id] = order
    if len(orders) > MAX_ORDERS:
        del orders[next(iter(orders))]
        customer.lose("orders")
    customer.touch("orders")
    _count(customer, order, 1)
    now.first_order_at = now.first_order_at or at
    now.last_order_at = at
    if len(lines) > MAX_ORDER_LINES:
        customer.lose("order_lines", len(lines) - MAX_ORDER_LINES)
    owned = customer.owned
    for sku in dict.fromkeys([line.sku for line in lines[:MAX_ORDER_LINES]]):
        owned[sku] = owned.pop(sku, 0) + 1
    while len(owned) > MAX_OWNED:
        del owned[next(iter(owned))]
        customer.lose("owned")
    customer.touch("owned")


def _margin_micro(lines: list[Line], catalog: Catalog) -> int:
    total = 0
    for line in lines:
        product = catalog.product(line.sku)
        margin = 1_000_000 if product is None else round(product.margin * 1_000_000)
        total += line.unit_price * line.quantity * margin
    return held_within(total, STORED_MAX)


def _count(customer: Customer, order: Order, sign: int) -> None:
    now = customer.now
    now.orders += sign
    now.spend = held_within(now.spend + sign * (order.total - order.refunded))
    margin = now.margin_micro + sign * (order.margin_micro - _margin_back(order))
    now.margin_micro = held_within(margin, STORED_MAX)
    if order.coupon_total:
        now.coupon_orders += sign


def _margin_back(order: Order) -> int:
    """The part of an order's margin that went back with its refunds.

    Rounded up, so that what is left is rounded down.
    """
    return -(-order.margin_micro * order.refunded // order.total) if order.total else 0


def _given_back(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    orders = customer.orders
    order = orders.get(data.order_id)
    if order is None or order.void:
        return  # unknown, forgotten or already given back
    _count(customer, order, -1)
    whole = data.total is None or order.refunded + data.total >= order.total
    refunded = order.total if whole else order.refunded + data.total
    changed = Order(
        order.order_id,
        order.at,
        order.total,
        order.coupon_total,
        order.cart_id,
        order.margin_micro,
        order.packed_lines,
        refunded,
        whole,
    )
    orders[order.order_id] = changed
    customer.touch("orders")
    if not whole:
        _count(customer, changed, 1)
        return
    owned = customer.owned
    for sku in {line.sku for line in order.lines}:
        if owned.get(sku, 0) <= 1:
            owned.pop(sku, None)
        else:
            owned[sku] -= 1
    customer.touch("owned")
    live = [known.at for known in orders.values() if not known.void]
    if customer.now.orders == len(live):  # nothing forgotten: the first order is known
        customer.now.first_order_at = min(live, default=0)
        customer.now.last_order_at = max(live, default=0)


def _contract_set(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    rest = [c for c in customer.now.contracts if c.contract_id != data.contract_id]
    rest.append(Contract(data.contract_id, data.plan, data.renews_at))
    customer.now.contracts = customer.newest("contracts", rest, MAX_CONTRACTS)


def _contract_ended(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    now = customer.now
    now.contracts = [c for c in now.contracts if c.contract_id != data.contract_id]


def _problem(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    history = customer.history
    problems = customer.newest("problems", [*history.problems, (data.tag, at)], MAX_PROBLEMS)
    customer.replace("history", History(history.views, problems))


def _ticket_opened(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    rest = [ticket for ticket in customer.now.tickets if ticket != data.ticket_id]
    customer.now.tickets = customer.newest("tickets", [*rest, data.ticket_id], MAX_TICKETS)


def _ticket_resolved(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    now = customer.now
    now.tickets = [ticket for ticket in now.tickets if ticket != data.ticket_id]
    if data.csat is not None:
        now.csat = float(data.csat)


def _deployed(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    rest = [product for product in customer.now.deployed if product != data.product]
    customer.now.deployed = customer.newest("deployed", [*rest, data.product], MAX_DEPLOYED)


def _profile(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
    now = customer.now
    now.timezone = data.timezone or now.timezone
    now.locale = data.locale or now.locale
    if data.attributes is not None:
        now.attributes = kept_attributes(customer, data.attributes)


def _consent(value: bool) -> Applier:
    def apply(customer: Customer, data: Any, at: int, catalog: Catalog) -> None:
        # "*" speaks for all channels, so it also replaces what single channels said before.
        known = {} if data.channel == "*" else customer.now.consents
        consents = {**known, data.channel: value}
        if len(consents) > MAX_CONSENTS:
            customer.lose("consents")
        customer.now.consents = _bounded(consents)

    return apply


def _bounded(consents: dict[str, bool]) -> dict[str, bool]:
    """At most ``MAX_CONSENTS`` words of a customer; what is forgotten never turns into a yes."""
    if len(consents) > MAX_CONSENTS:
        granted = next((name for name, yes in consents.items() if yes and name != "*"), None)
        if granted is None:
            return {"*": False}
        del consents[granted]
    return consents


APPLIERS: dict[str, Applier] = {
    "cart.item_added": _item_added,
    "cart.item_removed": _item_removed,
    "cart.viewed": _cart_viewed,
    "product.viewed": _product_viewed,
    "checkout.started": _checkout,
    "checkout.payment_reached": _checkout,
    "purchase.completed": _purchase,
    "purchase.refunded": _given_back,
    "purchase.cancelled": _given_back,
    "contract.started": _contract_set,
    "contract.renewal_set": _contract_set,
    "contract.ended": _contract_ended,
    "problem.reported": _problem,
    "support.opened": _ticket_opened,
    "support.resolved": _ticket_resolved,
    "deployment.completed": _deployed,
    "customer.profile_set": _profile,
    "consent.granted": _consent(True),
    "consent.revoked": _consent(False),
}

#: Appliers that count by the calendar: they get the book's zone in place of the catalogue.
ZONED: dict[str, Callable[[Customer, Any, int, str], None]] = {"usage.recorded": usage.record}
