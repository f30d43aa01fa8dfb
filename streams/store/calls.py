"""What goes into the function calls and what comes back: pure values and their packing."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hiredis import pack_command

from streams.store.keys import BUCKETS, PartitionKeys, bucket_of

LIBRARY = "tsuide_1"
NUMBER_MAX = 2**53
"""Numbers go up to 2^53: above it Lua's (and a sorted set's) no longer tell neighbours apart."""

Command = tuple[bytes | str | int, ...]


def pack(command: Command) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = pack_command(command)  # type: ignore[arg-type] # its stub wants a 1-tuple
    return packed


def new_token() -> str:
    """A random claim token, 128 bits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Meta:
    """What a partition's ``meta`` holds, as a claim returns it.

    ``number`` is the number that the next :class:`Batch` must carry. ``offsets`` are the next
    source offsets by topic; ``trimmed`` the offsets of our own output topics below which nothing
    is left in the outbox. ``epoch`` 1 means that nobody had claimed the partition before.
    """

    token: str
    epoch: int
    generation: int
    schema: int
    partitions: int
    book: str
    number: int
    offsets: dict[str, int]
    trimmed: dict[str, int]


@dataclass(slots=True)
class Batch:
    """One atomic step of a partition.

    Args:
        token: the token of the claim.
        number: the number of this call: ``Meta.number``, and one more after each applied batch.
            The outbox entry of the call carries it.
        offsets: by topic, the expected stored offset (None: none stored yet) and the new one. Name
            every topic of the partition, also those that did not move: together with ``number``
            they are what notices that the store was set back.
        docs: packed parts by (customer id, part letter); empty bytes delete the part.
        due: customer id to the earliest due time in ms, or None when no timer is left.
        outbox: the packed records to publish; empty for none.
        book: digest of the rule book in force; empty leaves the stored one.
        trim_to: the outbox is trimmed up to this number, inclusive.
        trimmed: output topic to the offset below which all is trimmed.
    """

    token: str
    number: int
    offsets: Mapping[str, tuple[int | None, int]]
    docs: Mapping[tuple[bytes, str], bytes] = field(default_factory=dict)
    due: Mapping[bytes, int | None] = field(default_factory=dict)
    outbox: bytes = b""
    book: str = ""
    trim_to: int | None = None
    trimmed: Mapping[str, int] = field(default_factory=dict)


@lru_cache(maxsize=256)
def _letter(part: str) -> bytes:
    if len(part) != 1 or not part.isascii():
        raise ValueError("a part's letter is one ASCII character")
    return part.encode("ascii")


def _pack_docs(docs: Mapping[tuple[bytes, str], bytes]) -> list[bytes | int]:
    sets: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    deletes: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    for (customer, part), value in docs.items():
        bucket = bucket_of(customer)
        if value:
            sets[bucket] += (_letter(part) + customer, value)
        else:
            deletes[bucket].append(_letter(part) + customer)
    used = [bucket for bucket in range(BUCKETS) if sets[bucket] or deletes[bucket]]
    arguments: list[bytes | int] = [len(used)]
    for bucket in used:
        arguments += (bucket, len(sets[bucket]) // 2, len(deletes[bucket]))
        arguments += sets[bucket]
        arguments += deletes[bucket]
    return arguments


def _pack_due(due: Mapping[bytes, int | None]) -> list[bytes | int]:
    sets: list[bytes | int] = []
    deletes: list[bytes | int] = []
    for customer, due_ms in due.items():
        if due_ms is None:
            deletes.append(customer)
        else:
            sets += (due_ms, customer)
    return [len(sets) // 2, len(deletes), *sets, *deletes]


def _pack_trimmed(trimmed: Mapping[str, int]) -> list[str | int]:
    arguments: list[str | int] = [len(trimmed)]
    for topic, offset in trimmed.items():
        arguments += (topic, offset)
    return arguments


def apply_command(keys: PartitionKeys, batch: Batch) -> bytes:
    """The call of ``apply`` as it goes over the wire."""
    offsets: list[str | int] = [len(batch.offsets)]
    for topic, (expected, new) in batch.offsets.items():
        offsets += (topic, "" if expected is None else expected, new)
    return pack(
        (
            b"FCALL",
            LIBRARY + "_apply",
            19,
            *keys.all,
            batch.token,
            batch.number,
            "" if batch.trim_to is None else batch.trim_to,
            batch.outbox,
            batch.book,
            *offsets,
            *_pack_trimmed(batch.trimmed),
            *_pack_docs(batch.docs),
            *_pack_due(batch.due),
        )
    )


def claim_command(
    keys: PartitionKeys, token: str, generation: int, partitions: int, schema: int
) -> Command:
    """The call of ``claim``."""
    return (b"FCALL", LIBRARY + "_claim", 1, keys.meta, token, generation, partitions, schema)


def trim_command(
    keys: PartitionKeys, token: str, up_to: int, trimmed: Mapping[str, int]
) -> Command:
    """The call of ``trim``."""
    return (
        *(b"FCALL", LIBRARY + "_trim", 2, keys.meta, keys.outbox),
        *(token, up_to, *_pack_trimmed(trimmed)),
    )


def load_commands(
    keys: PartitionKeys, customers: Iterable[bytes], parts: str, fields_max: int = 2000
) -> list[tuple[list[bytes], Command]]:
    """HMGETs for the parts of customers, by bucket, with the customers that each asks for."""
    letters = [_letter(part) for part in parts]
    by_bucket: dict[int, list[bytes]] = {}
    for customer in dict.fromkeys(customers):
        by_bucket.setdefault(bucket_of(customer), []).append(customer)
    step = max(1, fields_max // max(1, len(letters)))
    commands: list[tuple[list[bytes], Command]] = []
    for bucket, members in by_bucket.items():
        for start in range(0, len(members), step):
            chunk = members[start : start + step]
            fields = [letter + customer for customer in chunk for letter in letters]
            commands.append((chunk, (b"HMGET", keys.customers[bucket], *fields)))
    return commands


def read_meta(flat: Sequence[bytes]) -> Meta:
    """Meta from the flat field-value list of HGETALL."""
    stored = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def by_topic(kind: str) -> dict[str, int]:
        return {name[2:]: int(text) for name, text in stored.items() if name.startswith(kind)}

    return Meta(
        token=stored["token"],
        epoch=int(stored["epoch"]),
        generation=int(stored["generation"]),
        schema=int(stored["schema"]),
        partitions=int(stored["partitions"]),
        book=stored.get("book", ""),
        number=int(stored["n"]),
        offsets=by_topic("o:"),
        trimmed=by_topic("t:"),
    )


def read_due(flat: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """(customer, due ms) pairs from the flat member-score list of ZRANGE."""
    return [(flat[i], int(float(flat[i + 1]))) for i in range(0, len(flat), 2)]


def read_entries(entries: Sequence[Any]) -> list[tuple[int, bytes]]:
    """(number, records) pairs from the entries of XRANGE."""
    return [(int(entry[0].partition(b"-")[0]), entry[1][1]) for entry in entries]
