"""The store against a real server: a batch is written as a whole by its owner, or not at all."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.store import (
    Batch,
    Fenced,
    OffsetMismatch,
    PartitionCountChanged,
    SchemaNewer,
    StoreError,
    new_token,
)
from streams.store.calls import LIBRARY, NUMBER_MAX, apply_command
from streams.store.keys import bucket_of, key_slot, partition_keys
from tests.integration.stores import P, claimed, dump, first, keys_of, opened, run

HOSTILE = [
    b"}{",
    b"{p1}",
    b"a\x00b",
    b"\x00",
    "🎁 顧客".encode(),
    b"'] redis.call('FLUSHALL') --",
    b"*3\r\n$3\r\nSET\r\n",
    b"\xff\xfe\x80",
    b" ",
    b"x" * 10_000,
]


def test_a_batch_is_there_as_a_whole(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            assert (meta.epoch, meta.number, meta.offsets, meta.book) == (1, 1, {}, "")
            await store.apply(P, first(meta, trimmed={"offers": 7}))
            assert await store.load(P, [b"c-1", b"c-2", b"c-3"], "no") == {
                b"c-1": {"n": b"now", "o": b"orders"},
                b"c-2": {"n": b"other"},
                b"c-3": {},
            }
            assert await store.due(P, 1_500, 10) == [(b"c-2", 1_000)]
            assert await store.due(P, 2_000, 10) == [(b"c-2", 1_000), (b"c-1", 2_000)]
            assert await store.due(P, 2_000, 1) == [(b"c-2", 1_000)]
            assert await store.next_due(P) == 1_000
            assert await store.pending(P) == 2
            assert await store.outbox(P) == [(1, b"records")]
            stored = await store.meta(P)
            assert stored is not None
            assert stored.offsets == {"cart": 5, "purchase": 3}
            assert stored.trimmed == {"offers": 7}
            assert (stored.number, stored.book) == (2, "digest")

    run(work())


def test_what_was_never_written_is_nothing(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:
            assert await store.meta(P) is None
            assert await store.load(P, [], "n") == {}
            assert await store.load(P, [b"c"], "n") == {b"c": {}}
            assert await store.due(P, 10**13, 5) == []
            assert await store.next_due(P) is None
            assert await store.pending(P) == 0
            assert await store.outbox(P) == []

    run(work())
    assert dump(raw) == {}


def test_an_earlier_owner_is_fenced_and_writes_nothing(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store, opened(server) as other:
            old = await claimed(store)
            new = await claimed(other)
            assert new.epoch == 2
            before = dump(raw)
            with pytest.raises(Fenced):
                await store.apply(P, first(old))
            with pytest.raises(Fenced):
                await store.trim(P, old.token, 0, {"offers": 9})
            assert dump(raw) == before
            await other.apply(P, first(new))

    run(work())


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": {"cart": (4, 6), "purchase": (3, 3)}},
        {"offsets": {"cart": (5, 6), "purchase": (None, 3)}},
        {"offsets": {"cart": (5, 6), "feedback": (0, 3)}},
        {"number": 1},
        {"number": 3},
    ],
)
def test_another_position_is_refused_and_nothing_written(
    server: EmbeddedStore, raw: redis.Redis, changes: dict[str, Any]
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            await store.apply(P, first(meta))
            before = dump(raw)
            good = {"number": 2, "offsets": {"cart": (5, 6), "purchase": (3, 3)}}
            with pytest.raises(OffsetMismatch):
                await store.apply(P, first(meta, **{**good, **changes}))
            assert dump(raw) == before
            await store.apply(P, first(meta, **good))

    run(work())


def test_a_batch_sent_twice_counts_once(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            timers_only = first(meta, offsets={}, outbox=b"")
            await store.apply(P, timers_only)
            with pytest.raises(OffsetMismatch):
                await store.apply(P, timers_only)

    run(work())


BAD: list[dict[str, Any]] = [
    {"due": {b"c": -1}},
    {"due": {b"c": "inf"}},
    {"due": {b"c": "nan"}},
    {"due": {b"c": "1e3"}},
    {"due": {b"c": "0x10"}},
    {"due": {b"c": "1.5"}},
    {"due": {b"c": ""}},
    {"due": {b"c": NUMBER_MAX + 1}},
    {"due": {b"": 1}},
    {"due": {b"": None}},
    {"docs": {(b"", "n"): b"value"}},
    {"docs": {(b"", "n"): b""}},
    {"offsets": {"cart": (None, -1)}},
    {"offsets": {"cart": (None, "05")}},
    {"offsets": {"cart": (None, "5 ")}},
    {"offsets": {"cart": (None, "5\x00")}},
    {"offsets": {"cart": (7, 6)}},
    {"offsets": {"cart": ("x", 6)}},
    {"offsets": {"": (None, 6)}},
    {"offsets": {"ca rt": (None, 6)}},
    {"trimmed": {"offers": "inf"}},
    {"trimmed": {"of:fers": 1}},
    {"trim_to": 1},
    {"trim_to": "-1"},
    {"number": 0},
    {"number": NUMBER_MAX},
    {"number": "01"},
    {"book": "b" * 129},
]


@pytest.mark.parametrize("changes", BAD, ids=str)
def test_one_bad_argument_and_nothing_is_written(
    server: EmbeddedStore, raw: redis.Redis, changes: dict[str, Any]
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            before = dump(raw)
            with pytest.raises(StoreError, match="BAD_ARGUMENT"):
                await store.apply(P, first(meta, **changes))
            assert dump(raw) == before

    run(work())


@pytest.mark.parametrize("index", range(19))
def test_a_key_of_another_type_and_nothing_is_written(
    server: EmbeddedStore, raw: redis.Redis, index: int
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            key = partition_keys(P).all[index]
            raw.delete(key)
            raw.set(key, "somebody's")
            before = dump(raw)
            many = {(b"c-%d" % i, "n"): b"v" for i in range(200)}
            with pytest.raises(StoreError, match="BAD_TYPE"):
                await store.apply(P, first(meta, docs=many))
            assert dump(raw) == before
            if index == 0:
                with pytest.raises(StoreError, match="BAD_TYPE"):
                    await claimed(store)

    run(work())


def test_every_count_that_lies_is_refused(server: EmbeddedStore, raw: redis.Redis) -> None:
    """No cut or count of the arguments makes the function read past them or write a part."""

    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            before = dump(raw)
            keys = partition_keys(P)
            call = apply_command(
                keys, first(meta, trimmed={"offers": 1}, due={b"c": 9, b"d": None})
            )
            words = call.split(b"\r\n")[2::2]
            arguments = words[words.index(keys.outbox) + 1 :]
            for cut in range(len(arguments)):
                with pytest.raises(redis.ResponseError):
                    raw.fcall(LIBRARY + "_apply", 19, *keys.all, *arguments[:cut])
            with pytest.raises(redis.ResponseError, match="BAD_ARGUMENT"):
                raw.fcall(LIBRARY + "_apply", 19, *keys.all, *arguments, b"1")
            for place, word in enumerate(arguments):
                if word.isdigit() and place > 4:
                    for lie in (b"17", b"9007199254740992", b"-1", b""):
                        lied = [*arguments[:place], lie, *arguments[place + 1 :]]
                        with contextlib.suppress(redis.ResponseError):
                            raw.fcall(LIBRARY + "_apply", 19, *keys.all, *lied)
                            # An offset or a time may well be another number.
                            raw.flushdb()
                            raw.restore(keys.meta, 0, before[keys.meta])
                        assert dump(raw) == before
            for count in (0, 1, 18):
                with pytest.raises(redis.ResponseError, match="BAD_KEYS"):
                    raw.fcall(LIBRARY + "_apply", count, *keys.all[:count], *arguments)

    run(work())


@pytest.mark.parametrize("customer", HOSTILE, ids=lambda value: repr(value[:20]))
def test_any_id_comes_back_as_it_was_and_stays_in_its_slot(
    server: EmbeddedStore, raw: redis.Redis, customer: bytes
) -> None:
    async def work() -> None:
        async with opened(server, "book.A") as store:
            meta = await claimed(store)
            docs = {(customer, "n"): b"\x00\xff" + customer, (customer, "o"): b"{}"}
            await store.apply(P, first(meta, docs=docs, due={customer: 5}))
            loaded = await store.load(P, [customer], "no")
            assert loaded == {customer: {"n": b"\x00\xff" + customer, "o": b"{}"}}
            assert await store.due(P, 5, 9) == [(customer, 5)]
            slots = {key_slot(key) for key in keys_of(raw)}
            assert slots == {key_slot(partition_keys(P, "book.A").meta)}
            number = meta.number + 1
            gone = {(customer, "n"): b"", (customer, "o"): b"", (b"nobody", "n"): b""}
            offsets = {"cart": (5, 5), "purchase": (3, 3)}
            batch = Batch(meta.token, number, offsets, gone, {customer: None, b"nobody": None})
            await store.apply(P, batch)
            assert await store.load(P, [customer], "no") == {customer: {}}
            assert await store.next_due(P) is None
            held = keys_of(raw)
            assert held == [b"{book.A-p17}:meta", b"{book.A-p17}:outbox"]

    run(work())


def test_two_books_on_one_server_do_not_meet(server: EmbeddedStore, raw: redis.Redis) -> None:
    async def work() -> None:
        async with opened(server, "a") as one, opened(server, "b") as two:
            await one.apply(P, first(await claimed(one)))
            meta = await claimed(two)
            assert (meta.epoch, meta.offsets) == (1, {})
            assert await two.load(P, [b"c-1"], "n") == {b"c-1": {}}

    run(work())


def test_customers_are_many_and_each_in_its_bucket(server: EmbeddedStore, raw: redis.Redis) -> None:
    customers = [b"customer-%d" % number for number in range(5_000)]

    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            docs = {(c, part): part.encode() + c for c in customers for part in "no"}
            due: dict[bytes, int | None] = {c: 1_000 + i for i, c in enumerate(customers)}
            await store.apply(P, first(meta, docs=docs, due=due))
            loaded = await store.load(P, reversed(customers), "nox")
            assert loaded == {c: {"n": b"n" + c, "o": b"o" + c} for c in customers}
            assert await store.due(P, 10_000, 6_000) == list(
                zip(customers, due.values(), strict=True)
            )
            offsets = {"cart": (5, 5), "purchase": (3, 3)}
            gone = {(c, part): b"" for c in customers for part in "no"}
            none: dict[bytes, int | None] = dict.fromkeys(customers)
            await store.apply(P, Batch(meta.token, 2, offsets, gone, none))
            assert await store.pending(P) == 0

    for bucket in range(16):
        assert any(bucket_of(customer) == bucket for customer in customers)
    run(work())
    assert keys_of(raw) == [b"{p17}:meta", b"{p17}:outbox"]


def test_the_outbox_is_read_in_pages_and_trimmed_by_the_next_batch(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            for number in range(1, 151):
                blob = b"" if number == 100 else b"blob-%d" % number
                await store.apply(P, Batch(meta.token, number, {}, outbox=blob))
            kept = [n for n in range(1, 151) if n != 100]
            assert [n for n, _ in await store.outbox(P)] == kept
            assert await store.outbox(P, after=148) == [(149, b"blob-149"), (150, b"blob-150")]
            assert [n for n, _ in await store.outbox(P, after=98, limit=2)] == [99, 101]
            assert await store.outbox_size(P) == 149

            trimming = Batch(meta.token, 151, {}, trim_to=100, trimmed={"offers": 70})
            await store.apply(P, trimming)
            assert (await store.outbox(P))[0][0] == 101
            await store.trim(P, meta.token, 149, {"offers": 90, "decisions": 40})
            assert await store.outbox(P) == [(150, b"blob-150")]
            stored = await store.meta(P)
            assert stored is not None
            assert stored.trimmed == {"offers": 90, "decisions": 40}
            with pytest.raises(OffsetMismatch):
                await store.trim(P, meta.token, 152, {})

    run(work())


def test_a_claim_keeps_the_position_and_refuses_what_it_cannot_read(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            meta = await claimed(store)
            await store.apply(P, first(meta))
            again = await store.claim(P, new_token(), 9, 32, 2)
            assert (again.epoch, again.generation, again.schema) == (2, 9, 2)
            assert (again.offsets, again.number) == ({"cart": 5, "purchase": 3}, 2)
            before = dump(raw)
            with pytest.raises(SchemaNewer):
                await store.claim(P, new_token(), 10, 32, 1)
            with pytest.raises(PartitionCountChanged):
                await store.claim(P, new_token(), 10, 64, 2)
            for bad in [("", 1, 1, 1), ("t", -1, 1, 1), ("t", 1, 0, 1), ("t" * 65, 1, 1, 1)]:
                with pytest.raises(StoreError, match="BAD_ARGUMENT"):
                    await store.claim(P, *bad)
            assert dump(raw) == before

    run(work())


def test_an_owner_learns_that_it_is_none_any_more_or_that_the_store_was_set_back(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def work() -> None:
        async with opened(server) as store:
            with pytest.raises(OffsetMismatch):
                await store.verify(P, "token", 1)
            meta = await claimed(store)
            await store.verify(P, meta.token, meta.number)
            with pytest.raises(OffsetMismatch):
                await store.verify(P, meta.token, meta.number + 1)
            await claimed(store)
            with pytest.raises(Fenced):
                await store.verify(P, meta.token, meta.number)

    run(work())


def test_the_server_tells_its_own_clock(server: EmbeddedStore) -> None:
    async def work() -> None:
        async with opened(server) as store:
            before = time.time_ns() // 1_000_000
            there = await store.server_ms()
            assert there is not None
            assert before - 1 <= there <= time.time_ns() // 1_000_000 + 1

    run(work())
