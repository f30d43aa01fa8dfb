"""``tsuide export --topics``: all that our topics hold of a customer, and nothing is cut unsaid."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from streams.deadletters import dead_letter
from streams.embedded import EmbeddedKafka
from streams.erasure import Entry, Ledger
from streams.exporting import records_of, told
from streams.murmur2 import partition_of
from streams.personalcli import export
from streams.settings import Settings, load_settings
from streams.topics import create_topics
from triggers.customer import Customer

pytestmark = pytest.mark.timeout(120)
PARTITIONS = 4
ANN, BOB = "ann", "bob"


class Topics:
    """Topics of their own, with a producer."""

    def __init__(self, broker: str) -> None:
        self.settings: Settings = load_settings(
            kafka=broker,
            prefix=f"x{time.monotonic_ns()}-",
            partitions=PARTITIONS,
            erasure_key="a key of the tests, long enough",
        )
        create_topics(self.settings, partitions=PARTITIONS)
        self.producer = KafkaProducer(bootstrap_servers=broker, acks="all")

    def put(
        self, topic: str, key: str | None, value: Any, number: int | None = None, headers: Any = ()
    ) -> str:
        """A record; its place."""
        raw = None if key is None else key.encode()
        if number is None:
            number = partition_of(raw or b"", PARTITIONS)
        sent = self.producer.send(
            self.settings.topic(topic), key=raw, value=json.dumps(value).encode(),
            partition=number, headers=list(headers),
        ).get(10)  # fmt: skip
        return f"{topic}/{number}/{sent.offset}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as kafka:
        yield kafka.address


@pytest.fixture
def topics(broker: str) -> Topics:
    return Topics(broker)


def places(topics: Topics, most: int = 100) -> list[str]:
    return [one["place"] for one in records_of(topics.settings, ANN, most).records]


def test_the_topics_in_every_topic_of_offers_and_the_decisions_are_told(topics: Topics) -> None:
    admin = KafkaAdminClient(bootstrap_servers=topics.settings.kafka)
    admin.create_topics([NewTopic(topics.settings.topic("offers.kiosk"), PARTITIONS, 1)])
    admin.create_topics([NewTopic(topics.settings.topic("offers.old"), 1, 1)])
    admin.close()
    wanted = []
    names = ("cart", "checkout", "purchase", "usage", "customer", "feedback")
    for name in (*names, "offers.email", "offers.kiosk", "decisions"):
        wanted.append(topics.put(name, ANN, {"is": name}))
        topics.put(name, BOB, {"is": name})
    wanted.append(topics.put("offers.old", ANN, {}, number=0))  # of fewer partitions
    assert sorted(places(topics)) == sorted(wanted)
    found = records_of(topics.settings, ANN).records
    assert {"is": "offers.kiosk"} in [one["record"] for one in found]
    assert all(one["at"].endswith("Z") for one in found)


def test_letters_are_told_whatever_key_or_partition_they_had(topics: Topics) -> None:
    def refuse(key: str | None, value: Any, number: int) -> str:
        raw = None if key is None else key.encode()
        packed = json.dumps(value).encode()
        _, _, headers = dead_letter("wrong_key", "key", "cart", number, 7, raw, packed)
        return topics.put("dead-letters", key, value, number, headers)

    here = partition_of(ANN.encode(), PARTITIONS)
    away = (here + 1) % PARTITIONS
    wanted = [
        refuse(ANN, ["broken"], here),
        refuse(ANN, ["misplaced"], away),
        refuse(None, {"subject": ANN}, away),
        refuse(BOB, {"subject": ANN}, away),
    ]
    refuse(BOB, {"subject": BOB}, away)
    assert sorted(places(topics)) == sorted(wanted)
    found = records_of(topics.settings, ANN).records
    assert {one["headers"]["reason"] for one in found} == {"wrong_key"}


def test_evidence_and_ledger_are_told_by_the_digest(topics: Topics) -> None:
    ours, unkeyed = Ledger(topics.settings.erasure_key_bytes()), Ledger()
    wanted = [
        topics.put("consent-evidence", unkeyed.digest(ANN), {"said": "granted"}, 0),
        topics.put("consent-evidence", ours.digest(ANN), {"said": "revoked"}, 0),
    ]
    topics.put("consent-evidence", ours.digest(BOB), {"said": "granted"}, 0)
    entry = ours.record(ours.digest(ANN), Entry("erased", 1, 2))
    sent = topics.producer.send(
        topics.settings.topic("erased"), key=entry.key, value=entry.value
    ).get(10)
    wanted.append(f"erased/0/{sent.offset}")
    assert places(topics) == wanted


def test_what_is_cut_is_counted_by_topic(topics: Topics) -> None:
    for number in range(5):
        topics.put("cart", ANN, number)
        topics.put("cart", BOB, number)
    topics.put("usage", ANN, 0)
    found = records_of(topics.settings, ANN, most=2)
    assert [one["record"] for one in found.records] == [0, 1, 0]
    assert found.left_out == {"cart": 3}
    assert records_of(topics.settings, ANN).left_out == {}


HOSTILE = {
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "500 levels": b"[" * 500 + b"]" * 500,
    "lone surrogate": b'{"name": "\\ud800"}',
    "no text": b"\xff\x00",
    "nothing": None,
    "a long number": b"1" * 5_000,
}


def test_s20_hostile_records_keep_nobody_from_their_copy(
    topics: Topics, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, key = topics.settings, ANN.encode()
    name, number = settings.topic("cart"), partition_of(key, PARTITIONS)
    for value in HOSTILE.values():
        topics.producer.send(name, key=key, value=value, partition=number).get(10)
    monkeypatch.setattr("streams.personalcli._settings", lambda *given: settings)
    monkeypatch.setattr("streams.explain.load_customer", lambda *given: Customer(ANN))
    export(ANN, topics=True)
    printed = json.loads(capsys.readouterr().out)
    records = {one["place"]: one for one in printed["records"]}
    assert len(records) == len(HOSTILE)
    assert records[f"cart/{number}/2"]["record"] == {"name": "\ud800"}


@pytest.mark.parametrize(
    ("at_ms", "said"),
    [
        (-1, "1969-12-31T23:59:59.999Z"),
        (400_000_000_000_000, "400000000000000 ms"),
        (-(2**63), "-9223372036854775808 ms"),
        (2**63 - 1, "9223372036854775807 ms"),
    ],
)
def test_s23_a_time_beyond_all_bounds_is_told_as_its_figure(at_ms: int, said: str) -> None:
    record = SimpleNamespace(partition=0, offset=1, timestamp=at_ms, value=b"7", headers=())
    assert told("cart", record)["at"] == said
