"""The compacted topic ``control``, read and written by commands and at a start.

It holds what must outlive the store: which store each partition lives in (``streams.storemarks``),
which topics the stored offsets belong to (``streams.topicids``) and by which key the erased are
known (``streams.erasurekey``). A record without a value takes back what its key said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.errors import PreconditionError
from streams.scanning import partitions_of, reader, scan
from streams.settings import Settings
from streams.topics import CONTROL

_ACK_S = 30

Records = list[tuple[bytes | None, bytes | None]]
Tell = Callable[[bytes, bytes | None], None]


def told(settings: Settings) -> Records:
    """(key, value) of all records, oldest first; `PreconditionError` where Kafka has no such
    topic or is away."""
    topic = settings.topic(CONTROL)
    with reader(settings, "tsuide-control") as consumer:
        partitions_of(consumer, topic)
        return [(record.key, record.value) for record in scan(consumer, topic, 0)]


@contextmanager
def teller(settings: Settings) -> Iterator[Tell]:
    """A function that writes one record and returns once all in-sync replicas have it; what Kafka
    refuses becomes a `PreconditionError`."""
    topic = settings.topic(CONTROL)
    try:
        producer = KafkaProducer(
            **settings.kafka_options(), client_id="tsuide-control", acks="all", retries=5
        )
    except (KafkaError, OSError) as error:
        raise _refused(settings, error) from error

    def tell(key: bytes, value: bytes | None) -> None:
        try:
            producer.send(topic, value, key, partition=0).get(timeout=_ACK_S)
        except KafkaError as error:
            raise _refused(settings, error) from error

    with closing(producer):
        yield tell


def _refused(settings: Settings, error: Exception) -> PreconditionError:
    text = f"Kafka at {settings.kafka} did not take a record of {CONTROL}"
    return PreconditionError(f"{text} ({type(error).__name__})", "start it, then repeat this")
