"""Compressed batches of producers on Apache Kafka: every codec is read, and a bomb stops nobody."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streams.embedded import EmbeddedStore
from streams.inflate import UNPACKED_BYTES_MAX
from streams.murmur2 import partition_of
from tests.integration.audit import audit_pipeline
from tests.integration.pipeline import PARTITIONS, Pipeline, Worker, now_ms
from tests.kafka_server import KafkaServer
from triggers.durations import to_text

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

CODECS = ("gzip", "snappy", "lz4", "zstd")
CUSTOMER = b"ann"
#: A worker at rest has about 150 MB; one bomb at a time may be unpacked up to its bound.
RESIDENT_BYTES_MAX = 600 * 1024 * 1024


@pytest.fixture
def pipeline(kafka: KafkaServer, tmp_path: Path) -> Iterator[Pipeline]:
    with EmbeddedStore(tmp_path / "store") as store:
        made = Pipeline(kafka.address, store.url, tmp_path)
        yield made
        made.close()


def event(number: int) -> bytes:
    item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"packed{number}",
            "source": "test",
            "type": "cart.item_added",
            "time": to_text(now_ms()),
            "subject": CUSTOMER.decode(),
            "data": {"cart_id": "k", "item": item, "subtotal": 500, "currency": "JPY"},
        }
    ).encode()


async def send(pipeline: Pipeline, codec: str, values: list[bytes]) -> None:
    """One batch of the customer's partition, packed as its producer likes."""
    producer = AIOKafkaProducer(
        bootstrap_servers=pipeline.settings.kafka,
        compression_type=codec,
        max_request_size=2 * UNPACKED_BYTES_MAX,
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            assert batch.append(key=CUSTOMER, value=value, timestamp=now_ms()) is not None
        place = partition_of(CUSTOMER, PARTITIONS)
        await (await producer.send_batch(batch, f"{pipeline.prefix}cart", partition=place))
    finally:
        await producer.stop()


def highest_resident(worker: Worker) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_s20_batches_of_every_codec_are_applied_and_their_bombs_become_dead_letters(
    pipeline: Pipeline,
) -> None:
    pipeline.send_catalog([("sku1", "sku2")])
    pipeline.send("consent.granted", CUSTOMER.decode(), {"channel": "*"})
    pipeline.producer.flush()
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    bomb = b"\x00" * (UNPACKED_BYTES_MAX + 1)
    for number, codec in enumerate(CODECS):
        asyncio.run(send(pipeline, codec, [event(2 * number), event(2 * number + 1)]))
        if codec != "snappy":  # which packs a bomb no smaller than a broker takes
            asyncio.run(send(pipeline, codec, [bomb]))
    deadline = time.monotonic() + 60
    while pipeline.unapplied():
        assert worker.process.poll() is None, worker.log.read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert highest_resident(worker) < RESIDENT_BYTES_MAX
    assert worker.stop() == 0
    found = audit_pipeline(pipeline)
    found.check()
    assert sorted(found.refused.values()) == ["too_large"] * 3
    _, decisions, _ = pipeline.output()
    told = [json.loads(record.value) for record in pipeline.read("decisions")]
    decided = {
        one["data"]["trigger"].get("event_id")
        for one in told
        if one["data"]["rule"] == "complement-at-cart"
    }
    assert decided == {f"packed{number}" for number in range(2 * len(CODECS))}
    assert decisions
