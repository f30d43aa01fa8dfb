"""What an operator does after a loss: put partitions back, begin anew, accept other topics.

Each changes the store and the topic ``control``, and no transaction spans both. The store goes
first: whatever ends such a command in between, the two disagree then, so workers refuse to go on
until it was repeated, and what was there before is given up only where something took its place.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import redis

from streams.activations import KEY as BOOKS_KEY
from streams.activations import LETTER, without_topics
from streams.clock import wall_ms
from streams.control import Records, Tell, teller, told
from streams.erasure import Ledger
from streams.errors import UsageError
from streams.personal import read_ledger
from streams.scanning import reader
from streams.settings import Settings
from streams.snapshots import (
    PARTITIONS_MAX,
    Snapshot,
    SnapshotError,
    check,
    check_log,
    check_places,
    check_room,
    check_topics,
    keys_of,
    meta_of,
    partitions_stored,
    put_back,
    read,
    server,
)
from streams.store.keys import bucket_of, partition_keys
from streams.storemarks import mark_key, mark_value, read_marks
from streams.topicids import (
    ACCEPTED_KEY,
    KEY,
    accepted_record,
    ids_record,
    made_anew,
    read_accepted,
    read_ids,
    topic_ids,
)
from streams.topics import partition_count
from triggers.events import CUSTOMER

ReadOn = Literal["first", "stored"]


class Restored(NamedTuple):
    """How many partitions were put back, and how many customers were left out as erased."""

    partitions: int
    erased_left_out: int


def restore(settings: Settings, paths: Sequence[Path], replace: bool) -> Restored:
    """Put snapshots back; workers then read on from where they were taken.

    Every file is checked before the first is put back: whole, of this deployment, with a log that
    goes on from it, and into a partition that holds nothing (unless ``replace``). `SnapshotError`
    names the first that will not do; nothing has changed then.
    """
    partitions = partition_count(settings)
    heads: dict[Path, Snapshot] = {}
    accepted = read_accepted(told(settings))
    for path in paths:
        taken = read(path)
        check(taken, path, settings, partitions)
        check_topics(taken.head, path, accepted)
        # The rest may be larger than this machine's memory: it is read again when it is its turn.
        heads[path] = taken._replace(values={"meta": taken.values["meta"]})
    check_log(settings, {path: taken.head for path, taken in heads.items()})
    ledger = read_ledger(settings)
    with server(settings) as client:
        for path, taken in heads.items():
            check_room(client, taken, replace, path)
        marks = put_all_back(client, heads, ledger, replace)
    with teller(settings) as tell:
        for number, (identity, _) in marks.items():
            tell(mark_key(number), mark_value(identity))
    return Restored(len(marks), sum(erased for _, erased in marks.values()))


def put_all_back(
    client: redis.Redis, heads: Mapping[Path, Snapshot], ledger: Ledger, replace: bool
) -> dict[int, tuple[str, int]]:
    """Put checked snapshots back: partition -> (its new identity, customers left out)."""
    done: dict[int, tuple[str, int]] = {}
    for path, checked in heads.items():
        taken = read(path)
        if taken.head != checked.head:
            raise SnapshotError(f"{path}: changed while it was being restored")
        done[taken.head["partition"]] = put_back(client, taken, ledger, replace, path)
    return done


class Forgotten(NamedTuple):
    """How many partitions were marked or held something, and how many keys were deleted."""

    partitions: int
    keys: int


def forget_store(settings: Settings, numbers: Collection[int] | None) -> Forgotten:
    """Delete what the store holds of partitions (None: all) and take back where they live.

    A partition's keys go at once, then its mark. A worker that still runs can write nothing to it
    any more, and one that claims it in between refuses.
    """
    records = told(settings)
    marks = read_marks(records)
    partitions = keys = 0
    with server(settings) as client, teller(settings) as tell:
        for number in range(PARTITIONS_MAX) if numbers is None else sorted(set(numbers)):
            deleted: Any = client.delete(*keys_of(number, settings.prefix).values())
            marked = mark_key(number) in marks
            if marked:
                tell(mark_key(number), None)
            partitions += bool(deleted or marked)
            keys += deleted
        if numbers is None:
            _forget_topics(settings, tell, records)
    return Forgotten(partitions, keys)


def _forget_topics(settings: Settings, tell: Tell, records: Records) -> None:
    anew = made_anew(topic_ids(settings), read_ids(records))
    if anew:
        _tell_accepted(tell, records, anew)
    tell(KEY, None)


def _tell_accepted(tell: Tell, records: Records, topics: Collection[str]) -> None:
    """Note that older snapshots do not fit topics any more."""
    now = dict.fromkeys(topics, wall_ms())
    tell(ACCEPTED_KEY, accepted_record({**read_accepted(records), **now}))


def accept_topics(settings: Settings, topics: Collection[str], read_on: ReadOn) -> int:
    """Accept topics in (without prefix) that were made anew; how many partitions that concerns.

    With ``first`` they are read from the first record that Kafka has, with all that is known of
    customers kept. With ``stored`` they are read on from the stored offsets: that is right where
    the old records were brought back under their old offsets, and only there.

    Raises `UsageError` for a topic that was not made anew, `SnapshotError` where a stored offset
    lies outside of what Kafka has.
    """
    records = told(settings)
    found, known = topic_ids(settings), read_ids(records)
    anew = made_anew(found, known)
    for topic in topics:
        if topic not in anew:
            raise UsageError(f"{topic}: no topic that was made anew ({', '.join(anew) or 'none'})")
    with server(settings) as client:
        numbers = partitions_stored(client, settings.prefix)
        if read_on == "first":
            for number in numbers:
                read_from_first(client, number, settings.prefix, topics)
        else:
            _check_stored(client, settings, numbers, topics)
    with teller(settings) as tell:
        # A topic that stamps records itself makes old consents, brought back, later than erasures
        # that followed them: no older snapshot may read them once more.
        unfit = topics if read_on == "first" else {CUSTOMER}.intersection(topics)
        if unfit:
            _tell_accepted(tell, records, unfit)
        tell(KEY, ids_record({**known, **{topic: found[topic] for topic in topics}}))
    return len(numbers)


def _check_stored(
    client: redis.Redis, settings: Settings, numbers: Collection[int], topics: Collection[str]
) -> None:
    with reader(settings, "tsuide-topics") as consumer:
        for number in numbers:
            meta = meta_of(client, number, settings.prefix)
            stored = meta.offsets if meta is not None else {}
            offsets = {topic: stored.get(topic, 0) for topic in topics}
            check_places(consumer, settings, f"partition {number}", number, offsets)


def read_from_first(client: redis.Redis, number: int, prefix: str, topics: Collection[str]) -> None:
    """Let a partition read topics from the first record that Kafka has; the rest stays.

    What is remembered by their offsets goes with them: which rule book decided them from where,
    and what the last owner had in hand.
    """
    if meta_of(client, number, prefix) is None:
        return
    keys, (books, _) = partition_keys(number, prefix), BOOKS_KEY
    # From here on a worker that still runs can write nothing, and a new claim is refused.
    client.hset(keys.meta, "token", f"accepted-{secrets.token_hex(12)}")
    field = LETTER.encode() + books
    packed: Any = client.hget(keys.customers[bucket_of(books)], field)
    with client.pipeline(transaction=True) as transaction:
        transaction.hdel(keys.meta, *(f"o:{topic}" for topic in topics))
        if packed is not None:
            value = without_topics(packed, topics)
            transaction.hset(keys.customers[bucket_of(books)], field, value)
        transaction.delete(keys.trial)
        transaction.execute()
