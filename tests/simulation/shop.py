"""What happens in the shop: a rule book, a catalogue, and a seed's worth of events.

Spans are given in seconds of the loop; ``scale`` says how many seconds of wall time each of them
stands for, so that the same run covers ten seconds of clicks or half a day with quiet hours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from streams.codec import Door
from streams.murmur2 import partition_of
from tests.unit.harness import make_book
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.durations import to_ms, to_text
from triggers.events import EVENT_TYPES
from triggers.gates import GATES

LEDGER_KEY = b"simulated"
PARTITIONS = 2
CHANNELS = ("onsite", "push", "email", "sms")
SKUS = ("a", "b", "c", "d", "e")
ACTIVE_S = 5.0
#: How long after an event a timer of these rules can be due, quiet hours included, but for the
#: one that stays pending for ever.
LONGEST_S = 4.6
#: Where the clock stands at the beginning of a run; quiet hours begin four hours later.
BEGIN_MS = to_ms("2026-03-02T12:00:00Z")

_encode = msgspec.json.Encoder().encode


@cache
def make_rules(scale: int, forget_consent: bool = False) -> Book:
    """The rule book; with an hour to the second it has quiet hours.

    ``forget_consent`` takes the gate of consent out of its rules, to prove that its absence is
    noticed.
    """
    if not forget_consent:
        return _compile(scale)
    gate = GATES["no_consent"]
    GATES["no_consent"] = lambda case: False
    try:
        return _compile(scale)
    finally:
        GATES["no_consent"] = gate


def _compile(scale: int) -> Book:

    def span(seconds: float) -> str:
        return f"{max(1, round(seconds * scale))}s"

    cart = {"on": "cart.item_added", "placement": "cart", "channel": "onsite"}
    bought = {"on": "purchase.completed", "kind": "follow_up"}
    return make_book(
        {
            "id": "complement",
            **cart,
            "when": ["event.item.unit_price >= 100"],
            "pick": {"complements_of": "event.item.sku"},
            "cooldown": span(0.3),
            "withdraw_on": "purchase.completed",
            "priority": 60,
        },
        {"id": "rival", **cart, "pick": {"sku": "e"}, "cooldown": span(1)},
        {
            "id": "silence",
            "on": "cart.item_added",
            "after_silence": span(1.5),
            "unless": ["purchase.completed"],
            "pick": {"same": "cart.items"},
            "channel": "push",
        },
        {
            "id": "silence-of-new",
            "on": "cart.viewed",
            "after_silence": span(1),
            "when": ["customer.orders < 1"],
            "channel": "email",
            "lateness": {"skip_after": span(3)},
        },
        {
            "id": "how-is-it",
            **bought,
            "after": span(2.5),
            "unless": ["purchase.refunded", "purchase.cancelled"],
            "channel": "email",
        },
        {"id": "later", **bought, "after": "60d", "channel": "email"},
        {"id": "thanks", **bought, "channel": "sms"},
        {"id": "answer", "on": "offer.accepted", "kind": "follow_up", "channel": "email"},
        timezone="UTC",
        limits=[{"max": 6, "in": span(3)}],
        holdout={"share": "10%", "salt": "s"},
        **({"quiet_hours": _QUIET} if scale >= 3600 else {}),
    )


_QUIET = {"from": "16:00", "to": "18:00", "channels": ["email"], "then": "defer"}


@cache
def make_door() -> Door:
    """The door, which is the same for every rule book here, and takes long to build."""
    return Door(PARTITIONS)


@cache
def make_catalog() -> Catalog:
    """Five products, each with complements."""
    catalog = Catalog()

    def put(kind: str, sku: str, data: dict[str, Any]) -> None:
        catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))

    for sku in SKUS:
        product = {"name": sku, "price": 500, "currency": "JPY", "category": f"c-{sku}"}
        put("catalog.product_set", sku, product)
    for one, other in pairwise(SKUS):
        edge = {"to": other, "relation": "complement", "weight": 0.5}
        put("catalog.relation_set", one, edge)
    return catalog


class Planned(NamedTuple):
    """An event to be written at a moment of the loop."""

    at_s: float
    kind: str
    customer: str
    data: dict[str, Any]
    twist: str = ""  # what is wrong with it: see `Shop.write`


Append = Callable[[tuple[str, int], bytes | None, bytes], None]


class Shop:
    """Makes up a run's events, and writes them when their time comes."""

    def __init__(self, seed: int, events: int, append: Append) -> None:
        self.random = random.Random(f"shop-{seed}")
        self._append = append
        self._count = 0
        self._answered: set[str] = set()
        self.customers = [f"c{n}" for n in range(self.random.randint(2, 9))]
        self.planned = sorted(self._plan(events), key=lambda planned: planned.at_s)

    def _plan(self, events: int) -> list[Planned]:
        chance = self.random
        planned: list[Planned] = []
        for customer in self.customers:
            if chance.random() < 0.9:
                channel = chance.choice(["*", "*", *CHANNELS])
                planned.append(self._consent(0.1 * chance.random(), customer, channel, True))
        for _ in range(events):
            at_s = ACTIVE_S * chance.random()
            customer = chance.choice(self.customers)
            planned += self._visit(at_s, customer)
        return planned

    def _consent(self, at_s: float, customer: str, channel: str, given: bool) -> Planned:
        kind = "consent.granted" if given else "consent.revoked"
        return Planned(at_s, kind, customer, {"channel": channel})

    def _visit(self, at_s: float, customer: str) -> list[Planned]:
        chance = self.random
        draw = chance.random()
        cart_id = chance.choice(["k1", "k2", "k3"])
        item = {"sku": chance.choice(SKUS), "quantity": 1, "unit_price": chance.choice([50, 500])}
        cart = {"cart_id": cart_id, "subtotal": 500, "currency": "JPY"}
        twist = chance.choice(_TWISTS) if chance.random() < 0.12 else ""
        if draw < 0.5:
            planned = [Planned(at_s, "cart.item_added", customer, {**cart, "item": item}, twist)]
            if chance.random() < 0.25:  # the word comes just before the timer is due
                due_s = at_s + 1.5 - 0.002 * chance.random()
                planned.append(self._consent(due_s, customer, chance.choice(["*", "push"]), False))
                planned.append(self._consent(due_s + 0.7, customer, "*", True))
            return planned
        if draw < 0.62:
            return [Planned(at_s, "cart.viewed", customer, cart, twist)]
        if draw < 0.82:
            order = chance.choice([f"o{chance.randint(1, 9)}", f"o{at_s}"])
            data = {"order_id": order, "items": [item], "total": 500, "currency": "JPY"}
            planned = [
                Planned(at_s, "purchase.completed", customer, {**data, "cart_id": cart_id}, twist)
            ]
            if chance.random() < 0.3:
                # Some of them come before their purchase.
                late_s = max(0.0, at_s + chance.uniform(-0.5, 2.5))
                planned.append(Planned(late_s, "purchase.refunded", customer, {"order_id": order}))
            return planned
        if draw < 0.86:
            return [self._consent(at_s, customer, chance.choice(["*", *CHANNELS]), False)]
        if draw < 0.92:
            return [self._consent(at_s, customer, chance.choice(["*", *CHANNELS]), True)]
        if draw < 0.94:
            gone = chance.choice(["customer.erase_requested", "customer.objected"])
            return [
                Planned(at_s, gone, customer, {}),
                self._consent(at_s + chance.random(), customer, "*", True),
            ]
        zone = {"timezone": chance.choice(["UTC", "Asia/Tokyo"])}
        return [Planned(at_s, "customer.profile_set", customer, zone, twist)]

    def write(
        self, planned: Planned, now_ms: int, repeats: bool = False
    ) -> list[tuple[float, tuple[Any, ...]]]:
        """Write an event; what is to be written again, and after how many seconds.

        ``repeats``: every event comes up to four more times.
        """
        self._count += 1
        event = {
            "specversion": "1.0",
            "id": f"e{self._count}",
            "source": "shop",
            "type": planned.kind,
            "time": to_text(now_ms),
            "subject": planned.customer,
            "data": planned.data,
        }
        key = planned.customer.encode()
        value = _encode(event)
        place = (EVENT_TYPES[planned.kind].topic, partition_of(key, PARTITIONS))
        twist = planned.twist
        if twist == "cut":
            value = value[:-7]
        elif twist == "key":
            key += b"x"
        elif twist == "place":
            place = (place[0], 1 - place[1])
        self._append(place, key, value)
        if repeats:
            delays = [2 * self.random.random() for _ in range(self.random.randint(0, 4))]
            return [(delay_s, (place, key, value)) for delay_s in delays]
        later = self.random.random() * 2
        if twist == "twice":
            return [(later, (place, key, value)), (0.0, (place, key, value))]
        if twist == "other":
            return [(later, (place, key, _encode({**event, "time": to_text(now_ms - 1)})))]
        return []

    def answer(self, value: bytes) -> tuple[float, Planned] | None:
        """Feedback on a published offer, and after how many seconds; None for most."""
        event = msgspec.json.decode(value)
        if event["type"] != "offer.made" or event["id"] in self._answered:
            return None
        self._answered.add(event["id"])
        draw = self.random.random()
        if draw > 0.3:
            return None
        kind = "offer.accepted" if draw < 0.15 else "offer.declined"
        data = {"offer_id": event["id"]}
        return 0.1 + self.random.random(), Planned(0, kind, event["subject"], data)


_TWISTS = ("cut", "key", "place", "twice", "twice", "other")
