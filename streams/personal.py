"""What a customer may ask for: to be erased, or to object; and who has been, for commands to ask.

Erasing is an event like any other: it is in Kafka, acknowledged by all in-sync replicas, before
anybody is told that it holds, and every worker that reads it obeys. A receipt names the event. It
is done once the ledger of the erased tells of it; nothing here says whether a customer was known.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.clock import wall_ms
from streams.erasure import Entry, Ledger, take_told
from streams.erasurekey import check_erasure_key
from streams.errors import PreconditionError, UsageError
from streams.murmur2 import partition_of
from streams.scanning import Tail, partitions_of, reader
from streams.settings import Settings
from streams.topics import ERASED
from triggers.decisions import SOURCE
from triggers.durations import to_text
from triggers.fields import ID_BYTES_MAX

_ACK_S = 30
_LOOK_S = 0.25
_TYPES: dict[str, str] = {"erase": "customer.erase_requested", "object": "customer.objected"}


class Receipt(NamedTuple):
    """An acknowledged request: the event's id, where it lies in the topic ``customer``, and its
    record's timestamp (ms)."""

    id: str
    partition: int
    offset: int
    at_ms: int

    def is_answered_by(self, entry: Entry) -> bool:
        """Whether an entry of the ledger is about this event or a later one.

        An entry that was carried over from other topics may have a higher offset, but its time
        lies before.
        """
        return entry.offset >= self.offset and entry.at >= self.at_ms


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
    replicas. Raises `PreconditionError` when it does not, and when the key of the ledger is
    another one: nobody could be told then that it is done."""
    check_customer(customer_id)
    check_erasure_key(settings)
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
    return Receipt(event_id, number, sent.offset, sent.timestamp)


class Erased:
    """The ledger of the erased, read on at each question to where its topic ends then."""

    def __init__(self, settings: Settings, consumer: Any) -> None:
        """``consumer`` serves this alone."""
        topic = settings.topic(ERASED)
        partitions_of(consumer, topic)
        self._ledger = Ledger(settings.erasure_key_bytes())
        self._tail = Tail(consumer, topic, 0)

    def ledger(self) -> Ledger:
        """The ledger as its topic tells it now."""
        for record in self._tail.news():
            take_told(self._ledger, record.key, record.value)
        return self._ledger

    def may_replay(self, customer_id: str, timestamp_ms: int) -> bool:
        """Whether a record of a customer, of that instant (ms), may come back: not from before
        their erasure, and not while they are gone."""
        entry = self.ledger().of(customer_id)
        return entry is None or not (entry.gone or timestamp_ms < entry.at)


@contextmanager
def erased(settings: Settings) -> Iterator[Erased]:
    """Who is erased, for as long as a command runs; `PreconditionError` under another key."""
    check_erasure_key(settings)
    with reader(settings, "tsuide-ledger") as consumer:
        yield Erased(settings, consumer)


def read_ledger(settings: Settings) -> Ledger:
    """The ledger of the erased as its topic tells it now; `PreconditionError` under another
    key."""
    with erased(settings) as found:
        return found.ledger()


def wait_until_told(
    settings: Settings, customer_id: str, receipt: Receipt, seconds: float
) -> Entry | None:
    """The ledger's entry that answers a receipt; None when none came within ``seconds``."""
    deadline = time.monotonic() + seconds
    with erased(settings) as found:
        while True:
            entry = found.ledger().of(customer_id)
            if entry is not None and receipt.is_answered_by(entry):
                return entry
            if time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK_S)


def carry_over(old: Settings, new: Settings) -> int:
    """Carry the ledger of one prefix over to another; how many entries that were.

    For when topics are given up for new ones (more partitions): without it whoever was erased
    would begin anew there. What the new ledger knows of somebody and is not older stays. Both are
    of one key: `PreconditionError` otherwise.
    """
    if old.prefix == new.prefix:
        raise UsageError("--from: that is the prefix to carry to, too")
    told = read_ledger(old)
    check_erasure_key(new, begin=True)
    known = read_ledger(new).entries()
    count = 0
    try:
        producer = KafkaProducer(
            **new.kafka_options(), client_id="tsuide-carry-erased", acks="all", retries=5
        )
        with closing(producer):
            for digest, entry in told.entries().items():
                there = known.get(digest)
                if there is not None and there.follows(entry):
                    continue
                sent = told.record(digest, entry)
                producer.send(new.topic(ERASED), sent.value, sent.key, partition=0).get(_ACK_S)
                count += 1
    except KafkaError as error:
        text = f"Kafka at {new.kafka} did not take all of it ({type(error).__name__})"
        raise PreconditionError(text, "carry it again: a second time does no harm") from error
    return count


def nobody_erased(settings: Settings) -> bool:
    """Whether the ledger holds nothing, under whatever key."""
    with reader(settings, "tsuide-ledger") as consumer:
        topic = settings.topic(ERASED)
        partitions_of(consumer, topic)
        return not any(True for _ in Tail(consumer, topic, 0).news())
