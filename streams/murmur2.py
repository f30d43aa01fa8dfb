"""Kafka's default partitioner, as the Java client computes it.

Source: `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`.
"""

from __future__ import annotations

from struct import unpack
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_WORD: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32 bits of murmur2 over `key`, unsigned."""
    length = len(key)
    whole = length & ~3
    h = _SEED ^ length
    for k in unpack(f"<{whole >> 2}I", key[:whole]):
        k = (k * _M) & _WORD
        k ^= k >> 24
        h = ((h * _M) ^ (k * _M)) & _WORD
    if length != whole:
        h = ((h ^ int.from_bytes(key[whole:], "little")) * _M) & _WORD
    h ^= h >> 13
    h = (h * _M) & _WORD
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class Places:
    """`partition_of` with a memory: customers come back, and the digest costs microseconds.

    Two generations of at most `half_max` keys each stand in for a least-recently-used list.
    """

    __slots__ = ("_half_max", "_new", "_old", "partitions")

    def __init__(self, partitions: int, half_max: int = 65_536) -> None:
        self.partitions = partitions
        self._half_max = half_max
        self._new: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def of(self, key: bytes) -> int:
        """The partition of `key`."""
        place = self._new.get(key)
        return self._recall(key) if place is None else place

    def _recall(self, key: bytes) -> int:
        place = self._old.get(key)
        if place is None:
            place = partition_of(key, self.partitions)
        if len(self._new) >= self._half_max:
            self._old, self._new = self._new, {}
        self._new[key] = place
        return place
