"""The `data` of every event about a customer, topic by topic, as the wire contract has them."""

from __future__ import annotations

from triggers.fields import (
    Amount,
    AttributeValue,
    Currency,
    FeedbackReason,
    Figure,
    HesitationReason,
    Id,
    Item,
    Label,
    Payload,
    Score,
    Sku,
    Timestamp,
    Zone,
)

# --- topic cart ---


class CartItemAdded(Payload, frozen=True, gc=False):
    """`subtotal` is the cart's after the change."""

    cart_id: Id
    item: Item
    subtotal: Amount
    currency: Currency
    session_id: Id | None = None


class CartItemRemoved(Payload, frozen=True, gc=False):
    """`subtotal` is the cart's after the change."""

    cart_id: Id
    item: Item
    subtotal: Amount
    currency: Currency
    session_id: Id | None = None


class CartViewed(Payload, frozen=True, gc=False):
    """The cart page was looked at."""

    cart_id: Id
    subtotal: Amount
    currency: Currency


class ProductViewed(Payload, frozen=True, gc=False):
    """A product page was looked at."""

    sku: Sku
    category: Label | None = None
    session_id: Id | None = None


# --- topic checkout ---


class CheckoutStarted(Payload, frozen=True, gc=False):
    """The customer went from the cart to the checkout."""

    checkout_id: Id
    cart_id: Id
    total: Amount
    currency: Currency
    items: list[Item] | None = None


class CheckoutPaymentReached(Payload, frozen=True, gc=False):
    """The last page before payment."""

    checkout_id: Id
    cart_id: Id
    total: Amount
    currency: Currency
    items: list[Item] | None = None


class CheckoutPlanSelected(Payload, frozen=True, gc=False):
    """A plan was chosen; it is not bought yet."""

    plan: Sku
    price: Amount
    currency: Currency
    reason: HesitationReason | None = None


class CheckoutPlanLeft(Payload, frozen=True, gc=False):
    """A plan was put back, perhaps with the reason for it."""

    plan: Sku
    price: Amount
    currency: Currency
    reason: HesitationReason | None = None


# --- topic purchase ---


class PurchaseCompleted(Payload, frozen=True, gc=False):
    """An order was paid."""

    order_id: Id
    items: list[Item]
    total: Amount
    currency: Currency
    cart_id: Id | None = None
    offer_ids: list[Id] | None = None
    coupon_total: Amount | None = None


class PurchaseRefunded(Payload, frozen=True, gc=False):
    """Without a `total` the whole order is refunded."""

    order_id: Id
    total: Amount | None = None


class PurchaseCancelled(Payload, frozen=True, gc=False):
    """Without a `total` the whole order is cancelled."""

    order_id: Id
    total: Amount | None = None


class ContractStarted(Payload, frozen=True, gc=False):
    """A contract for a plan began."""

    contract_id: Id
    plan: Sku
    renews_at: Timestamp


class ContractRenewalSet(Payload, frozen=True, gc=False):
    """The contract's date of renewal changed."""

    contract_id: Id
    plan: Sku
    renews_at: Timestamp


class ContractEnded(Payload, frozen=True, gc=False):
    """A contract ended."""

    contract_id: Id


# --- topic usage ---


class UsageRecorded(Payload, frozen=True, gc=False):
    """So much of a metric was used; `quota` is what the customer may use of it."""

    metric: Id
    value: Figure
    quota: Figure | None = None
    product: Label | None = None


class ProblemReported(Payload, frozen=True, gc=False):
    """The customer has a problem of this kind."""

    tag: Id


class SupportOpened(Payload, frozen=True, gc=False):
    """A ticket was opened."""

    ticket_id: Id
    csat: Score | None = None


class SupportResolved(Payload, frozen=True, gc=False):
    """A ticket was resolved; `csat` is the customer's mark for it."""

    ticket_id: Id
    csat: Score | None = None


class DeviceChangeStarted(Payload, frozen=True, gc=False):
    """The customer is changing a device."""

    device_category: Label | None = None


class DeploymentCompleted(Payload, frozen=True, gc=False):
    """A product is in use."""

    product: Id


class AssessmentCompleted(Payload, frozen=True, gc=False):
    """A test was taken; `exam_at` is when it counts."""

    weak_areas: list[Label]
    exam_at: Timestamp | None = None


class ConsultationCompleted(Payload, frozen=True, gc=False):
    """A talk about the customer's concerns took place."""

    concerns: list[Label]


class StayCheckedIn(Payload, frozen=True, gc=False):
    """A hotel's guest arrived."""

    stay_id: Id
    plan: Sku


class StayCheckedOut(Payload, frozen=True, gc=False):
    """A hotel's guest left."""

    stay_id: Id
    plan: Sku


class ProductReviewed(Payload, frozen=True, gc=False):
    """A product was reviewed, perhaps together with others."""

    sku: Sku
    stars: Score
    bought_with: list[Sku] | None = None


# --- topic customer ---


class CustomerProfileSet(Payload, frozen=True, gc=False):
    """Any of the fields; what is absent stays as it was."""

    timezone: Zone | None = None
    locale: Label | None = None
    attributes: dict[Id, AttributeValue] | None = None


class ConsentGranted(Payload, frozen=True, gc=False):
    """`channel` is a channel's name, or `*` for all."""

    channel: Id
    proof: str | None = None


class ConsentRevoked(Payload, frozen=True, gc=False):
    """`channel` is a channel's name, or `*` for all."""

    channel: Id
    proof: str | None = None


class CustomerObjected(Payload, frozen=True, gc=False):
    """No direct marketing at all."""


class CustomerEraseRequested(Payload, frozen=True, gc=False):
    """Everything about the customer is to go."""


# --- topic feedback ---


class OfferShown(Payload, frozen=True, gc=False):
    """The customer saw the offer."""

    offer_id: Id
    reason: FeedbackReason | None = None


class OfferClicked(Payload, frozen=True, gc=False):
    """The customer looked closer at the offer."""

    offer_id: Id
    reason: FeedbackReason | None = None


class OfferAccepted(Payload, frozen=True, gc=False):
    """The customer took the offer."""

    offer_id: Id
    reason: FeedbackReason | None = None


class OfferDeclined(Payload, frozen=True, gc=False):
    """The customer said no, perhaps with the reason for it."""

    offer_id: Id
    reason: FeedbackReason | None = None


class OfferComplained(Payload, frozen=True, gc=False):
    """The customer complained about the offer."""

    offer_id: Id
    reason: FeedbackReason | None = None
