"""``tsuide dead-letters`` on an embedded broker: list, show, replay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner, Result

from streams.cli import app
from streams.deadletters import REPLAYED_FROM, dead_letter, summary_letter
from streams.embedded import EmbeddedKafka
from streams.erasure import Entry, Ledger
from streams.letters import Wanted
from streams.murmur2 import partition_of
from streams.personal import erased
from streams.resend import Resender
from streams.settings import Settings, load_settings
from streams.topicids import ACCEPTED_KEY, accepted_record
from streams.topics import create_topics
from tests.integration.pipeline import PARTITIONS, now_ms
from triggers.durations import to_text

pytestmark = pytest.mark.timeout(120)
HOURS_MS = 3_600_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as kafka:
        yield kafka.address


def cart(customer: str, event_id: str, **changes: Any) -> dict[str, Any]:
    item = {"sku": "a", "quantity": 1, "unit_price": 500}
    data = {"cart_id": "c", "item": item, "subtotal": 500, "currency": "JPY"}
    event = {
        "specversion": "1.0", "id": event_id, "source": "test", "type": "cart.item_added",
        "time": to_text(now_ms()), "subject": customer, "data": data,
    }  # fmt: skip
    return {**event, **changes}


class Desk:
    """A prefix of its own on the broker, with records in and their dead letters."""

    def __init__(self, kafka: str) -> None:
        self.settings: Settings = load_settings(
            kafka=kafka, prefix=f"d{time.monotonic_ns()}-", partitions=PARTITIONS
        )
        create_topics(self.settings, partitions=PARTITIONS)
        self.producer = KafkaProducer(bootstrap_servers=kafka, acks="all")

    def put(
        self, value: bytes, key: bytes, topic: str = "cart", headers: Any = (), at_ms: int = 0
    ) -> tuple[str, int, int]:
        """A record in; its place."""
        number = partition_of(key, PARTITIONS)
        sent = self.producer.send(
            self.settings.topic(topic), key=key, value=value, partition=number,
            headers=list(headers), timestamp_ms=at_ms or now_ms(),
        ).get(10)  # fmt: skip
        return topic, number, sent.offset

    def refuse(
        self, place: tuple[str, int, int], key: bytes, value: bytes, reason: str, at_ms: int = 0
    ) -> str:
        """The dead letter of a record; its place as text."""
        topic, number, offset = place
        key_of, kept, headers = dead_letter(reason, "detail", topic, number, offset, key, value)
        self.producer.send(
            self.settings.topic("dead-letters"), key=key_of, value=kept, headers=headers,
            partition=number, timestamp_ms=at_ms or now_ms(),
        ).get(10)  # fmt: skip
        return f"{topic}/{number}/{offset}"

    def refused(self, event: dict[str, Any], reason: str = "crashed", topic: str = "cart") -> str:
        """A record in and its letter."""
        value, key = json.dumps(event).encode(), str(event["subject"]).encode()
        return self.refuse(self.put(value, key, topic), key, value, reason)

    def run(self, *words: str) -> Result:
        """The command, on this broker and prefix."""
        where = ["--kafka", self.settings.kafka, "--prefix", self.settings.prefix]
        return CliRunner().invoke(app, ["dead-letters", words[0], *where, *words[1:]])

    def figures(self, *words: str) -> dict[str, Any]:
        """The command's figures."""
        found = self.run(*words, "--json")
        lines = found.stdout.splitlines()
        assert lines, found.output
        figures: dict[str, Any] = json.loads(lines[-1])
        return figures

    def records(self, topic: str, customer: str) -> list[Any]:
        """What lies on the customer's partition of a topic."""
        from streams.scanning import reader, scan

        number = partition_of(customer.encode(), PARTITIONS)
        with reader(self.settings, "test") as consumer:
            return list(scan(consumer, self.settings.topic(topic), number))


@pytest.fixture
def desk(broker: str) -> Desk:
    return Desk(broker)


def test_letters_are_listed_with_totals_and_without_what_they_hold(desk: Desk) -> None:
    places = [desk.refused(cart(f"c-{i}", f"e{i}"), "unknown_type") for i in range(3)]
    places.append(desk.refused(cart("secret-customer", "e9"), "bad_data"))
    figures = desk.figures("list")
    assert figures["total"] == 4
    assert figures["reasons"] == {"unknown_type": 3, "bad_data": 1}
    assert {row["place"] for row in figures["letters"]} == set(places)
    assert "secret-customer" not in desk.run("list").output
    assert len(desk.figures("list", "--limit", "2")["letters"]) == 2
    assert desk.figures("list", "--reason", "bad_data")["total"] == 1
    assert desk.figures("list", "--since", to_text(now_ms() + HOURS_MS))["total"] == 0
    assert desk.figures("list", "--topic", "purchase")["total"] == 0


def test_a_letter_is_shown_with_all_that_could_move_a_cursor_escaped(desk: Desk) -> None:
    value = b"\x1b[2J{broken\xff\r\n"
    place = desk.refuse(desk.put(value, b"\x1bkey"), b"\x1bkey", value, "not_json")
    shown = desk.run("show", place)
    assert shown.exit_code == 0
    assert "value: \\x1b[2J{broken\\xff\\r\\n" in shown.output
    assert "key: \\x1bkey" in shown.output
    assert "\x1b" not in shown.output
    missing = desk.run("show", "cart/0/999999")
    assert missing.exit_code == 1
    assert "cart/0/999999: no such dead letter" in str(missing.exception)


def test_s1_a_letter_is_replayed_once_and_again_only_when_told(desk: Desk) -> None:
    place = desk.refused(cart("c-1", "e1"))
    assert desk.figures("replay", place, "--dry-run")["would_send"] == 1
    assert len(desk.records("cart", "c-1")) == 1
    assert desk.figures("replay", place)["sent"] == 1
    first, second = desk.records("cart", "c-1")
    assert (second.key, second.value) == (first.key, first.value)
    assert dict(second.headers) == {REPLAYED_FROM: place.encode()}
    again = desk.figures("replay", place)
    assert (again["sent"], again["skipped"]) == (0, 1)
    assert len(desk.records("cart", "c-1")) == 2
    assert desk.figures("list")["letters"][0]["replayed_at"]
    assert desk.figures("replay", place, "--again")["sent"] == 1
    assert len(desk.records("cart", "c-1")) == 3


def test_a_customers_letters_are_replayed_in_their_order_over_topics(desk: Desk) -> None:
    order = {"order_id": "o", "items": [], "total": 500, "currency": "JPY"}
    added = desk.refused(cart("c-1", "e1"))
    bought = cart("c-1", "e2", type="purchase.completed", data=order)
    desk.refused(bought, topic="purchase")
    desk.refused(cart("c-1", "e3"))
    assert desk.figures("replay", "--reason", "crashed")["sent"] == 3
    sent = [
        *desk.records("cart", "c-1")[2:],
        *desk.records("purchase", "c-1")[1:],
    ]
    sent.sort(key=lambda record: record.timestamp)
    assert [json.loads(record.value)["id"] for record in sent] == ["e1", "e2", "e3"]
    assert len({record.timestamp for record in sent}) == 3
    assert added.encode() == dict(sent[0].headers)[REPLAYED_FROM]


def test_what_the_door_would_refuse_again_is_not_sent(desk: Desk) -> None:
    broken = desk.refuse(desk.put(b"{", b"c-1"), b"c-1", b"{", "not_json")
    conflict = desk.refused(cart("c-1", "e1"), "id_conflict")
    strange = desk.refused(cart("c-1", "e2", type="shop.unknown"), "unknown_type")
    for place in (broken, conflict, strange):
        found = desk.run("replay", place)
        assert found.exit_code == 1
        assert "it would be refused again" in found.stderr
    assert len(desk.records("cart", "c-1")) == 3


def test_s14_a_conflict_is_replayed_when_the_first_body_is_forgotten(desk: Desk) -> None:
    value = json.dumps(cart("c-1", "e1")).encode()
    then = now_ms() - 73 * HOURS_MS
    place = desk.refuse(desk.put(value, b"c-1"), b"c-1", value, "id_conflict", at_ms=then)
    assert desk.figures("replay", place)["sent"] == 1


def test_a_letter_that_stands_on_the_wrong_partition_goes_to_its_own(desk: Desk) -> None:
    value, key = json.dumps(cart("c-1", "e1")).encode(), b"c-1"
    wrong = (partition_of(key, PARTITIONS) + 1) % PARTITIONS
    sent = desk.producer.send(
        desk.settings.topic("cart"), key=key, value=value, partition=wrong
    ).get(10)
    place = desk.refuse(("cart", wrong, sent.offset), key, value, "wrong_partition")
    assert desk.figures("replay", place)["sent"] == 1
    assert len(desk.records("cart", "c-1")) == 1


def test_s20_a_cut_value_is_replayed_from_its_topic_or_not_at_all(desk: Desk) -> None:
    event = cart("c-1", "e1", padding="x" * 100_000)
    kept = desk.refused(event)
    value = json.dumps(event).encode()
    gone = desk.refuse(("cart", partition_of(b"c-1", PARTITIONS), 5_000), b"c-1", value, "crashed")
    found = desk.run("replay", gone)
    assert found.exit_code == 1
    assert "no whole copy was kept" in found.stderr
    assert desk.figures("replay", kept)["sent"] == 1
    assert desk.records("cart", "c-1")[-1].value == value


def test_a_copy_is_replayed_where_the_record_is_gone_and_not_another_record(desk: Desk) -> None:
    value = json.dumps(cart("c-1", "e1")).encode()
    place = desk.put(b"another record lies there now", b"c-1")
    text = desk.refuse(place, b"c-1", value, "crashed")
    assert desk.figures("replay", text)["sent"] == 1
    assert desk.records("cart", "c-1")[-1].value == value


def test_a_record_in_binary_mode_is_replayed_with_its_attributes(desk: Desk) -> None:
    event = cart("c-1", "e1")
    names = ("specversion", "id", "source", "type", "time", "subject")
    headers = [(f"ce_{name}", str(event[name]).encode()) for name in names]
    headers.append(("content-type", b"application/json"))
    value = json.dumps(event["data"]).encode()
    place = desk.refuse(desk.put(value, b"c-1", headers=headers), b"c-1", value, "crashed")
    assert desk.figures("replay", place)["sent"] == 1
    assert dict(desk.records("cart", "c-1")[-1].headers) == {
        **dict(headers),
        REPLAYED_FROM: place.encode(),
    }


def test_s24_a_letter_of_an_erased_customer_is_not_replayed(desk: Desk) -> None:
    gone = desk.refused(cart("erased", "e1"))
    other = desk.refused(cart("other", "e2"))
    missing = ("cart", partition_of(b"erased", PARTITIONS), 5_000)
    copied = json.dumps(cart("erased", "e3")).encode()
    copy = desk.refuse(missing, b"erased", copied, "crashed")
    time.sleep(0.01)
    tell(desk, Entry("erased", now_ms(), 0))
    for place in (gone, copy):
        found = desk.run("replay", place)
        assert found.exit_code == 1
        assert f"{place} refused (its customer was erased or objected since then)" in found.stderr
    assert desk.figures("replay", other)["sent"] == 1
    # After a new consent what is new may come, and still nothing of before.
    tell(desk, Entry("returned", now_ms(), 1))
    time.sleep(0.01)
    later = desk.refused(cart("erased", "e4"))
    assert desk.run("replay", gone, copy).exit_code == 1
    assert desk.figures("replay", later)["sent"] == 1
    sent = [r for r in desk.records("cart", "erased") if dict(r.headers or ())]
    assert {json.loads(record.value)["id"] for record in sent if record.key == b"erased"} == {"e4"}


def test_s24_who_is_erased_while_a_long_replay_runs_is_not_brought_back_by_it(desk: Desk) -> None:
    places = [desk.refused(cart("erased", f"e{number}")) for number in range(3)]
    with erased(desk.settings) as gone:
        resender = Resender(desk.settings, {}, allowed=gone.may_replay)
        running = resender.run(Wanted(reason="crashed"), 10)
        assert next(running).what == "sent"
        time.sleep(0.01)
        tell(desk, Entry("erased", now_ms(), 0))
        left = list(running)
    assert [outcome.place for outcome in left] == places[1:]
    assert {outcome.why for outcome in left} == {"its customer was erased or objected since then"}
    assert len(desk.records("cart", "erased")) == 4


def tell(desk: Desk, entry: Entry) -> None:
    """Write what the ledger says of the customer `erased`."""
    ledger = Ledger(desk.settings.erasure_key_bytes())
    told = ledger.record(ledger.digest("erased"), entry)
    desk.producer.send(desk.settings.topic("erased"), key=told.key, value=told.value).get(10)


def test_s29_places_in_a_topic_that_was_made_anew_are_other_records(desk: Desk) -> None:
    """Letters and notes of before name places that exist once more."""
    value = json.dumps(cart("c-1", "e1")).encode()
    first, second, third = (desk.put(value, b"c-1") for _ in range(3))
    before, anew, after = now_ms() - 60_000, now_ms() - 30_000, now_ms()
    for place, at_ms in ((first, after), (second, before)):
        name = "/".join(map(str, place)).encode()
        note = json.dumps({"at": before, "to": "cart/0/9"}).encode()
        desk.producer.send(desk.settings.topic("replays"), key=name, value=note).get(10)
        desk.refuse(place, b"c-1", value, "crashed", at_ms)
    (one,) = summary_letter("crashed", "cart", third[1], [third[2], third[2] + 1])
    _, summary, headers, _ = one
    desk.producer.send(
        desk.settings.topic("dead-letters"), value=summary, headers=headers,
        partition=third[1], timestamp_ms=before,
    ).get(10)  # fmt: skip
    accepted = accepted_record({"cart": anew})
    desk.producer.send(desk.settings.topic("control"), key=ACCEPTED_KEY, value=accepted).get(10)
    found = desk.run("replay", "--reason", "crashed")
    texts = {line.split()[0]: line for line in found.output.splitlines() if "/" in line}
    named = ["/".join(map(str, place)) for place in (first, second, third)]
    assert " sent" in texts[named[0]]
    assert "skipped (sent before" in texts[named[1]]
    assert "made anew" in texts[named[2]]


def test_what_is_older_than_the_memory_of_repeats_is_sent_with_a_warning(desk: Desk) -> None:
    value = json.dumps(cart("c-1", "e1")).encode()
    then = now_ms() - 73 * HOURS_MS
    missing = ("cart", partition_of(b"c-1", PARTITIONS), 5_000)
    place = desk.refuse(missing, b"c-1", value, "crashed", at_ms=then)
    found = desk.run("replay", place)
    assert found.exit_code == 0
    assert "older than 72 h" in found.stdout


def test_a_replay_wants_to_know_which_and_stops_at_its_limit(desk: Desk) -> None:
    for i in range(5):
        desk.refused(cart("c-1", f"e{i}"))
    nothing = desk.run("replay")
    assert "say which" in str(nothing.exception)
    figures = desk.figures("replay", "--topic", "cart", "--limit", "2")
    assert (figures["sent"], figures["left"]) == (2, 3)
    figures = desk.figures("replay", "--topic", "cart", "--limit", "2")
    assert (figures["sent"], figures["skipped"], figures["left"]) == (2, 2, 1)
    absent = desk.run("replay", "cart/0/77777")
    assert absent.exit_code == 1
    assert "cart/0/77777: no such dead letter" in absent.stderr
