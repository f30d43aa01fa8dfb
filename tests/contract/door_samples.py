"""Valid events of every type, and records around them, for the tests of the door."""

from __future__ import annotations

import copy
import json
from typing import Any

from streams.codec import Door
from streams.murmur2 import partition_of
from triggers.errors import Refused
from triggers.events import CATALOG, EVENT_TYPES, Event

PARTITIONS = 8
AT_MS = 1_714_566_896_789
TIME = "2024-05-01T12:34:56.789Z"
SUBJECT = "customer-1"

ITEM = {"sku": "sku-1", "quantity": 2, "unit_price": 4980, "category": "pens"}
_CART = {"cart_id": "c", "item": ITEM, "subtotal": 1, "currency": "JPY", "session_id": "s"}
_CHECKOUT = {"checkout_id": "k", "cart_id": "c", "total": 1, "currency": "JPY", "items": [ITEM]}
_PLAN = {"plan": "gold", "price": 980, "currency": "JPY", "reason": "price"}
_CONTRACT = {"contract_id": "x", "plan": "gold", "renews_at": "2025-05-01T00:00:00+09:00"}
_STAY = {"stay_id": "y", "plan": "twin"}
_CONSENT = {"channel": "*", "proof": "form 7"}
_FEEDBACK = {"offer_id": "f", "reason": "not_needed"}
_TEXT = {"ja": "速い", "en": "fast"}

#: A payload with every field for each type of the contract.
DATA: dict[str, dict[str, Any]] = {
    "cart.item_added": _CART,
    "cart.item_removed": _CART,
    "cart.viewed": {"cart_id": "c", "subtotal": 0, "currency": "JPY"},
    "product.viewed": {"sku": "sku-1", "category": "", "session_id": "s"},
    "checkout.started": _CHECKOUT,
    "checkout.payment_reached": _CHECKOUT,
    "checkout.plan_selected": _PLAN,
    "checkout.plan_left": _PLAN,
    "purchase.completed": {
        "order_id": "o",
        "items": [ITEM, ITEM],
        "total": 9960,
        "currency": "JPY",
        "cart_id": "c",
        "offer_ids": ["f", "g"],
        "coupon_total": 0,
    },
    "purchase.refunded": {"order_id": "o", "total": 10},
    "purchase.cancelled": {"order_id": "o", "total": 10},
    "contract.started": _CONTRACT,
    "contract.renewal_set": _CONTRACT,
    "contract.ended": {"contract_id": "x"},
    "usage.recorded": {"metric": "seats", "value": 8.5, "quota": 10, "product": "crm"},
    "problem.reported": {"tag": "noise"},
    "support.opened": {"ticket_id": "t"},
    "support.resolved": {"ticket_id": "t", "csat": 5},
    "device.change_started": {"device_category": "phone"},
    "deployment.completed": {"product": "crm"},
    "assessment.completed": {"weak_areas": ["algebra"], "exam_at": "2025-02-01T09:00:00+09:00"},
    "consultation.completed": {"concerns": ["sleep"]},
    "stay.checked_in": _STAY,
    "stay.checked_out": _STAY,
    "product.reviewed": {"sku": "sku-1", "stars": 5, "bought_with": ["sku-2"]},
    "customer.profile_set": {
        "timezone": "Asia/Tokyo",
        "locale": "ja",
        "attributes": {"age": 40, "vip": True, "height": 1.8, "town": "京都"},
    },
    "consent.granted": _CONSENT,
    "consent.revoked": _CONSENT,
    "customer.objected": {},
    "customer.erase_requested": {},
    "offer.shown": _FEEDBACK,
    "offer.clicked": _FEEDBACK,
    "offer.accepted": _FEEDBACK,
    "offer.declined": _FEEDBACK,
    "offer.complained": _FEEDBACK,
    "catalog.product_set": {
        "name": "Pen",
        "price": 300,
        "currency": "JPY",
        "category": "pens",
        "family": "ink",
        "purposes": ["office"],
        "stock": 0,
        "ladder": {"name": "pens", "step": 2},
        "features": ["blue"],
        "benefit": _TEXT,
        "requires": ["sku-9"],
        "margin": 0.4,
    },
    "catalog.relation_set": {"to": "b", "relation": "complement", "weight": 1, "story": _TEXT},
    "catalog.bundle_set": {"items": ["a", "b"], "price": 1, "currency": "JPY", "theme": _TEXT},
    "catalog.stock_set": {"stock": 3},
    "catalog.removed": {},
}

CUSTOMER_TYPES = [name for name, one in EVENT_TYPES.items() if one.topic != CATALOG]


def event(kind: str = "cart.item_added", /, **changes: Any) -> dict[str, Any]:
    """A valid envelope of `kind`; `changes` replace or add fields of the envelope."""
    envelope = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "shop",
        "type": kind,
        "time": TIME,
        "subject": SUBJECT,
        "data": copy.deepcopy(DATA[kind]),
    }
    return {**envelope, **changes}


def encode(envelope: Any) -> bytes:
    """Its JSON; half surrogate pairs are written as escapes."""
    return json.dumps(envelope).encode()


DOOR = Door(PARTITIONS)


def receive(
    value: bytes | None,
    topic: str = "cart",
    key: bytes | None = SUBJECT.encode(),
    partition: int | None = None,
    headers: Any = (),
    timestamp_ms: int = AT_MS,
    now_ms: int = AT_MS,
) -> Event:
    """What the door says of a record; on the key's partition where none is given."""
    place = partition_of(key or b"", PARTITIONS) if partition is None else partition
    return DOOR.decode(topic, place, key, value, headers, timestamp_ms, now_ms)


def reason_of(value: bytes | None, **record: Any) -> str:
    """The reason with which the door refuses a record, or `accepted`."""
    try:
        receive(value, **record)
    except Refused as refused:
        return refused.reason if refused.detail else "no detail"
    return "accepted"
