"""The store or the broker is away, full, set back or unfit: pause, alarm, heal, nothing lost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, RLIMIT_NOFILE, prlimit
from typing import Any

import pytest
import redis as redis_client

from streams.embedded import EmbeddedStore
from tests.faults.kit import Rig, Shoppers, Slot, at_length, seeds, wait_for
from tests.faults.proxy import Proxy
from tests.integration.pipeline import PARTITIONS
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

CUT_S = seeds("CUT_SECONDS", 8)


@contextmanager
def before_store(
    kafka: KafkaServer, store: EmbeddedStore, folder: Path
) -> Iterator[tuple[Rig, Proxy]]:
    """A rig whose workers reach the store through a proxy."""
    with Proxy(store.port) as proxy:
        url = f"redis://{proxy.address}/0"
        with closing(Rig(kafka.address, store.url, folder, workers={"redis": url})) as rig:
            yield rig, proxy


@contextmanager
def before_broker(
    kafka: KafkaServer, store: EmbeddedStore, folder: Path
) -> Iterator[tuple[Rig, Proxy]]:
    """A rig whose workers reach the broker through a proxy."""
    if not kafka.proxy_port:
        pytest.skip("this broker has no second listener")
    with (
        Proxy(kafka.proxied_port, kafka.proxy_port) as proxy,
        closing(Rig(kafka.address, store.url, folder, workers={"kafka": proxy.address})) as rig,
    ):
        yield rig, proxy


def finish(rig: Rig, copies: int = 0) -> None:
    """All is applied without anybody's help, and is what the model says."""
    for slot in rig.slots:
        if slot.wanted:
            wait_for("it is ready again", slot.is_ready)
    rig.settle()
    exits = [code for slot in rig.slots for code in slot.exits]
    rig.end()
    print(f"exits {exits}, {dict(rig.check(copies))}")


@pytest.mark.alone
@pytest.mark.parametrize("how", ["cut", "silent", *at_length("one way", "slow")])
def test_s10_a_cut_between_worker_and_store_is_waited_out(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path, how: str
) -> None:
    with before_store(own_kafka, store, tmp_path) as (rig, proxy):
        (slot,) = rig.begin(1)
        shoppers = Shoppers(rig, seed=20)
        shoppers.steady(1)
        shoppers.until_in_flight()
        _injure(proxy, how)
        if how != "slow":
            _wait_until_told([slot], "NO_ANSWER")
        before = rig.calls()
        used_s, begun = slot.processor_seconds(), time.monotonic()
        time.sleep(CUT_S)
        share = (slot.processor_seconds() - used_s) / (time.monotonic() - begun)
        state = slot.ready() or {}
        print(f"{how}: {share:.0%} of a core, {state}")
        if how == "slow":
            assert sum(rig.calls()) > sum(before), "nothing moves"
        else:
            assert rig.calls() == before
            assert (state["code"], state["store"]) == ("503", "NO_ANSWER")
            assert share < 0.2
        proxy.heal()
        finish(rig)
        assert slot.exits == []


def _wait_until_told(slots: list[Slot], code: str) -> None:
    """Wait until all of them say that they wait for the store, and why."""

    def told() -> bool:
        return all((slot.ready() or {}).get("store") == code for slot in slots)

    wait_for(f"{code} is told", told, 30)


def _wait_for_tries(slot: Slot) -> None:
    """Wait until calls to the store were tried again a few times."""
    tries = slot.metric("store_waits_total")
    wait_for("it tries again", lambda: slot.metric("store_waits_total") > tries + 3, 30)


def _injure(proxy: Proxy, how: str) -> None:
    if how == "cut":
        proxy.cut()
    elif how == "slow":
        proxy.slow(0.5)
    else:
        proxy.hold(up=how == "silent", down=True)


@pytest.mark.alone
@pytest.mark.parametrize("how", ["cut", *at_length("silent", "slow")])
def test_s10_a_cut_between_worker_and_broker_is_waited_out(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path, how: str
) -> None:
    with before_broker(own_kafka, store, tmp_path) as (rig, proxy):
        (slot,) = rig.begin(1)
        shoppers = Shoppers(rig, seed=21)
        shoppers.steady(1)
        shoppers.until_in_flight()
        _injure(proxy, how)
        used_s, begun = slot.processor_seconds(), time.monotonic()
        time.sleep(CUT_S)
        share = (slot.processor_seconds() - used_s) / (time.monotonic() - begun)
        state = slot.ready() or {}
        print(f"{how}: {share:.0%} of a core, {state}")
        if how != "slow":
            assert state["code"] == "503"
            assert share < 0.2
        proxy.heal()
        shoppers.steady(1)
        finish(rig, copies=slot.lost_records())


def test_s13_a_lost_produce_answer_makes_at_most_one_more_copy_and_is_counted(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path
) -> None:
    with before_broker(own_kafka, store, tmp_path) as (rig, proxy):
        (slot,) = rig.begin(1)
        shoppers = Shoppers(rig, seed=22)
        for number in range(1, 6):
            proxy.lose_answer(_is_produce)
            shoppers.steady(0.5)
            wait_for("an answer was lost", partial(_has_lost, proxy, number), 10)
            shoppers.steady(0.5)
        wait_for("it is counted", lambda: slot.metric("publish_unknown_total") >= 5, 10)
        lost = int(slot.metric("publish_unknown_total"))
        print(f"{proxy.lost} answers lost, to {lost} records")
        finish(rig, copies=lost)
        assert slot.exits == []


def _has_lost(proxy: Proxy, count: int) -> bool:
    return proxy.lost >= count


def _is_produce(data: bytes) -> bool:
    """Whether a piece begins a produce request: its length, then API key 0."""
    return len(data) > 100 and data[4:6] == b"\0\0"


def test_s3_a_store_killed_under_load_and_started_again_needs_nobody(
    rig: Rig, store: EmbeddedStore
) -> None:
    slots = rig.begin(2)
    shoppers = Shoppers(rig, seed=23)
    for _ in range(2):
        shoppers.steady(0.5)
        shoppers.until_in_flight()
        store.kill()
        _wait_until_told(slots, "NO_ANSWER")
        store.start()
    finish(rig)
    assert [slot.exits for slot in slots] == [[], []]


def test_s3_s5_a_store_that_lost_the_end_of_its_file_is_replayed(
    rig: Rig, store: EmbeddedStore, tmp_path: Path
) -> None:
    rig.begin(2)
    shoppers = Shoppers(rig, seed=24)
    for number in range(2):
        shoppers.steady(1)
        older = tmp_path / f"older-{number}"
        shutil.copytree(store.directory / "appendonlydir", older)
        shoppers.steady(2)
        shoppers.until_in_flight()
        store.kill()
        shutil.rmtree(store.directory / "appendonlydir")
        shutil.copytree(older, store.directory / "appendonlydir")
        store.start()
    finish(rig)


def test_s7_a_store_without_memory_pauses_the_worker_until_there_is_some(
    rig: Rig, store: EmbeddedStore
) -> None:
    (slot,) = rig.begin(1)
    shoppers = Shoppers(rig, seed=25)
    shoppers.steady(1)
    with _client(store) as client:
        client.config_set("maxmemory", "1mb")
        shoppers.many(300)
        _wait_until_told([slot], "OOM")
        before = rig.calls()
        _wait_for_tries(slot)
        assert rig.calls() == before
        wait_for("the outbox drains all the same", lambda: rig.outboxes() == 0, 10)
        assert slot.metric("store_waiting") == 1
        client.config_set("maxmemory", "0")
    finish(rig)
    assert slot.exits == []


def test_s8_a_store_that_evicts_is_refused_at_the_start_and_stops_a_running_worker(
    rig: Rig, store: EmbeddedStore
) -> None:
    (slot,) = rig.begin(1)
    shoppers = Shoppers(rig, seed=26)
    shoppers.steady(1)
    with _client(store) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        took_s = wait_for("it is red", lambda: (slot.ready() or {}).get("store") == "eviction", 10)
        print(f"red after {took_s:.1f} s")
        before = rig.calls()
        shoppers.many(300)
        time.sleep(1)
        assert rig.calls() == before
        late = rig.add()
        wait_for("it refuses to start", lambda: late.said("maxmemory-policy") > 0, 20)
        late.end()
        rig.slots.remove(late)
        client.config_set("maxmemory-policy", "noeviction")
    finish(rig)
    assert slot.exits == []


def test_s9_a_promoted_replica_that_lacks_the_end_is_replayed(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path
) -> None:
    with (
        EmbeddedStore(tmp_path / "replica", options={"repl-diskless-load": "disabled"}) as replica,
        before_store(own_kafka, store, tmp_path) as (rig, proxy),
        _client(store) as old,
        _client(replica) as new,
    ):
        new.replicaof("127.0.0.1", store.port)
        rig.begin(2)
        shoppers = Shoppers(rig, seed=27)
        shoppers.steady(2)
        wait_for(
            "the replica follows", lambda: new.info("replication")["master_link_status"] == "up"
        )
        new.replicaof("NO", "ONE")  # cut off; the old one goes on
        shoppers.steady(1)
        shoppers.until_in_flight()
        proxy.turn_to(replica.port)  # new connections only
        old.replicaof("127.0.0.1", replica.port)
        rig.turn_to(replica.url)
        finish(rig)
        assert sum(slot.said("READONLY") for slot in rig.slots) > 0


def test_s12_a_killed_broker_fills_the_outbox_to_its_bound_and_it_drains_in_order(
    rig: Rig, own_kafka: KafkaServer
) -> None:
    slots = rig.begin(2)
    shoppers = Shoppers(rig, seed=28)
    shoppers.steady(1)
    for _ in range(seeds("BROKERS", 1)):
        shoppers.until_in_flight(1000)
        own_kafka.kill()
        wait_for("both are red", lambda: [_code(slot) for slot in slots] == ["503", "503"])
        # Sixteen that are sent, and one that was decided meanwhile, for each partition.
        assert rig.outboxes() <= 17 * PARTITIONS
        own_kafka.restart()
        shoppers.steady(1)
    finish(rig, copies=sum(slot.lost_records() for slot in rig.slots))


def _code(slot: Slot) -> str:
    return (slot.ready() or {"code": "none"})["code"]


def test_s18_two_three_and_one_worker_in_turn_change_nothing(rig: Rig) -> None:
    first, second = rig.begin(2)
    shoppers = Shoppers(rig, seed=29)
    for _ in range(seeds("CHANGES", 1)):
        shoppers.steady(1.5)
        third = rig.add()
        shoppers.steady(4)
        assert second.end() == 0
        shoppers.steady(1)
        assert third.end() == 0
        shoppers.steady(1)
        second = rig.add()
        shoppers.steady(3)
    assert first.exits == []
    finish(rig)


def test_s28_a_full_disk_of_the_store_pauses_the_worker_until_there_is_room(
    rig: Rig, store: EmbeddedStore
) -> None:
    (slot,) = rig.begin(1)
    shoppers = Shoppers(rig, seed=30)
    shoppers.steady(1)
    files = (store.directory / "appendonlydir").glob("*.aof")
    size = max(path.stat().st_size for path in files)
    # A file may not grow beyond that: what a full disk says, too.
    prlimit(store.pid, RLIMIT_FSIZE, (size + 4096, RLIM_INFINITY))
    try:
        shoppers.many(500)
        seen = ("MISCONF", "aof_write")
        wait_for("it is seen", lambda: (slot.ready() or {}).get("store") in seen, 20)
        time.sleep(2)
        assert (slot.ready() or {})["code"] == "503"
    finally:
        prlimit(store.pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
    finish(rig)
    assert slot.exits == []


def test_s28_a_worker_without_file_descriptors_waits_until_it_has_some(rig: Rig) -> None:
    (slot,) = rig.begin(1)
    shoppers = Shoppers(rig, seed=33)
    shoppers.steady(1)
    _, most = prlimit(slot.pid, RLIMIT_NOFILE)
    # What is open stays open; nothing more can be.
    prlimit(slot.pid, RLIMIT_NOFILE, (3, most))
    try:
        rig.cut_off_from_the_store()
        shoppers.many(300)
        wait_for("it is said", lambda: slot.said("the store is waited for") > 0, 20)
        time.sleep(2)
        assert slot.ready() is None, "nobody can be let in either"
    finally:
        prlimit(slot.pid, RLIMIT_NOFILE, (most, most))
    finish(rig)
    assert slot.exits == []


def test_s26_a_broken_book_changes_nothing_until_it_is_mended(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(Path(__file__).parent / "rules", rules)
    book = rules / "book.yaml"
    good = book.read_text()
    with closing(Rig(own_kafka.address, store.url, tmp_path, rules)) as rig:
        (slot,) = rig.begin(1)
        shoppers = Shoppers(rig, seed=31)
        for broken in (good + "\n  - {id: [", good[: len(good) // 2], None):
            if broken is None:
                book.unlink()
            else:
                book.write_text(broken)
            shoppers.steady(1)
            wait_for("it is told", lambda: slot.metric("rule_book_faults") > 0, 10)
            before = sum(rig.calls())
            shoppers.steady(0.5)
            assert sum(rig.calls()) > before
            assert slot.is_ready()
            book.write_text(good)
            wait_for("it is mended", lambda: slot.metric("rule_book_faults") == 0, 10)
        finish(rig)
        assert slot.exits == []


def test_s26_workers_with_different_books_are_told_of_each_other(
    own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(__file__).parent / "rules", other)
    book = other / "book.yaml"
    good = book.read_text()
    book.write_text(good.replace("name: fault-tests", "name: others"))
    with closing(Rig(own_kafka.address, store.url, tmp_path)) as rig:
        rig.send_catalog([("sku0", "sku1")])
        slots = [rig.add(), rig.add(rules=other)]
        for slot in slots:
            wait_for("it is ready", slot.is_ready)
        shoppers = Shoppers(rig, seed=32)

        def differing() -> list[float]:
            shoppers.steady(0.3)
            return [slot.metric("rule_books_differ") for slot in slots]

        wait_for("both tell", lambda: all(differing()), 30)
        book.write_text(good)
        wait_for("both are at rest", lambda: not any(differing()), 30)
        rig.settle()
        rig.end()


@pytest.mark.alone
def test_s19_many_timers_due_at_once_fire_in_bounded_batches_beside_events(
    rig: Rig, store: EmbeddedStore
) -> None:
    many = seeds("TIMERS", 10_000)
    # Few records a batch: what the first worker leaves unread must not make the largest call.
    (slot,) = rig.begin(1, batch_records=500)
    for number in range(many):
        rig.send("consent.granted", f"t{number}", {"channel": "*"})
        item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
        data = {"order_id": f"o{number}", "items": [item], "total": 500, "currency": "JPY"}
        rig.send("purchase.completed", f"t{number}", data)
    # Stopped before they are due, started when all are.
    slot.end()
    rig.slots.clear()
    rig.producer.flush()
    time.sleep(4)  # nobody runs who could tell when they are
    with _client(store) as client:
        client.config_set("slowlog-max-len", "50000")
        client.config_set("slowlog-log-slower-than", "0")  # every call, with its size
        client.slowlog_reset()
        slot = rig.add(batch_records=500)
        wait_for("it is ready", slot.is_ready)
        begun = time.monotonic()
        shoppers = Shoppers(rig, seed=33)
        shoppers.steady(5)
        wait_for("all is applied", lambda: rig.in_flight() == 0, 600, 0.5)
        wait_for("all fired", lambda: rig.overdue() == 0, 600, 0.5)
        took_s = time.monotonic() - begun
        calls = _function_calls(client)
        slow = [ms for _, ms in calls if ms > 50]
        sizes = [size for size, _ in calls]
        print(f"{many} timers in {took_s:.0f} s; {len(calls)} calls, the largest {max(sizes)}, ")
        print(f"the longest {max(ms for _, ms in calls):.0f} ms")
        # A call for all of them would take several arguments for each.
        assert len(calls) > 20
        assert max(sizes) < 10_000
        assert slow == []
    finish(rig)
    assert slot.exits == []


def _function_calls(client: redis_client.Redis) -> list[tuple[int, float]]:
    """Each logged call's number of arguments, and the ms that it kept the server.

    Of many arguments the log shows 31 and tells how many more there were.
    """
    found = []
    calls: Any = client.slowlog_get(50_000)
    for call in calls:
        if call["command"].startswith(b"FCALL"):
            more = re.search(rb"\((\d+) more arguments\)$", call["command"])
            found.append((31 + int(more[1]) if more else 31, call["duration"] / 1000))
    return found


@contextmanager
def _client(store: EmbeddedStore) -> Iterator[redis_client.Redis]:
    client = redis_client.Redis.from_url(store.url)
    try:
        yield client
    finally:
        client.close()
