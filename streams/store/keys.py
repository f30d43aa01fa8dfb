"""The keys of a partition, tag first.

All keys of a partition share a hash tag, so that one call can change them in a Redis Cluster. The
tag stands first because ids may hold braces: ``{p3}:c:{p1}`` belongs to p3, ``c:{p1}:{p3}`` would
not. A prefix goes inside the tag, for several books on one server: ``{shopA-p17}:meta``.

What each key holds stands on top of ``functions.lua``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

BUCKETS = 16

_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,64}")


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition as bytes; ``all`` is their order in the function ``apply``."""

    meta: bytes
    customers: tuple[bytes, ...]
    due: bytes
    outbox: bytes

    @property
    def all(self) -> tuple[bytes, ...]:
        """The 19 keys: meta, the 16 hashes, due, outbox."""
        return (self.meta, *self.customers, self.due, self.outbox)

    @property
    def trial(self) -> bytes:
        """What the owner has in hand (``streams.poison``): a text, no key of the functions."""
        return self.meta.removesuffix(b"meta") + b"trial"


def check_prefix(prefix: str) -> str:
    """Return a prefix that may stand in a tag.

    Raises:
        ValueError: it holds something else than letters, digits, dot, dash and underscore, or
            more than 64 of them.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError("a prefix is at most 64 letters, digits, '.', '-' or '_'")
    return prefix


def partition_keys(partition: int, prefix: str = "") -> PartitionKeys:
    """The keys of a partition, under the optional prefix."""
    if partition < 0:
        raise ValueError("a partition is not negative")
    name = f"{check_prefix(prefix)}-p{partition}" if prefix else f"p{partition}"
    tag = b"{" + name.encode("ascii") + b"}:"
    return PartitionKeys(
        meta=tag + b"meta",
        customers=tuple(tag + b"c:" + f"{bucket:x}".encode("ascii") for bucket in range(BUCKETS)),
        due=tag + b"due",
        outbox=tag + b"outbox",
    )


def bucket_of(customer: bytes) -> int:
    """Which of the 16 hashes holds a customer. Part of the stored format: it never changes."""
    return crc32(customer) & (BUCKETS - 1)


def key_slot(key: bytes) -> int:
    """The Redis Cluster slot of a key: CRC16 (XMODEM) of its tag, modulo 16384."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    tag = key[start + 1 : end] if end > start + 1 else key
    crc = 0
    for byte in tag:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc & 16383
