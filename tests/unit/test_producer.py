"""What a produce request carries, and what is asked before it leaves late."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka as driver

from streams.ownership import SURE_MS, Ownership
from streams.producer import Producer, UnsureError, places_in, records_in


def batch(count: int) -> bytes:
    builder = BatchBuilder(100_000, 0, is_transactional=False)
    for number in range(count):
        builder.append(timestamp=1, key=b"k", value=b"%d" % number)
    return bytes(builder._build())


def test_the_records_of_a_request_are_counted_over_all_its_batches() -> None:
    topics = [("a", [(0, batch(3)), (1, batch(1))]), ("b", [(0, batch(5))])]
    assert records_in(ProduceRequest(None, -1, 1000, topics)) == 9


class Store:
    """Says whose a partition is; no at the ``no``-th question."""

    def __init__(self, no: int = 0, late_ms: int = 0) -> None:
        self.now = 1_000_000
        self.asked = 0
        self._no = no
        self._late_ms = late_ms

    async def own(self) -> None:
        self.asked += 1
        self.now += self._late_ms
        if self.asked == self._no:
            raise PermissionError("another worker's")

    def ownership(self) -> Ownership:
        found = Ownership(self.own, lambda: self.now)
        found.sure(self.now)
        return found


class Aiokafka:
    """Keeps batches until the test writes them, and what then went to the broker."""

    def __init__(self) -> None:
        self.client = self
        self.connected = True
        self.waiting: list[tuple[str, int, asyncio.Future[Any]]] = []
        self.written: list[str] = []

    def create_batch(self) -> Any:
        return BatchBuilder(80, 0, is_transactional=False)

    async def send_batch(self, batch: Any, topic: str, partition: int) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((topic, partition, answer))
        return answer

    async def ready(self, node_id: int) -> bool:
        return self.connected

    async def send(self, node_id: int, request: Any) -> None:
        self.written += [topic for topic, _ in places_in(request)]

    async def write(self, send: Any) -> None:
        """As aiokafka's sender: a request for each batch in turn, an error fails the batch."""
        for topic, partition, answer in self.waiting:
            try:
                await send(0, ProduceRequest(None, -1, 1000, [(topic, [(partition, b"")])]))
            except UnsureError as error:
                answer.set_exception(error)
            else:
                answer.set_result(SimpleNamespace(offset=len(self.written)))
        self.waiting.clear()


def test_aiokafka_does_not_try_again_what_is_refused() -> None:
    assert not UnsureError.retriable


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Aiokafka:
    made = Aiokafka()
    monkeypatch.setattr(driver.Producer, "__init__", lambda self: None)
    monkeypatch.setattr(driver.Producer, "_new_producer", lambda self: made)
    return made


def producer_of(kafka: Aiokafka) -> Producer:
    producer = Producer()
    producer._producer = producer._new_producer()
    return producer


RECORDS = [(b"k", b"v" * 50, None, 1), (b"k", b"w" * 50, None, 1)]  # of two batches


async def send(producer: Producer, kafka: Aiokafka, store: Store, still_ms: int) -> int:
    """Send two batches of one partition, and stand still before they leave; the next offset."""
    ownership = store.ownership()
    sending = asyncio.create_task(producer.send_batch("a", 0, RECORDS, ownership))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(kafka.waiting) == 2
    store.now += still_ms
    await kafka.write(kafka.client.send)
    return (await sending).next_offset


@pytest.mark.parametrize(
    ("still_ms", "late_ms", "asked"), [(0, 0, 0), (SURE_MS + 1, 0, 1), (SURE_MS + 1, 9_000, 4)]
)
def test_s2_what_waited_for_long_leaves_after_a_question(
    kafka: Aiokafka, still_ms: int, late_ms: int, asked: int
) -> None:
    """An answer holds for a while; one that came late is asked for once more, and no more."""
    store = Store(late_ms=late_ms)
    producer = producer_of(kafka)
    assert asyncio.run(send(producer, kafka, store, still_ms)) == 3
    assert kafka.written == ["a", "a"]
    assert store.asked == asked
    assert producer._held == {("a", 0): []}


def test_s2_what_is_another_workers_by_now_is_not_sent_and_nothing_after_it(
    kafka: Aiokafka,
) -> None:
    """Whoever handed it over hears the store's own word."""
    store = Store(no=1)
    producer = producer_of(kafka)
    with pytest.raises(PermissionError):
        asyncio.run(send(producer, kafka, store, SURE_MS + 1))
    # The first batch was refused; the second would have left a gap.
    assert kafka.written == []
    with pytest.raises(PermissionError):
        asyncio.run(producer.send_batch("b", 0, RECORDS, Store().ownership()))
    assert kafka.waiting == []
    assert producer._held == {("a", 0): []}


def test_a_broker_that_is_away_is_tried_once_and_nobody_is_asked(kafka: Aiokafka) -> None:
    producer, store = producer_of(kafka), Store()
    producer._held["a", 0] = [store.ownership()]
    store.now += SURE_MS + 1
    kafka.connected = False
    with pytest.raises(NodeNotReadyError):
        asyncio.run(kafka.client.send(0, ProduceRequest(None, -1, 1000, [("a", [(0, b"")])])))
    assert (kafka.written, store.asked) == ([], 0)


def test_s2_who_gave_up_waiting_does_not_take_its_batches_back(kafka: Aiokafka) -> None:
    """They still lie there, and are asked about when they leave."""
    store, producer = Store(no=1), producer_of(kafka)

    async def run() -> None:
        sending = asyncio.create_task(producer.send_batch("a", 0, RECORDS, store.ownership()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        store.now += SURE_MS + 1
        await kafka.write(kafka.client.send)

    asyncio.run(run())
    assert kafka.written == []
