"""A customer's last events, as far as the document tells what they said.

The document keeps facts, not events. For explanations the last event of a type is put together
from them: the last cart and its latest line, the last order, and so on. What an event said beyond
that (a session, a reason) is lost.
"""

from collections.abc import Iterator
from typing import Any

from triggers import payloads as p
from triggers.customer import Customer
from triggers.explain import Known
from triggers.fields import Item
from triggers.state import Line

_TOLD = {"accepted": p.OfferAccepted, "declined": p.OfferDeclined, "complained": p.OfferComplained}


def _item(line: Line) -> Item:
    return Item(line.sku, line.quantity, line.unit_price, line.category or None)


def _carts(customer: Customer) -> Iterator[tuple[str, Any, int]]:
    for cart in customer.now.carts[-1:]:
        yield "cart.viewed", p.CartViewed(cart.cart_id, cart.subtotal, cart.currency), cart.at
        for line in list(cart.lines.values())[-1:]:
            item = _item(line)
            data = p.CartItemAdded(cart.cart_id, item, cart.subtotal, cart.currency)
            yield "cart.item_added", data, cart.at
    for checkout in customer.now.checkouts[-1:]:
        fields = (checkout.checkout_id, checkout.cart_id, checkout.total, checkout.currency)
        yield "checkout.started", p.CheckoutStarted(*fields), 0
        yield "checkout.payment_reached", p.CheckoutPaymentReached(*fields), 0


def _orders(customer: Customer) -> Iterator[tuple[str, Any, int]]:
    for order in list(customer.orders.values())[-1:]:
        items = [_item(line) for line in order.lines]
        cart_id, coupon_total = order.cart_id or None, order.coupon_total or None
        data = p.PurchaseCompleted(
            order.order_id, items, order.total, "", cart_id, None, coupon_total
        )
        yield "purchase.completed", data, order.at
    for contract in customer.now.contracts[-1:]:
        fields = (contract.contract_id, contract.plan, contract.renews_at)
        yield "contract.started", p.ContractStarted(*fields), 0
        yield "contract.renewal_set", p.ContractRenewalSet(*fields), 0


def _habits(customer: Customer) -> Iterator[tuple[str, Any, int]]:
    for sku, at in customer.history.views[-1:]:
        yield "product.viewed", p.ProductViewed(sku), at
    for tag, at in customer.history.problems[-1:]:
        yield "problem.reported", p.ProblemReported(tag), at
    for metric, meter in list(customer.usage.items())[-1:]:
        data = p.UsageRecorded(metric, meter.value, meter.quota or None)
        yield "usage.recorded", data, 0
    for ticket in customer.now.tickets[-1:]:
        yield "support.opened", p.SupportOpened(ticket), 0
    for product in customer.now.deployed[-1:]:
        yield "deployment.completed", p.DeploymentCompleted(product), 0


def _feedback(customer: Customer) -> Iterator[tuple[str, Any, int]]:
    for made in sorted(customer.offers.made, key=lambda made: made.ended_at):
        told = _TOLD.get(made.fate)
        if told is not None and made.answered:
            reason: Any = made.why or None
            yield f"offer.{made.fate}", told(made.offer_id, reason), made.ended_at
        elif made.seen:
            yield "offer.shown", p.OfferShown(made.offer_id), made.at


def rebuilt_events(customer: Customer) -> dict[str, Known]:
    """Event type -> the last event that the document tells of; its time is 0 where unknown."""
    found: dict[str, Known] = {}
    for tell in (_carts, _orders, _habits, _feedback):
        for event_type, data, at_ms in tell(customer):
            found[event_type] = Known(event_type, data, at_ms, rebuilt=True)
    return found
