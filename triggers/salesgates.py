"""Gates that hold sales back: when it is too early, too dear, too much, or beside the point.

Each is a function of one :class:`~triggers.gates.Case`. They judge what the event left (the basket
with its new line, the ticket that it opened or resolved, the mark that it brought), and none sees
what other rules offer in answer to the same event; arbitration looks again.
"""

from typing import TYPE_CHECKING, Any

from triggers.book import SALES
from triggers.context import Context
from triggers.gatekeys import DOWNSELL_WAIT_MS, SESSION_MS
from triggers.present import Now
from triggers.rings import Made
from triggers.selection import price_of as one_price

if TYPE_CHECKING:
    from triggers.gates import Case

#: The last csat from which value counts as realised.
CSAT_GOOD = 4.0
#: The value gate of a book that says only `true`.
VALUE_DEFAULT = 'size(customer.deployed) > 0 && days_over("any", 0.5, "7d") >= 3'


def session_start(now: Now, at: int) -> int:
    """When the session began in which ``at`` lies.

    What lies after a session's end, up to the next event, counts as a session of its own: a timer
    may offer then too.
    """
    if at - now.seen_at >= SESSION_MS:
        return now.seen_at + SESSION_MS
    return now.session_at


def ticket_open(case: "Case") -> bool:
    """Nothing is sold to who waits for an answer."""
    return bool(case.ctx.customer.now.tickets)


def irrelevant(case: "Case") -> bool:
    """The best-ranked item does not fit the purpose, and no other is left."""
    return case.picked.blocked == "irrelevant"


def value_not_realised(case: "Case") -> bool:
    """What the customer has is not in use yet, or not felt as good."""
    gate, ctx = case.rule.gate, case.ctx
    if gate.deployed is not None and not _in_use(gate.deployed, ctx.customer.now.deployed):
        return True
    if gate.value is None or ctx.customer.now.csat >= CSAT_GOOD:
        return False
    return not gate.value.holds(ctx)


def _in_use(wanted: tuple[str, ...], deployed: list[str]) -> bool:
    return all(product in deployed for product in wanted) if wanted else bool(deployed)


def price_of(case: "Case") -> int:
    """What the would-be offer costs in all, in minor units."""
    price = case.rule.price
    return sum(candidate.quantity * one_price(candidate, price) for candidate in case.picked.items)


def basket(ctx: Context) -> int:
    """What the customer is about to pay: the event's total, plan price, or the cart's subtotal."""
    for name in ("total", "subtotal", "price"):
        value = getattr(ctx.event, name, None)
        if value is not None:
            return int(value)
    return ctx.cart.subtotal


def price_ceiling(case: "Case") -> bool:
    """Too large a share of the basket for who has not accepted anything yet.

    What lies in the cart already (``same``) was the customer's own choice. With no basket at all
    everything is too dear.
    """
    ceiling = case.rule.gate.ceiling
    if ceiling is None or case.ctx.customer.now.accepted >= ceiling.acceptances:
        return False
    if case.rule.pick.kind == "same":
        return False
    return price_of(case) * 1000 > ceiling.permille * basket(case.ctx)


def downsell_too_soon(case: "Case") -> bool:
    """A dearer offer of ours was made within the last 24 hours."""
    if case.rule.kind != "down_sell" or case.rule.gate.framing_fit:
        return False
    price = price_of(case)
    since = case.ctx.at - DOWNSELL_WAIT_MS
    for made in reversed(case.ctx.customer.offers.made):
        if made.at <= since:
            return False
        if made.price > price:
            return True
    return False


def fatigue(case: "Case") -> bool:
    """The customer was offered enough, by whatever rule, within a session or a span."""
    ctx = case.ctx
    for limit in case.rule.gate.fatigue:
        if limit.window_ms:
            since = ctx.at - limit.window_ms + 1
        else:
            since = session_start(ctx.customer.now, ctx.at)
        if _sales_since(ctx.customer.offers.made, since, limit.budget):
            return True
    return False


def _sales_since(made: list[Made], since: int, budget: int) -> bool:
    """Whether ``budget`` sales offers were made at ``since`` or later; ``made`` is oldest first."""
    left = budget
    for offer in reversed(made):
        if left <= 0 or offer.at < since:
            break
        left -= offer.kind in SALES
    return left <= 0


def still_recalled(made: Made, ctx: Context) -> bool:
    """Whether one of these gates may yet have to count this offer."""
    book = ctx.book
    if made.at > ctx.at - book.recall_ms:
        return True
    return book.by_session and made.at >= session_start(ctx.customer.now, ctx.at)


class Goal:
    """The purposes that an offer should share, where a rule says only ``purpose: true``.

    The customer's open goal (the attribute ``goal``) comes first, then the purposes of the event's
    items in the catalogue, then those of the cart's.
    """

    source = "true"

    def get(self, ctx: Context) -> list[str]:
        """The purposes wanted; empty when nobody knows any."""
        goal = ctx.customer.now.attributes.get("goal")
        if isinstance(goal, str) and goal:
            return [goal]
        items: list[Any] = getattr(ctx.event, "items", None) or []
        products = [ctx.catalog.product(item.sku) for item in items] or [ctx.product]
        found = [purpose for product in products if product for purpose in product.purposes]
        if found:
            return found
        in_cart = (ctx.catalog.product(sku) for sku in ctx.cart.lines)
        return [purpose for product in in_cart if product for purpose in product.purposes]


class Hesitated:
    """The line that every ``down_sell`` has: its event is the customer's own hesitation."""

    source = "the customer left a plan, or declined for its price or spec"
    names: tuple[str, ...] = ()
    errors = 0

    def holds(self, ctx: Context) -> bool:
        """Whether the event that caused the decision says so."""
        if ctx.type == "offer.declined":
            return getattr(ctx.event, "reason", None) in ("price", "spec")
        return ctx.type == "checkout.plan_left"
