"""Workers that die over a record, or between a dead letter and its offset, as real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from streams.cli import app
from streams.deadletters import REPLAYED_FROM
from streams.demo import worker_environment
from streams.embedded import EmbeddedStore, free_port
from streams.murmur2 import partition_of
from streams.poison import TRIES
from streams.store.keys import partition_keys
from tests.integration.audit import audit_pipeline
from tests.integration.pipeline import PARTITIONS, Pipeline, Worker, now_ms
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
DEADLY = Path(__file__).parent / "deadly_worker.py"


@pytest.fixture
def pipeline(kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(kafka.address, store.url, tmp_path)
    # A dead member's place in the group is free after so long.
    made.settings = made.settings.model_copy(update={"session_seconds": 6})
    yield made
    made.close()


class DeadlyWorker(Worker):
    """A worker that dies when the event of that id is in hand."""

    def __init__(self, pipeline: Pipeline, deadly: str) -> None:
        settings = pipeline.settings.model_copy(update={"http": f"127.0.0.1:{free_port()}"})
        self.url = f"http://{settings.http}"
        self.log = pipeline.folder / f"deadly-{len(pipeline.workers)}.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(DEADLY), deadly],
                env={**worker_environment(settings), "PYTHONPATH": str(DEADLY.parents[2])},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        pipeline.workers.append(self)


def add(pipeline: Pipeline, customer: str, number: int) -> str:
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    data = {"cart_id": f"k{number}", "item": item, "subtotal": 500, "currency": "JPY"}
    return pipeline.send("cart.item_added", customer, data)


def wait_for(what: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)


def wait_for_end(worker: Worker, pipeline: Pipeline) -> None:
    """Until the worker is dead, or all is applied."""
    wait_for(lambda: worker.process.poll() is not None or not pipeline.unapplied())


def letters(pipeline: Pipeline) -> list[tuple[str, str]]:
    """(id of the refused event, reason) of all dead letters."""
    return [
        (json.loads(record.value)["id"], dict(record.headers)["reason"].decode())
        for record in pipeline.read("dead-letters")
    ]


def test_a_record_that_kills_every_worker_is_given_up_and_can_be_replayed(
    pipeline: Pipeline,
) -> None:
    customers = [f"c{i}" for i in range(40)]
    for customer in customers:
        pipeline.send("consent.granted", customer, {"channel": "*"})
    pipeline.send_catalog([("a", "b")])
    sent = [add(pipeline, customers[i % 40], i) for i in range(400)]
    deadly = sent[200]
    pipeline.producer.flush()
    deaths = 0
    while True:
        worker = DeadlyWorker(pipeline, deadly)
        wait_for_end(worker, pipeline)
        if worker.process.poll() is None:
            break
        assert worker.process.poll() == -9, worker.log.read_text()[-2000:]
        deaths += 1
        assert deaths < 12
    assert worker.stop() == 0
    # One in a whole batch, one in a stretch, three alone; batches differ from life to life, so
    # that the record may have been in hand once more or less before the stretch that held it.
    assert TRIES + 1 <= deaths <= TRIES + 4
    assert letters(pipeline) == [(deadly, "crashed")]
    found = audit_pipeline(pipeline)
    found.check()
    assert len(found.refused) == 1
    with redis.Redis.from_url(pipeline.settings.redis) as client:
        for number in range(PARTITIONS):
            assert client.get(partition_keys(number, pipeline.prefix).trial) is None
    replay(pipeline, deadly)


def replay(pipeline: Pipeline, deadly: str) -> None:
    """A mended worker takes the replayed record, once."""
    where = ["--kafka", pipeline.settings.kafka, "--prefix", pipeline.prefix]
    command = ["dead-letters", "replay", *where, "--reason", "crashed", "--json"]
    first = json.loads(CliRunner().invoke(app, command).stdout.splitlines()[-1])
    again = json.loads(CliRunner().invoke(app, command).stdout.splitlines()[-1])
    assert (first["sent"], again["sent"], again["skipped"]) == (1, 0, 1)
    pipeline.start_worker().wait_until_ready()
    wait_for(lambda: not pipeline.unapplied())
    last = [record for record in pipeline.read("cart") if dict(record.headers or ())]
    assert [json.loads(record.value)["id"] for record in last] == [deadly]
    assert dict(last[0].headers)[REPLAYED_FROM].startswith(b"cart/")
    time.sleep(4)  # its silence of 2 s
    bodies = pipeline.output()[0].bodies
    causes = [
        json.loads(body)["data"]["trigger"]
        for found in bodies.values() for body in found
        if json.loads(body)["type"] == "offer.made"
    ]  # fmt: skip
    assert any(deadly in (cause.get("event_id"), cause.get("armed_by")) for cause in causes)
    assert letters(pipeline) == [(deadly, "crashed")]


@pytest.mark.parametrize(
    "failpoint",
    ["after_dlq_before_offset", "after_publish_before_ack", "after_fcall", "before_fcall"],
)
def test_s1_a_kill_around_a_dead_letter_loses_none_and_writes_none_twice(
    pipeline: Pipeline, failpoint: str
) -> None:
    wanted: Counter[tuple[str, str]] = Counter()
    for number in range(60):
        customer = f"c{number % 7}"
        event_id = add(pipeline, customer, number)
        wanted[conflict(pipeline, customer, event_id), "id_conflict"] += 1
    pipeline.producer.flush()
    settings = pipeline.settings
    for turn in (1, 2):
        pipeline.settings = settings.model_copy(update={"failpoint": f"{failpoint}:kill@{turn}"})
        worker = pipeline.start_worker()
        assert worker.process.wait(60) == -9, worker.log.read_text()[-2000:]
        if turn == 1:
            for number in range(60, 90):
                customer = f"c{number % 7}"
                event_id = add(pipeline, customer, number)
                wanted[conflict(pipeline, customer, event_id), "id_conflict"] += 1
            pipeline.producer.flush()
    pipeline.settings = settings
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    wait_for(lambda: not pipeline.unapplied())
    assert worker.stop() == 0
    assert Counter(letters(pipeline)) == wanted
    audit_pipeline(pipeline).check()


def conflict(pipeline: Pipeline, customer: str, event_id: str) -> str:
    """Another body under the id of an event: it is refused."""
    item = {"sku": "z", "quantity": 3, "unit_price": 1}
    data = {"cart_id": "other", "item": item, "subtotal": 3, "currency": "JPY"}
    event = {
        "specversion": "1.0", "id": event_id, "source": "test", "type": "cart.item_added",
        "time": "2026-01-01T00:00:00Z", "subject": customer, "data": data,
    }  # fmt: skip
    key = customer.encode()
    pipeline.producer.send(
        pipeline.prefix + "cart", key=key, value=json.dumps(event).encode(),
        partition=partition_of(key, PARTITIONS), timestamp_ms=now_ms(),
    )  # fmt: skip
    return event_id
