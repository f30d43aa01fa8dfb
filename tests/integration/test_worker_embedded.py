"""One real worker on the embedded broker and store: the demo's log, and hostile records."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.backtest import run_backtest
from streams.embedded import EmbeddedKafka, EmbeddedStore
from streams.murmur2 import partition_of
from streams.recorded import read_events
from streams.rulefiles import load_book
from streams.shop import Shop
from tests.integration.pipeline import FIRST, PARTITIONS, Pipeline, now_ms

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail-year"
NAMES = ("catalog", "customer", "cart", "checkout", "purchase")
UNTIL = "2017-01-25T00:00:00Z"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("services")
    with EmbeddedKafka(folder / "broker") as kafka, EmbeddedStore(folder / "store") as store:
        yield kafka.address, store.url


def first_weeks(folder: Path) -> list[Path]:
    """The demo's log up to `UNTIL`."""
    files = []
    for name in NAMES:
        file = folder / f"{name}.jsonl"
        with gzip.open(EXAMPLE / "data" / f"{name}.jsonl.gz", "rt") as lines:
            kept = [line for line in lines if json.loads(line)["time"] < UNTIL]
        file.write_text("".join(kept))
        files.append(file)
    return files


def wait_until_applied(pipeline: Pipeline, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while left := pipeline.unapplied():
        assert time.monotonic() < deadline, f"{left} records stay unapplied"
        time.sleep(0.2)
    time.sleep(2)  # the last timers fire and the outbox is sent


@pytest.mark.covers("B14a")
def test_the_worker_decides_over_the_demos_log_what_the_backtest_decides(
    services: tuple[str, str], tmp_path: Path
) -> None:
    rules = EXAMPLE / "rules"
    files = first_weeks(tmp_path)
    pipeline = Pipeline(*services, tmp_path, rules, history=True)
    try:
        shop = Shop(services[0], pipeline.prefix, PARTITIONS)
        shop.run(read_events(files))
        pipeline.start_worker().wait_until_ready()
        wait_until_applied(pipeline)
        _, decisions, offers = pipeline.output()
        out = tmp_path / "backtest"
        figures = run_backtest(load_book(rules), files, out)
        expected = [json.loads(line) for line in (out / "decisions.jsonl").open()]
        assert decisions == {
            (event["data"]["offer_id"], event["data"]["outcome"])
            for event in expected
            if event["data"]["outcome"] in FIRST
        }
        made = [json.loads(line) for line in (out / "offers.jsonl").open()]
        assert offers == {event["id"] for event in made if event["type"] == "offer.made"}
        assert len(figures["offers"]) == 4
        assert pipeline.workers[0].stop() == 0
    finally:
        pipeline.close()


STRANGE_ID = "{p1}}{ \x00 \U0001f6d2 \u202e ' ] redis.call('FLUSHALL') end --"


def envelope(customer: str, at_ms: int, **changes: Any) -> dict[str, Any]:
    from triggers.durations import to_text

    event = {
        "specversion": "1.0",
        "id": f"x{at_ms}",
        "source": "test",
        "type": "cart.viewed",
        "time": to_text(at_ms),
        "subject": customer,
        "data": {"cart_id": "k", "subtotal": 100, "currency": "JPY"},
    }
    return {**event, **changes}


def text(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def hostile(customer: str, at_ms: int) -> list[tuple[str, str, bytes]]:
    """(reason, key, value) of records that must be refused, the reasons of the contract."""
    good = envelope(customer, at_ms)
    deep = b'{"a":' + b"[" * 40 + b"]" * 40 + b"," + text(good)[1:]
    return [
        ("not_json", customer, b'{"specversion": '),
        ("not_json", customer, text(good).replace(b"100", b"NaN")),
        ("not_json", customer, b""),
        ("not_json", customer, b"\xef\xbb\xbf" + text(good)),
        ("too_large", customer, text({**good, "note": "x" * 1_000_000})),
        ("too_deep", customer, deep),
        ("bad_envelope", customer, text(good).replace(b'"id": "x', b'"id": "\\ud800')),
        ("bad_envelope", customer, text({**good, "subject": 7})),
        ("unknown_type", customer, text({**good, "type": "cart.exploded"})),
        ("unknown_type", customer, text({**good, "type": "purchase.completed"})),
        ("bad_data", customer, text({**good, "data": {**good["data"], "subtotal": "100"}})),
        ("bad_data", customer, text({**good, "data": {"cart_id": "k"}})),
        ("time_out_of_range", customer, text({**good, "time": "9999-01-01T00:00:00Z"})),
        ("key_mismatch", "somebody-else", text(good)),
    ]


def test_every_hostile_record_is_refused_with_its_reason_and_the_next_event_is_applied(
    services: tuple[str, str], tmp_path: Path
) -> None:
    pipeline = Pipeline(*services, tmp_path, history=True)
    try:
        at = now_ms() - 60_000
        customer = STRANGE_ID
        home = partition_of(customer.encode(), PARTITIONS)
        topic = f"{pipeline.prefix}cart"
        pipeline.send_catalog([("sku1", "sku2")])
        pipeline.send("consent.granted", customer, {"channel": "*"}, at)
        expected = []
        for place, (reason, key, value) in enumerate(hostile(customer, at)):
            expected.append(reason)
            pipeline.producer.send(
                topic, key=key.encode(), value=value, partition=home, timestamp_ms=at + place
            )
        elsewhere = (home + 1) % PARTITIONS
        pipeline.producer.send(
            topic,
            key=customer.encode(),
            value=text(envelope(customer, at)),
            partition=elsewhere,
            timestamp_ms=at,
        )
        expected.append("wrong_partition")
        twice = envelope(customer, at, id="twice")
        for body in (twice, twice, {**twice, "time": "2020-01-01T00:00:00Z"}):
            pipeline.producer.send(
                topic,
                key=customer.encode(),
                value=text(body),
                partition=home,
                timestamp_ms=at + 100,
            )
        expected.append("id_conflict")  # the third; the second is a repeat and is dropped
        item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
        data = {"cart_id": "k", "item": item, "subtotal": 500, "currency": "JPY"}
        good = pipeline.send("cart.item_added", customer, data, at + 200)
        pipeline.producer.flush()
        worker = pipeline.start_worker()
        worker.wait_until_ready()
        wait_until_applied(pipeline)
        letters = pipeline.read("dead-letters")
        reasons = [dict(letter.headers)["reason"].decode() for letter in letters]
        assert sorted(reasons) == sorted(expected)
        assert max(len(letter.value) for letter in letters) == 64 * 1024
        out, _, offers = pipeline.output()
        made = [json.loads(next(iter(out.bodies[offer]))) for offer in offers]
        onsite = [event for event in made if event["data"]["channel"] == "onsite"]
        assert [event["data"]["trigger"]["event_id"] for event in onsite] == [good]
        assert onsite[0]["subject"] == STRANGE_ID
        assert "redis.call" not in worker.log.read_text()
        assert worker.stop() == 0
    finally:
        pipeline.close()
