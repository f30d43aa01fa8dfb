"""Events that the door lets in and nobody would send: figures at their limits, odd texts.

Drawn from a seed; every one is within the contract, so the worker has to take it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streams.codec import Door, LineDoor
from streams.murmur2 import partition_of
from tests.contract.door_samples import AT_MS, CUSTOMER_TYPES, DATA
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.durations import to_text
from triggers.errors import Refused
from triggers.events import EVENT_TYPES, INT_MAX, CatalogEvent, Event

PARTITIONS = 8
FIGURES: tuple[float, ...] = (
    0, 1, -1, 2, 5, INT_MAX, INT_MAX - 1, 2**31, 2**52, -INT_MAX, 1e300, 1.7e308, -1e300, 5e-324,
    0.5, -0.0,
)  # fmt: skip
TEXTS = (
    "", "x", "a", "é" * 128, "x" * 256, "\x00", "}{{p3}", "{p1}", "😀", "\u202eabc", "%s", "{name}",
    "'] redis.call('FLUSHALL')", "</script>", "\n", "*", "email", "line", "price", "spec", "JPY",
    "USD", "2024-05-01T12:34:56Z", "9998-12-31T23:59:59Z", "1970-01-01T00:00:00+23:59",
    "Asia/Tokyo", "Antarctica/Troll", "e\u0301", "\u00e9",
)  # fmt: skip
IDS = tuple(text for text in TEXTS if text)
PAUSES_MS = (0, 1, 1_000, 60_000, 3_600_000, 86_400_000, 40 * 86_400_000, 400 * 86_400_000)
_LAST_MS = 4_102_444_799_000  # the door takes no time after 2099


def mutated(value: Any, chance: random.Random, texts: tuple[str, ...] = TEXTS) -> Any:
    """``value`` with about half of what stands in it replaced."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if chance.random() < 0.97}
        return {k: mutated(v, chance, texts) for k, v in kept.items()}
    if isinstance(value, list):
        return [mutated(one, chance, texts) for one in value] * chance.choice((1, 1, 2, 0))
    if isinstance(value, bool) or chance.random() < 0.5:
        return value
    return chance.choice(FIGURES if isinstance(value, int | float) else texts)


def envelope(kind: str, number: int, subject: str, at_ms: int, data: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "shop",
        "type": kind,
        "time": to_text(min(at_ms, _LAST_MS)),
        "subject": subject,
        "data": data,
    }
    return json.dumps(event).encode()


def catalog_of(book: Book, file: Path, chance: random.Random) -> tuple[Catalog, tuple[str, ...]]:
    """The catalogue of a file with a few hostile records after it, and its skus."""
    catalog, skus = Catalog(), ["sku-1"]
    door = LineDoor(book.custom)
    lines = file.read_bytes().splitlines() if file.exists() else []
    kinds = [name for name, one in EVENT_TYPES.items() if one.topic == "catalog"]
    for number in range(chance.randrange(7)):
        kind = chance.choice(kinds)
        data = mutated(DATA[kind], chance, (*TEXTS, *skus))
        lines.append(envelope(kind, number, chance.choice(skus), AT_MS, data))
    for line in lines:
        try:
            event = door.decode(line)
        except Refused:
            continue
        assert isinstance(event, CatalogEvent)
        catalog.apply(event.type, event.subject, event.data)
        skus.append(event.subject)
    return catalog, tuple(skus)


class Sender:
    """Draws a customer's events; ``offers`` are the ids that feedback may name."""

    def __init__(self, book: Book, chance: random.Random, skus: tuple[str, ...]) -> None:
        self.customer = chance.choice(IDS)
        self.offers: list[str] = []
        self._chance = chance
        self._skus = skus
        self._door = Door(PARTITIONS, book.custom)

    def events(self, count: int) -> Iterator[tuple[Event, int]]:
        """Up to ``count`` events that came through the door, with their records' timestamps."""
        chance, at_ms = self._chance, AT_MS
        key = self.customer.encode()
        for number in range(count):
            at_ms += chance.choice(PAUSES_MS)
            kind = chance.choice(CUSTOMER_TYPES) if number else "consent.granted"
            if kind in ("customer.objected", "customer.erase_requested") and chance.random() < 0.9:
                continue  # little would be left to see
            value = envelope(kind, number, self.customer, at_ms, self._data(kind, number))
            topic, place = EVENT_TYPES[kind].topic, partition_of(key, PARTITIONS)
            try:
                event = self._door.decode(topic, place, key, value, (), at_ms, at_ms)
            except Refused:
                continue
            yield event, at_ms

    def _data(self, kind: str, number: int) -> dict[str, Any]:
        if not number:
            return {"channel": "*"}
        chance = self._chance
        data: dict[str, Any] = mutated(DATA[kind], chance, (*TEXTS, *self._skus, *self._skus))
        if "offer_id" in data and self.offers and chance.random() < 0.8:
            data["offer_id"] = chance.choice(self.offers)
        if "order_id" in data and chance.random() < 0.7:
            data["order_id"] = f"o{chance.randrange(6)}"
        return data
