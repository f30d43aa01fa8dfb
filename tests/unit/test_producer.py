"""What a produce request carries, and what is asked before it leaves late."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest

from streams.outbox import SURE_MS
from streams.producer import Producer, UnsureError, places_in, records_in


def batch(count: int) -> bytes:
    builder = BatchBuilder(100_000, 0, is_transactional=False)
    for number in range(count):
        builder.append(timestamp=1, key=b"k", value=b"%d" % number)
    return bytes(builder._build())


def test_the_records_of_a_request_are_counted_over_all_its_batches() -> None:
    topics = [("a", [(0, batch(3)), (1, batch(1))]), ("b", [(0, batch(5))])]
    assert records_in(ProduceRequest(None, -1, 1000, topics)) == 9


class Owner:
    """Whose intake is asked; it says no at the ``no``-th question."""

    def __init__(self, no: int) -> None:
        self.intake = self
        self.asked = 0
        self._no = no

    async def sure(self) -> None:
        self.asked += 1
        if self.asked == self._no:
            raise PermissionError("another worker's")


def waiting_producer(owner: Owner, **handed_s_ago: float) -> Producer:
    producer = object.__new__(Producer)
    now = time.monotonic()
    producer._handed_s = {(topic, 0): now - ago for topic, ago in handed_s_ago.items()}
    producer.app = owner  # type: ignore[assignment]
    return producer


@pytest.mark.parametrize(("ago_s", "asked"), [(0.0, 0), (SURE_MS / 1000 + 0.1, 1)])
def test_s2_what_waited_for_long_leaves_after_a_question(ago_s: float, asked: int) -> None:
    owner = Owner(no=2)
    producer = waiting_producer(owner, a=0.0, b=ago_s)
    places = places_in(ProduceRequest(None, -1, 1000, [("a", [(0, b"")]), ("b", [(0, b"")])]))
    for _ in range(2):  # the answer holds for a while
        asyncio.run(producer._still_ours(places))
        assert owner.asked == asked


def test_s2_what_is_another_workers_by_now_is_not_sent_and_its_owner_hears_why() -> None:
    """aiokafka fails the batches; whoever handed them over gets the store's own word."""
    producer = waiting_producer(Owner(no=1), a=60.0)

    class Aiokafka:
        def create_batch(self) -> Any:
            return BatchBuilder(100_000, 0, is_transactional=False)

        async def send_batch(self, batch: Any, topic: str, partition: int) -> Any:
            producer._handed_s[topic, partition] -= 60  # it stood still here
            answer = asyncio.get_running_loop().create_future()
            with pytest.raises(UnsureError) as raised:
                await producer._still_ours([(topic, partition)])
            answer.set_exception(raised.value)
            return answer

    producer._producer = Aiokafka()
    with pytest.raises(PermissionError):
        asyncio.run(producer.send_batch("a", 0, [(b"k", b"v", None, 1)]))
