"""What the engine answers: decisions, offers and withdrawals, and their bodies on the wire.

Each is a CloudEvents 1.0 event in structured JSON whose ``source`` is ``tsuide``; field by field
they are described in ``docs/contract.md``.
"""

from typing import Any

import msgspec

from triggers.durations import to_text
from triggers.extras import perks_body
from triggers.fields import INT_MAX
from triggers.sizes import held_within

SOURCE = "tsuide"
DECISIONS = "decisions"


class _ByEvent(msgspec.Struct, gc=False):
    event: str
    event_id: str
    event_source: str


class _ByTimer(msgspec.Struct, gc=False):
    timer: str
    due: str
    armed_by: str
    armed_by_source: str


class Trigger(msgspec.Struct, gc=False):
    """What a decision answers: an event, or a due timer (``due_ms`` set) and what armed it."""

    event_type: str
    event_id: str
    source: str
    rule: str = ""
    due_ms: int | None = None

    def body(self) -> _ByEvent | _ByTimer:
        """The ``trigger`` object of the wire."""
        if self.due_ms is None:
            return _ByEvent(self.event_type, self.event_id, self.source)
        return _ByTimer(self.rule, to_text(self.due_ms), self.event_id, self.source)


class _DecisionData(msgspec.Struct, omit_defaults=True, gc=False):
    """``data`` of ``decision.made``; what has a default is left out where it has no value."""

    rule: str
    rule_book: str
    kind: str
    trigger: _ByEvent | _ByTimer
    outcome: str
    reason: str | None
    offer_id: str
    priority: int
    catalog_version: int
    until: str | None = None
    would_have: dict[str, Any] | None = None


class Decision(msgspec.Struct, gc=False):
    """One answer: first decisions (offered, suppressed, deferred, held_out, outranked) and later
    notes (withdrawn, expired). ``reason`` is a gate's code, an event type or ``rule_removed``."""

    at: int
    customer: str
    rule: str
    rule_book: str
    kind: str
    trigger: Trigger
    outcome: str
    reason: str | None
    offer_id: str
    priority: int
    catalog_version: int
    until: int | None = None
    would_have: dict[str, Any] | None = None  # what the holdout kept back

    @property
    def id(self) -> str:
        """The event id on the wire."""
        return f"{self.offer_id}.{self.outcome}"

    def encode(self) -> bytes:
        """The ``decision.made`` event as JSON bytes."""
        data = _DecisionData(
            self.rule,
            self.rule_book,
            self.kind,
            self.trigger.body(),
            self.outcome,
            self.reason,
            self.offer_id,
            self.priority,
            self.catalog_version,
            None if self.until is None else to_text(self.until),
            self.would_have,
        )
        return _event(self.id, "decision.made", self.at, self.customer, data)

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        return DECISIONS, self.customer, self.id, self.encode()


class OfferItem(msgspec.Struct, gc=False):
    """One line of an offer, prices in minor units."""

    sku: str
    quantity: int
    list_price: int
    offer_price: int
    currency: str


class _OfferData(msgspec.Struct, omit_defaults=True, gc=False):
    """``data`` of ``offer.made``; what has a default is left out where it has no value."""

    offer_id: str
    kind: str
    rule: str
    rule_book: str
    trigger: _ByEvent | _ByTimer
    channel: str
    placement: str | None
    correlation_id: str
    items: list[OfferItem]
    saving: int
    valid_from: str
    valid_until: str
    variant: str | None
    reason: dict[str, str]
    evidence: list[dict[str, Any]]
    message: dict[str, Any]
    perks: list[dict[str, str]]
    default_selection: str | None = None
    terms: dict[str, Any] | None = None


def _saving(items: list[OfferItem]) -> int:
    """What the lines cost less than by list, in minor units."""
    saving = sum(item.quantity * (item.list_price - item.offer_price) for item in items)
    return held_within(saving, least=-INT_MAX)


class Offer(msgspec.Struct, gc=False):
    """An offer as ``offer.made`` carries it. Times in ms."""

    at: int
    customer: str
    offer_id: str
    kind: str
    rule: str
    rule_book: str
    trigger: Trigger
    channel: str
    placement: str | None
    about: str
    items: list[OfferItem]
    valid_until: int
    reason: dict[str, str]
    evidence: list[dict[str, Any]]
    skip_after_ms: int | None = None
    message: dict[str, Any] = {}
    terms: dict[str, Any] | None = None
    perks: list[tuple[str, int]] = []  # each with its end in ms
    default_selection: str | None = None
    variant: str = ""

    @property
    def id(self) -> str:
        """The event id on the wire: the offer id."""
        return self.offer_id

    def encode(self) -> bytes:
        """The ``offer.made`` event as JSON bytes."""
        data = _OfferData(
            self.offer_id,
            self.kind,
            self.rule,
            self.rule_book,
            self.trigger.body(),
            self.channel,
            self.placement,
            self.about,
            self.items,
            _saving(self.items),
            to_text(self.at),
            to_text(self.valid_until),
            self.variant or None,
            self.reason,
            self.evidence,
            self.message,
            perks_body(self.perks),
            self.default_selection,
            self.terms,
        )
        return _event(self.offer_id, "offer.made", self.at, self.customer, data)

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        return f"offers.{self.channel}", self.customer, self.offer_id, self.encode()


class Withdrawal(msgspec.Struct, gc=False):
    """An offer taken back because of an event of type ``reason``."""

    at: int
    customer: str
    offer_id: str
    rule: str
    channel: str
    about: str
    reason: str

    @property
    def id(self) -> str:
        """The event id on the wire."""
        return f"{self.offer_id}.withdrawn"

    def encode(self) -> bytes:
        """The ``offer.withdrawn`` event as JSON bytes."""
        data = {
            "offer_id": self.offer_id,
            "rule": self.rule,
            "correlation_id": self.about,
            "reason": self.reason,
        }
        return _event(self.id, "offer.withdrawn", self.at, self.customer, data)

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        return f"offers.{self.channel}", self.customer, self.id, self.encode()


class _Event(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    data: Any


_encode = msgspec.json.Encoder().encode


def _event(event_id: str, kind: str, at: int, subject: str, data: Any) -> bytes:
    return _encode(_Event("1.0", event_id, SOURCE, kind, to_text(at), subject, data))
