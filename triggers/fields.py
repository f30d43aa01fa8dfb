"""What the fields of payloads may hold: annotated types with their limits.

msgspec counts characters, the contract counts bytes, and a sku has a forbidden alphabet. So an
annotation may name a *kind*, which the door looks at where msgspec's limits alone do not decide.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

#: The largest integer that a double holds exactly; JSON readers elsewhere lose digits beyond it.
INT_MAX: Final = 2**53 - 1
ID_BYTES_MAX: Final = 256
#: What a packed document takes at most; sums of what the door lets in may lie far beyond it.
STORED_MAX: Final = 2**63 - 1

KIND: Final = "kind"

Id = Annotated[str, Meta(min_length=1, max_length=ID_BYTES_MAX, extra={KIND: "id"})]
Sku = Annotated[str, Meta(min_length=1, max_length=ID_BYTES_MAX, extra={KIND: "sku"})]
#: A descriptive word that ends up in the customer's state (category, family); may be empty.
Label = Annotated[str, Meta(max_length=ID_BYTES_MAX, extra={KIND: "label"})]
Currency = Annotated[str, Meta(min_length=3, max_length=3, extra={KIND: "currency"})]
#: RFC 3339 with an offset.
Timestamp = Annotated[str, Meta(min_length=20, max_length=64, extra={KIND: "timestamp"})]
#: A name of the IANA time zone database.
Zone = Annotated[str, Meta(min_length=1, max_length=64, extra={KIND: "zone"})]

Amount = Annotated[int, Meta(ge=0, le=INT_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=INT_MAX)]
Count = Annotated[int, Meta(ge=-INT_MAX, le=INT_MAX)]
Score = Annotated[int, Meta(ge=1, le=5)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: A double; as a JSON integer it stays within `INT_MAX`, which the door sees by the kind.
Figure = Annotated[float, Meta(extra={KIND: "figure"})]

HesitationReason = Literal["price", "spec", "other"]
FeedbackReason = Literal["price", "spec", "not_needed", "timing", "other"]
Relation = Literal["complement", "alternative", "replenishes"]
AttributeValue = str | int | float | bool


class Payload(Struct, frozen=True, gc=False):
    """The base of every `data`. Payloads are trees and never change, so no cycle can form."""


class Item(Payload, frozen=True, gc=False):
    """A line of a cart or an order."""

    sku: Sku
    quantity: Quantity
    unit_price: Amount
    category: Label | None = None


class Text(Payload, frozen=True, gc=False):
    """A text in the languages that we write."""

    ja: str | None = None
    en: str | None = None


class Ladder(Payload, frozen=True, gc=False):
    """A product's rung among those of its ladder; a higher step is a dearer tier."""

    name: Id
    step: Figure


def kind_of(annotation: object) -> str | None:
    """The kind that an annotation of a payload's field names, or None."""
    if isinstance(annotation, msgspec.inspect.Metadata):
        found = (annotation.extra or {}).get(KIND)
        return found if isinstance(found, str) else None
    return None
