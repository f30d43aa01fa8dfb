"""What a produce request whose answer was lost carried."""

from __future__ import annotations

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest

from streams.producer import records_in


def batch(count: int) -> bytes:
    builder = BatchBuilder(100_000, 0, is_transactional=False)
    for number in range(count):
        builder.append(timestamp=1, key=b"k", value=b"%d" % number)
    return bytes(builder._build())


def test_the_records_of_a_request_are_counted_over_all_its_batches() -> None:
    topics = [("a", [(0, batch(3)), (1, batch(1))]), ("b", [(0, batch(5))])]
    assert records_in(ProduceRequest(None, -1, 1000, topics)) == 9
