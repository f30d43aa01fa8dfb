"""Giving partitions up: in order, and when another worker has them already."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from faust.types import TP

from streams.embedded import EmbeddedStore
from streams.intake import Intake
from streams.merge import FetchState
from streams.outbox import Outgoing
from streams.ownership import SURE_MS
from streams.store import Store
from streams.store.calls import Batch, new_token
from tests.integration.bench import Bench, Log
from tests.integration.stores import opened, run
from tests.integration.test_floods import BOOK, cart
from tests.unit.harness import NOON
from triggers.events import TOPICS
from triggers.state import SCHEMA

PARTITIONS = 2
PLACES = {TP(topic, number) for topic in TOPICS for number in range(PARTITIONS)}


class Desk:
    """An intake on a real store, with what ended it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.crashes: list[BaseException] = []
        self._given: Counter[tuple[str, int]] = Counter()
        self.intake = Intake(bench.world, lambda: bench, (), self._crash, self._read)

    async def _crash(self, error: BaseException) -> None:
        self.crashes.append(error)

    async def _read(
        self, options: Mapping[str, Any], prefix: str, starts: Mapping[tuple[str, int], int]
    ) -> dict[int, set[str]]:
        return {}

    async def begin(self) -> None:
        """Claim all partitions."""
        await self.intake.claim(set(PLACES), 1)

    def feed(self) -> None:
        """Hand over what is new in the log, and then a round that found nothing more."""
        log = self.bench.log.records
        records = {TP(*place): found[self._given[place] :] for place, found in log.items()}
        self._given |= Counter({place: len(found) for place, found in log.items()})
        ends = {tp: self._given[tp.topic, tp.partition] for tp in PLACES}
        for given in (records, {}):
            now = self.bench.clock.wall_ms()
            self.intake.deliver(given, {tp: FetchState(n, n, now) for tp, n in ends.items()}, now)

    def all_applied(self) -> bool:
        log = self.bench.log.records
        return all(
            partition.offsets["cart"] == len(log["cart", number])
            for number, partition in self.intake.partitions.items()
        )


async def until(ready: Callable[[], bool], seconds: float = 10) -> None:
    """The partitions are tasks beside the test."""
    async with asyncio.timeout(seconds):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def held_desk(store: Store, log: Log) -> tuple[Desk, asyncio.Event]:
    """All of the log is applied, and what it led to waits in the outbox for the event."""
    bench = Bench(store, BOOK, log)
    bench.hold = hold = asyncio.Event()
    desk = Desk(bench)
    await desk.begin()
    desk.feed()
    await until(desk.all_applied)
    return desk, hold


async def take_away(bench: Bench, number: int) -> None:
    """What another worker does with a partition whose owner stands still."""
    await bench.world.store.claim(number, new_token(), 2, PARTITIONS, SCHEMA)


def carts() -> Log:
    log = Log(PARTITIONS)
    for number in range(8):
        cart(log, f"c{number}", NOON + number, f"e{number}")
    return log


def test_s2_partitions_that_another_claimed_meanwhile_are_given_up_without_a_crash(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        async with opened(server, "taken") as store:
            bench = Bench(store, BOOK, carts())
            desk = Desk(bench)
            await desk.begin()
            desk.feed()
            await until(desk.all_applied)
            for partition in desk.intake.partitions.values():
                # So that the release has something to tell the store.
                partition.relay.done = partition.relay.trimmed + 1
            await take_away(bench, 0)
            await desk.intake.release(set(PLACES))
            assert desk.intake.partitions == {}
            assert desk.crashes == []

    run(work())


def test_s2_a_batch_that_finds_itself_fenced_while_it_is_given_up_ends_nothing_else(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        async with opened(server, "fenced") as store:
            bench = Bench(store, BOOK, carts())
            desk = Desk(bench)
            await desk.begin()
            under_way, go_on, apply = asyncio.Event(), asyncio.Event(), store.apply

            async def slowly(partition: int, batch: Batch) -> None:
                under_way.set()
                await go_on.wait()
                await apply(partition, batch)

            store.apply = slowly  # type: ignore[method-assign]
            desk.feed()
            await under_way.wait()
            await take_away(bench, 0)
            release = asyncio.create_task(desk.intake.release(set(PLACES)))
            await asyncio.sleep(0.01)
            go_on.set()
            await release
            assert desk.crashes == []
            assert desk.intake.partitions == {}
            theirs = {record.key for record in bench.log.records["cart", 0]}
            assert {record.key for record in bench.published}.isdisjoint(theirs)
            assert (await store.meta(1)).offsets["cart"] == len(bench.log.records["cart", 1])  # type: ignore[union-attr]

    run(work())


def test_s2_a_worker_that_is_fenced_while_it_goes_on_ends_and_sends_nothing_more(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        async with opened(server, "zombie") as store:
            log = carts()
            desk, hold = await held_desk(store, log)
            bench = desk.bench
            relay = desk.intake.partitions[0].relay
            relay.put(99, [Outgoing("decisions", b"c", b"{}", "queued")], 2)  # behind what is sent
            await take_away(bench, 0)
            for number in range(8, 16):
                cart(log, f"c{number}", NOON + number, f"e{number}")
            desk.feed()
            await until(lambda: bool(desk.crashes))
            assert type(desk.crashes[0]).__name__ == "Fenced"
            hold.set()
            await desk.intake.release(set(PLACES))
            assert b"{}" not in {record.value for record in bench.published}

    run(work())


def test_partitions_are_given_up_once_though_it_is_asked_twice(server: EmbeddedStore) -> None:
    """The group takes them away while the worker stops."""

    async def work() -> None:
        async with opened(server, "twice") as store:
            desk, hold = await held_desk(store, carts())
            both = [asyncio.create_task(desk.intake.release(set(PLACES))) for _ in range(2)]
            await asyncio.sleep(0.05)
            hold.set()
            await asyncio.gather(*both)
            assert desk.intake.partitions == {}
            assert await store.outbox_size(0) == await store.outbox_size(1) == 0

    run(work())


def test_s2_a_relay_that_finds_itself_fenced_ends_the_worker(server: EmbeddedStore) -> None:
    """Its own task must live to say so."""

    async def work() -> None:
        async with opened(server, "asked") as store:
            bench = Bench(store, BOOK, carts())
            desk = Desk(bench)

            async def crash(error: BaseException) -> None:
                await asyncio.sleep(0)
                desk.crashes.append(error)

            desk.intake = Intake(bench.world, lambda: bench, (), crash, desk._read)
            await desk.begin()
            partition = desk.intake.partitions[0]
            partition._looked_at = bench.clock.wall_ms()  # so that it is not the first to notice
            relay = partition.relay
            await take_away(bench, 0)
            relay.ownership.sure(-SURE_MS)  # as if it had stood still
            relay.put(99, [Outgoing("decisions", b"c", b"{}", "queued")], 2)
            await until(lambda: bool(desk.crashes), 3)
            assert type(desk.crashes[0]).__name__ == "Fenced"
            assert bench.published == []
            await desk.intake.release(set(PLACES))

    run(work())


def test_s2_an_answer_that_lay_there_while_the_worker_stood_still_proves_nothing(
    server: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch was applied, and its records are the other worker's to send by now."""

    async def work() -> None:
        async with opened(server, "old") as store:
            bench = Bench(store, BOOK, carts())
            desk = Desk(bench)
            await desk.begin()
            apply = store.apply

            async def stood_still(number: int, batch: Batch) -> None:
                await apply(number, batch)
                if batch.outbox:
                    await take_away(bench, number)
                    bench.clock._wall += SURE_MS  # type: ignore[attr-defined]

            monkeypatch.setattr(store, "apply", stood_still)
            desk.feed()
            await until(lambda: bool(desk.crashes))
            assert type(desk.crashes[0]).__name__ == "Fenced"
            assert bench.published == []
            monkeypatch.undo()
            await desk.intake.release(set(PLACES))

    run(work())


def test_a_claim_waits_for_what_is_still_given_up(server: EmbeddedStore) -> None:
    """It would fence it, and lose what it has just claimed when the other comes to its end."""

    async def work() -> None:
        async with opened(server, "again") as store:
            desk, hold = await held_desk(store, carts())
            release = asyncio.create_task(desk.intake.release(set(PLACES)))
            await asyncio.sleep(0.01)
            claim = asyncio.create_task(desk.intake.claim(set(PLACES), 2))
            await asyncio.sleep(0.05)
            assert not claim.done()
            hold.set()
            await release
            await claim
            assert sorted(desk.intake.partitions) == [0, 1]
            assert desk.crashes == []
            assert await store.outbox_size(0) == await store.outbox_size(1) == 0
            await desk.intake.release(set(PLACES))

    run(work())
