"""Which topics the stored offsets belong to: one that was made anew has other records under them.

Kafka gives every topic an id of its own, which a topic of the same name made later does not have.
The ids of the customer topics are kept in the compacted topic ``control``.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

import msgspec
from kafka import KafkaProducer

from streams.errors import PreconditionError
from streams.scanning import reader, scan
from streams.settings import Settings
from streams.topics import CONTROL, admin
from triggers.events import TOPICS

KEY: Final = b"topics"
_ACK_S = 30
_from_json = msgspec.json.Decoder(dict[str, str]).decode


class TopicMadeAnewError(PreconditionError):
    """A topic in is not the one that the stored offsets belong to."""


def check_topic_ids(settings: Settings) -> None:
    """Compare the customer topics with those that were there before, and remember new ones.

    Raises `TopicMadeAnewError` where one was deleted and made again since. A broker that gives no
    ids is believed.
    """
    with admin(settings) as client:
        described: list[dict[str, Any]] = client.describe_topics()
    names = {settings.topic(topic): topic for topic in TOPICS}
    found = {
        names[topic["name"]]: str(topic["topic_id"])
        for topic in described
        if topic["name"] in names and _is_id(topic.get("topic_id"))
    }
    known: dict[str, str] = {}
    control = settings.topic(CONTROL)
    with reader(settings, "tsuide-topic-ids") as consumer:
        for record in scan(consumer, control, 0):
            if record.key == KEY:
                known = _from_json(record.value) if record.value else {}
    other = sorted(topic for topic, made in found.items() if known.get(topic, made) != made)
    if other:
        raise TopicMadeAnewError(
            f"topics {', '.join(other)} were made anew: the stored offsets are not theirs",
            "see the runbook on a topic that was made anew",
        )
    if known.keys() >= found.keys():
        return
    producer = KafkaProducer(**settings.kafka_options(), client_id="tsuide-topic-ids", acks="all")
    with closing(producer):
        value = msgspec.json.encode({**known, **found})
        producer.send(control, value, KEY, partition=0).get(timeout=_ACK_S)


def _is_id(found: Any) -> bool:
    return found is not None and any(character not in "0-" for character in str(found))
