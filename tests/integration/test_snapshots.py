"""A snapshot is one moment of a partition; restored, the partition goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.erasure import Entry, Ledger
from streams.settings import load_settings
from streams.snapshots import (
    SnapshotError,
    check,
    file_of,
    partitions_stored,
    put_back,
    read,
    take,
    write,
)
from streams.store.errors import Fenced, SchemaNewer
from streams.store.keys import partition_keys
from tests.integration.bench import Bench, Log, StandingClock, model, same
from tests.integration.stores import opened, run
from tests.unit.harness import DAY, HOUR, NOON, SECOND, make_book
from triggers.book import Book

pytestmark = pytest.mark.usefixtures("raw")


def book() -> Book:
    return make_book(
        {"id": "now", "on": "cart.item_added"},
        {"id": "week", "kind": "follow_up", "on": "cart.item_added", "after": "7d"},
    )


def shopping(log: Log, begin: int, count: int) -> None:
    for number in range(begin, begin + count):
        who, at = f"c{number % 5}", NOON + number * HOUR
        if number < 5:
            log.event("consent.granted", who, at, {"channel": "*"}, f"g{number}")
        item = {"sku": f"s{number % 3}", "quantity": 1, "unit_price": 500}
        cart = {"cart_id": f"k{number}", "item": item, "subtotal": 1, "currency": "JPY"}
        log.event("cart.item_added", who, at + SECOND, cart, f"e{number}")


def test_s05_a_store_set_back_to_a_snapshot_ends_as_if_nothing_had_been(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    log, path = Log(1), file_of(tmp_path, 0)
    shopping(log, 0, 20)

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, book(), log, StandingClock())
            await bench.open(0)
            await bench.round(0)
            taken = take(raw, 0, "")
            assert taken is not None
            assert write(taken, path) == path.stat().st_size
            shopping(log, 20, 20)
            await bench.round(0)
            # Set back under a worker that lives and has a valid token: it can write nothing.
            put_back(raw, read(path), Ledger(), True, path)
            shopping(log, 40, 5)
            with pytest.raises(Fenced):
                await bench.round(0)
            known = {record.id for record in bench.published}
            assert known
            bench.partitions.clear()
            again = Bench(store, book(), log, StandingClock())
            await again.run(NOON + 30 * DAY)
            return again

    again = run(body())
    expected = model(book(), log, NOON + 30 * DAY)
    # Decided anew after the snapshot: the same ids and bytes; what was decided before it is there.
    assert again.outcome.offers.items() <= expected.offers.items()
    assert again.outcome.customers == expected.customers


def test_s04_a_restored_partition_goes_on_with_the_log_after_the_snapshot(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    log, path = Log(1), file_of(tmp_path, 0)
    shopping(log, 0, 20)

    async def body() -> tuple[Bench, Bench]:
        async with opened(server) as store:
            first = Bench(store, book(), log, StandingClock())
            await first.open(0)
            await first.round(0)
            await first.close(0)
            taken = take(raw, 0, "")
            assert taken is not None
            write(taken, path)
            raw.flushall()
            await store.ensure_functions()
            put_back(raw, read(path), Ledger(), False, path)
            shopping(log, 20, 20)
            second = Bench(store, book(), log, StandingClock())
            await second.run(NOON + 30 * DAY)
            return first, second

    first, second = run(body())
    both = first.outcome
    both.decisions |= second.outcome.decisions
    both.offers |= second.outcome.offers
    both.copies += second.outcome.copies
    both.customers = second.outcome.customers
    same(both, model(book(), log, NOON + 30 * DAY))


def test_whoever_was_erased_since_the_snapshot_is_not_put_back(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    log, path = Log(1), file_of(tmp_path, 0)
    shopping(log, 0, 20)
    ledger = Ledger(b"k")
    ledger.take(ledger.digest("c1"), Entry("erased", NOON + DAY, 99))

    async def body() -> None:
        async with opened(server) as store:
            bench = Bench(store, book(), log, StandingClock())
            await bench.open(0)
            await bench.round(0)
            await bench.close(0)

    run(body())
    taken = take(raw, 0, "")
    assert taken is not None
    write(taken, path)
    raw.flushdb()
    assert put_back(raw, read(path), ledger, False, path) == 1
    keys = partition_keys(0, "")
    left = [field for key in keys.customers for field in raw.hkeys(key)]
    assert not any(field[1:] == b"c1" for field in left)
    assert any(field[1:] == b"c2" for field in left)
    assert raw.zscore(keys.due, b"c1") is None
    assert raw.zscore(keys.due, b"c2") is not None


def test_a_file_that_is_cut_or_changed_is_refused(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    log, path = Log(1), file_of(tmp_path, 0)
    shopping(log, 0, 5)

    async def body() -> None:
        async with opened(server) as store:
            bench = Bench(store, book(), log, StandingClock())
            await bench.open(0)
            await bench.round(0)
            await bench.close(0)

    run(body())
    taken = take(raw, 0, "")
    assert taken is not None
    write(taken, path)
    assert path.stat().st_mode & 0o077 == 0, "it holds personal data"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p0.snapshot"]
    whole = path.read_bytes()
    cuts = {0, 1, len(whole) // 2, len(whole) - 1}
    for bad in [whole[:cut] for cut in cuts] + [whole + b"x", whole[:-40] + b"x" + whole[-39:]]:
        path.write_bytes(bad)
        with pytest.raises(SnapshotError, match=r"p0\.snapshot"):
            read(path)
    path.write_bytes(whole)
    found, ours = read(path), load_settings()
    check(found, path, ours, 1)
    with pytest.raises(SnapshotError, match="partitions"):
        check(found, path, ours, 2)
    with pytest.raises(SnapshotError, match="prefix"):
        check(found, path, load_settings(prefix="x-"), 1)
    with pytest.raises(SnapshotError, match="holds something"):
        put_back(raw, found, Ledger(), False, path)
    assert partitions_stored(raw, "") == [0]


def test_s30_documents_of_a_later_release_are_refused_whole(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    async def body() -> None:
        async with opened(server) as store:
            await store.claim(0, "t", 1, 1, 1)
            raw.hset(partition_keys(0, "").meta, "schema", "9")
            with pytest.raises(SchemaNewer):
                await store.claim(0, "u", 2, 1, 1)
            meta = await store.meta(0)
            assert meta is not None
            assert (meta.token, meta.schema) == ("t", 9), "nothing was changed"

    run(body())


def test_s30_libraries_of_two_releases_live_side_by_side(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    older = (
        "#!lua name=tsuide_0\n"
        "redis.register_function('tsuide_0_apply', function(keys, args) return 'old' end)"
    )

    async def body() -> None:
        raw.function_load(older, replace=True)
        async with opened(server) as store:
            await store.ensure_functions()
            await store.claim(0, "t", 1, 1, 1)
            assert raw.fcall("tsuide_0_apply", 0) == b"old"

    run(body())
