"""The report over topics, against the report over the same log in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from streams.embedded import EmbeddedKafka
from streams.errors import PreconditionError
from streams.murmur2 import partition_of
from streams.recorded import read_events
from streams.report import run_report
from streams.reporttopics import Topics
from streams.settings import load_settings
from streams.shop import Shop
from tests.unit.logbook import DAY, HOUR, START, Logbook
from triggers.durations import to_ms
from triggers.events import TOPICS

PARTITIONS = 3
PREFIX = "report."


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as kafka:
        yield kafka.address


def busy() -> Logbook:
    """Customers who are offered things, or held out, and buy, for two months: several fetches."""
    log = Logbook()
    log.product("p", family="f")
    log.product("q", family="g", margin=0.5)
    for number in range(2500):
        who, at = f"c{number}", START + number * 30 * 60_000
        log.event("product.viewed", who, at, sku="p")
        outcome = "held_out" if number % 5 == 0 else "offered"
        offer_id = log.decide(who, f"r{number % 2}", at + 1, outcome, book=f"v{number // 1500}")
        if outcome == "offered":
            steps = ("shown", "accepted") if number % 9 == 0 else ("shown",)
            log.say(who, offer_id, at + HOUR, *steps)
        if number % 3:
            log.buy(who, f"k{number}", at + DAY, ("p", 1, 1000), ("q", number % 4 + 1, 500))
        if number % 7 == 0:
            log.event("purchase.refunded", who, at + 2 * DAY, order_id=f"k{number}", total=300)
    log.event("product.viewed", "last", START + 90 * DAY, sku="p")  # all windows are over
    return log


def fill(broker: str, folder: Path, log: Logbook) -> None:
    """Put the log into topics, outputs too, as workers would."""
    old = {"retention.ms": "-1"}
    names = [*TOPICS, "offers.email", "decisions"]
    topics = [NewTopic(PREFIX + name, PARTITIONS, 1, topic_configs=old) for name in names]
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        admin.create_topics([NewTopic(PREFIX + "catalog", 1, 1, topic_configs=old), *topics])
    finally:
        admin.close()
    events, offers, decisions = log.write(folder)
    Shop(broker, PREFIX, PARTITIONS).run(read_events([events]))
    producer = KafkaProducer(bootstrap_servers=broker)
    try:
        for name, path in (("offers.email", offers), ("decisions", decisions)):
            records = getattr(log, name.partition(".")[0])
            ordered = sorted(records, key=lambda record: to_ms(record["time"]))
            for record, line in zip(ordered, path.read_bytes().splitlines(), strict=True):
                key = record["subject"].encode()
                place = partition_of(key, PARTITIONS)
                producer.send(PREFIX + name, line, key, partition=place)
        producer.flush()
    finally:
        producer.close()


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """A report without the order in which sums of doubles were made."""
    measures = {
        name: round(value, 9) if isinstance(value, float) else value
        for name, value in body["measures"].items()
    }
    return {**body, "measures": measures}


def test_topics_and_files_of_one_log_give_the_same_report(broker: str, tmp_path: Path) -> None:
    log = busy()
    in_files = log.report(tmp_path)
    assert in_files["lift"]["customers"] == {"treated": 2000, "held_out": 500}
    assert in_files["rules"]["r0"]["change"]["to"] == "v1"
    fill(broker, tmp_path, log)
    settings = load_settings(kafka=broker, prefix=PREFIX)
    in_topics = run_report(Topics(settings), 7)
    assert in_topics["records"] == in_files["records"]
    assert comparable(in_topics) == comparable(in_files)


def test_missing_topics_are_named_with_the_remedy(broker: str) -> None:
    settings = load_settings(kafka=broker, prefix="nothing.")
    with pytest.raises(PreconditionError, match=r"missing: nothing\.cart.*tsuide topics create"):
        run_report(Topics(settings), 7)


def test_a_broker_that_does_not_answer_is_named() -> None:
    with pytest.raises(PreconditionError, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        run_report(Topics(load_settings(kafka="127.0.0.1:1"), wait_ms=500), 7)
