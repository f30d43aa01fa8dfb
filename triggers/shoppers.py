"""What customers did, folded over their events: the sums from which the measures are taken.

Sums of what is *gone* (orders, units, stays) grow no memory. What may still change is kept a
customer, in a :class:`Shopper`: its last ``ORDERS_MAX`` orders, ``CONTRACTS_MAX`` contracts, the
families and rungs that it holds, an open stay; about 1 kB for a customer of five orders. At most
``SHOPPERS_MAX`` customers are kept; further ones are counted in ``left_out``.
"""

from __future__ import annotations

from typing import Any

from triggers.catalog import Catalog
from triggers.durations import DAY_MS
from triggers.intervals import Sample
from triggers.shopper import ContractNote, OrderNote, Rung, Shopper, Stay, Sums

ORDERS_MAX = 50
CONTRACTS_MAX = 20
SHOPPERS_MAX = 2_000_000
#: Orders whose lines are remembered, for what a guest paid for the room.
LINES_KEPT = 5
VISIT_GAP_MS = 30 * 60_000
#: How long a cheaper plan that was offered is remembered until the guest arrives.
DOWNSELL_MS = 90 * DAY_MS
#: Events in which somebody is at the shop.
VISITS = frozenset(
    {
        "product.viewed",
        "cart.item_added",
        "cart.item_removed",
        "cart.viewed",
        "checkout.started",
        "checkout.payment_reached",
        "checkout.plan_selected",
        "checkout.plan_left",
    }
)


class Shoppers:
    """The fold. ``window_ms`` is the attribution window; ``end_ms`` the last instant seen."""

    def __init__(self, window_ms: int, shoppers_max: int = SHOPPERS_MAX) -> None:
        self.window_ms = window_ms
        self.catalog = Catalog()
        self.known: dict[str, Shopper] = {}
        self.sums = Sums()
        #: Totals a stay after a down-sell, by rule: those offered and those held out.
        self.stay_totals: dict[str, tuple[Sample, Sample]] = {}
        self.end_ms = 0
        self.left_out = 0
        self._shoppers_max = shoppers_max
        self._sets: dict[str, frozenset[str]] = {}  # a bundle's sku -> its skus
        self._sets_of: dict[str, dict[str, None]] = {}  # sku -> bundles that hold it

    def catalogued(self, kind: str, sku: str, data: Any) -> None:
        """Apply a ``catalog.*`` event."""
        self.catalog.apply(kind, sku, data)
        if kind == "catalog.bundle_set":
            self._sets[sku] = frozenset(data.items)
            for item in (sku, *data.items):
                self._sets_of.setdefault(item, {})[sku] = None

    def shopper(self, customer: str) -> Shopper | None:
        """The customer's notes, made where there is room; else None."""
        found = self.known.get(customer)
        if found is None:
            if len(self.known) >= self._shoppers_max:
                self.left_out += 1
                return None
            found = self.known[customer] = Shopper()
        return found

    def happened(self, kind: str, customer: str, data: Any, at_ms: int) -> tuple[int, int, int]:
        """Apply an event of a customer.

        Answers how that changed what the customer has paid: when the order was made (ms; 0:
        nothing changed), orders (1, 0 or -1) and minor units.
        """
        self.end_ms = max(self.end_ms, at_ms)
        if kind in _FORGETS:
            self.known.pop(customer, None)
            return _NOTHING
        shopper = self.shopper(customer)
        if shopper is None:
            return _NOTHING
        shopper.last_ms = at_ms
        if kind in VISITS:
            if not shopper.visits or at_ms - shopper.last_visit_ms >= VISIT_GAP_MS:
                shopper.visits += 1
            shopper.last_visit_ms = at_ms
        apply = _APPLY.get(kind)
        return _NOTHING if apply is None else apply(self, shopper, data, at_ms) or _NOTHING

    def downsold(self, customer: str, rule: str, arm: int, at_ms: int) -> None:
        """A down-sell was offered to the customer, or would have been (``arm`` as in lift)."""
        shopper = self.shopper(customer)
        if shopper is not None:
            shopper.downsell = (rule, arm, at_ms)

    # --- orders ---

    def _completed(self, shopper: Shopper, data: Any, at_ms: int) -> tuple[int, int, int] | None:
        if any(order.order_id == data.order_id for order in shopper.recent):
            return None  # a second event about a known order changes no count
        sums = self.sums
        sums.orders += 1
        sums.ordered += data.total
        sums.currencies[data.currency] = None
        order = self._note(data, at_ms)
        for item in data.items:
            sums.units += item.quantity
            sums.units_value += item.quantity * item.unit_price
            rung = self._rung(item.sku)
            if rung:
                sums.rung_units[rung] += item.quantity
        sums.set_orders += self._holds_set({item.sku for item in data.items})
        shopper.recent = [*shopper.recent, order][-ORDERS_MAX:]
        if len(shopper.recent) > LINES_KEPT:
            shopper.recent[-LINES_KEPT - 1].lines = ()
        shopper.first_order_ms = shopper.first_order_ms or at_ms
        _count(shopper, order, 1)
        self._filled(shopper, at_ms)
        if shopper.stay is not None:
            shopper.stay.added += data.total
            shopper.stay.added_orders += 1
        return at_ms, 1, data.total

    def _note(self, data: Any, at_ms: int) -> OrderNote:
        margin_micro = 0
        families: dict[str, None] = {}
        rungs: dict[Rung, None] = {}
        for item in data.items:
            product = self.catalog.product(item.sku)
            margin = 1_000_000 if product is None else round(product.margin * 1_000_000)
            margin_micro += item.unit_price * item.quantity * margin
            if product is not None and product.family:
                families[product.family] = None
            rung = self._rung(item.sku)
            if rung:
                rungs[rung] = None
        lines = tuple((item.sku, item.unit_price * item.quantity) for item in data.items)
        return OrderNote(
            data.order_id, at_ms, data.total, margin_micro, tuple(families), tuple(rungs), lines
        )

    def _returned(self, shopper: Shopper, data: Any, at_ms: int) -> tuple[int, int, int] | None:
        order = next(
            (o for o in shopper.recent if o.order_id == data.order_id and not o.void), None
        )
        if order is None:
            return None  # unknown, forgotten or already given back
        before = order.refunded
        _count(shopper, order, -1)
        order.void = data.total is None or before + data.total >= order.total
        order.refunded = order.total if order.void else before + data.total
        if not order.void:
            _count(shopper, order, 1)
        else:
            live = [known.at_ms for known in shopper.recent if not known.void]
            if shopper.orders == len(live):  # nothing forgotten: the first order is known
                shopper.first_order_ms = min(live, default=0)
        return order.at_ms, -int(order.void), before - order.refunded

    def _holds_set(self, skus: set[str]) -> bool:
        bundles = {bundle for sku in skus for bundle in self._sets_of.get(sku, ())}
        return any(bundle in skus or self._sets[bundle] <= skus for bundle in bundles)

    def _rung(self, sku: str) -> Rung | None:
        product = self.catalog.product(sku)
        return None if product is None or product.ladder is None else product.ladder

    # --- contracts, stays, words ---

    def _contract(self, shopper: Shopper, data: Any, at_ms: int, started_ms: int) -> None:
        if any(note.contract_id == data.contract_id for note in shopper.contracts):
            return
        notes = [*shopper.contracts, ContractNote(data.contract_id, started_ms)]
        shopper.contracts = notes[-CONTRACTS_MAX:]
        product = self.catalog.product(data.plan)
        if product is not None and product.family:
            shopper.families[product.family] += 1
        rung = self._rung(data.plan)
        if rung:
            shopper.rungs[rung] += 1

    def _contract_started(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        self._contract(shopper, data, at_ms, at_ms)

    def _contract_renewal(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        self._contract(shopper, data, at_ms, 0)

    def _contract_ended(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        for note in shopper.contracts:
            if note.contract_id == data.contract_id and not note.ended_ms:
                note.ended_ms = at_ms

    def _plan_left(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        # Several plans put back in one search are one hesitation.
        if not shopper.left_plan_ms or at_ms - shopper.left_plan_ms > self.window_ms:
            self.sums.plans_left += 1
            shopper.left_plan_ms = at_ms

    def _filled(self, shopper: Shopper, at_ms: int) -> None:
        if shopper.left_plan_ms:
            self.sums.plans_filled += at_ms - shopper.left_plan_ms <= self.window_ms
            shopper.left_plan_ms = 0

    def _checked_in(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        self._filled(shopper, at_ms)
        paid = [
            amount
            for order in shopper.recent
            if not order.void
            for sku, amount in order.lines
            if sku == data.plan
        ]
        shopper.stay = Stay(data.stay_id, data.plan, at_ms, paid[-1] if paid else None)

    def _checked_out(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        stay = shopper.stay
        if stay is None or stay.stay_id != data.stay_id:
            return
        shopper.stay = None
        nights = max(1, (at_ms - stay.from_ms + DAY_MS // 2) // DAY_MS)
        product = self.catalog.product(stay.plan)
        listed = product.price * nights if product is not None else 0
        room = listed if stay.room is None else stay.room
        sums = self.sums
        sums.stays += 1
        sums.stays_added += stay.added_orders > 0
        sums.nights += nights
        sums.room_revenue += room
        if shopper.downsell is not None:
            rule, arm, decided_ms = shopper.downsell
            if stay.from_ms - decided_ms <= DOWNSELL_MS:
                pair = self.stay_totals.setdefault(rule, (Sample(), Sample()))
                pair[arm].add(room + stay.added)

    def _resolved(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        if data.csat is not None:
            self.sums.csat.add(data.csat)

    def _reviewed(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        self.sums.stars.add(data.stars)

    def _profile(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        if data.attributes is not None:
            shopper.attributes = dict(data.attributes)
            result = shopper.attributes.get("exam_passed")
            if isinstance(result, bool):
                shopper.passed = result

    def _exam_passed(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        shopper.passed = True

    def _exam_failed(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        shopper.passed = False

    def _referred(self, shopper: Shopper, data: Any, at_ms: int) -> None:
        self.sums.referrals += 1


def _count(shopper: Shopper, order: OrderNote, sign: int) -> None:
    shopper.orders += sign
    shopper.spend += sign * (order.total - order.refunded)
    shopper.margin_micro += sign * (order.margin_micro - _margin_back(order))
    for family in order.families:
        shopper.families[family] += sign
    for rung in order.rungs:
        shopper.rungs[rung] += sign


def _margin_back(order: OrderNote) -> int:
    """The part of the margin that went back, rounded up, so that what is left is rounded down."""
    return -(-order.margin_micro * order.refunded // order.total) if order.total else 0


_NOTHING = (0, 0, 0)
_FORGETS = frozenset({"customer.erase_requested", "customer.objected"})
_APPLY = {
    "purchase.completed": Shoppers._completed,
    "purchase.refunded": Shoppers._returned,
    "purchase.cancelled": Shoppers._returned,
    "contract.started": Shoppers._contract_started,
    "contract.renewal_set": Shoppers._contract_renewal,
    "contract.ended": Shoppers._contract_ended,
    "checkout.plan_left": Shoppers._plan_left,
    "stay.checked_in": Shoppers._checked_in,
    "stay.checked_out": Shoppers._checked_out,
    "support.resolved": Shoppers._resolved,
    "product.reviewed": Shoppers._reviewed,
    "customer.profile_set": Shoppers._profile,
    # Types of a rule book's own, by their usual names.
    "exam.passed": Shoppers._exam_passed,
    "exam.failed": Shoppers._exam_failed,
    "referral.made": Shoppers._referred,
}
