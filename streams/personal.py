"""What a customer may ask for: to be erased, to object, and to be told what is kept.

Erasing is an event like any other: it is in Kafka, acknowledged by all in-sync replicas, before
anybody is told that it holds, and every worker that reads it obeys. A receipt names the event. It
is done once the ledger of the erased tells of it; nothing here says whether a customer was known.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.clock import wall_ms
from streams.erasure import Entry, Ledger, take_told
from streams.errors import PreconditionError, UsageError
from streams.murmur2 import partition_of
from streams.scanning import partitions_of, reader, scan
from streams.settings import Settings
from streams.topics import ERASED, output_topics
from triggers.decisions import SOURCE
from triggers.durations import to_text
from triggers.fields import ID_BYTES_MAX
from triggers.state import PARTS, Customer, Order

_ACK_S = 30
_LOOK_S = 0.25
_TYPES: dict[str, str] = {"erase": "customer.erase_requested", "object": "customer.objected"}
#: Records that an export lists of one topic.
RECORDS_MAX = 10_000


class Receipt(NamedTuple):
    """An acknowledged request: the event's id, and where it lies in the topic ``customer``."""

    id: str
    partition: int
    offset: int


def check_customer(customer_id: str) -> str:
    """The id when it can be one; `UsageError` otherwise, which does not repeat it."""
    try:
        size = len(customer_id.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= ID_BYTES_MAX:
        raise UsageError(f"CUSTOMER: an id has 1 to {ID_BYTES_MAX} bytes of UTF-8")
    return customer_id


def request(settings: Settings, customer_id: str, what: Literal["erase", "object"]) -> Receipt:
    """Ask for an erasure, or pass an objection on; returns once Kafka has it on all in-sync
    replicas. Raises `PreconditionError` when it does not."""
    check_customer(customer_id)
    event_id = f"{what}-{secrets.token_hex(16)}"
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": _TYPES[what],
        "time": to_text(wall_ms()),
        "subject": customer_id,
        "data": {},
    }
    topic, key = settings.topic("customer"), customer_id.encode()
    with reader(settings, "tsuide-erase") as consumer:
        count = len(partitions_of(consumer, topic))
    try:
        producer = KafkaProducer(
            **settings.kafka_options(), client_id="tsuide-erase", acks="all", retries=5
        )
        with closing(producer):
            value = json.dumps(event, ensure_ascii=False).encode()
            number = partition_of(key, count)
            sent = producer.send(topic, value, key, partition=number).get(timeout=_ACK_S)
    except KafkaError as error:
        text = f"Kafka at {settings.kafka} did not take the request ({type(error).__name__})"
        raise PreconditionError(text, "ask again: a second request does no harm") from error
    return Receipt(event_id, number, sent.offset)


def read_ledger(settings: Settings) -> Ledger:
    """The ledger of the erased as its topic tells it now."""
    ledger = Ledger(settings.erasure_key_bytes(), settings.prefix)
    with reader(settings, "tsuide-ledger") as consumer:
        topic = settings.topic(ERASED)
        partitions_of(consumer, topic)
        for record in scan(consumer, topic, 0):
            take_told(ledger, record.key, record.value)
    return ledger


def may_replay(settings: Settings) -> Callable[[str, int], bool]:
    """Whether a record of a customer, of that instant (ms), may come back: not from before their
    erasure, and not while they are gone. The ledger is read once."""
    ledger = read_ledger(settings)

    def allowed(customer_id: str, timestamp_ms: int) -> bool:
        entry = ledger.of(customer_id)
        return entry is None or not (entry.gone or timestamp_ms < entry.at)

    return allowed


def wait_until_told(
    settings: Settings, customer_id: str, receipt: Receipt, seconds: float
) -> Entry | None:
    """The ledger's entry that answers a receipt; None when none came within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        entry = read_ledger(settings).of(customer_id)
        if entry is not None and entry.offset >= receipt.offset:
            return entry
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOOK_S)


def document(customer: Customer) -> dict[str, Any]:
    """Everything that a customer's document holds, by the names of its fields."""
    parts = {name: customer.now if name == "now" else customer.part(name) for name in PARTS}
    return {name: named(value) for name, value in parts.items() if value}


def named(value: Any) -> Any:
    """A stored value as JSON can hold it: structs by their fields, bytes in hexadecimal."""
    if isinstance(value, Order):
        fields = {name: named(each) for name, each in _fields(value) if name != "packed_lines"}
        return {**fields, "lines": named(value.lines)}
    if isinstance(value, msgspec.Struct):
        return {name: named(each) for name, each in _fields(value)}
    if isinstance(value, dict):
        return {str(key): named(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [named(each) for each in value]
    if isinstance(value, bytes | bytearray):
        try:
            return json.loads(value)  # payloads of the events that armed timers
        except ValueError:
            return bytes(value).hex()
    return value


def _fields(value: msgspec.Struct) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in value.__struct_fields__]


def records_of(settings: Settings, customer_id: str) -> list[dict[str, Any]]:
    """What our topics still hold under a customer's key: dead letters, decisions, offers of the
    usual channels; at most `RECORDS_MAX` of each."""
    key, found = customer_id.encode(), []
    with reader(settings, "tsuide-export") as consumer:
        there = consumer.topics()
        for name in output_topics(None):
            topic = settings.topic(name)
            if topic not in there:
                continue
            count = len(partitions_of(consumer, topic))
            taken = 0
            for record in scan(consumer, topic, partition_of(key, count)):
                if record.key == key and taken < RECORDS_MAX:
                    taken += 1
                    place = f"{name}/{record.partition}/{record.offset}"
                    found.append({"place": place, "record": named(record.value)})
    return found
