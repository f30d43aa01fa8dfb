"""The store when memory, server, rights or connection are gone: nothing half done, nothing told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.store import (
    Batch,
    Fenced,
    FunctionsMissing,
    Meta,
    Store,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from streams.store.calls import LIBRARY
from tests.integration.stores import P, claimed, dump, execute, first, opened, run


def test_without_memory_nothing_is_half_written_and_the_outbox_still_drains(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            await store.apply(P, first(meta))
            before = dump(raw)
            raw.config_set("maxmemory", "1")
            batch = first(meta, number=2, offsets={"cart": (5, 6), "purchase": (3, 3)})
            with pytest.raises(StoreFull):
                await store.apply(P, batch)
            assert dump(raw) == before
            await store.trim(P, meta.token, 1, {"offers": 1})
            assert await store.outbox(P) == []
            raw.config_set("maxmemory", "0")
            await store.apply(P, batch)

    run(work())


def test_a_server_that_lost_everything_is_noticed(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            raw.flushall()
            with pytest.raises(Fenced):
                await store.apply(P, first(meta))
            raw.function_flush()
            with pytest.raises(FunctionsMissing):
                await store.apply(P, first(meta))
            await store.ensure_functions()
            assert (await claimed(store)).epoch == 1

    run(work())


def test_functions_are_loaded_when_missing_or_different_and_left_alone_otherwise(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            assert raw.function_list(LIBRARY)
            raw.function_load(
                f"#!lua name={LIBRARY}\nredis.register_function('{LIBRARY}_claim', function() end)",
                replace=True,
            )
            await store.ensure_functions()
            await claimed(store)
            loads = raw.info("commandstats")["cmdstat_function|load"]["calls"]
            await store.ensure_functions()
            assert raw.info("commandstats")["cmdstat_function|load"]["calls"] == loads

    run(work())


@pytest.fixture
def user(server: EmbeddedStore, raw: redis.Redis) -> Iterator[str]:
    """The URL of a user with a worker's rights only."""
    rights = ["+fcall", "+hmget", "+hgetall", "+zrange", "+zcard", "+xrange", "+xlen", "+info"]
    rights += ["+hset", "+hdel", "+zadd", "+zrem", "+xadd", "+xtrim", "+type", "+ping"]
    execute(raw, "ACL", "SETUSER", "wörker", "on", ">s3c%ret", "~{p*", *rights)
    yield f"redis://w%C3%B6rker:s3c%25ret@{server.address}/0"
    execute(raw, "ACL", "DELUSER", "wörker")


def test_a_worker_s_user_needs_no_right_over_functions(
    user: str, server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server):
            pass
        store = await Store.connect(user)
        await store.ensure_functions()
        meta = await claimed(store)
        await store.apply(P, first(meta))
        assert await store.outbox(P) == [(1, b"records")]
        assert await store.check_server() is not None
        assert await store.appendfsync() == ""
        raw.function_delete(LIBRARY)
        with pytest.raises(FunctionsMissing, match="administrator"):
            await store.ensure_functions()
        assert "s3c" not in repr(store)
        await store.close()

    run(work())


def test_no_secret_is_told_by_a_failure(user: str, server: EmbeddedStore) -> None:
    async def work() -> None:
        for url in (user.replace("s3c%25ret", "s3cwrong"), "redis://:s3c@127.0.0.1:1/0"):
            with pytest.raises(StoreError) as told:
                await Store.connect(url)
            assert "s3c" not in f"{told.value!r} {told.value.__cause__!r}"
        for url in ("http://:s3c@host", "redis://:s3c#ret/x@host:6379", "redis://:s3c@host:s3c"):
            with pytest.raises(ValueError, match="URL") as refused:
                Store(url)
            assert "s3c" not in str(refused.value)

    run(work())


def test_the_server_s_findings(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:
            assert {f.code for f in await store.check_server()} == {"maxmemory"}
            assert await store.appendfsync() == "everysec"
            raw.config_set("maxmemory-policy", "allkeys-lru")
            fatal = [f for f in await store.check_server() if f.fatal]
            raw.config_set("maxmemory-policy", "noeviction")
            assert [f.code for f in fatal] == ["eviction"]

    run(work())


def test_s11_a_cancelled_call_leaves_no_reply_for_the_next(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            await store.apply(P, first(meta))
            loop = asyncio.get_running_loop()
            for turns in range(12):
                for what in (store.outbox(P), store.meta(P), store.load(P, [b"c-1"], "n")):
                    task = loop.create_task(what)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                    assert await store.next_due(P) == 1_000
                    assert await store.pending(P) == 2
            assert len(raw.client_list()) <= 4

    run(work())


def test_a_server_that_does_not_answer_is_unavailable_and_then_served_again(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server, timeout_s=0.2) as store:
            meta = await claimed(store)
            execute(raw, "CLIENT", "PAUSE", "500", "ALL")
            with pytest.raises(StoreUnavailable):
                await store.apply(P, first(meta))
            await asyncio.sleep(0.6)
            # Whether it was written is unknown: a claim tells.
            again = await claimed(store)
            if again.number == 1:
                await store.apply(P, first(again))
            assert await store.pending(P) == 2

    run(work())


def test_a_connection_that_died_while_idle_is_opened_again(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            execute(raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await store.next_due(P) is None
            execute(raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            # A batch is never sent again by itself.
            with pytest.raises(StoreUnavailable):
                await store.apply(P, first(meta))
            again = await claimed(store)
            if again.number == 1:
                await store.apply(P, first(again))

    run(work())


def test_calls_of_many_tasks_get_their_own_answers(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:

            async def partition(number: int) -> None:
                meta = await claimed(store, number)
                for turn in range(20):
                    name = b"c-%d-%d" % (number, turn)
                    docs = {(name, "n"): name}
                    await store.apply(number, Batch(meta.token, turn + 1, {}, docs))
                    asked = [store.load(number, [name], "n") for _ in range(3)]
                    assert await asyncio.gather(*asked) == [{name: {"n": name}}] * 3
                await store.release(number)

            await asyncio.gather(*map(partition, range(16)))

    run(work())


def test_a_crash_of_the_server_leaves_a_state_as_after_some_batch(tmp_path: Path) -> None:
    """Killed amid batches: what is there afterwards is one batch's end, in all keys at once."""

    async def writing(store: Store, meta: Meta, reached: list[int]) -> AsyncIterator[None]:
        number = meta.number
        while True:
            text = b"%d" % number
            docs = {(b"c-%d" % i, "n"): text for i in range(50)}
            due: dict[bytes, int | None] = {b"c-%d" % i: number for i in range(50)}
            before = meta.offsets.get("cart") if number == meta.number else number - 1
            offsets = {"cart": (before, number)}
            trim = number - 10 if number > 10 else None
            await store.apply(P, Batch(meta.token, number, offsets, docs, due, text, trim_to=trim))
            reached.append(number)
            number += 1
            yield

    async def work() -> None:
        with EmbeddedStore(tmp_path) as own:
            reached = [0]
            for _ in range(4):
                async with opened(own) as store:
                    meta = await claimed(store)
                    assert meta.number > reached[-1]  # a killed process leaves its writes behind
                    if meta.number > 1:
                        await self_consistent(store, meta)
                    steps = writing(store, meta, reached)
                    for _ in range(40):
                        await anext(steps)
                    last = asyncio.ensure_future(anext(steps))
                    await asyncio.sleep(0)
                    own.kill()
                    with contextlib.suppress(StoreUnavailable):
                        await last
                own.start()

    async def self_consistent(store: Store, meta: Meta) -> None:
        done = meta.number - 1
        assert meta.offsets == {"cart": done}
        names = [b"c-%d" % i for i in range(50)]
        assert await store.load(P, names, "n") == {name: {"n": b"%d" % done} for name in names}
        assert {due for _, due in await store.due(P, 10**12, 99)} == {done}
        outbox = await store.outbox(P)
        assert outbox == [(n, b"%d" % n) for n in range(done - 9, done + 1)]

    run(work())
