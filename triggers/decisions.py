"""What the engine answers: decisions, offers and withdrawals.

Each is a CloudEvents 1.0 event in structured JSON whose ``source`` is ``tsuide``; field by field
they are described in ``docs/contract.md``. The structs of ``triggers/wire.py`` are their bodies.
"""

from typing import Any, Final

from triggers.durations import to_text
from triggers.extras import perks_body
from triggers.fields import INT_MAX
from triggers.sizes import held_within
from triggers.wire import (
    ByEvent,
    ByTimer,
    DecisionData,
    Envelope,
    OfferData,
    OfferItem,
    WithdrawalData,
    to_json,
)

__all__ = ["DECISIONS", "SOURCE", "Decision", "Offer", "OfferItem", "Trigger", "Withdrawal"]

SOURCE: Final = "tsuide"
DECISIONS: Final = "decisions"


class Trigger:
    """What a decision answers: an event, or a due timer (``due_ms`` set) and what armed it."""

    __slots__ = ("_body", "due_ms", "event_id", "event_type", "rule", "source")

    def __init__(
        self,
        event_type: str,
        event_id: str,
        source: str,
        rule: str = "",
        due_ms: int | None = None,
    ) -> None:
        self.event_type = event_type
        self.event_id = event_id
        self.source = source
        self.rule = rule
        self.due_ms = due_ms
        self._body: ByEvent | ByTimer | None = None  # one for an offer and all decisions

    def body(self) -> ByEvent | ByTimer:
        """The ``trigger`` object of the wire."""
        body = self._body
        if body is None:
            due_ms = self.due_ms
            if due_ms is None:
                body = ByEvent(self.event_type, self.event_id, self.source)
            else:
                body = ByTimer(self.rule, to_text(due_ms), self.event_id, self.source)
            self._body = body
        return body


class Decision:
    """One answer: first decisions (offered, suppressed, deferred, held_out, outranked) and later
    notes (withdrawn, expired). ``reason`` is a gate's code, an event type or ``rule_removed``."""

    __slots__ = (
        "at",
        "catalog_version",
        "customer",
        "kind",
        "offer_id",
        "outcome",
        "priority",
        "reason",
        "rule",
        "rule_book",
        "trigger",
        "until",
        "would_have",
    )

    def __init__(
        self,
        at: int,
        customer: str,
        rule: str,
        rule_book: str,
        kind: str,
        trigger: Trigger,
        outcome: str,
        reason: str | None,
        offer_id: str,
        priority: int,
        catalog_version: int,
    ) -> None:
        self.at = at
        self.customer = customer
        self.rule = rule
        self.rule_book = rule_book
        self.kind = kind
        self.trigger = trigger
        self.outcome = outcome
        self.reason = reason
        self.offer_id = offer_id
        self.priority = priority
        self.catalog_version = catalog_version
        self.until: int | None = None
        self.would_have: dict[str, Any] | None = None  # what the holdout kept back

    @property
    def id(self) -> str:
        """The event id on the wire."""
        return f"{self.offer_id}.{self.outcome}"

    def encode(self) -> bytes:
        """The ``decision.made`` event as JSON bytes."""
        return self.record()[3]

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        until = self.until
        data = DecisionData(
            self.rule,
            self.rule_book,
            self.kind,
            self.trigger.body(),
            self.outcome,
            self.reason,
            self.offer_id,
            self.priority,
            self.catalog_version,
            None if until is None else to_text(until),
            self.would_have,
        )
        number = self.id
        value = _event(number, "decision.made", self.at, self.customer, data)
        return DECISIONS, self.customer, number, value


def _saving(items: list[OfferItem]) -> int:
    """What the lines cost less than by list, in minor units."""
    saving = 0
    for item in items:
        saving += item.quantity * (item.list_price - item.offer_price)
    return held_within(saving, least=-INT_MAX)


class Offer:
    """An offer as ``offer.made`` carries it. Times in ms; each of ``perks`` with its end."""

    __slots__ = (
        "about",
        "at",
        "channel",
        "customer",
        "default_selection",
        "evidence",
        "items",
        "kind",
        "message",
        "offer_id",
        "perks",
        "placement",
        "reason",
        "rule",
        "rule_book",
        "skip_after_ms",
        "terms",
        "trigger",
        "valid_until",
        "variant",
    )

    def __init__(
        self,
        at: int,
        customer: str,
        offer_id: str,
        kind: str,
        rule: str,
        rule_book: str,
        trigger: Trigger,
        channel: str,
        placement: str | None,
        about: str,
        items: list[OfferItem],
        valid_until: int,
        reason: dict[str, str],
        evidence: list[dict[str, Any]],
        skip_after_ms: int | None,
        message: dict[str, Any],
        terms: dict[str, Any] | None,
        perks: list[tuple[str, int]],
        default_selection: str | None,
        variant: str,
    ) -> None:
        self.at = at
        self.customer = customer
        self.offer_id = offer_id
        self.kind = kind
        self.rule = rule
        self.rule_book = rule_book
        self.trigger = trigger
        self.channel = channel
        self.placement = placement
        self.about = about
        self.items = items
        self.valid_until = valid_until
        self.reason = reason
        self.evidence = evidence
        self.skip_after_ms = skip_after_ms
        self.message = message
        self.terms = terms
        self.perks = perks
        self.default_selection = default_selection
        self.variant = variant

    @property
    def id(self) -> str:
        """The event id on the wire: the offer id."""
        return self.offer_id

    def encode(self) -> bytes:
        """The ``offer.made`` event as JSON bytes."""
        return self.record()[3]

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        data = OfferData(
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
        value = _event(self.offer_id, "offer.made", self.at, self.customer, data)
        return f"offers.{self.channel}", self.customer, self.offer_id, value


class Withdrawal:
    """An offer taken back because of an event of type ``reason``."""

    __slots__ = ("about", "at", "channel", "customer", "offer_id", "reason", "rule")

    def __init__(
        self,
        at: int,
        customer: str,
        offer_id: str,
        rule: str,
        channel: str,
        about: str,
        reason: str,
    ) -> None:
        self.at = at
        self.customer = customer
        self.offer_id = offer_id
        self.rule = rule
        self.channel = channel
        self.about = about
        self.reason = reason

    @property
    def id(self) -> str:
        """The event id on the wire."""
        return f"{self.offer_id}.withdrawn"

    def encode(self) -> bytes:
        """The ``offer.withdrawn`` event as JSON bytes."""
        return self.record()[3]

    def record(self) -> tuple[str, str, str, bytes]:
        """Topic, customer id, event id and value."""
        number = self.id
        data = WithdrawalData(self.offer_id, self.rule, self.about, self.reason)
        value = _event(number, "offer.withdrawn", self.at, self.customer, data)
        return f"offers.{self.channel}", self.customer, number, value


def _event(event_id: str, kind: str, at: int, subject: str, data: Any) -> bytes:
    return to_json(Envelope("1.0", event_id, SOURCE, kind, to_text(at), subject, data))
