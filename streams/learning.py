"""What is learnt across customers, kept with the partition and told to the other partitions.

A partition's sums are documents of its own, stored by the same atomic call as the customers that
they were counted from. Changed ones go through the outbox to the compacted topic ``learned`` as
absolute values, so that a record that comes twice, or late, does no harm. Every worker follows
that topic and adds up; no partition reads another's keys.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from streams.following import Follower
from streams.outbox import Outgoing
from streams.store.store import Store
from streams.topics import LEARNED
from triggers.book import Book
from triggers.learned import KINDS, Entry, Fact, Id, Tally, View, id_text, pack
from triggers.rates import resting

log = structlog.get_logger(__name__)

#: The letter of these documents in the partition's keys; no part of a customer's has it.
LETTER = "k"
#: Entries of one partition that are kept in memory.
ENTRIES_MAX = 20_000


class Told(msgspec.Struct, gc=False):
    """The value of a record: one partition's sums for one key (``triggers.learned``)."""

    kind: str
    key: str
    partition: int
    step: int
    counts: list[int]
    partners: dict[str, int] = {}


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Told).decode


def told(name: Id, entry: Entry, partition: int) -> Outgoing:
    """The record that tells an entry."""
    key = f"{id_text(name)}>{partition}"
    value = Told(*name, partition, entry.step, entry.counts, entry.partners)
    return Outgoing(LEARNED, key.encode(), _to_json(value), key)


class Learner:
    """One partition's own sums: loaded when needed, stored and told with its batches."""

    def __init__(self, number: int, store: Store) -> None:
        self._number = number
        self._store = store
        self._tally = Tally()

    def ready(self, now_ms: int) -> bool:
        """Whether something may be told now."""
        return self._tally.may_tell(now_ms)

    @property
    def waiting(self) -> int:
        """Changed entries that were not told yet."""
        return self._tally.untold

    async def learn(
        self, facts: list[Fact], now_ms: int, everything: bool = False
    ) -> tuple[dict[tuple[bytes, str], bytes], list[Outgoing]]:
        """Count ``facts``; the documents to store and the records to publish with them.

        ``now_ms`` is the worker's clock, by which telling is throttled; ``everything`` tells all.
        """
        missing = {id_text(name).encode(): name for name in self._tally.missing(facts)}
        if missing:
            stored = await self._store.load(self._number, list(missing), LETTER)
            for raw, name in missing.items():
                if packed := stored[raw].get(LETTER):
                    self._tally.load(name, packed)
        self._tally.add(facts)
        news = self._tally.take_news(now_ms, everything)
        records = [told(name, entry, self._number) for name, entry in news]
        changes = self._tally.take_changes()
        docs = {(id_text(name).encode(), LETTER): packed for name, packed in changes}
        self._tally.make_room(ENTRIES_MAX)
        return docs, records


class LearnedReader(Follower):
    """Keeps one :class:`View` equal to the topic, and says which rules rest."""

    def __init__(
        self,
        options: Mapping[str, Any],
        prefix: str,
        view: View,
        on_refused: Callable[[str, str], None],
        now: Callable[[], tuple[Book, int]],
    ) -> None:
        """``on_refused`` gets topic and reason; ``now`` is the book in force and the time, ms."""
        super().__init__(options, prefix + LEARNED)
        self._view = view
        self._on_refused = on_refused
        self._now = now
        self._resting: list[str] = []

    def apply(self, record: Any) -> None:
        """Take one partition's sums; a record that is none is counted and logged."""
        try:
            take_told(self._view, record.key, record.value)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            self._on_refused(LEARNED, "bad_data")
            log.warning("learned record refused", offset=record.offset, detail=str(error))

    def caught_up(self) -> None:
        """Say which rules began or ceased to rest."""
        book, at = self._now()
        found = resting(book.rules.values(), self._view, at)
        for rule in found:
            if rule not in self._resting:
                log.warning("rule rests: too many complaints", rule=rule)
        for rule in self._resting:
            if rule not in found:
                log.info("rule no longer rests", rule=rule)
        self._resting = found


def take_told(view: View, key: bytes | None, value: bytes | None) -> None:
    """Put one record of the topic into ``view``; a null value takes the entry away.

    Raises:
        ValueError: the key or the value (``msgspec.MsgspecError``) is none of ours.
    """
    kind, _, rest = (key or b"").decode().partition(">")
    name, _, number = rest.rpartition(">")
    if kind not in KINDS or not number.isdecimal():
        raise ValueError("a key of another kind")
    if value is None:
        view.put((kind, name), int(number), None)
        return
    found = _from_json(value)
    if (found.kind, found.key, found.partition) != (kind, name, int(number)):
        raise ValueError("the key is not that of the value")
    entry = Entry(found.step, found.counts, found.partners)
    view.put((kind, name), found.partition, pack(entry))
