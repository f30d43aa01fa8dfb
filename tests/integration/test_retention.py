"""Whom nothing happens with is dropped from a real store, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.retention import PAGE
from tests.integration.bench import Bench, Log, StandingClock, model, same
from tests.integration.stores import opened, run
from tests.integration.test_floods import BOOK, cart
from tests.unit.harness import DAY, NOON, make_book
from triggers.customer import PART_LETTERS
from triggers.forgetting import MARGIN_MS

pytestmark = pytest.mark.usefixtures("raw")

IDLE = 3 * PAGE  # customers, over 16 buckets
SPAN = BOOK.forget_ms + MARGIN_MS


class QuickClock(StandingClock):
    """A second passes at each look."""

    def wall_ms(self) -> int:
        self._wall += 1_000
        return self._wall


def crowd() -> Log:
    log = Log(1)
    for number in range(IDLE):
        name = f"idle-{number}"
        log.event("consent.granted", name, NOON + number, {"channel": "*"}, f"c{number}")
    log.event("consent.granted", "ann", NOON + DAY, {"channel": "*"}, "ann")
    return log


def customers(raw: redis.Redis) -> set[bytes]:
    fields: list[Any] = [field for key in raw.scan_iter("*}:c:*") for field in raw.hkeys(key)]
    return {field[1:] for field in fields if field[:1].decode() in PART_LETTERS}


async def tick(bench: Bench, at: int, turns: int = 40) -> None:
    """A record of somebody else, and some seconds."""
    log = bench.log
    log.event("consent.granted", "tick", at, {"channel": "*"}, f"tick{at}")
    await bench.round(0)
    for _ in range(turns):
        await bench.partitions[0].turn()


def test_p7_a_clock_that_is_ahead_of_what_is_read_drops_nobody(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    """Records that still find somebody lie in Kafka, or the clock is simply wrong."""

    async def work() -> None:
        log = Log(1)
        log.event("consent.granted", "ann", NOON, {"channel": "*"}, "consent")
        async with opened(server) as store:
            bench = Bench(store, BOOK, log, QuickClock())
            partition = await bench.open(0)
            await bench.round(0)
            bench.clock.observe(NOON + 10 * SPAN)
            for _ in range(40):
                await partition.turn()
            assert customers(raw) == {b"ann"}, "no record says that it is so late"
            cart(log, "ann", NOON + SPAN - 8 * DAY, "late")
            log.event("consent.granted", "bob", NOON + 2 * SPAN, {"channel": "*"}, "bob")
            for _ in range(40):
                await partition.turn()
            await bench.round(0)
            await bench.close(0)
            await bench.read_documents()
            same(bench.outcome, model(BOOK, log, log.last_ms()))
            assert any(outcome == "offered" for _, outcome in bench.outcome.decisions)

    run(work())


def test_p9_a_sweep_leaves_nobody_in_memory_who_stays(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    used = make_book(
        {"id": "at-once", "on": "cart.viewed", "placement": "cart_page"},
        forget_visitors_after="30d",
    )

    async def work() -> None:
        log = crowd()
        async with opened(server) as store:
            bench = Bench(store, used, log, QuickClock())
            await bench.open(0)
            await bench.round(0)
            partition = await bench.open(0)  # with nobody in memory
            await tick(bench, NOON + 60 * DAY)
            assert len(customers(raw)) == IDLE + 2
            assert partition.cached == 1
            await bench.close(0)

    run(work())


def test_p10_whoever_was_idle_for_the_span_is_dropped_and_all_others_stay(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        log = crowd()
        async with opened(server) as store:
            bench = Bench(store, BOOK, log, QuickClock())
            partition = await bench.open(0)
            await bench.round(0)
            assert len(customers(raw)) == IDLE + 1
            await tick(bench, NOON + SPAN)
            assert len(customers(raw)) == IDLE + 2, "to the millisecond nobody was idle so long"
            held = partition.cached
            await tick(bench, NOON + SPAN + IDLE)
            assert customers(raw) == {b"ann", b"tick"}
            assert partition.cached == held == IDLE + 2
            assert bench.outcome.notes["customer_forgotten"] == IDLE
            assert raw.zcard(store.keys(0).due) == 0
            await bench.close(0)

    run(work())


def test_p7_a_log_ends_the_same_whether_or_not_its_idle_customers_were_dropped(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    """Some come back before, some after the store has dropped them, some with an event that is
    late by days."""

    async def work() -> None:
        log = crowd()
        async with opened(server) as store:
            bench = Bench(store, BOOK, log, QuickClock())
            await bench.open(0)
            await bench.round(0)
            await tick(bench, NOON + SPAN + DAY // 2, turns=4)
            assert 2 < len(customers(raw)) < IDLE
            for number in range(0, IDLE, 3):
                late = number % 2 * 6 * DAY
                cart(log, f"idle-{number}", NOON + SPAN + DAY - late, f"back{number}")
            await bench.round(0)
            await bench.close(0)
            await bench.read_documents()
            found, expected = bench.outcome, model(BOOK, log, log.last_ms())
            # The model drops nobody by itself: whoever never came back is still in it.
            for name in expected.customers.keys() - found.customers.keys():
                assert name.startswith("idle-")
                del expected.customers[name]
            same(found, expected)

    run(work())
