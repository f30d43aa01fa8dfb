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

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

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


class Cart(msgspec.Struct, array_like=True, gc=False):
    """A cart as its last event left it. ``lines`` is replaced, never changed in place."""

    cart_id: str
    subtotal: int = 0
    currency: str = ""
    at: int = 0
    lines: dict[str, Line] = {}


class Checkout(msgspec.Struct, array_like=True, gc=False):
    """A checkout and the cart it belongs to."""

    checkout_id: str
    cart_id: str
    total: int = 0
    currency: str = ""


class Timer(msgspec.Struct, array_like=True, gc=False):
    """A pending timer: its rule, what it is about, when it is due and what armed it last.

    ``origin_ms`` is when it was first due (lateness is measured from there); ``deferred`` marks
    a decision that quiet hours put off.
    """

    rule: str
    about: str
    due_ms: int
    source: str
    event_id: str
    event_type: str
    origin_ms: int
    deferred: bool = False


class Contract(msgspec.Struct, array_like=True, gc=False):
    """A running contract."""

    contract_id: str
    plan: str
    renews_at: str


class Now(msgspec.Struct, array_like=True, gc=False):
    """What nearly every decision needs. Times are decision times in ms, 0 when never."""

    at: int = 0
    seen_at: int = 0
    gone: str = ""  # "", "erased" or "objected"
    timezone: str = ""
    locale: str = ""
    attributes: dict[str, Any] = {}
    consents: dict[str, bool] = {}
    carts: list[Cart] = []
    checkouts: list[Checkout] = []
    timers: list[Timer] = []
    contracts: list[Contract] = []
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


class Order(msgspec.Struct, array_like=True, gc=False):
    """A completed order; ``refunded`` is what went back, ``void`` when all of it did.

    Its lines stay packed (:func:`pack_lines`): few rules look at them, and every purchase writes
    all orders again.
    """

    order_id: str
    at: int
    total: int
    coupon_total: int
    cart_id: str
    margin_micro: int
    packed_lines: bytes
    refunded: int = 0
    void: bool = False

    @property
    def lines(self) -> list[Line]:
        """The order's lines, unpacked anew at each call."""
        return _unpack_lines(self.packed_lines)


class Made(msgspec.Struct, array_like=True, gc=False):
    """An offer that was decided, as caps, cooldowns, withdrawals and feedback need it.

    ``fate`` is its one final outcome (accepted, declined, complained, withdrawn, expired), ``""``
    while it is open; ``why`` the reason of a decline; ``seen`` 1 when it was shown, 2 when it was
    clicked; ``answered`` that rules have had their turn at the answer;
    ``complained`` that a complaint was counted against the rule.
    """

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
    ghost: bool = False  # of a customer in a holdout: it was counted, never sent
    perks: list[tuple[str, int]] = []  # each with its end in ms
    skus: list[str] = []
    fate: str = ""
    why: str = ""
    ended_at: int = 0
    seen: int = 0
    answered: bool = False
    complained: bool = False
    variant: str = ""

    @property
    def open(self) -> bool:
        """Whether the offer has no outcome yet."""
        return not self.fate and not self.ghost


class Offers(msgspec.Struct, array_like=True, gc=False):
    """Offers made (oldest first), the instant of each cooling rule's last one, and when the
    customer last refused what for which reason (:func:`triggers.feedback.refused_key`)."""

    made: list[Made] = []
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


PARTS: dict[str, tuple[str, type]] = {
    "now": ("n", Now),
    "orders": ("o", dict[str, Order]),
    "owned": ("w", dict[str, int]),
    "offers": ("f", Offers),
    "marks": ("m", dict[str, int]),
    "bars": ("b", dict[str, int]),
    "armed": ("a", Armed),
    "history": ("h", History),
    "seen": ("s", bytearray),
    "usage": ("u", dict[str, Meter]),
    "held": ("l", list[tuple[int, bytes]]),
}
PART_LETTERS = "".join(letter for letter, _ in PARTS.values())
_encode = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode
_DECODE: dict[str, Any] = {
    name: msgspec.msgpack.Decoder(kind).decode for name, (_, kind) in PARTS.items()
}
_STRUCTS = frozenset({"armed", "history", "offers"})
_FRESH = {name: (list if name == "held" else kind) for name, (_, kind) in PARTS.items()}
_FRESH |= {"orders": dict, "owned": dict, "marks": dict, "bars": dict, "usage": dict}
_EMPTY_STRUCTS = {name: _FRESH[name]() for name in _STRUCTS}
_NOBODY = Now()
_unpack_lines = msgspec.msgpack.Decoder(list[Line]).decode


def pack_lines(lines: list[Line]) -> bytes:
    """Lines as an :class:`Order` keeps them."""
    return _encode(lines)


class Customer:
    """A customer's document, decoded part by part on demand.

    The owner of a ``Customer`` is one partition at a time; the engine changes it in place and
    notes the changed parts, which :meth:`take_changes` hands to the store.
    """

    __slots__ = ("_changed", "_losses", "_parts", "_raw", "id", "now", "stored_due", "touch")

    def __init__(self, customer_id: str, raw: dict[str, bytes] | None = None) -> None:
        """``raw`` maps part letters to stored bytes; None or empty for an unknown customer."""
        self.id = customer_id
        self._raw: dict[str, bytes] = raw or {}
        self._parts: dict[str, Any] = {}
        self._changed: set[str] = set()
        #: Note that a part changes, by its name: the set's own method, for every event calls it.
        self.touch: Callable[[str], None] = self._changed.add
        self._losses: dict[str, int] = {}
        self.now: Now = self._load("now")
        self.stored_due = self.due_ms()

    def _load(self, name: str) -> Any:
        packed = self._raw.pop(PARTS[name][0], None)
        value = _FRESH[name]() if packed is None else _DECODE[name](packed)
        self._parts[name] = value
        return value

    def part(self, name: str) -> Any:
        """The decoded part, for reading; call :meth:`touch` before changing it."""
        try:
            return self._parts[name]
        except KeyError:
            return self._load(name)

    def lose(self, name: str, count: int = 1) -> None:
        """Note that a list of that name was at its bound, so that its oldest were forgotten."""
        self._losses[name] = self._losses.get(name, 0) + count

    def newest(self, name: str, values: list[T], most: int) -> list[T]:
        """The last ``most`` of ``values``; what goes is noted under ``name``."""
        if len(values) <= most:
            return values
        self.lose(name, len(values) - most)
        return values[-most:]

    def take_losses(self) -> Iterable[tuple[str, int]]:
        """What was forgotten because of a bound since the last call, by the list's name."""
        if not self._losses:
            return ()
        losses, self._losses = self._losses, {}
        return losses.items()

    def replace(self, name: str, value: Any) -> None:
        """Put a new value in place of a part (not of ``now``)."""
        self._raw.pop(PARTS[name][0], None)
        self._parts[name] = value
        self._changed.add(name)

    @property
    def orders(self) -> dict[str, Order]:
        """The last orders by their ids, oldest first."""
        return self.part("orders")  # type: ignore[no-any-return]

    @property
    def owned(self) -> dict[str, int]:
        """Sku -> number of live orders that hold it, least recently bought first."""
        return self.part("owned")  # type: ignore[no-any-return]

    @property
    def offers(self) -> Offers:
        """Offers made."""
        return self.part("offers")  # type: ignore[no-any-return]

    @property
    def marks(self) -> dict[str, int]:
        """What ``once_per`` used up -> when, oldest first."""
        return self.part("marks")  # type: ignore[no-any-return]

    @property
    def bars(self) -> dict[str, int]:
        """What ``unless`` events were about -> when, oldest first."""
        return self.part("bars")  # type: ignore[no-any-return]

    @property
    def armed(self) -> Armed:
        """Payloads of arming events."""
        return self.part("armed")  # type: ignore[no-any-return]

    @property
    def history(self) -> History:
        """Views and problems."""
        return self.part("history")  # type: ignore[no-any-return]

    @property
    def usage(self) -> dict[str, Meter]:
        """Metric -> what was used of it, least recently told first."""
        return self.part("usage")  # type: ignore[no-any-return]

    def due_ms(self) -> int:
        """When the clock has to look at this customer next, 0 for never."""
        now = self.now
        due = min([timer.due_ms for timer in now.timers]) if now.timers else 0
        return min(due, now.held_until) if due and now.held_until else due or now.held_until

    def put_now(self) -> None:
        """Let ``now`` be the part of that name, after it was replaced as a whole."""
        self._raw.pop(PARTS["now"][0], None)
        self._parts["now"] = self.now

    def wipe(self, gone: str, at_ms: int) -> None:
        """Forget everything but that the customer is ``gone`` (erased or objected); with ``""`` and
        0 also that they were ever known."""
        for name in PARTS:
            if name != "now":
                self.replace(name, _FRESH[name]())
        self.now = Now(at=at_ms, gone=gone)
        self.put_now()
        self._changed.add("now")

    def take_changes(self) -> list[tuple[str, bytes]]:
        """Letters and packed bytes of the changed parts; empty bytes delete a part.

        Of who is ``gone`` or forgotten nothing is left, since a part lies under the customer's
        id: that they are gone is for the owner to remember without it.
        """
        changes = []
        for name in sorted(self._changed):
            value = self._parts[name]
            letter = PARTS[name][0]
            if name == "armed":
                value.pack()
            if name == "now":
                kept = not value.gone and value != _NOBODY
            else:
                kept = value != _EMPTY_STRUCTS[name] if name in _STRUCTS else bool(value)
            changes.append((letter, _encode(value) if kept else b""))
        self._changed.clear()
        return changes
