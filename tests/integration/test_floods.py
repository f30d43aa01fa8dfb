"""Floods on one partition: chosen ids, one busy customer, timers due at once, and late events.

Production partitions on a real store. ``TSUIDE_TEST_FLOOD`` is the number of events (20,000).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator

import pytest

from streams.embedded import EmbeddedStore
from streams.merge import FetchState
from streams.murmur2 import partition_of
from streams.partition import TIMERS_PER_BATCH
from tests.integration.bench import Bench, Log, StandingClock
from tests.integration.stores import opened, run
from tests.integration.test_clock_jumps import Machine
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, make_book
from triggers.durations import to_ms
from triggers.events import TOPICS

EVENTS = int(os.environ.get("TSUIDE_TEST_FLOOD", "20000"))
PARTITIONS = 4
BOOK = make_book(
    {"id": "at-once", "on": "cart.item_added", "once_per": "always", "valid_for": "30d",
     "lateness": {"skip_after": "3h"}},
    {"id": "later", "kind": "follow_up", "on": "purchase.completed", "after": "2h",
     "once_per": "always", "lateness": {"skip_after": "3h"}, "valid_for": "30d"},
)  # fmt: skip

pytestmark = pytest.mark.timeout(120 + EVENTS // 500)


def stand_at(bench: Bench, at: int) -> None:
    assert isinstance(bench.clock, StandingClock)
    bench.clock.now = at


def cart(log: Log, who: str, at: int, name: str, time_ms: int | None = None) -> None:
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    data = {"cart_id": "k", "item": item, "subtotal": 500, "currency": "JPY"}
    log.event("cart.item_added", who, at, data, name, time_ms)


def order(log: Log, who: str, at: int) -> None:
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    data = {"order_id": f"o{who}", "items": [item], "total": 500, "currency": "JPY"}
    log.event("purchase.completed", who, at, data, f"b{who}")


def ids_on(partition: int, count: int) -> Iterator[str]:
    """Ids that an attacker chooses: the partitioner has no secret."""
    number = 0
    while count:
        name = f"u{number}"
        number += 1
        if partition_of(name.encode(), PARTITIONS) == partition:
            count -= 1
            yield name


async def answer_times(bench: Bench, number: int, rest: asyncio.Task[None]) -> list[float]:
    """How long one event a round takes on another partition while the flood lasts.

    In processor time: what holds it up is this process's own work on the flood.
    """
    who = next(ids_on(number, 1))
    took: list[float] = []
    while not rest.done():
        at = NOON + len(took) * 1_000
        cart(bench.log, who, at, f"other{len(took)}")
        began = time.process_time()
        await bench.round(number)
        took.append(time.process_time() - began)
        await asyncio.sleep(0.02)
    return took


def flood(server: EmbeddedStore, prefix: str, log: Log, notes: dict[str, int]) -> list[float]:
    """Apply the log's partition 0 as quickly as it goes; answer times of partition 1."""
    found: list[float] = []

    async def work() -> None:
        async with opened(server, prefix) as store:
            bench = Bench(store, BOOK, log, cache_customers=1_000)
            for number in (0, 1):
                await bench.open(number)
            bench.world.owned = 2  # as the intake counts them
            flooding = asyncio.create_task(bench.round(0))
            found.extend(await answer_times(bench, 1, flooding))
            await flooding
            assert bench.partitions[0].cached <= 500
            assert bench.partitions[0].waiting == 0
            assert bench.outcome.refused == {}
            notes.update(bench.outcome.notes, share=int(100 * bench.partitions[0].traffic.share))
            for number in (0, 1):
                await bench.close(number)

    run(work()) if EVENTS <= 50_000 else asyncio.run(work())
    return sorted(found)


def test_s27_ids_chosen_for_one_partition_leave_the_others_their_pace(
    server: EmbeddedStore,
) -> None:
    log = Log(PARTITIONS)
    for place, who in enumerate(ids_on(0, EVENTS)):
        cart(log, who, NOON + place, f"e{place}")
    notes: dict[str, int] = {}
    took = flood(server, "ids", log, notes)
    assert len(took) > 3
    assert took[len(took) * 9 // 10] < 1.0, took
    assert "hot_key" not in notes


def test_s27_one_customer_with_all_the_events_is_noticed_and_stays_small(
    server: EmbeddedStore,
) -> None:
    log = Log(PARTITIONS)
    whale = next(ids_on(0, 1))
    for place in range(EVENTS):
        cart(log, whale, NOON + place * 1_000, f"e{place}")
    notes: dict[str, int] = {}
    took = flood(server, "whale", log, notes)
    assert took[len(took) * 9 // 10] < 1.0, took
    assert notes["hot_key"] == EVENTS // 20_000
    assert notes["share"] == 100
    assert notes["bound_repeats"] == EVENTS - 256

    async def size() -> None:
        async with opened(server, "whale") as store:
            (parts,) = (await store.load(0, [whale.encode()], "nowfmbahsul")).values()
            assert sum(map(len, parts.values())) < 20_000

    run(size())


def test_s19_timers_due_at_once_fire_in_bounded_batches_and_events_go_on(
    server: EmbeddedStore,
) -> None:
    many = 3_000

    async def work() -> None:
        async with opened(server, "herd") as store:
            log = Log(1)
            for place in range(many):
                order(log, f"c{place}", NOON)
            bench = Bench(store, BOOK, log)
            partition = await bench.open(0)
            await bench.round(0)
            assert await store.pending(0) == many
            stand_at(bench, NOON + 3 * HOUR)
            fresh = NOON + 3 * HOUR
            log.event("consent.granted", "fresh", fresh, {"channel": "*"}, "g")
            cart(log, "fresh", fresh, "e")
            for topic in TOPICS:
                records = log.records.get((topic, 0), [])
                if topic in ("customer", "cart"):
                    partition.add(topic, records, bench.clock.wall_ms())
            for topic in TOPICS:
                end = len(log.records.get((topic, 0), []))
                partition.learn(topic, FetchState(end, end, bench.clock.wall_ms()))
            left = many
            for _ in range(3):
                assert await partition.turn()
                now_left = await store.pending(0)
                assert left - now_left <= TIMERS_PER_BATCH
                left = now_left
            await partition.relay.flush()
            offered = [value for value in bench.outcome.offers.values() if b'"fresh"' in value]
            assert len(offered) == 1  # though most timers still wait
            assert left > many / 2
            await bench.round(0)
            assert await store.pending(0) == 0
            await bench.close(0)

    run(work())


def test_s19_a_second_fires_no_more_timers_than_its_budget(server: EmbeddedStore) -> None:
    async def work() -> None:
        async with opened(server, "budget") as store:
            log = Log(1)
            for place in range(500):
                order(log, f"c{place}", NOON)
            bench = Bench(store, BOOK, log, timers_per_second=120)
            await bench.open(0)
            await bench.round(0)
            stand_at(bench, NOON + 3 * HOUR)
            await bench.round(0)  # its clock for spans goes some ms a look: one second or two
            assert 500 - 2 * 120 <= await store.pending(0) <= 500 - 120
            await bench.close(0)

    run(work())


@pytest.mark.parametrize(("behind", "name"), [(HOUR, "late_1h"), (8 * DAY, "late_7d")])
def test_s16_a_late_event_counts_when_it_comes_and_decides_nothing_for_the_past(
    server: EmbeddedStore, behind: int, name: str
) -> None:
    async def work() -> None:
        async with opened(server, f"late{behind}") as store:
            log = Log(1)
            log.event("consent.granted", "c", NOON, {"channel": "*"}, "g")
            cart(log, "c", NOON + MINUTE, "own-time", time_ms=NOON + MINUTE - behind)
            cart(log, "c", NOON + MINUTE - behind, "old-record")
            bench = Bench(store, BOOK, log)
            found = await bench.run(NOON + HOUR)
            assert found.notes[name] == 2
            times = [to_ms(json.loads(offer)["time"]) for offer in found.offers.values()]
            assert times == [NOON + MINUTE, NOON + MINUTE]
            assert found.shop("c").now.at == NOON + MINUTE

    run(work())


def test_s16_what_a_long_outage_left_is_not_offered_beyond_its_lateness(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        async with opened(server, "outage") as store:
            machine = Machine()
            log = Log(1)
            begin = NOON - 8 * DAY
            log.event("consent.granted", "old", begin, {"channel": "*"}, "g1")
            cart(log, "old", begin + 1, "e1")
            order(log, "old", begin + 2)
            log.event("consent.granted", "new", NOON - HOUR, {"channel": "*"}, "g2")
            cart(log, "new", NOON - HOUR, "e2")
            bench = Bench(store, BOOK, log)
            bench.clock = bench.world.clock = machine.clock
            expired: list[tuple[str, str]] = []
            bench.expired = lambda rule, reason: expired.append((rule, reason))  # type: ignore[method-assign]
            partition = await bench.open(0)
            await bench.round(0)
            machine.wait(1_000)
            await bench.round(0)
            await partition.relay.flush()
            sent = [json.loads(offer)["subject"] for offer in bench.outcome.offers.values()]
            assert sent == ["new"]
            assert sorted(expired) == [("at-once", "stale"), ("later", "stale")]
            await bench.close(0)

    run(work())
