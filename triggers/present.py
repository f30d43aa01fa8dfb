"""The part ``now`` of a document: carts, checkouts, timers, contracts and plain counters.

Plain classes, since nearly every step of a decision reads them; how they lie in the store is said
in :mod:`triggers.state`. Times are decision times in ms, 0 when never.
"""

from typing import Any

import msgspec

from triggers.state import Line, StoredNow

_decode = msgspec.msgpack.Decoder(StoredNow).decode
_encode = msgspec.msgpack.Encoder().encode


class Cart:
    """A cart as its last event left it. ``lines`` is replaced, never changed in place."""

    __slots__ = ("at", "cart_id", "currency", "lines", "subtotal")

    def __init__(
        self,
        cart_id: str,
        subtotal: int = 0,
        currency: str = "",
        at: int = 0,
        lines: dict[str, Line] | None = None,
    ) -> None:
        self.cart_id = cart_id
        self.subtotal = subtotal
        self.currency = currency
        self.at = at
        self.lines: dict[str, Line] = {} if lines is None else lines

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredCart`."""
        return (self.cart_id, self.subtotal, self.currency, self.at, self.lines)


class Checkout:
    """A checkout and the cart it belongs to."""

    __slots__ = ("cart_id", "checkout_id", "currency", "total")

    def __init__(self, checkout_id: str, cart_id: str, total: int = 0, currency: str = "") -> None:
        self.checkout_id = checkout_id
        self.cart_id = cart_id
        self.total = total
        self.currency = currency

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredCheckout`."""
        return (self.checkout_id, self.cart_id, self.total, self.currency)


class Timer:
    """A pending timer: its rule, what it is about, when it is due and what armed it last.

    ``origin_ms`` is when it was first due (lateness is measured from there); ``deferred`` marks
    a decision that quiet hours put off.
    """

    __slots__ = (
        "about",
        "deferred",
        "due_ms",
        "event_id",
        "event_type",
        "origin_ms",
        "rule",
        "source",
    )

    def __init__(
        self,
        rule: str,
        about: str,
        due_ms: int,
        source: str,
        event_id: str,
        event_type: str,
        origin_ms: int,
        deferred: bool = False,
    ) -> None:
        self.rule = rule
        self.about = about
        self.due_ms = due_ms
        self.source = source
        self.event_id = event_id
        self.event_type = event_type
        self.origin_ms = origin_ms
        self.deferred = deferred

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredTimer`."""
        return (
            self.rule,
            self.about,
            self.due_ms,
            self.source,
            self.event_id,
            self.event_type,
            self.origin_ms,
            self.deferred,
        )


class Contract:
    """A running contract."""

    __slots__ = ("contract_id", "plan", "renews_at")

    def __init__(self, contract_id: str, plan: str, renews_at: str) -> None:
        self.contract_id = contract_id
        self.plan = plan
        self.renews_at = renews_at

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredContract`."""
        return (self.contract_id, self.plan, self.renews_at)


class Now:
    """What nearly every decision needs; field by field :class:`triggers.state.StoredNow`."""

    __slots__ = (
        "accepted",
        "accepted_at",
        "at",
        "attributes",
        "carts",
        "checkouts",
        "consents",
        "contracts",
        "coupon_orders",
        "csat",
        "declined",
        "deployed",
        "downsell_at",
        "entered_by_downsell",
        "first_order_at",
        "gone",
        "held_until",
        "last_decline_reason",
        "last_order_at",
        "locale",
        "margin_micro",
        "orders",
        "seen_at",
        "session_at",
        "spend",
        "tickets",
        "timers",
        "timezone",
    )

    def __init__(self, at: int = 0, gone: str = "") -> None:
        self.at = at
        self.seen_at = 0
        self.gone = gone
        self.timezone = ""
        self.locale = ""
        self.attributes: dict[str, Any] = {}
        self.consents: dict[str, bool] = {}
        self.carts: list[Cart] = []
        self.checkouts: list[Checkout] = []
        self.timers: list[Timer] = []
        self.contracts: list[Contract] = []
        self.tickets: list[str] = []
        self.csat = 0.0
        self.deployed: list[str] = []
        self.orders = 0
        self.spend = 0
        self.margin_micro = 0
        self.coupon_orders = 0
        self.first_order_at = 0
        self.last_order_at = 0
        self.accepted = 0
        self.declined = 0
        self.last_decline_reason = ""
        self.entered_by_downsell = False
        self.session_at = 0
        self.held_until = 0
        self.accepted_at = 0
        self.downsell_at = 0

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredNow`, ready to be packed."""
        return (
            self.at,
            self.seen_at,
            self.gone,
            self.timezone,
            self.locale,
            self.attributes,
            self.consents,
            [cart.fields() for cart in self.carts],
            [checkout.fields() for checkout in self.checkouts],
            [timer.fields() for timer in self.timers],
            [contract.fields() for contract in self.contracts],
            self.tickets,
            self.csat,
            self.deployed,
            self.orders,
            self.spend,
            self.margin_micro,
            self.coupon_orders,
            self.first_order_at,
            self.last_order_at,
            self.accepted,
            self.declined,
            self.last_decline_reason,
            self.entered_by_downsell,
            self.session_at,
            self.held_until,
            self.accepted_at,
            self.downsell_at,
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is known, not even when somebody was here."""
        return not self.at and self.fields() == _NOBODY


_NOBODY = Now().fields()


def unpack_now(packed: bytes) -> Now:
    """The part as it was packed."""
    stored = _decode(packed)
    now = Now(stored.at, stored.gone)
    now.seen_at, now.session_at = stored.seen_at, stored.session_at
    now.timezone, now.locale = stored.timezone, stored.locale
    now.attributes, now.consents = stored.attributes, stored.consents
    now.carts = [Cart(c.cart_id, c.subtotal, c.currency, c.at, c.lines) for c in stored.carts]
    now.checkouts = [
        Checkout(c.checkout_id, c.cart_id, c.total, c.currency) for c in stored.checkouts
    ]
    now.timers = [
        Timer(
            each.rule,
            each.about,
            each.due_ms,
            each.source,
            each.event_id,
            each.event_type,
            each.origin_ms,
            each.deferred,
        )
        for each in stored.timers
    ]
    now.contracts = [Contract(c.contract_id, c.plan, c.renews_at) for c in stored.contracts]
    now.tickets, now.csat, now.deployed = stored.tickets, stored.csat, stored.deployed
    now.orders, now.spend, now.margin_micro = stored.orders, stored.spend, stored.margin_micro
    now.coupon_orders = stored.coupon_orders
    now.first_order_at, now.last_order_at = stored.first_order_at, stored.last_order_at
    now.accepted, now.accepted_at = stored.accepted, stored.accepted_at
    now.declined, now.last_decline_reason = stored.declined, stored.last_decline_reason
    now.entered_by_downsell, now.downsell_at = stored.entered_by_downsell, stored.downsell_at
    now.held_until = stored.held_until
    return now


def pack_now(now: Now) -> bytes:
    """The bytes of :func:`unpack_now`."""
    return _encode(now.fields())
