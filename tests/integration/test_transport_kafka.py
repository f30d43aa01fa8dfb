"""Faust's transport as we changed it, on Apache Kafka."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from streams.app import App, create_app
from streams.transport import FetchState
from tests.integration.transport_worker import BookIntake, Settings, open_book
from tests.kafka_server import KafkaServer, create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PARTITIONS = 8
STORM_S = 25


def until(what: Callable[[], Any], within_s: float, why: str) -> float:
    """Wait until `what()` is true; answer how long that took."""
    begin = time.monotonic()
    while not what():
        assert time.monotonic() - begin < within_s, f"not within {within_s} s: {why}"
        time.sleep(0.02)
    return time.monotonic() - begin


class Shop:
    """Writes numbered records to two topics from a thread of its own."""

    def __init__(self, address: str, topics: list[str], per_s: int) -> None:
        self.sent = 0
        self._topics = topics
        self._per_s = per_s
        self._stop = threading.Event()
        self._producer = KafkaProducer(
            bootstrap_servers=address, acks="all", retries=100, linger_ms=2
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._stop.is_set():
            while self.sent < (time.monotonic() - begin) * self._per_s:
                topic = self._topics[self.sent % len(self._topics)]
                self._producer.send(topic, b"%d" % self.sent, key=b"c%d" % (self.sent // 2 % 999))
                self.sent += 1
            time.sleep(0.005)

    def close(self) -> int:
        """Stop writing; answer how many records lie in the topics."""
        self._stop.set()
        self._thread.join()
        self._producer.flush()
        self._producer.close()
        return self.sent


class Group:
    """A group of worker processes over two topics, and the file that they share."""

    def __init__(self, server: KafkaServer, scratch: Path) -> None:
        self.address = server.address
        self.name = f"g{uuid.uuid4().hex[:8]}"
        self.topics = [f"{self.name}.cart", f"{self.name}.purchase"]
        self.path = scratch / "book.sqlite"
        self.book = open_book(self.path)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._scratch = scratch

    def start(self, name: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        given = {
            "kafka": self.address,
            "group": self.name,
            "topics": self.topics,
            "book": str(self.path),
            "name": name,
        }
        with (self._scratch / f"{name}.log").open("wb") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.transport_worker", json.dumps(given | more)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        return self.workers[name]

    def said(self, name: str) -> str:
        """All that a worker has logged."""
        return (self._scratch / f"{name}.log").read_text(errors="replace")

    def owned(self) -> dict[str, dict[str, set[int]]]:
        """Worker → topic → the partitions that it claimed last."""
        owned: dict[str, dict[str, set[int]]] = {}
        for topic, part, owner in self.book.execute("select topic, part, owner from offsets"):
            owned.setdefault(owner, {}).setdefault(topic, set()).add(part)
        return owned

    def owns(self, name: str, count: int) -> bool:
        """Whether the worker holds that many partitions of each topic, the same of both."""
        mine = self.owned().get(name, {})
        cart, purchase = (mine.get(topic, set()) for topic in self.topics)
        return cart == purchase and len(cart) == count

    def applied(self) -> int:
        """How many records were applied by anyone."""
        (count,) = self.book.execute("select count(*) from applied").fetchone()
        return int(count)

    def count(self, what: str, worker: str) -> int:
        """How many log entries of a kind a worker has made."""
        (count,) = self.book.execute(
            "select count(*) from log where what=? and worker=?", (what, worker)
        ).fetchone()
        return int(count)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        self.book.close()


@pytest.fixture
def group(kafka: KafkaServer, tmp_path: Path) -> Iterator[Group]:
    made = Group(kafka, tmp_path)
    create_topics(kafka.address, made.topics, PARTITIONS)
    yield made
    made.close()


def test_a_killed_worker_is_taken_over_and_every_record_is_applied_once(group: Group) -> None:
    shop = Shop(group.address, group.topics, per_s=500)
    group.start("a")
    until(lambda: group.owns("a", 8), 20, "a has all")
    group.start("b")
    until(lambda: group.owns("a", 4) and group.owns("b", 4), 20, "shared, both topics alike")
    group.start("c")
    until(lambda: {2, 3} >= {len(o[group.topics[0]]) for o in group.owned().values()}, 20, "three")
    for topics in group.owned().values():
        assert topics[group.topics[0]] == topics[group.topics[1]]
    group.workers["c"].send_signal(signal.SIGTERM)
    assert group.workers["c"].wait(20) == 0
    until(lambda: group.owns("a", 4) and group.owns("b", 4), 20, "c's are shared again")
    group.workers["a"].kill()
    took_s = until(lambda: group.owns("b", 8), 20, "b has taken over")
    print(f"taken over {took_s:.1f} s after SIGKILL")
    sent = shop.close()
    until(lambda: group.applied() >= sent, 20, f"all {sent} applied")
    group.workers["b"].send_signal(signal.SIGTERM)
    assert group.workers["b"].wait(20) == 0
    # The key (topic, partition, offset) is unique, so the count says once, not twice.
    assert group.applied() == sent


def test_whatever_the_group_goes_through_every_record_is_applied_once(group: Group) -> None:
    shop = Shop(group.address, group.topics, per_s=1000)
    chance = random.Random(7)
    until_s = time.monotonic() + STORM_S
    born = 0
    while time.monotonic() < until_s:
        alive = [name for name, worker in group.workers.items() if worker.poll() is None]
        if len(alive) < 2 or (len(alive) < 4 and chance.random() < 0.5):
            born += 1
            group.start(f"w{born}", session_s=2.0)
        else:
            number = chance.choice((signal.SIGKILL, signal.SIGTERM))
            group.workers[chance.choice(alive)].send_signal(number)
        time.sleep(chance.uniform(0.2, 2.5))
    sent = shop.close()
    group.start("last", session_s=2.0)
    until(lambda: group.applied() >= sent, 40, f"all {sent} applied")
    assert group.applied() == sent
    for name, worker in group.workers.items():
        # SIGTERM's own status: it came while Python was still importing.
        ended = (None, 0, -signal.SIGKILL, -signal.SIGTERM)
        assert worker.poll() in ended, group.said(name)[-3000:]


def test_a_worker_that_is_told_to_stop_leaves_at_once_and_shows_its_offsets(group: Group) -> None:
    shop = Shop(group.address, group.topics, per_s=200)
    group.start("a")
    group.start("b")
    until(lambda: group.owns("a", 4) and group.owns("b", 4), 30, "shared")
    group.workers["a"].send_signal(signal.SIGTERM)
    assert group.workers["a"].wait(10) == 0
    took_s = until(lambda: group.owns("b", 8), 6, "the rest is b's without a session timeout")
    print(f"taken over {took_s:.1f} s after SIGTERM's end")
    assert group.count("release", "a") >= 8
    sent = shop.close()
    until(lambda: group.applied() == sent, 10, "all applied")
    group.workers["b"].send_signal(signal.SIGTERM)
    assert group.workers["b"].wait(10) == 0
    admin = KafkaAdminClient(bootstrap_servers=group.address)
    shown = admin.list_group_offsets({group.name: None})[group.name]
    admin.close()
    for topic, part, offset in group.book.execute("select topic, part, next from offsets"):
        assert shown[TopicPartition(topic, part)].offset == offset


def test_a_named_worker_comes_back_to_its_partitions_without_a_rebalance(group: Group) -> None:
    group.start("a", instance="one")
    group.start("b", instance="two")
    until(lambda: group.owns("a", 4) and group.owns("b", 4), 30, "shared")
    time.sleep(1)
    claims, mine = group.count("claim", "b"), group.owned()["a"]
    group.workers["a"].send_signal(signal.SIGTERM)
    assert group.workers["a"].wait(10) == 0
    before = group.count("claim", "a")
    group.start("a", instance="one")
    until(lambda: group.count("claim", "a") > before, 10, "a is back")
    time.sleep(4)
    assert group.owned()["a"] == mine
    assert group.count("claim", "b") == claims


def test_of_two_workers_with_one_name_the_older_one_ends(group: Group) -> None:
    older = group.start("a", instance="one")
    until(lambda: group.owns("a", 8), 20, "a has all")
    group.start("b", instance="one")
    assert older.wait(30) == 1
    assert "worker ends: NameTakenError" in group.said("a")
    assert group.owns("b", 8)
    time.sleep(4)
    assert group.workers["b"].poll() is None
    assert group.count("claim", "b") == 16


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("deliver", "the intake fell over"),
        ("claim", "the store said no"),
        ("slow", "not claimed within"),
    ],
)
def test_a_fault_of_the_intake_ends_the_worker(group: Group, fault: str, word: str) -> None:
    shop = Shop(group.address, group.topics, per_s=100)
    worker = group.start("a", fault=fault)
    assert worker.wait(30) == 1
    shop.close()
    assert f"worker ends: {'SeekError' if fault == 'slow' else 'RuntimeError'}" in group.said("a")
    assert word in group.said("a")


def test_topics_with_unequal_partition_counts_end_the_worker(group: Group) -> None:
    group.topics.append(f"{group.name}.usage")
    create_topics(group.address, group.topics[2:], 4)
    assert group.start("a").wait(30) == 1
    assert "worker ends: NotColocatedError" in group.said("a")
    assert "usage [0, 1, 2, 3] of 4 partitions" in group.said("a")


def test_a_topic_that_does_not_exist_ends_the_worker(group: Group) -> None:
    group.topics.append(f"{group.name}.usage")
    assert group.start("a").wait(60) == 1
    assert "usage [] of no partitions" in group.said("a")


def test_a_stored_offset_that_the_broker_lacks_ends_the_worker(group: Group) -> None:
    group.book.execute("insert into offsets values (?, 3, 77, '')", (group.topics[0],))
    assert group.start("a").wait(30) == 1
    assert f"{group.topics[0]}/3 is stored as read up to 77, but the broker has 0 to 0" in (
        group.said("a")
    )


def test_a_worker_goes_on_after_the_broker_was_killed(group: Group, own_kafka: KafkaServer) -> None:
    shop = Shop(group.address, group.topics, per_s=200)
    worker = group.start("a")
    until(lambda: group.applied() > 200, 20, "begun")
    # What the broker had not written to disk when its machine died is not the question here.
    own_kafka.restart()
    before = group.applied()
    took_s = until(lambda: group.applied() > before + 200, 60, "goes on")
    print(f"went on {took_s:.1f} s after the broker was back")
    shop.close()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


class Listener(BookIntake):
    """Keeps the last states and can pause; for tests in this process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "here")
        self.states: dict[TP, FetchState] = {}
        self.full: set[TP] = set()
        self.calls: list[float] = []

    def paused(self) -> set[TP]:
        return self.full

    def deliver(
        self, records: dict[TP, list[Any]], states: dict[TP, FetchState], received_ms: float
    ) -> None:
        super().deliver(records, states, received_ms)
        assert not self.full & records.keys()
        self.states = states
        self.calls.append(time.monotonic())

    def read_up_to(self, at_ms: int) -> bool:
        """Whether every topic partition is caught up with what was written before `at_ms`."""
        return len(self.states) == 2 * PARTITIONS and all(
            state.position >= state.stable_end and state.sent_ms >= at_ms
            for state in self.states.values()
        )


async def eventually(what: Callable[[], Any], within_s: float, why: str) -> None:
    async with asyncio.timeout(within_s):
        while not what():  # noqa: ASYNC110 - it asks the broker's doings, which set no event
            await asyncio.sleep(0.01)


def in_this_process(group: Group, body: Callable[[App, Listener], Any]) -> None:
    async def run() -> None:
        intake = Listener(group.path)
        app = create_app(Settings(group.address, group.name), intake, group.topics)
        await app.start()
        try:
            await body(app, intake)
        finally:
            await app.stop()

    asyncio.run(run())


def records(count: int, size: int = 20) -> list[Any]:
    at_ms = time.time_ns() // 1_000_000
    return [(b"k%d" % n, b"v" * size, [("h", b"1")], at_ms) for n in range(count)]


def test_positions_states_and_pauses_are_told_as_they_are(group: Group) -> None:
    cart, purchase = TP(group.topics[0], 1), TP(group.topics[1], 1)

    async def body(app: App, intake: Listener) -> None:
        asked_ms = time.time_ns() // 1_000_000
        await eventually(lambda: intake.read_up_to(asked_ms), 3, "idle topics are caught up")
        calls = intake.calls = []
        await asyncio.sleep(1)
        assert max(b - a for a, b in itertools.pairwise(calls)) < 0.15

        acked = await app.sender.send_batch(*cart, records(5000, 400))
        # 5,000 records of 400 bytes are several batches; the last one ends where they all end.
        assert acked.next_offset == 5000 > acked.base_offset > 0
        asked_ms = time.time_ns() // 1_000_000
        await eventually(lambda: intake.read_up_to(asked_ms), 3, "caught up again")
        assert intake.states[cart][:2] == (5000, 5000)

        intake.full = {cart}
        await asyncio.sleep(0.2)
        await app.sender.send_batch(*cart, records(100))
        await app.sender.send_batch(*purchase, records(100))
        begin = time.monotonic()
        await eventually(lambda: intake.states[purchase].position == 100, 3, "purchase goes on")
        assert time.monotonic() - begin < 0.5
        asked_ms = time.time_ns() // 1_000_000
        await asyncio.sleep(0.5)
        assert intake.states[cart].position == 5000
        assert intake.states[cart].sent_ms < asked_ms <= intake.states[purchase].sent_ms

        intake.full = set()
        await eventually(lambda: intake.states[cart].position == 5100, 3, "cart goes on")

    in_this_process(group, body)


def test_records_of_an_open_transaction_hold_the_stable_end(group: Group) -> None:
    cart = TP(group.topics[0], 2)

    async def body(app: App, intake: Listener) -> None:
        writer = KafkaProducer(bootstrap_servers=group.address, transactional_id=group.name)
        for end, stable in ((writer.abort_transaction, 2), (writer.commit_transaction, 4)):
            await asyncio.to_thread(writer.init_transactions)
            writer.begin_transaction()
            writer.send(*cart[:1], b"x", partition=cart.partition)
            await asyncio.to_thread(writer.flush)
            await asyncio.sleep(0.3)
            assert intake.states[cart].position == intake.states[cart].stable_end == stable - 2
            await asyncio.to_thread(end)
            await eventually(lambda: intake.states[cart][:2] == (stable, stable), 3, "ended")  # noqa: B023
        writer.close()
        # The aborted record and the two markers take offsets but are not records.
        applied = list(intake.book.execute("select offset from applied"))
        assert applied == [(2,)]

    in_this_process(group, body)
