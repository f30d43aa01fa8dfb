"""A world for tests of the engine: a book from the rule language, a catalogue, virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from triggers.book import Book
from triggers.catalog import Catalog
from triggers.compiler import compile_content
from triggers.customer import PARTS, Customer
from triggers.durations import to_ms
from triggers.engine import advance, step
from triggers.events import EVENT_TYPES, Event
from triggers.judgement import Step

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
#: Monday, noon in Tokyo.
NOON = to_ms("2026-03-02T12:00:00+09:00")
REASON = {"ja": "理由", "en": "why"}
DEFAULTS = {"kind": "cross_sell", "channel": "email", "reason": REASON, "pick": "none"}
BY_KIND = {"up_sell": {"message": {"benefit": REASON}}}


def make_book(*rules: dict[str, Any], **book: Any) -> Book:
    """Compile rules given as mappings; kind, channel, reason and an up_sell's benefit have
    defaults."""
    filled = [{**DEFAULTS, **BY_KIND.get(str(rule.get("kind")), {}), **rule} for rule in rules]
    head = {"name": "test", "timezone": "Asia/Tokyo", "currency": "JPY", **book}
    found = compile_content({"book": head, "rules": filled})
    assert isinstance(found, Book), found
    return found


class World:
    """One customer under a book; each event goes through the whole engine."""

    def __init__(self, book: Book, consent: bool = True, at: int = NOON) -> None:
        self.book = book
        self.catalog = Catalog()
        self.customer = Customer("c1")
        self.at = at - DAY
        self.out = Step()
        self._count = 0
        self._stored: dict[str, bytes] = {}
        if consent:
            self.send("consent.granted", channel="*")
            self.out = Step()

    def product(self, sku: str, price: int = 500, **fields: Any) -> None:
        """Put a product into the catalogue."""
        data = {"name": sku.upper(), "price": price, "currency": "JPY", **fields}
        kind = "catalog.product_set"
        self.catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))

    def complement(self, sku: str, to: str, weight: float = 0.5) -> None:
        """Relate two products."""
        kind = "catalog.relation_set"
        data = {"to": to, "relation": "complement", "weight": weight}
        self.catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))

    def send(self, event_type: str, at: int | None = None, **data: Any) -> Step:
        """Apply one event at an instant (else a second later); what came of it alone."""
        self._count += 1
        return self.resend(f"e{self._count}", event_type, at, **data)

    def resend(
        self, event_id: str, event_type: str, at: int | None = None, checksum: int = 0, **data: Any
    ) -> Step:
        """Like :meth:`send`, under a chosen id and checksum."""
        self.at = self.at + SECOND if at is None else at
        payload = msgspec.convert(data, EVENT_TYPES[event_type].data)
        event = Event(event_id, "shop", event_type, self.customer.id, self.at, payload)
        out = step(self.customer, event, self.at, self.book, self.catalog, checksum)
        self._gather(out)
        return out

    def pass_to(self, at: int) -> Step:
        """Let time pass: timers due at or before ``at`` fire."""
        out = Step()
        advance(self.customer, at, self.book, self.catalog, out)
        self.at = max(self.at, at)
        self._gather(out)
        return out

    def reload(self) -> None:
        """Put the customer into bytes and take a new one out of them."""
        self._stored.update(self.customer.take_changes())
        kept = {letter: packed for letter, packed in self._stored.items() if packed}
        self._stored = dict(kept)
        self.customer = Customer(self.customer.id, kept)

    def _gather(self, out: Step) -> None:
        self.out.decisions += out.decisions
        self.out.offers += out.offers

    def outcomes(self) -> list[tuple[str, str, str | None]]:
        """Rule, outcome and reason of all decisions so far."""
        return [(d.rule, d.outcome, d.reason) for d in self.out.decisions]

    def add(self, sku: str, at: int | None = None, cart: str = "k", price: int = 500) -> Step:
        """Put one item into a cart."""
        item = {"sku": sku, "quantity": 1, "unit_price": price}
        fields = {"cart_id": cart, "item": item, "subtotal": price, "currency": "JPY"}
        return self.send("cart.item_added", at, **fields)

    def buy(self, order: str, skus: Iterable[str], at: int | None = None, **more: Any) -> Step:
        """Complete an order of one of each sku."""
        items = [{"sku": sku, "quantity": 1, "unit_price": 500} for sku in skus]
        total = more.pop("total", 500 * len(items))
        fields = {"order_id": order, "items": items, "total": total, "currency": "JPY", **more}
        return self.send("purchase.completed", at, **fields)


__all__ = ["DAY", "HOUR", "MINUTE", "NOON", "PARTS", "REASON", "SECOND", "World", "make_book"]
