"""The one document a customer has, in parts.

A part is written only when it changed and decoded only when something asks for it, since size is
what a write costs. Parts are msgpack arrays; every list in them has a bound, named below.

=======  ======  ====================================================================
letter   part    holds
=======  ======  ====================================================================
``n``    now     profile, consents, carts, checkouts, pending timers, plain counters
``o``    orders  the last orders with their lines
``w``    owned   skus in orders that were not wholly given back
``f``    offers  offers made, last offer a rule
``m``    marks   ``rule\\0about`` that ``once_per`` used up, and when
``b``    bars    what ``unless`` events spoke about, and when
``a``    armed   the events that armed the pending timers
``h``    history views and problems
``s``    seen    repeats: packed (time, id digest, body checksum) of recent events
``u``    usage   metrics: last value and quota, packed days (:mod:`triggers.usage`)
``l``    held    offers that wait for the end of quiet hours before they are sent late
=======  ======  ====================================================================
"""

from typing import Any

import msgspec

MAX_CARTS = 5
MAX_CART_LINES = 100
MAX_CHECKOUTS = 5
MAX_CONSENTS = 50
MAX_TIMERS = 100
MAX_ORDERS = 50
MAX_ORDER_LINES = 100
MAX_OWNED = 300
MAX_OFFERS = 50
MAX_REFUSED = 100
MAX_MARKS = 200
MAX_BARS = 100
MAX_VIEWS = 50
MAX_PROBLEMS = 20
MAX_TICKETS = 20
MAX_CONTRACTS = 10
MAX_DEPLOYED = 20
SEEN_MS = 72 * 3_600_000
MAX_SEEN = 256
MAX_HELD = 50
MAX_ATTRIBUTES = 100
MAX_PAYLOAD_ENTRIES = 300  # of each list in the event behind a pending timer
MAX_METRICS = 20
MAX_USAGE_DAYS = 90
SCHEMA = 1


class Line(msgspec.Struct, array_like=True, gc=False):
    """One line of a cart or an order; ``unit_price`` in minor units."""

    sku: str
    quantity: int
    unit_price: int
    category: str = ""


class StoredCart(msgspec.Struct, array_like=True, gc=False):
    """A cart as it lies in the store (:class:`triggers.present.Cart`)."""

    cart_id: str
    subtotal: int = 0
    currency: str = ""
    at: int = 0
    lines: dict[str, Line] = {}


class StoredCheckout(msgspec.Struct, array_like=True, gc=False):
    """A checkout as it lies in the store (:class:`triggers.present.Checkout`)."""

    checkout_id: str
    cart_id: str
    total: int = 0
    currency: str = ""


class StoredTimer(msgspec.Struct, array_like=True, gc=False):
    """A pending timer as it lies in the store (:class:`triggers.present.Timer`)."""

    rule: str
    about: str
    due_ms: int
    source: str
    event_id: str
    event_type: str
    origin_ms: int
    deferred: bool = False


class StoredContract(msgspec.Struct, array_like=True, gc=False):
    """A running contract as it lies in the store (:class:`triggers.present.Contract`)."""

    contract_id: str
    plan: str
    renews_at: str


class StoredNow(msgspec.Struct, array_like=True, gc=False):
    """What nearly every decision needs, as it lies in the store (:class:`triggers.present.Now`)."""

    at: int = 0
    seen_at: int = 0
    gone: str = ""  # "", "erased" or "objected"
    timezone: str = ""
    locale: str = ""
    attributes: dict[str, Any] = {}
    consents: dict[str, bool] = {}
    carts: list[StoredCart] = []
    checkouts: list[StoredCheckout] = []
    timers: list[StoredTimer] = []
    contracts: list[StoredContract] = []
    tickets: list[str] = []
    csat: float = 0.0
    deployed: list[str] = []
    orders: int = 0
    spend: int = 0
    margin_micro: int = 0  # sum of line price * quantity * margin, in millionths of a minor unit
    coupon_orders: int = 0
    first_order_at: int = 0
    last_order_at: int = 0
    accepted: int = 0
    declined: int = 0
    last_decline_reason: str = ""
    entered_by_downsell: bool = False
    session_at: int = 0  # when the latest session began
    held_until: int = 0  # when the first of the held offers may be sent
    accepted_at: int = 0  # the last acceptance, and the last one of a down_sell
    downsell_at: int = 0


class StoredOrder(msgspec.Struct, array_like=True, gc=False):
    """An order as it lies in the store (:class:`triggers.rings.Order`)."""

    order_id: str
    at: int
    total: int
    coupon_total: int
    cart_id: str
    margin_micro: int
    packed_lines: bytes
    refunded: int = 0
    void: bool = False


class StoredMade(msgspec.Struct, array_like=True, gc=False):
    """An offer made as it lies in the store (:class:`triggers.rings.Made`)."""

    at: int
    offer_id: str
    rule: str
    kind: str
    channel: str
    placement: str | None
    about: str
    until: int
    price: int
    event_type: str
    ghost: bool = False
    perks: list[tuple[str, int]] = []
    skus: list[str] = []
    fate: str = ""
    why: str = ""
    ended_at: int = 0
    seen: int = 0
    answered: bool = False
    complained: bool = False
    variant: str = ""


class StoredOffers(msgspec.Struct, array_like=True, gc=False):
    """The offers part as it lies in the store (:class:`triggers.rings.Offers`)."""

    made: list[StoredMade] = []
    last: dict[str, int] = {}
    refused: dict[str, int] = {}


class Armed(msgspec.Struct, array_like=True, gc=False):
    """Payloads of the events that armed pending timers, by ``rule\\0about``.

    JSON bytes as stored; a payload that was not stored yet is still the struct itself, so that a
    timer that moves many times within a batch is encoded once.
    """

    events: dict[str, Any] = {}

    def pack(self) -> None:
        """Turn every payload into bytes."""
        events = self.events
        for key, data in events.items():
            if not isinstance(data, bytes):
                events[key] = _to_json(data)


class History(msgspec.Struct, array_like=True, gc=False):
    """Views as (sku, time) and problem tags as (tag, time), oldest first."""

    views: list[tuple[str, int]] = []
    problems: list[tuple[str, int]] = []


class Meter(msgspec.Struct, array_like=True, gc=False):
    """A metric's last value, its last quota (0 when none was told) and its packed days."""

    value: float = 0.0
    quota: float = 0.0
    days: bytes = b""


_to_json = msgspec.json.Encoder().encode
