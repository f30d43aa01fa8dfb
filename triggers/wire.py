"""The bodies of what the engine answers, as the encoder takes them.

In a module of their own, as structs cannot be compiled: see ``docs/architecture.md``. The order of
the fields is the order on the wire.
"""

from typing import Any

import msgspec


class ByEvent(msgspec.Struct, gc=False):
    """The ``trigger`` object of what answers an event."""

    event: str
    event_id: str
    event_source: str


class ByTimer(msgspec.Struct, gc=False):
    """The ``trigger`` object of what answers a due timer."""

    timer: str
    due: str
    armed_by: str
    armed_by_source: str


class OfferItem(msgspec.Struct, gc=False):
    """One line of an offer, prices in minor units."""

    sku: str
    quantity: int
    list_price: int
    offer_price: int
    currency: str


class DecisionData(msgspec.Struct, omit_defaults=True, gc=False):
    """``data`` of ``decision.made``; what has a default is left out where it has no value."""

    rule: str
    rule_book: str
    kind: str
    trigger: ByEvent | ByTimer
    outcome: str
    reason: str | None
    offer_id: str
    priority: int
    catalog_version: int
    until: str | None = None
    would_have: dict[str, Any] | None = None


class OfferData(msgspec.Struct, omit_defaults=True, gc=False):
    """``data`` of ``offer.made``; what has a default is left out where it has no value."""

    offer_id: str
    kind: str
    rule: str
    rule_book: str
    trigger: ByEvent | ByTimer
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


class WithdrawalData(msgspec.Struct, gc=False):
    """``data`` of ``offer.withdrawn``."""

    offer_id: str
    rule: str
    correlation_id: str
    reason: str


class Envelope(msgspec.Struct, gc=False):
    """A CloudEvents 1.0 event in structured JSON."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    data: Any


to_json = msgspec.json.Encoder().encode
