"""What our own output already holds: read back at a claim, so that nothing is sent twice.

Between publishing an entry and trimming it a worker can die, and a store can be set back to an
older state; both decide again what was sent already, under the same ids. So whoever claims a
partition reads its output topics from the offset below which all is trimmed to the end, and the
relay leaves out what it finds there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.outbox import known_as

log = structlog.get_logger(__name__)

#: Ids kept for one partition; more would mean that the store lost days.
IDS_MAX = 2_000_000
_TIMEOUT_MS = 2_000


class _Id(msgspec.Struct, gc=False):
    id: str


_id = msgspec.json.Decoder(_Id).decode


def record_id(headers: Any, value: bytes | None) -> str:
    """The id under which the relay knows a record: a dead letter's place, else the event's id.

    Empty for what somebody else has put there: nothing of ours is known by that.
    """
    named = dict(headers or ())
    try:
        if "offset" in named:
            place = b"/".join(named[name] for name in ("topic", "partition", "offset")).decode()
            # One that stands for many is not the one of its first record.
            return f"{place}+{named['count'].decode()}" if "count" in named else place
        return _id(value or b"").id
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, msgspec.DecodeError):
        return ""


def note_ids(ids: set[str], topic: str, records: Iterable[Any], end: int) -> None:
    """Add the ids of a topic's records below ``end`` to ``ids``, which has its bound."""
    for record in records:
        if record.offset >= end:
            continue
        if len(ids) >= IDS_MAX:
            log.error("too much lies in the output: some of it may be sent again", topic=topic)
            return
        ids.add(known_as(topic, record_id(record.headers, record.value)))


async def read_back(
    options: Mapping[str, Any], prefix: str, starts: Mapping[tuple[str, int], int]
) -> dict[int, set[str]]:
    """What is found in our output (:func:`streams.outbox.known_as`), by partition.

    ``options`` reach Kafka (``Settings.kafka_options``); ``starts`` maps (output topic without
    prefix, partition) to the offset to begin at, 0 for topics that nothing is known of.
    """
    found: dict[int, set[str]] = {partition: set() for _, partition in starts}
    consumer = AIOKafkaConsumer(
        **options, enable_auto_commit=False, isolation_level="read_committed", fetch_max_wait_ms=50
    )
    await consumer.start()
    try:
        wanted = {TopicPartition(prefix + topic, p): start for (topic, p), start in starts.items()}
        if not wanted:
            return found
        consumer.assign(list(wanted))
        ends = await consumer.end_offsets(list(wanted))
        begins = await consumer.beginning_offsets(list(wanted))
        left = {}
        for tp, start in wanted.items():
            begin = max(start, begins[tp])
            if begin < ends[tp]:
                left[tp] = ends[tp]
                consumer.seek(tp, begin)
            else:
                consumer.pause(tp)
        while left:
            batches = await consumer.getmany(*left, timeout_ms=_TIMEOUT_MS)
            for tp, records in batches.items():
                topic = tp.topic.removeprefix(prefix)
                note_ids(found[tp.partition], topic, records, ends[tp])
            for tp in list(left):
                if await consumer.position(tp) >= left[tp]:
                    del left[tp]
                    consumer.pause(tp)
    finally:
        await consumer.stop()
    return found
