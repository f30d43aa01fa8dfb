"""What a document remembers of offers and orders, each packed once.

A document keeps the last fifty of both and is written at every change; what did not change is
copied as bytes. So :class:`Made` changes by its methods alone, and an :class:`Order` never.
"""

from typing import Any

import msgspec

from triggers.state import Line, StoredMade, StoredOffers, StoredOrder

_encode = msgspec.msgpack.Encoder().encode
_decode_orders = msgspec.msgpack.Decoder(dict[str, StoredOrder]).decode
_decode_offers = msgspec.msgpack.Decoder(StoredOffers).decode
_unpack_lines = msgspec.msgpack.Decoder(list[Line]).decode


def pack_lines(lines: list[Line]) -> bytes:
    """Lines as an :class:`Order` keeps them."""
    return _encode(lines)


class Order:
    """A completed order; ``refunded`` is what went back, ``void`` when all of it did.

    Never changed in place. Its lines stay packed (:func:`pack_lines`): few rules look at them.
    """

    __slots__ = (
        "_piece",
        "at",
        "cart_id",
        "coupon_total",
        "margin_micro",
        "order_id",
        "packed_lines",
        "refunded",
        "total",
        "void",
    )

    def __init__(
        self,
        order_id: str,
        at: int,
        total: int,
        coupon_total: int,
        cart_id: str,
        margin_micro: int,
        packed_lines: bytes,
        refunded: int = 0,
        void: bool = False,
    ) -> None:
        self.order_id = order_id
        self.at = at
        self.total = total
        self.coupon_total = coupon_total
        self.cart_id = cart_id
        self.margin_micro = margin_micro
        self.packed_lines = packed_lines
        self.refunded = refunded
        self.void = void
        self._piece: Any = None

    @property
    def lines(self) -> list[Line]:
        """The order's lines, unpacked anew at each call."""
        return _unpack_lines(self.packed_lines)

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredOrder`."""
        return (
            self.order_id,
            self.at,
            self.total,
            self.coupon_total,
            self.cart_id,
            self.margin_micro,
            self.packed_lines,
            self.refunded,
            self.void,
        )

    def piece(self) -> Any:
        """The order packed, as a ``msgspec.Raw``."""
        if self._piece is None:
            self._piece = msgspec.Raw(_encode(self.fields()))
        return self._piece


class Made:
    """An offer that was decided, as caps, cooldowns, withdrawals and feedback need it.

    ``fate`` is its one final outcome (accepted, declined, complained, withdrawn, expired), ``""``
    while it is open; ``why`` the reason of a decline; ``seen`` 1 when it was shown, 2 when it was
    clicked; ``answered`` that rules have had their turn at the answer; ``complained`` that a
    complaint was counted against the rule. ``ghost``: of a customer in a holdout, so it was
    counted, never sent. ``perks`` are names, each with its end in ms.
    """

    __slots__ = (
        "_piece",
        "about",
        "answered",
        "at",
        "channel",
        "complained",
        "ended_at",
        "event_type",
        "fate",
        "ghost",
        "kind",
        "offer_id",
        "perks",
        "placement",
        "price",
        "rule",
        "seen",
        "skus",
        "until",
        "variant",
        "why",
    )

    def __init__(
        self,
        at: int,
        offer_id: str,
        rule: str,
        kind: str,
        channel: str,
        placement: str | None,
        about: str,
        until: int,
        price: int,
        event_type: str,
        ghost: bool,
        perks: list[tuple[str, int]],
        skus: list[str],
        variant: str = "",
    ) -> None:
        self.at = at
        self.offer_id = offer_id
        self.rule = rule
        self.kind = kind
        self.channel = channel
        self.placement = placement
        self.about = about
        self.until = until
        self.price = price
        self.event_type = event_type
        self.ghost = ghost
        self.perks = perks
        self.skus = skus
        self.variant = variant
        self.fate = ""
        self.why = ""
        self.ended_at = 0
        self.seen = 0
        self.answered = False
        self.complained = False
        self._piece: Any = None

    @property
    def open(self) -> bool:
        """Whether the offer has no outcome yet."""
        return not self.fate and not self.ghost

    def end(self, fate: str, at: int) -> None:
        """Give it its one outcome."""
        self.fate = fate
        self.ended_at = at
        self._piece = None

    def see(self, step: int) -> None:
        """Note that it was shown, or clicked."""
        self.seen = step
        self._piece = None

    def say_why(self, reason: str) -> None:
        """Note why it was declined."""
        self.why = reason
        self._piece = None

    def answer(self) -> None:
        """Note that rules have had their turn at the answer."""
        self.answered = True
        self._piece = None

    def complain(self) -> None:
        """Note that a complaint was counted, whatever else becomes of the offer."""
        self.complained = True
        self._piece = None

    def fields(self) -> tuple[Any, ...]:
        """The values in the order of :class:`triggers.state.StoredMade`."""
        return (
            self.at,
            self.offer_id,
            self.rule,
            self.kind,
            self.channel,
            self.placement,
            self.about,
            self.until,
            self.price,
            self.event_type,
            self.ghost,
            self.perks,
            self.skus,
            self.fate,
            self.why,
            self.ended_at,
            self.seen,
            self.answered,
            self.complained,
            self.variant,
        )

    def piece(self) -> Any:
        """The offer packed, as a ``msgspec.Raw``."""
        if self._piece is None:
            self._piece = msgspec.Raw(_encode(self.fields()))
        return self._piece


class Offers:
    """Offers made (oldest first), the instant of each cooling rule's last one, and when the
    customer last refused what for which reason (:func:`triggers.feedback.refused_key`)."""

    __slots__ = ("last", "made", "refused")

    def __init__(self) -> None:
        self.made: list[Made] = []
        self.last: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.made or self.last or self.refused)


def unpack_orders(packed: bytes) -> dict[str, Order]:
    """The orders of a document by their ids, oldest first."""
    stored = _decode_orders(packed)
    return {key: Order(*msgspec.structs.astuple(each)) for key, each in stored.items()}


def pack_orders(orders: dict[str, Order]) -> bytes:
    """The bytes of :func:`unpack_orders`."""
    return _encode({key: order.piece() for key, order in orders.items()})


def unpack_offers(packed: bytes) -> Offers:
    """The offers of a document."""
    stored = _decode_offers(packed)
    offers = Offers()
    offers.made = [_made(each) for each in stored.made]
    offers.last = stored.last
    offers.refused = stored.refused
    return offers


def _made(stored: StoredMade) -> Made:
    made = Made(
        stored.at,
        stored.offer_id,
        stored.rule,
        stored.kind,
        stored.channel,
        stored.placement,
        stored.about,
        stored.until,
        stored.price,
        stored.event_type,
        stored.ghost,
        stored.perks,
        stored.skus,
        stored.variant,
    )
    made.fate, made.why, made.ended_at = stored.fate, stored.why, stored.ended_at
    made.seen, made.answered, made.complained = stored.seen, stored.answered, stored.complained
    return made


def pack_offers(offers: Offers) -> bytes:
    """The bytes of :func:`unpack_offers`."""
    return _encode(([made.piece() for made in offers.made], offers.last, offers.refused))
