"""A copy for the customer: what the store holds of them, and what is left of them in the topics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from streams.clock import instant_text
from streams.erasure import Ledger
from streams.erasurekey import check_erasure_key
from streams.jsontext import too_deep
from streams.murmur2 import partition_of
from streams.scanning import partitions_of, reader, scan
from streams.settings import Settings
from streams.subjects import subject_of
from streams.topics import DEAD_LETTERS, DECISIONS, ERASED, EVIDENCE
from triggers.customer import PARTS, Customer
from triggers.events import TOPICS
from triggers.present import Cart, Checkout, Contract, Now, Timer
from triggers.rings import Made, Offers, Order
from triggers.state import (
    StoredCart,
    StoredCheckout,
    StoredContract,
    StoredMade,
    StoredNow,
    StoredOffers,
    StoredOrder,
    StoredTimer,
)

#: Records that an export lists of one topic, when nothing else is asked for.
RECORDS_MAX = 10_000
_OFFERS = "offers."
#: The fields of what a document holds as plain objects.
_LAYOUTS: dict[type, type[msgspec.Struct]] = {
    Cart: StoredCart,
    Checkout: StoredCheckout,
    Contract: StoredContract,
    Made: StoredMade,
    Now: StoredNow,
    Offers: StoredOffers,
    Timer: StoredTimer,
}

#: Whether a record is about the customer.
About = Callable[[Any], bool]


class Found(NamedTuple):
    """What the topics hold of a customer: the records, and how many more there are, by topic."""

    records: list[dict[str, Any]]
    left_out: dict[str, int]


def document(customer: Customer) -> dict[str, Any]:
    """Everything that a customer's document holds, by the names of its fields."""
    parts = {name: customer.now if name == "now" else customer.part(name) for name in PARTS}
    return {name: named(value) for name, value in parts.items() if value}


def named(value: Any) -> Any:
    """A stored value as JSON can hold it: structs by their fields, bytes in hexadecimal."""
    if isinstance(value, Order):
        fields = _named(value, StoredOrder)
        del fields["packed_lines"]
        return {**fields, "lines": named(value.lines)}
    layout = type(value) if isinstance(value, msgspec.Struct) else _LAYOUTS.get(type(value))
    if layout is not None:
        return _named(value, layout)
    if isinstance(value, dict):
        return {str(key): named(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [named(each) for each in value]
    if isinstance(value, bytes | bytearray):
        return _parsed(bytes(value))
    return value


def _parsed(value: bytes) -> Any:
    """What JSON says, such as the payload of an event that armed a timer; else hexadecimal."""
    try:
        return value.hex() if too_deep(value) else json.loads(value)
    except (ValueError, RecursionError):
        return value.hex()


def _named(value: Any, layout: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: named(getattr(value, name)) for name in layout.__struct_fields__}


def records_of(settings: Settings, customer_id: str, most: int = RECORDS_MAX) -> Found:
    """What our topics still hold of a customer; at most ``most`` records of each topic.

    The topics in, every topic of offers that there is, the decisions; the dead letters, also those
    under a wrong key or on a wrong partition; by the customer's digest the evidence of consent and
    the ledger of the erased. Raises `PreconditionError` when the key is another one: no digest
    would be found then.
    """
    check_erasure_key(settings)
    records: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    with reader(settings, "tsuide-export") as consumer:
        for name, numbers, about in _places(settings, consumer, customer_id):
            taken = 0
            for number in numbers:
                for record in scan(consumer, settings.topic(name), number):
                    if not about(record):
                        continue
                    if taken < most:
                        taken += 1
                        records.append(told(name, record))
                    else:
                        left_out[name] += 1
    return Found(records, dict(left_out))


def _places(
    settings: Settings, consumer: Any, customer_id: str
) -> Iterator[tuple[str, list[int], About]]:
    """Topic, partitions and what to look for, of each topic that there is."""
    key = customer_id.encode()
    there = {
        topic.removeprefix(settings.prefix)
        for topic in consumer.topics()
        if topic.startswith(settings.prefix)
    }
    count = len(partitions_of(consumer, settings.topic(TOPICS[0])))

    def keyed(record: Any) -> bool:
        return bool(record.key == key)

    def named_in(record: Any) -> bool:
        return bool(record.key == key) or subject_of(record.value) == customer_id

    offers = sorted(name for name in there if name.startswith(_OFFERS))
    for name in (*TOPICS, *offers, DECISIONS):
        if name in there:
            numbers = partitions_of(consumer, settings.topic(name))
            same = len(numbers) == count
            yield name, [partition_of(key, count)] if same else numbers, keyed
    if DEAD_LETTERS in there:
        yield DEAD_LETTERS, partitions_of(consumer, settings.topic(DEAD_LETTERS)), named_in
    ours = Ledger(settings.erasure_key_bytes()).digest(customer_id).encode()
    # Evidence from before a key was set lies under the digest that needs none.
    digests = {ours, Ledger().digest(customer_id).encode()}
    for name in (EVIDENCE, ERASED):
        if name in there:
            yield name, [0], lambda record: record.key in digests


def told(name: str, record: Any) -> dict[str, Any]:
    """One record for the customer to read."""
    shown = {
        "place": f"{name}/{record.partition}/{record.offset}",
        "at": instant_text(record.timestamp),
        "record": named(record.value),
    }
    headers = {
        header: (value or b"").decode(errors="backslashreplace")
        for header, value in record.headers or ()
    }
    return shown | ({"headers": headers} if headers else {})
