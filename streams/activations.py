"""Which rule book decided from which offsets on: kept in each partition with what it decided.

A book takes effect between two batches. The first batch under it stores, by the same atomic call
as its decisions, the book's digest and the offsets at which it began; so a replay can decide every
record with the book that was in force for it, and a store that is set back forgets a change
together with what was decided after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from streams.store.store import Store

#: The letter of this document in the partition's keys; no part of a customer's has it.
LETTER: Final = "r"
_ID: Final = b"rule-books"
#: Where the document lies among those of a partition, as a batch names it.
KEY: Final = (_ID, LETTER)
#: Changes that are remembered; of more the oldest are forgotten.
ACTIVATIONS_MAX: Final = 200


class Activation(msgspec.Struct, array_like=True, frozen=True):
    """A rule book came into force.

    ``offsets`` are the next offsets by topic: the first records that it decided. ``at_ms`` is
    what the worker's clock showed, for people who look.
    """

    digest: str
    offsets: dict[str, int]
    at_ms: int


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[Activation]).decode


async def activations(store: Store, partition: int) -> list[Activation]:
    """The changes of the rule book that a partition remembers, oldest first."""
    stored = await store.load(partition, [_ID], LETTER)
    return read_activations(stored[_ID].get(LETTER))


def read_activations(packed: bytes | None) -> list[Activation]:
    """The changes in a stored document; none where there is no document."""
    return _unpack(packed) if packed else []


def without_topics(packed: bytes, topics: Collection[str]) -> bytes:
    """The document for topics whose offsets begin anew: the last book decides all of theirs."""
    known = [
        Activation(
            one.digest,
            {topic: offset for topic, offset in one.offsets.items() if topic not in topics},
            one.at_ms,
        )
        for one in _unpack(packed)
    ]
    return _pack(known)


def book_at(known: list[Activation], topic: str, offset: int) -> str | None:
    """The digest of the book that decided a record; None before the first one remembered."""
    digest = None
    for one in known:
        if one.offsets.get(topic, 0) <= offset:
            digest = one.digest
    return digest


class Activations:
    """One partition's memory of its rule books."""

    def __init__(self, partition: int, store: Store) -> None:
        self._partition = partition
        self._store = store
        self._known: list[Activation] | None = None

    async def changes(
        self, digest: str, offsets: Mapping[str, int | None], at_ms: int
    ) -> dict[tuple[bytes, str], bytes]:
        """The document to store with a batch that ``digest`` decides; none where it is known.

        ``offsets`` are those before the batch.
        """
        if self._known is None:
            self._known = await activations(self._store, self._partition)
        if self._known and self._known[-1].digest == digest:
            return {}
        began = {topic: offset or 0 for topic, offset in offsets.items()}
        self._known = [*self._known, Activation(digest, began, at_ms)][-ACTIVATIONS_MAX:]
        return {KEY: _pack(self._known)}
