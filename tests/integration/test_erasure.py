"""Erased stays erased: nothing of the customer in the store, nor in any record written after it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.erasure import Entry, Ledger, read_record
from streams.outbox import Outgoing
from tests.integration.bench import Bench, Log, StandingClock, model
from tests.integration.stores import opened, run
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, make_book
from triggers.book import Book

#: Stands in the id and in every text that the customer's events carry.
CANARY = "kanarienvogel"
ANN = f"ann-{CANARY}"
KEY = b"of the bench"

pytestmark = pytest.mark.usefixtures("raw")


def book() -> Book:
    return make_book(
        {"id": "now", "on": "cart.item_added"},
        {"id": "week", "kind": "follow_up", "on": "cart.item_added", "after": "7d"},
    )


class Story:
    """One customer's doings as a log."""

    def __init__(self) -> None:
        self.log = Log(1)
        self._count = 0

    def tell(self, kind: str, at: int, who: str = ANN, **data: object) -> None:
        self._count += 1
        self.log.event(kind, who, at, data, f"{CANARY if who == ANN else ''}{self._count}")

    def cart(self, at: int, who: str = ANN) -> None:
        text = CANARY if who == ANN else "k"
        item = {"sku": f"{text}-sku", "quantity": 1, "unit_price": 4980}
        self.tell("cart.item_added", at, who, cart_id=text, item=item, subtotal=1, currency="JPY")

    def broken(self, at: int) -> None:
        self.log.append("cart", ANN.encode(), f'{{"{CANARY}": '.encode(), at)

    def until_erased(self) -> None:
        self.tell("consent.granted", NOON, channel="*", proof=CANARY)
        self.tell("customer.profile_set", NOON, attributes={"nick": CANARY})
        self.cart(NOON + SECOND)
        self.broken(NOON + 2 * SECOND)
        self.tell("customer.erase_requested", NOON + HOUR)


def everything(raw: redis.Redis) -> bytes:
    """All that the server holds: keys, fields, members, values."""
    found = []
    for key in raw.scan_iter(count=1000):
        kind = raw.type(key)
        found.append(key)
        if kind == b"hash":
            found += [part for pair in raw.hgetall(key).items() for part in pair]
        elif kind == b"zset":
            found += raw.zrange(key, 0, -1)
        elif kind == b"stream":
            entries: Any = raw.xrange(key)
            found += [value for _, entry in entries for value in entry.values()]
        else:
            found.append(raw.get(key) or b"")
    return b"\n".join(found)


def leaks(records: list[Outgoing]) -> list[Outgoing]:
    return [
        record
        for record in records
        if CANARY.encode() in (record.key or b"") + record.value + repr(record.headers).encode()
    ]


def told(bench: Bench) -> Ledger:
    """The ledger as somebody who reads its topic would have it."""
    ledger = Ledger(KEY)
    for record in bench.published:
        if record.topic == "erased":
            ledger.take(*read_record(record.key, record.value))
    return ledger


def test_s24_nothing_of_an_erased_customer_is_left_in_the_store(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.until_erased()
    story.cart(NOON + 2 * HOUR)
    story.broken(NOON + 2 * HOUR)
    story.cart(NOON + 2 * HOUR, "bob")

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock())
            await bench.open(0)
            await bench.round(0)
            bench.clock.observe(NOON + 30 * DAY)
            await bench.round(0)
            await bench.close(0)
            return bench

    bench = run(body())
    assert CANARY.encode() not in everything(raw)
    assert b"bob" in everything(raw)
    assert leaks(bench.published) == []  # all of it was decided within the batch that erased
    assert told(bench).of(ANN) is not None
    assert bench.outcome.notes["erased_dropped"] == 2  # the letters
    assert bench.outcome.notes["erased"] == 1


def test_s24_a_replay_from_the_first_record_brings_nothing_back(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.until_erased()

    async def body() -> tuple[int, Bench]:
        async with opened(server) as store:
            first = Bench(store, book(), story.log, StandingClock(), batch_records=1)
            await first.open(0)
            await first.round(0)
            await first.close(0)
            before = len(leaks(first.published))
            raw.flushdb()
            second = Bench(store, book(), story.log, StandingClock(), told(first), batch_records=1)
            await second.open(0)
            await second.round(0)
            second.clock.observe(NOON + 30 * DAY)
            await second.round(0)
            await second.close(0)
            return before, second

    before, second = run(body())
    assert before > 0, "before the erasure there was something to find"
    assert leaks(second.published) == []
    assert CANARY.encode() not in everything(raw)


def test_s24_a_store_that_was_set_back_offers_nothing_to_the_erased(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.tell("consent.granted", NOON, channel="*")
    story.cart(NOON + SECOND)

    async def body() -> tuple[Bench, bytes]:
        async with opened(server) as store:
            first = Bench(store, book(), story.log, StandingClock())
            await first.open(0)
            await first.round(0)
            await first.close(0)
            old = {key: raw.dump(key) for key in raw.scan_iter()}
            held = everything(raw)
            story.tell("customer.erase_requested", NOON + HOUR)
            await first.open(0)
            await first.round(0)
            await first.close(0)
            raw.flushdb()
            for key, blob in old.items():
                assert blob is not None
                raw.restore(key, 0, blob)
            # Its timer is overdue, and the event that erases is not read again yet.
            second = Bench(store, book(), Log(1), StandingClock(), told(first))
            await second.open(0)
            second.clock.observe(NOON + 30 * DAY)
            second.log = story.log
            await second.round(0, {})
            await second.partitions[0].turn()
            await second.round(0)
            await second.close(0)
            return second, held

    second, held = run(body())
    assert CANARY.encode() in held
    assert leaks(second.published) == []
    assert CANARY.encode() not in everything(raw)


def test_s24_what_waits_in_the_outbox_is_not_sent_any_more(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    for who in (ANN, "bob"):
        story.tell("consent.granted", NOON, who, channel="*")
    for second in range(1, 4):
        story.cart(NOON + second * SECOND, "bob")
        story.cart(NOON + second * SECOND)

    async def body(crash: bool) -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock(), batch_records=1)
            bench.hold = asyncio.Event()
            await bench.open(0)
            await bench.round(0)
            story.tell("customer.erase_requested", NOON + MINUTE)
            await bench.round(0)
            if not crash:
                bench.hold.set()
                await bench.close(0)
                return bench
            # Its memory is lost, and what it handed over to the producer never arrived.
            taken = Bench(store, book(), story.log, StandingClock())
            await taken.open(0)
            await taken.close(0)
            return taken

    bench = run(body(crash=False))
    # What was handed over to the producer before cannot be called back: one round of one entry.
    assert len({record.value for record in leaks(bench.published)}) <= 2
    assert sum(record.key == b"bob" for record in bench.published) >= 3
    assert CANARY.encode() not in everything(raw)
    raw.flushdb()
    story.log.records.clear()
    for who in (ANN, "bob"):
        story.tell("consent.granted", NOON, who, channel="*")
    story.cart(NOON + SECOND)
    story.cart(NOON + SECOND, "bob")
    taken = run(body(crash=True))
    assert leaks(taken.published) == []
    assert any(record.key == b"bob" for record in taken.published)
    assert told(taken).of(ANN) is not None
    assert CANARY.encode() not in everything(raw)


def test_s24_after_a_new_consent_only_later_events_count(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.until_erased()
    story.cart(NOON + 2 * HOUR)  # dropped: gone, and not back yet
    story.tell("consent.granted", NOON + 3 * HOUR, channel="*")
    story.cart(NOON + 4 * HOUR)
    expected = model(book(), story.log, NOON + 8 * DAY)

    async def body() -> Bench:
        async with opened(server) as store:
            first = Bench(store, book(), story.log, StandingClock())
            await first.open(0)
            await first.round(0)
            await first.close(0)
            ledger = told(first)
            entry = ledger.of(ANN)
            assert entry is not None
            assert not entry.gone
            raw.flushdb()
            again = Bench(store, book(), story.log, StandingClock(), ledger, batch_records=1)
            await again.run(NOON + 8 * DAY)
            return again

    again = run(body())
    carts = {name.split(".")[0] for name in again.outcome.offers}
    assert len(carts) == 2, "one offer at once, one after seven days, of the later cart alone"
    assert again.outcome.offers.items() <= expected.offers.items()
    assert again.outcome.customers[ANN] == expected.customers[ANN]


def test_s25_a_consent_withdrawn_a_millisecond_before_a_timer_is_due_holds(
    server: EmbeddedStore,
) -> None:
    due = NOON + SECOND + 7 * DAY
    found = {}
    for early in (1, 0):  # at the same instant timers go first
        story = Story()
        story.tell("consent.granted", NOON, channel="*")
        story.cart(NOON + SECOND)
        story.tell("consent.revoked", due - early, channel="email")

        async def body(story: Story = story, prefix: str = f"s25-{early}-") -> Bench:
            async with opened(server, prefix) as store:
                bench = Bench(store, book(), story.log, StandingClock())
                await bench.run(due + HOUR)
                return bench

        bench = run(body())
        weekly = [r for r in bench.published if b'"week"' in r.value and r.topic == "decisions"]
        found[early] = [b'"no_consent"' in record.value for record in weekly]
    assert found == {1: [True], 0: [False]}


def test_s25_an_objection_holds_when_the_partition_changes_hands(server: EmbeddedStore) -> None:
    story = Story()
    story.tell("consent.granted", NOON, channel="*")
    story.cart(NOON + SECOND)
    story.tell("customer.objected", NOON + HOUR)

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock(), batch_records=1)
            await bench.open(0)
            await bench.round(0, {"customer": 2, "cart": 1})
            await bench.open(0)  # another worker claims, and reads the objection
            await bench.round(0)
            await bench.open(0)
            bench.clock.observe(NOON + 30 * DAY)
            await bench.round(0)
            await bench.close(0)
            return bench

    bench = run(body())
    assert [r for r in bench.published if b'"week"' in r.value] == []
    entry = told(bench).of(ANN)
    assert entry is not None
    assert entry.why == "objected"


def test_s24_a_consent_that_is_replayed_from_the_dead_letters_brings_nobody_back(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.tell("consent.granted", NOON, channel="*")
    (first,) = story.log.records["customer", 0]
    story.tell("customer.erase_requested", NOON + HOUR)
    place = (("replayed_from", b"customer/0/0"),)
    story.log.append("customer", first.key, first.value, NOON + 2 * HOUR, headers=place)
    story.cart(NOON + 3 * HOUR)

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock())
            await bench.run(NOON + 30 * DAY)
            return bench

    bench = run(body())
    entry = told(bench).of(ANN)
    assert entry is not None
    assert entry.gone
    assert leaks(bench.published) == []
    assert CANARY.encode() not in everything(raw)


def test_s24_under_another_prefix_the_carried_ledger_keeps_the_erased_out(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    story = Story()
    story.tell("consent.granted", NOON, channel="*")
    story.cart(NOON + SECOND)
    story.tell("consent.granted", NOON, "bob", channel="*")
    story.cart(NOON + SECOND, "bob")
    old = story.log.records
    story.log = Log(1)  # the new topics, into which the shop's own records are replayed
    for (topic, _), records in old.items():
        for one in records:
            place = (("replayed_from", b"our own records"),)
            story.log.append(topic, one.key, one.value, NOON + 9 * DAY, headers=place)
    ledger = Ledger(KEY)
    ledger.take(ledger.digest(ANN), Entry("erased", NOON + HOUR, 5_000))

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock(), ledger)
            await bench.run(NOON + 30 * DAY)
            return bench

    bench = run(body())
    assert leaks(bench.published) == []
    assert CANARY.encode() not in everything(raw)
    assert any(record.key == b"bob" for record in bench.published)
    entry = ledger.of(ANN)
    assert entry is not None
    assert entry.gone
    # The first event of the new topic has the offset 0, and its news counts at once.
    ledger.keep(ledger.digest(ANN), Entry("returned", NOON + 31 * DAY, 0), 0)
    entry = ledger.of(ANN)
    assert entry is not None
    assert not entry.gone


def test_s24_an_erasure_and_a_return_in_one_batch_still_call_back_what_waits(
    server: EmbeddedStore,
) -> None:
    story = Story()
    story.tell("consent.granted", NOON, channel="*")
    for second in range(1, 6):
        story.cart(NOON + second * SECOND)

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock())
            bench.hold = asyncio.Event()
            await bench.open(0)
            # Entry by entry, so that some wait behind the one that the producer has.
            await bench.round(0, {"customer": 1, "cart": 1}, whole=True)
            for _ in range(4):
                await asyncio.sleep(0)
                await bench.round(0, {"cart": 1}, whole=True)
            story.tell("customer.erase_requested", NOON + MINUTE)
            story.tell("consent.granted", NOON + MINUTE + 1, channel="*")
            story.broken(NOON + MINUTE - 1)
            await bench.round(0)
            bench.hold.set()
            await bench.close(0)
            return bench

    bench = run(body())
    decided = [record for record in bench.published if record.topic == "decisions"]
    assert len(decided) <= 1, "only what the producer had already"
    assert [record for record in bench.published if record.topic == "dead-letters"] == []


@pytest.mark.parametrize("key", [None, b"somebody else"])
def test_s24_an_event_of_the_erased_under_a_wrong_key_makes_no_letter(
    server: EmbeddedStore, key: bytes | None
) -> None:
    story = Story()
    story.until_erased()
    (first, *_) = story.log.records["cart", 0]
    story.log.append("cart", key, first.value, NOON + 2 * HOUR, partition=0)
    story.log.append("cart", b"bob", first.value, NOON + 2 * HOUR, partition=0)

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), story.log, StandingClock())
            await bench.run(NOON + 30 * DAY)
            return bench

    assert leaks(run(body()).published) == []
