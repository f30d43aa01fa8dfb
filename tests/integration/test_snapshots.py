"""A snapshot is one moment of a partition; restored, the partition goes on from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from streams.activations import activations, book_at
from streams.embedded import EmbeddedStore
from streams.erasure import Entry, Ledger
from streams.outbox import Outgoing, pack, unpack
from streams.repair import put_all_back, read_from_first
from streams.settings import load_settings
from streams.snapshots import (
    Snapshot,
    SnapshotError,
    check,
    check_room,
    check_topics,
    file_of,
    partitions_stored,
    put_back,
    read,
    readable,
    take,
    write,
)
from streams.store.errors import Fenced, SchemaNewer
from streams.store.keys import partition_keys
from streams.storemarks import StoreLostError, StoreMarks, mark_key, mark_value
from tests.integration.bench import Bench, Log, StandingClock, model, same
from tests.integration.stores import dump, opened, run
from tests.integration.test_store_marks import Control
from tests.unit.harness import DAY, HOUR, NOON, SECOND, make_book
from triggers.book import Book
from triggers.durations import to_ms

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
    keys = partition_keys(0, "")
    both = [Outgoing("decisions", name, b"{}", name.decode()) for name in (b"c1", b"c2")]
    for number, unsent in enumerate((both[:1], both), start=1_000):
        raw.xadd(keys.outbox, {"r": pack(unsent)}, id=f"{number}-0")
    taken = take(raw, 0, "")
    assert taken is not None
    write(taken, path)
    raw.flushdb()
    assert put_back(raw, read(path), ledger, False, path).erased == 1
    outbox: Any = raw.xrange(keys.outbox)
    entries = [(name, unpack(fields[b"r"])) for name, fields in outbox]
    assert entries[-2:] == [(b"1000-0", []), (b"1001-0", both[1:])]
    left = [field for key in keys.customers for field in raw.hkeys(key)]
    assert not any(field[1:] == b"c1" for field in left)
    assert any(field[1:] == b"c2" for field in left)
    assert raw.zscore(keys.due, b"c1") is None
    assert raw.zscore(keys.due, b"c2") is not None


def test_a_file_that_is_cut_or_changed_is_refused(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    path = file_of(tmp_path, 0)
    one_partition(server, raw, path)
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


def one_partition(server: EmbeddedStore, raw: redis.Redis, path: Path) -> Snapshot:
    """A partition with something in it, and its snapshot as a file."""
    log = Log(1)
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
    return taken


@pytest.mark.parametrize(
    ("offset", "first", "end", "fits"),
    [(0, 0, 0, True), (0, 7, 9, True), (7, 7, 9, True), (9, 7, 9, True), (6, 7, 9, False),
     (10, 7, 9, False), (1, 7, 9, False)],
)  # fmt: skip
def test_offset_0_means_the_first_record_that_kafka_has(
    offset: int, first: int, end: int, fits: bool
) -> None:
    assert readable(offset, first, end) is fits


def test_what_was_put_back_is_another_store_than_the_one_it_came_from(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    path, control = file_of(tmp_path, 0), Control()

    async def claim() -> None:
        async with opened(server) as store:
            await store.claim(0, "t", 1, 1, 1)
            await StoreMarks({}, "x-", store, None, control.read).check([0], control)

    one_partition(server, raw, path)
    run(claim())
    taken = take(raw, 0, "")
    assert taken is not None
    write(taken, path)
    lost = {key: raw.dump(key) for key in raw.keys()}  # noqa: SIM118 - it is a server
    # Forgotten, and a worker has begun anew: the mark names what it made.
    raw.flushdb()
    control.records.append((mark_key(0), None))
    run(claim())
    done = put_all_back(raw, {path: read(path)}, Ledger(), True)
    with pytest.raises(StoreLostError):
        run(claim())  # nobody goes on before the mark is written
    control.records.append((mark_key(0), mark_value(done[0][0])))
    run(claim())
    # The store that was lost comes up again: it is not the one that the partition lives in.
    raw.flushdb()
    for key, blob in lost.items():
        raw.restore(key, 0, blob)  # type: ignore[arg-type]
    with pytest.raises(StoreLostError):
        run(claim())


def test_a_dump_that_the_server_does_not_take_changes_nothing(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    path = file_of(tmp_path, 0)
    taken = one_partition(server, raw, path)
    before = dump(raw)
    blob = taken.values["meta"]
    later = taken._replace(values={**taken.values, "meta": blob[:-10] + b"\xff\xff" + blob[-8:]})
    with pytest.raises(SnapshotError, match="later release of the server"):
        check_room(raw, later, True, path)
    with pytest.raises(SnapshotError, match="later release of the server"):
        put_back(raw, later, Ledger(), True, path)
    assert dump(raw) == before
    check_room(raw, taken, True, path)
    assert dump(raw) == before, "the probe is gone"
    with pytest.raises(SnapshotError, match="holds something"):
        check_room(raw, taken, False, path)


def test_a_file_that_was_renamed_or_changes_meanwhile_is_refused(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    path, other = file_of(tmp_path, 0), file_of(tmp_path, 1)
    taken = one_partition(server, raw, path)
    other.write_bytes(path.read_bytes())
    with pytest.raises(SnapshotError, match="renamed"):
        check(read(other), other, load_settings(), 1)
    raw.flushdb()
    checked = taken._replace(head={**taken.head, "number": 99})
    with pytest.raises(SnapshotError, match="changed while"):
        put_all_back(raw, {path: checked}, Ledger(), False)
    assert dump(raw) == {}


def test_a_snapshot_from_before_a_topic_was_made_anew_is_refused(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    path = file_of(tmp_path, 0)
    head = one_partition(server, raw, path).head
    at_ms = to_ms(head["at"])
    check_topics(head, path, {"cart": at_ms, "usage": at_ms + 1})  # it has read nothing of usage
    with pytest.raises(SnapshotError, match="before topic cart was made anew"):
        check_topics(head, path, {"cart": at_ms + 1})


def test_an_accepted_topic_is_read_from_its_first_record_and_customers_stay(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    one_partition(server, raw, file_of(tmp_path, 0))
    keys = partition_keys(0, "")
    before = take(raw, 0, "")
    assert before is not None
    assert before.head["offsets"]["cart"] == 5
    raw.set(keys.trial, b"what was in hand")
    read_from_first(raw, 0, "", ["cart"])
    read_from_first(raw, 1, "", ["cart"])  # never claimed: nothing is made
    after = take(raw, 0, "")
    assert after is not None
    assert "cart" not in after.head["offsets"]
    assert after.head["offsets"]["customer"] == before.head["offsets"]["customer"]
    assert not raw.exists(keys.trial)
    assert partitions_stored(raw, "") == [0]

    again = Log(1)
    item = {"sku": "s9", "quantity": 1, "unit_price": 500}
    cart = {"cart_id": "new", "item": item, "subtotal": 1, "currency": "JPY"}
    for number in range(5):
        again.event("consent.granted", f"c{number}", NOON, {"channel": "*"}, f"g{number}")
    again.event("cart.item_added", "c1", NOON + DAY, cart, "new")

    async def body() -> None:
        async with opened(server) as store:
            known = await activations(store, 0)
            assert book_at(known, "cart", 0) == known[-1].digest
            bench = Bench(store, book(), again, StandingClock())
            await bench.open(0)
            await bench.round(0)
            meta = await store.meta(0)
            assert meta is not None
            assert meta.offsets["cart"] == 1
            await bench.close(0)
            assert bench.outcome.offers

    run(body())


def test_a_field_that_a_late_call_left_is_no_partition(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    raw.hset(partition_keys(0, "").meta, "store", "late")
    assert partitions_stored(raw, "") == []
    assert take(raw, 0, "") is None


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
