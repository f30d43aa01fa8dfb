"""What the engine answers: decisions, offers and withdrawals, and their bodies on the wire.

Each is a CloudEvents 1.0 event in structured JSON whose ``source`` is ``tsuide``; field by field
they are described in ``docs/contract.md``.
"""

from typing import Any

import msgspec

from triggers.durations import to_text
from triggers.extras import perks_body
from triggers.fields import INT_MAX, held_within

SOURCE = "tsuide"
DECISIONS = "decisions"


class Trigger(msgspec.Struct, gc=False):
    """What a decision answers: an event, or a due timer (``due_ms`` set) and what armed it."""

    event_type: str
    event_id: str
    source: str
    rule: str = ""
    due_ms: int | None = None

    def body(self) -> dict[str, str]:
        """The ``trigger`` object of the wire."""
        if self.due_ms is None:
            kind = {"event": self.event_type, "event_id": self.event_id}
            return {**kind, "event_source": self.source}
        return {
            "timer": self.rule,
            "due": to_text(self.due_ms),
            "armed_by": self.event_id,
            "armed_by_source": self.source,
        }


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
        data: dict[str, Any] = {
            "rule": self.rule,
            "rule_book": self.rule_book,
            "kind": self.kind,
            "trigger": self.trigger.body(),
            "outcome": self.outcome,
            "reason": self.reason,
            "offer_id": self.offer_id,
            "priority": self.priority,
            "catalog_version": self.catalog_version,
        }
        if self.until is not None:
            data["until"] = to_text(self.until)
        if self.would_have is not None:
            data["would_have"] = self.would_have
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
        items = self.items
        data: dict[str, Any] = {
            "offer_id": self.offer_id,
            "kind": self.kind,
            "rule": self.rule,
            "rule_book": self.rule_book,
            "trigger": self.trigger.body(),
            "channel": self.channel,
            "placement": self.placement,
            "correlation_id": self.about,
            "items": items,
            "saving": _saving(items),
            "valid_from": to_text(self.at),
            "valid_until": to_text(self.valid_until),
            "variant": self.variant or None,
            "reason": self.reason,
            "evidence": self.evidence,
            "message": self.message,
            "perks": perks_body(self.perks),
        }
        if self.default_selection is not None:
            data["default_selection"] = self.default_selection
        if self.terms is not None:
            data["terms"] = self.terms
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


_encode = msgspec.json.Encoder().encode


def _event(event_id: str, kind: str, at: int, subject: str, data: dict[str, Any]) -> bytes:
    return _encode(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": SOURCE,
            "type": kind,
            "time": to_text(at),
            "subject": subject,
            "data": data,
        }
    )
