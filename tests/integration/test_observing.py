"""What a worker tells of a run: its bounds, late events, hot keys and clock; never an id."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streams.embedded import EmbeddedStore
from streams.intake import Intake
from streams.metrics import Metrics
from streams.observer import WorkerObserver
from streams.worker import _status
from tests.integration.bench import Bench, Log
from tests.integration.stores import opened, run
from tests.integration.test_clock_jumps import Machine
from tests.integration.test_floods import BOOK, cart, order
from tests.unit.harness import DAY, NOON

WHALE, CANARY = "whale-of-a-customer", "canary-0451"
EVENTS = 20_400


async def never(error: BaseException) -> None:
    raise error


def traffic() -> Log:
    log = Log(1)
    for place in range(EVENTS):
        cart(log, WHALE, NOON - EVENTS + place, f"e{place}")
    cart(log, CANARY, NOON, "late", time_ms=NOON - 8 * DAY)
    order(log, CANARY, NOON)
    return log


def test_p9_a_run_feeds_the_metrics_of_its_bounds_and_names_nobody(server: EmbeddedStore) -> None:
    metrics = Metrics()

    async def work() -> None:
        async with opened(server, "observed") as store:
            machine = Machine()
            bench = Bench(store, BOOK, traffic())
            world = bench.world
            bench.clock = world.clock = machine.clock
            observer = world.observer = WorkerObserver(BOOK, metrics)
            intake = Intake(world, lambda: bench, (), never)
            observer.watch(world, intake)
            partition = intake.partitions[0] = await bench.open(0)
            await bench.round(0)
            app: Any = SimpleNamespace(rebalancing=False)
            assert _status(intake, app, world.clock)["ready"] is True
            machine.wall += 400 * DAY
            await bench.round(0)
            status = _status(intake, app, world.clock)
            assert (status["ready"], status["clock"]) == (False, "jumped")
            await partition.relay.flush()
            text = observer.exposition().decode()
            assert WHALE not in text
            assert CANARY not in text
            await bench.close(0)

    run(work())
    assert metrics.by("bounds_reached", "list")["repeats"] == EVENTS - 256
    assert metrics.by("events_late", "by") == {"7d": 1}
    assert metrics.total("hot_keys") == 1
    assert metrics.by("hot_key_share", "partition")["0"] > 0.9
    assert metrics.by("outbox_bytes", "partition") == {"0": 0}
    assert metrics.total("buffered_bytes") == 0
    assert metrics.total("events_applied") == EVENTS + 2
    assert metrics.total("clock_jumps") == 1
    assert metrics.total("clock_jumped") == 1
    assert metrics.by("catalog_entries", "what")["products"] == 0
