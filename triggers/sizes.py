"""How much of an event's payload a customer's document keeps, and how large a sum grows.

A record may have 256 KiB, which is an order of thousands of lines. A document that keeps the events
behind a hundred timers would have no bound worth the name, so of a payload's lists and mappings the
first entries are kept, and of an attribute's text its beginning.
"""

from typing import Any

import msgspec

from triggers.customer import Customer
from triggers.events import EVENT_TYPES
from triggers.fields import INT_MAX
from triggers.state import MAX_ATTRIBUTES, MAX_PAYLOAD_ENTRIES

#: A longer text of an attribute is cut.
TEXT_CHARS_MAX = 1_000


def _is_flat(kind: Any) -> bool:
    fields = msgspec.structs.fields(kind)
    return not any(word in str(field.type) for field in fields for word in ("list", "dict"))


#: Payloads that have neither lists nor mappings, which are most.
_FLAT = frozenset(known.data for known in EVENT_TYPES.values() if _is_flat(known.data))


def held_within(value: int, most: int = INT_MAX, least: int = 0) -> int:
    """``value``, or the nearer of ``least`` and ``most`` where it lies beyond them.

    For sums and products: each part has its limits, their sum has none, and what can be neither
    stored nor sent would stop a partition for good.
    """
    if value < least:
        return least
    return min(value, most)


def kept_payload(customer: Customer, data: Any) -> Any:
    """A payload as a pending timer keeps it; what goes is noted as ``payload_entries``."""
    if type(data) in _FLAT:
        return data
    shorter: dict[str, Any] = {}
    for name in getattr(data, "__struct_fields__", ()):
        value = getattr(data, name)
        if isinstance(value, list) and len(value) > MAX_PAYLOAD_ENTRIES:
            shorter[name] = value[:MAX_PAYLOAD_ENTRIES]
            customer.lose("payload_entries", len(value) - MAX_PAYLOAD_ENTRIES)
        elif isinstance(value, dict):
            kept = kept_attributes(customer, value)
            if kept != value:
                shorter[name] = kept
    return msgspec.structs.replace(data, **shorter) if shorter else data


def kept_attributes(customer: Customer, given: dict[str, Any]) -> dict[str, Any]:
    """Attributes as the document keeps them; what goes is noted as ``attributes``."""
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if len(kept) == MAX_ATTRIBUTES:
            customer.lose("attributes", len(given) - MAX_ATTRIBUTES)
            break
        if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
            customer.lose("attributes")
            value = value[:TEXT_CHARS_MAX]
        kept[name] = value
    return kept
