"""The store that is waited for: what passes is waited out, and a batch is taken once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.store import (
    Fenced,
    FunctionsMissing,
    OffsetMismatch,
    StoreUnavailable,
    new_token,
)
from streams.store.patience import PatientStore
from streams.storewatch import BookWatch, trim_while_full, watch_server
from tests.faults.proxy import Proxy
from tests.integration.stores import P, claimed, dump, execute, first, run, until


@contextlib.asynccontextmanager
async def patient(port: int, timeout_s: float = 2.0) -> AsyncIterator[PatientStore]:
    store = await PatientStore.connect(f"redis://127.0.0.1:{port}/0", timeout_s=timeout_s)
    try:
        await store.ensure_functions()
        yield store
    finally:
        await store.close()


def test_s7_without_memory_a_batch_waits_the_outbox_is_trimmed_and_work_goes_on_alone(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with patient(server.port) as store:
            meta = await claimed(store)

            class Acknowledged:
                async def trim(self, beside: bool = False) -> None:
                    assert beside
                    await store.trim(P, meta.token, 1, {"offers": 1})

            await store.apply(P, first(meta))
            raw.config_set("maxmemory", "1")
            before = dump(raw)
            batch = first(meta, number=2, offsets={"cart": (5, 6), "purchase": (3, 3)})
            applying = asyncio.create_task(store.apply(P, batch))
            await until(lambda: store.patience.waits["OOM"] > 2)
            assert not applying.done()
            assert store.patience.trouble == "OOM"
            assert dump(raw) == before
            trims = asyncio.create_task(trim_while_full(store, lambda: [Acknowledged()]))
            await until(lambda: raw.xlen("{p17}:outbox") == 0)
            trims.cancel()
            assert await store.outbox(P) == []
            # Reading goes on meanwhile, and does not hide that writing does not.
            assert await store.pending(P) == 2
            assert store.patience.trouble == "OOM"
            raw.config_set("maxmemory", "0")
            await asyncio.wait_for(applying, 3)
            assert store.patience.trouble == ""
            assert store.patience.waits["OOM"] > 2
            assert await store.outbox(P) == [(2, b"records")]

    run(work())


def test_s8_a_policy_that_evicts_is_noticed_at_run_time_and_stops_all_batches(
    server: EmbeddedStore, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.storewatch.LOOK_S", 0.1)

    async def work() -> None:
        async with patient(server.port) as store:
            meta = await claimed(store)
            watch = asyncio.create_task(watch_server(store))
            raw.config_set("maxmemory-policy", "allkeys-lru")
            await until(lambda: store.patience.trouble == "eviction")
            applying = asyncio.create_task(store.apply(P, first(meta)))
            await asyncio.sleep(0.2)
            assert not applying.done()
            raw.config_set("maxmemory-policy", "noeviction")
            await asyncio.wait_for(applying, 3)
            assert store.patience.trouble == ""
            watch.cancel()

    try:
        run(work())
    finally:
        raw.config_set("maxmemory-policy", "noeviction")


def test_s9_a_read_only_server_is_asked_again_on_new_connections_until_it_writes(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with patient(server.port) as store:
            meta = await claimed(store)
            await store.apply(P, first(meta))
            # A replica of nobody: it keeps its data and takes no writes.
            execute(raw, "REPLICAOF", "127.0.0.1", "1")
            batch = first(meta, number=2, offsets={"cart": (5, 6), "purchase": (3, 3)})
            applying = asyncio.create_task(store.apply(P, batch))
            await until(lambda: store.patience.trouble in ("READONLY", "MASTERDOWN"))
            execute(raw, "REPLICAOF", "NO", "ONE")
            await asyncio.wait_for(applying, 5)
            assert [number for number, _ in await store.outbox(P)] == [1, 2]

    run(work())


def test_s10_a_server_that_is_away_is_waited_for_without_spinning(tmp_path: Path) -> None:
    async def work() -> None:
        with EmbeddedStore(tmp_path) as own:
            async with patient(own.port) as store:
                meta = await claimed(store)
                own.kill()
                gc.collect()  # else what the rest of the run has left is collected meanwhile
                used = time.process_time()
                begun = time.monotonic()
                tasks: list[asyncio.Task[Any]] = [asyncio.create_task(store.apply(P, first(meta)))]
                tasks += [asyncio.create_task(store.load(n, [b"c-1"], "n")) for n in range(8)]
                await asyncio.sleep(2)
                assert (time.process_time() - used) / (time.monotonic() - begun) < 0.2
                assert not any(task.done() for task in tasks)
                assert store.patience.trouble == "NO_ANSWER"
                own.start()
                await asyncio.wait_for(asyncio.gather(*tasks), 10)
                assert await store.pending(P) == 2
                assert store.patience.trouble == ""

    run(work())


@pytest.mark.parametrize("times", [1, 3])
def test_s10_a_batch_whose_answer_was_lost_is_taken_once(
    server: EmbeddedStore, raw: redis.Redis, times: int
) -> None:
    async def work() -> None:
        with Proxy(server.port) as proxy:
            async with patient(proxy.port) as store:
                meta = await claimed(store)
                for turn in range(times):
                    proxy.lose_answer(lambda data: b"tsuide_1_apply" in data)
                    offsets = {"cart": (turn or None, turn + 1)}
                    await store.apply(P, first(meta, number=turn + 1, offsets=offsets))
                    assert proxy.lost == turn + 1
                numbers = [number for number, _ in await store.outbox(P)]
                assert numbers == list(range(1, times + 1))
                found = await store.meta(P)
                assert found is not None
                assert (found.number, found.offsets) == (times + 1, {"cart": times})

    run(work())


def test_s10_what_a_slow_net_brings_late_is_refused_when_it_was_offered_again(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        with Proxy(server.port) as proxy:
            async with patient(proxy.port, timeout_s=0.3) as store:
                meta = await claimed(store)
                proxy.hold(up=True, down=False)  # one way: it is sent, and does not arrive
                applying = asyncio.create_task(store.apply(P, first(meta)))
                await until(lambda: store.patience.waits["NO_ANSWER"] > 1)
                assert not applying.done()
                assert await asyncio.to_thread(raw.hget, "{p17}:meta", "n") == b"1"
                proxy.heal()  # what was held arrives, beside the next try
                await asyncio.wait_for(applying, 5)
                assert await store.outbox(P) == [(1, b"records")]

    run(work())


def test_s3_a_server_set_back_behind_a_lost_answer_is_noticed(tmp_path: Path) -> None:
    async def work() -> None:
        with EmbeddedStore(tmp_path / "s") as own:
            async with patient(own.port) as store:
                meta = await claimed(store)
                await store.apply(P, first(meta))
                own.kill()
                shutil.copytree(tmp_path / "s", tmp_path / "older")
                own.start()
                for number in (2, 3):
                    offsets = {"cart": (number + 3, number + 4), "purchase": (3, 3)}
                    await store.apply(P, first(meta, number=number, offsets=offsets))
                own.kill()
                offsets = {"cart": (7, 8), "purchase": (3, 3)}
                batch = first(meta, number=4, offsets=offsets)
                applying = asyncio.create_task(store.apply(P, batch))
                await until(lambda: store.patience.trouble == "NO_ANSWER")
                shutil.rmtree(tmp_path / "s")
                shutil.copytree(tmp_path / "older", tmp_path / "s")
                own.start()
                with pytest.raises(OffsetMismatch):
                    await asyncio.wait_for(applying, 10)

    run(work())


def test_s2_what_does_not_pass_is_raised_at_once(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with patient(server.port) as store:
            meta = await claimed(store)
            await store.claim(P, new_token(), 2, 32, 1)
            with pytest.raises(Fenced):
                await store.apply(P, first(meta))
            raw.function_flush()
            with pytest.raises(FunctionsMissing):
                await store.claim(P, new_token(), 2, 32, 1)
            await store.ensure_functions()
        with pytest.raises(StoreUnavailable):
            await PatientStore.connect("redis://127.0.0.1:1/0")

    run(work())


def test_a_server_that_lacks_its_replicas_is_waited_for(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with patient(server.port) as store:
            meta = await claimed(store)
            raw.config_set("min-replicas-to-write", "1")
            applying = asyncio.create_task(store.apply(P, first(meta)))
            await until(lambda: store.patience.trouble == "NOREPLICAS")
            assert not applying.done()
            raw.config_set("min-replicas-to-write", "0")
            await asyncio.wait_for(applying, 3)

    try:
        run(work())
    finally:
        raw.config_set("min-replicas-to-write", "0")


def test_s26_a_partition_that_moves_under_another_book_is_counted_until_it_moves_under_ours(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with patient(server.port) as store:
            watch = BookWatch(store, 4)
            metas = {number: await claimed(store, number) for number in (0, 1, 2)}

            async def step(number: int, turn: int, book: str) -> int:
                offsets = {"cart": (turn - 1 or None, turn)}
                batch = first(metas[number], number=turn, offsets=offsets, book=book)
                await store.apply(number, batch)
                await watch.look({0}, "ours")
                return watch.differing

            await watch.look({0}, "ours")
            assert await step(0, 1, "ours") == 0
            assert await step(1, 1, "theirs") == 1
            assert await step(0, 2, "ours") == 1  # nothing new is known of the others
            assert await step(2, 1, "ours") == 1
            assert await step(1, 2, "ours") == 0
            assert await step(2, 2, "theirs") == 1
            await watch.look({0, 1, 2, 3}, "ours")
            assert watch.differing == 0

    run(work())
