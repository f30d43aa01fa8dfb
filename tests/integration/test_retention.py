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
from tests.unit.harness import DAY, NOON
from triggers.forgetting import MARGIN_MS
from triggers.state import PART_LETTERS

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
            bench.clock.observe(NOON + SPAN)
            for _ in range(40):
                await partition.turn()
            assert len(customers(raw)) == IDLE + 1, "to the millisecond nobody was idle so long"
            bench.clock.observe(NOON + SPAN + IDLE)
            for _ in range(200):
                await partition.turn()
            assert customers(raw) == {b"ann"}
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
        for number in range(0, IDLE, 3):
            late = number % 2 * 6 * DAY
            cart(log, f"idle-{number}", NOON + SPAN + DAY - late, f"back{number}")
        async with opened(server) as store:
            bench = Bench(store, BOOK, log, QuickClock())
            partition = await bench.open(0)
            await bench.round(0, {"customer": IDLE + 1}, whole=True)
            bench.clock.observe(NOON + SPAN + DAY // 2)
            for _ in range(8):
                await partition.turn()
            assert 1 < len(customers(raw)) <= IDLE
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
