"""What a customer may ask for, on Apache Kafka and a real worker: told, erased, nowhere left."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kafka import KafkaConsumer
from pydantic import SecretStr

from streams.embedded import EmbeddedStore
from streams.murmur2 import partition_of
from streams.topics import ERASED
from tests.integration.pipeline import PARTITIONS, RULES, Pipeline, Worker, now_ms
from tests.integration.test_erasure import CANARY, everything
from tests.kafka_server import KafkaServer
from triggers.durations import to_text
from triggers.events import CATALOG, TOPICS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ANN = f"ann-{CANARY}"
WEEK = """
  - id: in-a-week
    kind: follow_up
    on: cart.item_added
    after: 7d
    pick: none
    channel: sms
    reason: {ja: "いかがですか。", en: "How is it?"}
"""
SEATS = """
events:
  seat.reserved:
    topic: usage
    about: seat_id
    fields: {seat_id: id, course: text}
"""


class Shop(Pipeline):
    """A pipeline that keeps what its commands said."""

    def __init__(self, kafka: str, store: EmbeddedStore, folder: Path) -> None:
        rules = folder / "rules"
        rules.mkdir()
        book = (RULES / "book.yaml").read_text() + WEEK
        (rules / "book.yaml").write_text(book)
        super().__init__(kafka, store.url, folder, rules)
        update = {"log_level": "debug", "erasure_key": SecretStr("a key of the tests, long enough")}
        self.settings = self.settings.model_copy(update=update)
        self.mended = folder / "mended"
        self.mended.mkdir()
        (self.mended / "book.yaml").write_text(book + SEATS)
        self._server_log = store.log
        self._said: list[str] = []

    def tsuide(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        done = super().tsuide(*arguments, given=given)
        if arguments[0] != "export":  # which says what is kept of somebody
            self._said += [done.stdout, done.stderr]
        return done

    def logs(self) -> str:
        """What all processes wrote: workers, commands, the store."""
        files = [*(worker.log for worker in self.workers), self._server_log]
        return "\n".join([*(file.read_text(errors="replace") for file in files), *self._said])

    def buy(self, customer: str, note: str) -> None:
        """Fill profile, cart and timers, and send a record that is refused."""
        self.send("consent.granted", customer, {"channel": "*", "proof": note})
        self.send("customer.profile_set", customer, {"attributes": {"nick": note}})
        item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
        cart = {"cart_id": f"k-{note}", "item": item, "subtotal": 700, "currency": "JPY"}
        self.send("cart.item_added", customer, cart)
        self.send("cart.item_added", customer, {**cart, "subtotal": note})
        self.producer.flush()

    def reserve(self, customer: str, note: str) -> str:
        """An event of a type that the book does not know, and the mended one does; its place."""
        event = {
            "specversion": "1.0", "id": f"seat-{note}", "source": "test", "type": "seat.reserved",
            "time": to_text(now_ms()), "subject": customer,
            "data": {"seat_id": f"s-{note}", "course": note},
        }  # fmt: skip
        key = customer.encode()
        number = partition_of(key, PARTITIONS)
        topic, value = self.settings.topic("usage"), json.dumps(event).encode()
        sent = self.producer.send(topic, key=key, value=value, partition=number).get(10)
        return f"usage/{number}/{sent.offset}"

    def written(self, since_ms: int = 0) -> list[bytes]:
        """Everything in the records of all topics but those in, keys and headers too."""
        client = KafkaConsumer(bootstrap_servers=self.settings.kafka)
        inward = {self.settings.topic(name) for name in (CATALOG, *TOPICS)}
        found = []
        there = {name for name in client.topics() if name.startswith(self.prefix)}
        client.close()
        for topic in sorted(there - inward):
            for record in self.read(topic.removeprefix(self.prefix)):
                if record.timestamp >= since_ms:
                    headers = repr(record.headers).encode()
                    found.append(b"\n".join((record.key or b"", record.value or b"", headers)))
        return found

    def begin(self) -> Worker:
        worker = self.start_worker()
        worker.wait_until_ready()
        return worker

    def idle(self) -> None:
        """Wait until all is applied and sent, and partitions with nothing to do have trimmed."""
        self.settle()
        time.sleep(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    # Dumps of values are searched, too: they must not be compressed.
    with EmbeddedStore(tmp_path / "store", options={"rdbcompression": "no"}) as running:
        yield running


@pytest.fixture
def raw(store: EmbeddedStore) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url) as client:
        yield client


@pytest.fixture
def shop(kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(kafka.address, store, tmp_path)
    made.send_catalog([("sku1", "sku2")])
    yield made
    made.close()


def kept(raw: redis.Redis) -> bytes:
    """All that the server holds, and its keys as they lie in its memory."""
    dumps: list[Any] = [raw.dump(key) for key in raw.scan_iter(count=1000)]
    return b"\n".join([everything(raw), *(blob or b"" for blob in dumps)])


def metrics(worker: Worker) -> str:
    with urllib.request.urlopen(f"{worker.url}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def leaks(texts: list[bytes]) -> list[bytes]:
    return [text for text in texts if CANARY.encode() in text]


def erased_since(shop: Shop) -> int:
    """When the ledger told of the erasure: from then on nothing may be written."""
    told: list[int] = [record.timestamp for record in shop.read(ERASED)]
    return min(told)


def test_s24_an_erased_customer_is_found_nowhere_in_what_we_keep_or_write(
    shop: Shop, raw: redis.Redis
) -> None:
    worker = shop.begin()
    shop.buy(ANN, CANARY)
    shop.buy("bob", "plain")
    place = shop.reserve(ANN, CANARY)
    shop.settle()
    assert CANARY.encode() in everything(raw)
    told = json.loads(shop.tsuide("export", ANN, "--topics").stdout)
    assert told["document"]["now"]["attributes"] == {"nick": CANARY}
    assert told["document"]["now"]["carts"][0]["lines"]["sku1"]["unit_price"] == 500
    topics = {record["place"].split("/")[0] for record in told["records"]}
    assert topics >= {"cart", "customer", "usage", "decisions", "dead-letters", "consent-evidence"}
    assert (told["truncated"], told["left_out"]) == (False, {})

    # The letter would be taken by now: the book is mended.
    replay = ("dead-letters", "replay", place, "--rules", str(shop.mended))
    dry = shop.tsuide(*replay, "--dry-run", "--json")
    assert json.loads(dry.stdout.splitlines()[-1])["would_send"] == 1, dry.stderr

    erased = shop.tsuide("erase", "-", "--wait", "30", "--json", given=f"{ANN}\n")
    assert erased.returncode == 0, erased.stderr
    answer: dict[str, Any] = json.loads(erased.stdout)
    assert answer["carried_out"]
    never = shop.tsuide("erase", "-", "--wait", "30", "--json", given=f"nobody-{CANARY}\n")
    assert json.loads(never.stdout).keys() == answer.keys(), "it says not who was known"
    shop.send("customer.profile_set", ANN, {"attributes": {"nick": CANARY}})
    shop.producer.flush()
    shop.idle()
    usage = len(shop.read("usage"))
    again = shop.tsuide(*replay)
    assert again.returncode == 1
    assert again.stderr == f"{place} refused (its customer was erased or objected since then)\n"
    assert len(shop.read("usage")) == usage
    assert CANARY.encode() not in kept(raw)
    assert b"bob" in everything(raw)
    assert leaks(shop.written(erased_since(shop))) == []
    assert CANARY not in metrics(worker)
    worker.stop()
    assert CANARY not in shop.logs()


def test_s24_a_lost_store_that_reads_everything_again_keeps_the_erased_out(
    shop: Shop, raw: redis.Redis
) -> None:
    first = shop.begin()
    shop.buy(ANN, CANARY)
    shop.settle()
    assert shop.tsuide("erase", ANN, "--wait", "30").returncode == 0
    first.stop()
    since = now_ms()
    for key in raw.scan_iter(match=f"*{shop.prefix}*"):
        raw.delete(key)
    assert shop.tsuide("forget-store", "--yes").returncode == 0
    second = shop.begin()
    shop.buy("bob", "plain")
    shop.idle()
    assert CANARY.encode() not in kept(raw)
    assert leaks(shop.written(since)) == []
    assert any(b"bob" in one for one in shop.written(since))
    assert CANARY not in metrics(second)
    second.stop()
    assert CANARY not in shop.logs()


def test_s24_a_snapshot_from_before_the_erasure_brings_nothing_back(
    shop: Shop, raw: redis.Redis, tmp_path: Path
) -> None:
    folder = str(tmp_path / "snapshot")
    first = shop.begin()
    shop.buy(ANN, CANARY)
    shop.buy("bob", "plain")
    shop.reserve(ANN, CANARY)
    shop.idle()
    assert shop.tsuide("snapshot", "--out", folder).returncode == 0
    assert any(CANARY.encode() in file.read_bytes() for file in Path(folder).iterdir())
    shop.buy(ANN, f"{CANARY} again")  # replayed onto the restored store
    shop.reserve(ANN, f"{CANARY} again")
    assert shop.tsuide("erase", ANN, "--wait", "30").returncode == 0
    shop.idle()
    assert CANARY.encode() not in kept(raw)
    assert CANARY not in metrics(first)
    first.stop()

    restored = shop.tsuide("restore", "--from", folder, "--replace", "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["erased_left_out"] == 1
    assert CANARY.encode() not in kept(raw)
    assert b"bob" in everything(raw)
    second = shop.begin()
    shop.buy("bob", "plain again")
    shop.idle()
    assert CANARY.encode() not in kept(raw)
    assert leaks(shop.written(erased_since(shop))) == []
    assert CANARY not in metrics(second)
    second.stop()
    assert CANARY not in shop.logs()


def test_s24_an_outbox_in_a_snapshot_from_before_the_erasure_tells_nobody_anything(
    shop: Shop, raw: redis.Redis, tmp_path: Path
) -> None:
    folder = str(tmp_path / "snapshot")
    settings = shop.settings
    shop.settings = settings.model_copy(update={"failpoint": "before_trim:kill@1"})
    dying = shop.begin()
    shop.settings = settings
    shop.buy(ANN, CANARY)
    assert dying.process.wait(60) != 0
    assert any(raw.xlen(key) for key in raw.scan_iter(match="*:outbox"))
    assert shop.tsuide("snapshot", "--out", folder).returncode == 0
    first = shop.begin()
    shop.idle()
    assert shop.tsuide("erase", ANN, "--wait", "30").returncode == 0
    shop.idle()
    first.stop()
    restored = shop.tsuide("restore", "--from", folder, "--replace", "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["erased_left_out"] == 1
    second = shop.begin()
    shop.buy("bob", "plain")
    shop.idle()
    assert CANARY.encode() not in kept(raw)
    assert leaks(shop.written(erased_since(shop))) == []
    assert CANARY not in metrics(second)
    second.stop()
    assert CANARY not in shop.logs()
