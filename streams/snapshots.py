"""Snapshots of partitions: taken from a store that works, put back into one that lost them.

A file holds one partition as it stood between two batches: all its keys, read by one transaction,
so that documents, timers, outbox and source offsets belong together. Kafka has the rest: after a
restore the worker reads on from the offsets of that moment, and what it decides again has the ids
that it had.

The file is a line of JSON (format, prefix, partition, offsets, names and sizes of the keys), the
keys' values as the server dumps them, and the SHA-256 of all before it, 32 bytes. It is written
beside its name and renamed, so a file of that name is whole. It holds personal data: mode 0600.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
from kafka import KafkaConsumer, TopicPartition

from streams.clock import wall_ms
from streams.erasure import Ledger
from streams.errors import PreconditionError, StreamsError
from streams.leftout import leave_out
from streams.scanning import reader
from streams.settings import Settings
from streams.store.calls import Meta, read_meta
from streams.store.keys import partition_keys
from streams.storemarks import new_identity
from streams.tls import tls_reason
from triggers.durations import to_ms, to_text
from triggers.events import TOPICS
from triggers.state import SCHEMA

FORMAT = 1
_DIGEST_BYTES = 32
_HEAD_BYTES_MAX = 64 * 1024
_PROBE_MS = 60_000
#: As many as ``tsuide topics create`` makes at most.
PARTITIONS_MAX = 1024


class SnapshotError(StreamsError):
    """A file is no whole snapshot, or does not belong where it is to go."""


class Snapshot(NamedTuple):
    """A partition's keys (without tag) with their values as the server dumps them."""

    head: dict[str, Any]
    values: dict[str, bytes]


@contextmanager
def server(settings: Settings) -> Iterator[redis.Redis]:
    """A client of the store; what fails there becomes a `PreconditionError` without its text."""
    with closing(redis.Redis.from_url(settings.redis_url(), protocol=2)) as client:
        try:
            yield client
        except redis.RedisError as error:
            text = f"Redis does not serve us ({tls_reason(error) or type(error).__name__})"
            raise PreconditionError(text, "set TSUIDE_REDIS") from None


def keys_of(partition: int, prefix: str) -> dict[str, bytes]:
    """Name without tag -> key, of everything that belongs to a partition."""
    keys = partition_keys(partition, prefix)
    tag = keys.meta.removesuffix(b"meta")
    return {key.removeprefix(tag).decode(): key for key in (*keys.all, keys.trial)}


def partitions_stored(client: redis.Redis, prefix: str) -> list[int]:
    """The partitions that were ever claimed, as the first one's count tells."""
    for number in range(PARTITIONS_MAX):
        flat: Any = client.hgetall(partition_keys(number, prefix).meta)
        if b"partitions" in flat:
            return list(range(int(flat[b"partitions"])))
    return []


def meta_of(client: redis.Redis, partition: int, prefix: str) -> Meta | None:
    """What a partition's meta holds; None where it was never claimed."""
    flat: Any = client.hgetall(partition_keys(partition, prefix).meta)
    return _meta(flat)


def take(client: redis.Redis, partition: int, prefix: str) -> Snapshot | None:
    """One partition as it stands now; None when nothing was ever applied there."""
    keys = keys_of(partition, prefix)
    with client.pipeline(transaction=True) as transaction:
        transaction.hgetall(keys["meta"])
        for key in keys.values():
            transaction.dump(key)
        flat, *dumped = transaction.execute()
    meta = _meta(flat)
    if meta is None or not meta.offsets:
        return None
    values = {name: blob for name, blob in zip(keys, dumped, strict=True) if blob is not None}
    head = {
        "format": FORMAT,
        "at": to_text(wall_ms()),
        "prefix": prefix,
        "partition": partition,
        "partitions": meta.partitions,
        "schema": meta.schema,
        "number": meta.number,
        "offsets": meta.offsets,
        "keys": [[name, len(blob)] for name, blob in values.items()],
    }
    return Snapshot(head, values)


def _meta(flat: Mapping[bytes, bytes]) -> Meta | None:
    # Without a token nobody has claimed it: a late call can leave a field in an emptied store.
    if b"token" not in flat:
        return None
    return read_meta([part for pair in flat.items() for part in pair])


def file_of(folder: Path, partition: int) -> Path:
    """Where a partition's snapshot lies."""
    return folder / f"p{partition}.snapshot"


def write(snapshot: Snapshot, path: Path) -> int:
    """Write a snapshot as a whole or not at all; its bytes."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    digest = hashlib.sha256()
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            head = json.dumps(snapshot.head).encode() + b"\n"
            for piece in (head, *snapshot.values.values()):
                digest.update(piece)
                out.write(piece)
            out.write(digest.digest())
            out.flush()
            os.fsync(out.fileno())
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size


def read(path: Path) -> Snapshot:
    """Read a file back; `SnapshotError` names what is wrong with it."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(_HEAD_BYTES_MAX)
            digest = hashlib.sha256(line)
            head = json.loads(line)
            values = {}
            for name, size in head["keys"]:
                values[str(name)] = stream.read(int(size))
                digest.update(values[name])
            if stream.read(_DIGEST_BYTES + 1) != digest.digest():
                raise SnapshotError(f"{path}: cut short or changed: its digest is another")
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{path}: no snapshot") from error
    if head.get("format") != FORMAT:
        raise SnapshotError(f"{path}: of format {head.get('format')}; we read {FORMAT}")
    return Snapshot(head, values)


def check(snapshot: Snapshot, path: Path, settings: Settings, partitions: int) -> None:
    """Whether a snapshot may go into this deployment; `SnapshotError` when not."""
    head = snapshot.head
    if head["prefix"] != settings.prefix:
        raise SnapshotError(f"{path}: of prefix {head['prefix']!r}, not {settings.prefix!r}")
    if head["partitions"] != partitions:
        count = head["partitions"]
        raise SnapshotError(f"{path}: of {count} partitions, and the topics have {partitions}")
    if head["schema"] > SCHEMA:
        raise SnapshotError(f"{path}: written by a later release")
    if file_of(path.parent, head["partition"]) != path or head["partition"] >= partitions:
        raise SnapshotError(f"{path}: holds partition {head['partition']}: it was renamed")
    if not {"meta"} <= snapshot.values.keys() <= keys_of(head["partition"], head["prefix"]).keys():
        raise SnapshotError(f"{path}: holds other keys than those of a partition")


def check_topics(head: Mapping[str, Any], path: Path, accepted: Mapping[str, int]) -> None:
    """Whether the offsets are those of the topics of now; `SnapshotError` when not.

    ``accepted`` tells when (ms) topics were accepted that had been made anew.
    """
    for topic, at_ms in accepted.items():
        if head["offsets"].get(topic, 0) > 0 and to_ms(head["at"]) < at_ms:
            raise SnapshotError(f"{path}: taken before topic {topic} was made anew")


def readable(offset: int, first: int, end: int) -> bool:
    """Whether a log that has ``first`` to ``end`` can be read on from a stored offset.

    0 stands for the first record that Kafka has, wherever that is: so does a claim read it.
    """
    return offset <= 0 or first <= offset <= end


def check_log(settings: Settings, heads: Mapping[Path, Mapping[str, Any]]) -> None:
    """Whether Kafka still has every record that is to be read again; `SnapshotError` when not."""
    with reader(settings, "tsuide-restore") as consumer:
        for path, head in heads.items():
            check_places(consumer, settings, f"{path}", head["partition"], head["offsets"])


def check_places(
    consumer: KafkaConsumer,
    settings: Settings,
    what: str,
    number: int,
    offsets: Mapping[str, int],
) -> None:
    """As :func:`check_log`, for one partition; ``what`` names in the error whose offsets it are."""
    places = {TopicPartition(settings.topic(topic), number): topic for topic in TOPICS}
    first = consumer.beginning_offsets(list(places))
    end = consumer.end_offsets(list(places))
    for place, topic in places.items():
        offset = offsets.get(topic, 0)
        if not readable(offset, first[place], end[place]):
            raise SnapshotError(
                f"{what}: reads on from {topic}/{number}/{offset}, and Kafka has "
                f"{first[place]} to {end[place]}"
            )


def check_room(client: redis.Redis, snapshot: Snapshot, replace: bool, path: Path) -> None:
    """Whether the server can hold a snapshot; `SnapshotError` when not. ``snapshot`` needs no
    values but ``meta``.

    Raises too where the partition holds something and ``replace`` is not given.
    """
    number = snapshot.head["partition"]
    meta = meta_of(client, number, snapshot.head["prefix"])
    if meta is not None and meta.offsets and not replace:
        raise SnapshotError(f"{path}: partition {number} holds something: --replace puts it away")
    # A server refuses dumps of a later one, and a transaction that deletes does not roll back.
    probe = partition_keys(number, snapshot.head["prefix"]).meta.removesuffix(b"meta") + b"probe"
    try:
        client.restore(probe, _PROBE_MS, snapshot.values["meta"], replace=True)
    except redis.ResponseError as error:
        if "payload" not in str(error):
            raise
        raise SnapshotError(f"{path}: dumped by a later release of the server") from None
    client.delete(probe)


class PutBack(NamedTuple):
    """A partition that was put back: its new identity, and how many erased customers of its were
    left out."""

    identity: str
    erased: int


def put_back(
    client: redis.Redis, snapshot: Snapshot, ledger: Ledger, replace: bool, path: Path
) -> PutBack:
    """Put a partition back, all of it or nothing.

    The token becomes one that nobody holds, so a worker that still runs can write nothing. The
    identity becomes a new one: whoever marks it then (``streams.repair``) makes every other copy
    of the partition a foreign one, also in the store that was lost, should that come up again.
    Raises `SnapshotError` where the partition holds something and ``replace`` is not given.
    """
    number, prefix = snapshot.head["partition"], snapshot.head["prefix"]
    check_room(client, snapshot, replace, path)
    keys, identity = keys_of(number, prefix), new_identity()
    with client.pipeline(transaction=True) as transaction:
        transaction.delete(*keys.values())
        for name, blob in snapshot.values.items():
            transaction.restore(keys[name], 0, blob)
        transaction.hset(keys["meta"], "token", f"restored-{secrets.token_hex(12)}")
        transaction.hset(keys["meta"], "store", identity)
        transaction.execute()
    erased = leave_out(client, number, prefix, ledger) if ledger else 0
    return PutBack(identity, erased)
