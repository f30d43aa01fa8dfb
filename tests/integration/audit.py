"""The audit of topics: every record in is applied or refused, and nothing came out twice.

An oracle of its own, which knows nothing of rules: it counts offsets. Tests that kill, cut or
rebalance end with it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

#: A source topic (without prefix), its partition, and a record's offset there.
Place = tuple[str, int, int]
REASONS = frozenset(
    {
        "not_json", "too_large", "too_deep", "bad_envelope", "unknown_type", "bad_data",
        "key_mismatch", "wrong_partition", "time_out_of_range", "id_conflict", "crashed",
    }
)  # fmt: skip


@dataclass
class Audit:
    """What was found; ``check`` fails with all that is wrong."""

    records: int = 0
    applied: int = 0
    refused: dict[Place, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail unless every record in is accounted for, once."""
        assert not self.faults, "\n".join(self.faults[:20])


def audit(
    records: Mapping[tuple[str, int], Iterable[int]],
    next_offsets: Mapping[tuple[str, int], int],
    dead_letters: Iterable[Any],
    copies: int = 0,
) -> Audit:
    """Compare what came in with what is accounted for.

    Args:
        records: offsets of the records in, by topic (without prefix) and partition.
        next_offsets: what the store counts as applied: the next offset to read, likewise.
        dead_letters: the records of the dead letters, each with ``headers``.
        copies: how many dead letters may be there a second time (produce answers that were lost).
    """
    found = Audit()
    seen: Counter[Place] = Counter()
    bodies: dict[Place, set[tuple[bytes, bytes]]] = defaultdict(set)
    for letter in dead_letters:
        named = dict(letter.headers)
        reason = named["reason"].decode()
        for offset in _offsets(named, letter.value):
            place = (named["topic"].decode(), int(named["partition"]), offset)
            seen[place] += 1
            bodies[place].add((named["sha256"], letter.value))
            found.refused[place] = reason
            if reason not in REASONS:
                found.faults.append(f"{place}: {reason} is no reason of the contract")
    known: set[Place] = set()
    for (topic, partition), offsets in records.items():
        upto = next_offsets.get((topic, partition), 0)
        for offset in offsets:
            found.records += 1
            known.add((topic, partition, offset))
            if offset >= upto:
                found.faults.append(f"{topic}/{partition}/{offset} is not applied")
            elif (topic, partition, offset) not in found.refused:
                found.applied += 1
    found.faults += [f"{place}: refused, and never came in" for place in seen.keys() - known]
    found.faults += [f"{place}: two bodies" for place, of in bodies.items() if len(of) > 1]
    extra = sum(seen.values()) - len(seen)
    if extra > copies:
        found.faults.append(f"{extra} dead letters lie there twice, {copies} may")
    return found


def _offsets(named: Mapping[str, bytes], value: bytes) -> Iterable[int]:
    """The offsets that a dead letter tells of: its own, or those that it stands for."""
    if "count" not in named:
        return [int(named["offset"])]
    found = [n for first, last in json.loads(value) for n in range(first, last + 1)]
    assert len(found) == int(named["count"])
    return found


def audit_pipeline(pipeline: Any, copies: int = 0) -> Audit:
    """The audit of a :class:`tests.integration.pipeline.Pipeline` at rest."""
    import redis
    from kafka import KafkaConsumer, TopicPartition

    from streams.store.keys import partition_keys
    from triggers.events import TOPICS

    # Offsets only: what lies there may be nothing that a test could read.
    tps = [
        TopicPartition(pipeline.prefix + topic, number)
        for topic in TOPICS
        for number in range(pipeline.settings.partitions)
    ]
    with closing(KafkaConsumer(bootstrap_servers=pipeline.settings.kafka)) as consumer:
        begins, ends = consumer.beginning_offsets(tps), consumer.end_offsets(tps)
    records = {
        (tp.topic.removeprefix(pipeline.prefix), tp.partition): range(begins[tp], ends[tp])
        for tp in tps
    }
    next_offsets: dict[tuple[str, int], int] = {}
    with redis.Redis.from_url(pipeline.settings.redis) as client:
        for number in range(pipeline.settings.partitions):
            meta: dict[bytes, bytes] = client.hgetall(partition_keys(number, pipeline.prefix).meta)
            for name, value in meta.items():
                if name.startswith(b"o:"):
                    next_offsets[name[2:].decode(), number] = int(value)
    return audit(records, next_offsets, pipeline.read("dead-letters"), copies)
