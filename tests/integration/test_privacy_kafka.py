"""What a customer may ask for, on Apache Kafka and a real worker: told, erased, nowhere left."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.rulefiles import load_book
from streams.topics import ERASED, output_topics
from tests.integration.pipeline import Pipeline, Worker, now_ms
from tests.integration.test_erasure import CANARY, everything
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ANN = f"ann-{CANARY}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as running:
        yield running


@pytest.fixture
def pipeline(kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(kafka.address, store.url, tmp_path)
    made.settings = made.settings.model_copy(update={"log_level": "debug"})
    yield made
    made.close()


def shop(pipeline: Pipeline, customer: str, note: str) -> None:
    pipeline.send("consent.granted", customer, {"channel": "*", "proof": note})
    pipeline.send("customer.profile_set", customer, {"attributes": {"nick": note}})
    item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
    cart = {"cart_id": f"k-{note}", "item": item, "subtotal": 700, "currency": "JPY"}
    pipeline.send("cart.item_added", customer, cart)
    wrong = {**cart, "subtotal": note}
    pipeline.send("cart.item_added", customer, wrong)
    pipeline.producer.flush()


def ours(pipeline: Pipeline, since_ms: int = 0) -> list[bytes]:
    """Everything in the records that we wrote, keys and headers too."""
    found = []
    for topic in ("learned", ERASED, *output_topics(load_book(pipeline.rules))):
        for record in pipeline.read(topic):
            if record.timestamp >= since_ms:
                headers = repr(record.headers).encode()
                found.append(b"\n".join((record.key or b"", record.value or b"", headers)))
    return found


def metrics(worker: Worker) -> str:
    with urllib.request.urlopen(f"{worker.url}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_s24_an_erased_customer_is_found_nowhere_in_what_we_keep_or_write(
    pipeline: Pipeline, store: EmbeddedStore
) -> None:
    pipeline.send_catalog([("sku1", "sku2")])
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, ANN, CANARY)
    shop(pipeline, "bob", "plain")
    pipeline.settle()
    with redis.Redis.from_url(store.url) as raw:
        assert CANARY.encode() in everything(raw)
        told = json.loads(pipeline.tsuide("export", ANN, "--topics").stdout)
        assert told["document"]["now"]["attributes"] == {"nick": CANARY}
        assert told["document"]["now"]["carts"][0]["lines"]["sku1"]["unit_price"] == 500
        assert any(record["place"].startswith("dead-letters/") for record in told["records"])

        erased = pipeline.tsuide("erase", ANN, "--wait", "30", "--json")
        assert erased.returncode == 0, erased.stderr
        answer: dict[str, Any] = json.loads(erased.stdout)
        assert answer["carried_out"]
        assert CANARY not in erased.stdout + erased.stderr
        # From the moment on at which the ledger tells of it.
        since = min(record.timestamp for record in pipeline.read(ERASED))
        never = pipeline.tsuide("erase", f"nobody-{CANARY}", "--wait", "30", "--json")
        assert json.loads(never.stdout).keys() == answer.keys(), "it says not who was known"
        pipeline.send("customer.profile_set", ANN, {"attributes": {"nick": CANARY}})
        pipeline.producer.flush()
        pipeline.settle()
        time.sleep(1)  # an idle partition trims
        assert CANARY.encode() not in everything(raw)
        assert b"bob" in everything(raw)
    assert [one for one in ours(pipeline, since) if CANARY.encode() in one] == []
    assert CANARY not in metrics(worker)
    letters = pipeline.read("dead-letters")
    place = next(
        "/".join(dict(r.headers)[name].decode() for name in ("topic", "partition", "offset"))
        for r in letters
        if r.key == ANN.encode()
    )
    again = pipeline.tsuide("dead-letters", "replay", place, "--dry-run")
    assert again.returncode == 1
    assert "erased" in again.stderr + again.stdout or "refused" in again.stderr + again.stdout
    worker.stop()
    assert CANARY not in worker.log.read_text()


def test_s24_a_lost_store_that_reads_everything_again_keeps_the_erased_out(
    pipeline: Pipeline, store: EmbeddedStore
) -> None:
    pipeline.send_catalog([("sku1", "sku2")])
    first = pipeline.start_worker()
    first.wait_until_ready()
    shop(pipeline, ANN, CANARY)
    pipeline.settle()
    assert pipeline.tsuide("erase", ANN, "--wait", "30").returncode == 0
    first.stop()
    since = now_ms()
    with redis.Redis.from_url(store.url) as raw:
        for key in raw.scan_iter(match=f"*{pipeline.prefix}*"):
            raw.delete(key)
        assert pipeline.tsuide("forget-store", "--yes").returncode == 0
        second = pipeline.start_worker()
        second.wait_until_ready()
        shop(pipeline, "bob", "plain")
        pipeline.settle()
        time.sleep(1)
        assert CANARY.encode() not in everything(raw)
    assert [one for one in ours(pipeline, since) if CANARY.encode() in one] == []
    assert any(b"bob" in one for one in ours(pipeline, since))
    second.stop()
    assert CANARY not in second.log.read_text()
