"""Every event that the system knows: its topic, its payload and what it is about.

One table, `EVENT_TYPES`, goes from the name of a type to its topic, its payload (a msgspec Struct)
and the field that says what it is about. The payloads carry their limits in their annotations, so
the door, the conditions and the reference all read them from here.

Units: money is an integer in the currency's minor unit, counts are integers, figures of usage are
doubles, times are RFC 3339 strings with an offset (`Event.time_ms`: ms since 1970, UTC). An
optional field is `None` when it is absent or null.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import Struct

from triggers.catalogpayloads import (
    BundleSet,
    ProductRemoved,
    ProductSet,
    RelationSet,
    StockSet,
)
from triggers.event import Event
from triggers.fields import (
    ID_BYTES_MAX,
    INT_MAX,
    KIND,
    Item,
    Ladder,
    Payload,
    Text,
    kind_of,
)
from triggers.payloads import (
    AssessmentCompleted,
    CartItemAdded,
    CartItemRemoved,
    CartViewed,
    CheckoutPaymentReached,
    CheckoutPlanLeft,
    CheckoutPlanSelected,
    CheckoutStarted,
    ConsentGranted,
    ConsentRevoked,
    ConsultationCompleted,
    ContractEnded,
    ContractRenewalSet,
    ContractStarted,
    CustomerEraseRequested,
    CustomerObjected,
    CustomerProfileSet,
    DeploymentCompleted,
    DeviceChangeStarted,
    OfferAccepted,
    OfferClicked,
    OfferComplained,
    OfferDeclined,
    OfferShown,
    ProblemReported,
    ProductReviewed,
    ProductViewed,
    PurchaseCancelled,
    PurchaseCompleted,
    PurchaseRefunded,
    StayCheckedIn,
    StayCheckedOut,
    SupportOpened,
    SupportResolved,
    UsageRecorded,
)

__all__ = [
    "CATALOG",
    "CUSTOMER",
    "EVENT_TYPES",
    "ID_BYTES_MAX",
    "INT_MAX",
    "KIND",
    "SUBJECT",
    "TOPICS",
    "AssessmentCompleted",
    "BundleSet",
    "CartItemAdded",
    "CartItemRemoved",
    "CartViewed",
    "CatalogEvent",
    "CheckoutPaymentReached",
    "CheckoutPlanLeft",
    "CheckoutPlanSelected",
    "CheckoutStarted",
    "ConsentGranted",
    "ConsentRevoked",
    "ConsultationCompleted",
    "ContractEnded",
    "ContractRenewalSet",
    "ContractStarted",
    "CustomerEraseRequested",
    "CustomerObjected",
    "CustomerProfileSet",
    "DeploymentCompleted",
    "DeviceChangeStarted",
    "Event",
    "EventType",
    "Item",
    "Ladder",
    "OfferAccepted",
    "OfferClicked",
    "OfferComplained",
    "OfferDeclined",
    "OfferShown",
    "Payload",
    "ProblemReported",
    "ProductRemoved",
    "ProductReviewed",
    "ProductSet",
    "ProductViewed",
    "PurchaseCancelled",
    "PurchaseCompleted",
    "PurchaseRefunded",
    "RelationSet",
    "StayCheckedIn",
    "StayCheckedOut",
    "StockSet",
    "SupportOpened",
    "SupportResolved",
    "Text",
    "Tombstone",
    "UsageRecorded",
    "about_of",
    "kind_of",
]


class EventType(NamedTuple):
    """A type that the contract, or the rule book, declares."""

    name: str
    topic: str
    data: type[Struct]
    #: The field of `data` that says which thing it is about, or `CUSTOMER` (`SUBJECT` in catalog).
    about: str


class CatalogEvent(Struct, frozen=True, gc=False):
    """A record of the catalogue that came through the door. `subject` is the sku."""

    id: str
    source: str
    type: str
    subject: str
    time_ms: int
    data: Struct


class Tombstone(Struct, frozen=True, gc=False):
    """A null value in the catalogue: what this key had set is gone.

    `what` is `product`, `stock`, `bundle` or `relation`; `to` and `relation` are empty but for
    a relation.
    """

    what: str
    sku: str
    to: str = ""
    relation: str = ""


CUSTOMER: Final = "customer"
SUBJECT: Final = "subject"
CATALOG: Final = "catalog"

#: Topics about customers; at equal timestamps they are applied in this order, after the catalogue.
TOPICS: Final = ("customer", "cart", "checkout", "purchase", "usage", "feedback")

_DECLARED: Final = (
    EventType("cart.item_added", "cart", CartItemAdded, "cart_id"),
    EventType("cart.item_removed", "cart", CartItemRemoved, "cart_id"),
    EventType("cart.viewed", "cart", CartViewed, "cart_id"),
    EventType("product.viewed", "cart", ProductViewed, "sku"),
    EventType("checkout.started", "checkout", CheckoutStarted, "checkout_id"),
    EventType("checkout.payment_reached", "checkout", CheckoutPaymentReached, "checkout_id"),
    EventType("checkout.plan_selected", "checkout", CheckoutPlanSelected, "plan"),
    EventType("checkout.plan_left", "checkout", CheckoutPlanLeft, "plan"),
    EventType("purchase.completed", "purchase", PurchaseCompleted, "order_id"),
    EventType("purchase.refunded", "purchase", PurchaseRefunded, "order_id"),
    EventType("purchase.cancelled", "purchase", PurchaseCancelled, "order_id"),
    EventType("contract.started", "purchase", ContractStarted, "contract_id"),
    EventType("contract.renewal_set", "purchase", ContractRenewalSet, "contract_id"),
    EventType("contract.ended", "purchase", ContractEnded, "contract_id"),
    EventType("usage.recorded", "usage", UsageRecorded, "metric"),
    EventType("problem.reported", "usage", ProblemReported, CUSTOMER),
    EventType("support.opened", "usage", SupportOpened, "ticket_id"),
    EventType("support.resolved", "usage", SupportResolved, "ticket_id"),
    EventType("device.change_started", "usage", DeviceChangeStarted, CUSTOMER),
    EventType("deployment.completed", "usage", DeploymentCompleted, CUSTOMER),
    EventType("assessment.completed", "usage", AssessmentCompleted, CUSTOMER),
    EventType("consultation.completed", "usage", ConsultationCompleted, CUSTOMER),
    EventType("stay.checked_in", "usage", StayCheckedIn, "stay_id"),
    EventType("stay.checked_out", "usage", StayCheckedOut, "stay_id"),
    EventType("product.reviewed", "usage", ProductReviewed, "sku"),
    EventType("customer.profile_set", "customer", CustomerProfileSet, CUSTOMER),
    EventType("consent.granted", "customer", ConsentGranted, CUSTOMER),
    EventType("consent.revoked", "customer", ConsentRevoked, CUSTOMER),
    EventType("customer.objected", "customer", CustomerObjected, CUSTOMER),
    EventType("customer.erase_requested", "customer", CustomerEraseRequested, CUSTOMER),
    EventType("offer.shown", "feedback", OfferShown, "offer_id"),
    EventType("offer.clicked", "feedback", OfferClicked, "offer_id"),
    EventType("offer.accepted", "feedback", OfferAccepted, "offer_id"),
    EventType("offer.declined", "feedback", OfferDeclined, "offer_id"),
    EventType("offer.complained", "feedback", OfferComplained, "offer_id"),
    EventType("catalog.product_set", CATALOG, ProductSet, SUBJECT),
    EventType("catalog.relation_set", CATALOG, RelationSet, SUBJECT),
    EventType("catalog.bundle_set", CATALOG, BundleSet, SUBJECT),
    EventType("catalog.stock_set", CATALOG, StockSet, SUBJECT),
    EventType("catalog.removed", CATALOG, ProductRemoved, SUBJECT),
)

EVENT_TYPES: Final[Mapping[str, EventType]] = MappingProxyType({t.name: t for t in _DECLARED})


def about_of(event: Event, about: str) -> str | None:
    """What `event` is about by the field `about`; None where its data has no such field."""
    if about == CUSTOMER:
        return event.subject
    value = getattr(event.data, about, None)
    return value if isinstance(value, str) else None
