"""Timers under a machine's clock that leaps: a production partition on a real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.clockguard import JUMP_MS_MAX, GuardedClock
from streams.embedded import EmbeddedStore
from tests.integration.bench import Bench, Log
from tests.integration.stores import opened, run
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, make_book

BOOK = make_book(
    {
        "id": "later",
        "kind": "follow_up",
        "on": "cart.item_added",
        "after": "2h",
        "channel": "email",
        "once_per": "always",
    }
)
PEOPLE = 40


class Machine:
    """What the worker's machine shows, and what really went by."""

    def __init__(self) -> None:
        self.steady = self.wall = NOON
        self.clock = GuardedClock(JUMP_MS_MAX, lambda: self.wall, self.tick)

    def tick(self) -> int:
        self.steady += 1  # so that what comes later is later
        self.wall += 1
        return self.steady

    def wait(self, ms: int) -> None:
        self.steady += ms
        self.wall += ms


def carts(at_ms: int) -> Log:
    log = Log(1)
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    for number in range(PEOPLE):
        name, when = f"c{number}", at_ms - PEOPLE + number
        log.event("consent.granted", name, when - PEOPLE, {"channel": "*"}, f"g{number}")
        data = {"cart_id": "k", "item": item, "subtotal": 500, "currency": "JPY"}
        log.event("cart.item_added", name, when, data, f"e{number}")
    return log


def opened_bench(store: object, log: Log, machine: Machine) -> Bench:
    bench = Bench(store, BOOK, log)  # type: ignore[arg-type]
    bench.clock = bench.world.clock = machine.clock
    return bench


@pytest.mark.parametrize("jump", [10 * MINUTE, -10 * MINUTE, 400 * DAY, -NOON + 1])
def test_s17_no_timer_fires_by_a_clock_that_leapt_and_each_fires_when_it_is_due(
    server: EmbeddedStore, jump: int, tmp_path: Path
) -> None:
    async def work() -> None:
        async with opened(server, f"jump{abs(jump)}{jump > 0}") as store:
            machine = Machine()
            bench = opened_bench(store, carts(NOON), machine)
            partition = await bench.open(0)
            await bench.round(0)
            machine.wait(2 * HOUR - MINUTE)
            machine.wall += jump
            await bench.round(0)
            assert machine.clock.jumped
            assert bench.outcome.decisions == set()
            machine.wait(5 * MINUTE)  # all are due now, and the clock is still not believed
            await bench.round(0)
            assert bench.outcome.decisions == set()
            assert await store.pending(0) == PEOPLE
            machine.wall -= jump
            await bench.round(0)
            await partition.relay.flush()
            assert len(bench.outcome.decisions) == PEOPLE
            assert await store.pending(0) == 0
            await bench.close(0)

    run(work())


def test_s17_records_go_on_while_the_clock_is_not_believed_and_set_it_right(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        async with opened(server, "heal") as store:
            machine = Machine()
            log = carts(NOON)
            bench = opened_bench(store, log, machine)
            partition = await bench.open(0)
            await bench.round(0)
            machine.wall += 3 * HOUR  # a machine that stood still without noticing
            await bench.round(0)
            assert machine.clock.jumped
            log.event("cart.viewed", "c0", NOON + 3 * HOUR,
                      {"cart_id": "k", "subtotal": 1, "currency": "JPY"}, "v")  # fmt: skip
            await bench.round(0)
            assert not bench.world.clock.jumped
            machine.wait(1_000)
            await bench.round(0)
            await partition.relay.flush()
            assert bench.outcome.refused == {}
            assert len(bench.outcome.decisions) == PEOPLE
            await bench.close(0)

    run(work())
