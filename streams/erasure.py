"""Who was erased or objected: a ledger of keyed digests, in Kafka and older than any copy of state.

An erased customer leaves nothing in the store, not even the id: that somebody is gone is known
from the compacted topic ``erased`` alone, whose records hold a digest. They leave through the
outbox of the very call that erases, so they are neither lost nor early. Whoever claims a partition
reads the topic up to its present end and then what the outbox still holds; so erased stays erased
when the store is lost, set back or filled again from the first record.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from streams.clock import TIME_MAX_MS
from streams.following import Follower
from streams.outbox import Outgoing
from streams.proofs import told_at, without_proof
from streams.subjects import whose
from streams.topics import ERASED, EVIDENCE
from triggers.customer import Customer
from triggers.judgement import Gone
from triggers.present import Now

log = structlog.get_logger(__name__)

#: How long a claim waits for the topic's present end.
CATCH_UP_S_MAX = 20.0
_LOOK_S = 0.02
_DIGEST_CHARS = 32
#: The customer has consented anew after being erased; what lies before the erasure stays dropped.
RETURNED = "returned"
_WORDS = frozenset({"erased", "objected", RETURNED})
_CUSTOMER = "customer"
_DIGEST = re.compile(f"[0-9a-f]{{{_DIGEST_CHARS}}}").fullmatch


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The last word about one digest.

    ``why`` is ``erased``, ``objected`` or ``returned``; ``at`` and ``offset`` are the decision time
    (ms) and the place in the topic ``customer`` of the event that said so.
    """

    why: str
    at: int
    offset: int

    @property
    def gone(self) -> bool:
        """Whether nothing is kept of the customer now."""
        return self.why != RETURNED

    def covers(self, topic: str, offset: int, timestamp_ms: int) -> bool:
        """Whether a record lies before that event: nothing may come of it any more.

        Whoever returned began anew, so what lies before the return does not count either. Equal
        times: ``customer`` is applied before all other topics. The decision time is never behind
        that of an earlier record; so a record of a lower offset that is later in time lies in a
        topic that was made anew, where offsets begin again.
        """
        if topic == _CUSTOMER:
            return offset < self.offset and timestamp_ms <= self.at
        return timestamp_ms < self.at

    def follows(self, other: "Entry") -> bool:
        """Whether this word is later than the other, or the same one."""
        return (self.at, self.offset) >= (other.at, other.offset)


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Entry).decode


class Ledger:
    """Digest -> entry, for all partitions: as the topic tells it, and this worker's own news."""

    def __init__(self, key: bytes = b"") -> None:
        """``key`` makes digests useless to whoever has not got it."""
        self._key = key
        self._told: dict[str, Entry] = {}
        self._own: dict[str, tuple[int, Entry]] = {}  # stored by us, not yet read in the topic

    def __len__(self) -> int:
        return len(self._told) + len(self._own)

    def digest(self, customer_id: str) -> str:
        """What stands for a customer: 32 hex digits of HMAC-SHA256 (RFC 2104).

        The same under every prefix, so that the ledger can be carried over to another one. It
        shows no more of anybody: whoever reads two prefixes sees that somebody was erased under
        both, and without the key not who. Where even that is too much, take two keys.
        """
        text = b"customer\0" + customer_id.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:_DIGEST_CHARS]

    def of(self, customer_id: str) -> Entry | None:
        """The entry of a customer, None for nearly everybody."""
        return self.under(self.digest(customer_id)) if self else None

    def under(self, digest: str) -> Entry | None:
        """The entry of a digest."""
        own = self._own.get(digest)
        return self._told.get(digest) if own is None else own[1]

    def entries(self) -> dict[str, Entry]:
        """What the topic told, by digest."""
        return dict(self._told)

    def take(self, digest: str, entry: Entry) -> None:
        """Learn an entry from the topic; an older one than the known one changes nothing."""
        known = self._told.get(digest)
        if known is None or entry.follows(known):
            self._told[digest] = entry
            own = self._own.get(digest)
            if own is not None and entry.follows(own[1]):
                del self._own[digest]

    def keep(self, digest: str, entry: Entry, partition: int) -> None:
        """Learn what a batch of ``partition`` stored, before the topic tells it."""
        known = self._told.get(digest)
        if known is None or not known.follows(entry):
            self._own[digest] = (partition, entry)

    def begin(self, partition: int) -> None:
        """Forget what this worker stored of a partition that it claims anew: a store that was set
        back does not know of it, so it must be told again."""
        for digest, (number, _) in list(self._own.items()):
            if number == partition:
                del self._own[digest]

    def note(self, gone: Gone, offset: int, news: dict[str, Entry]) -> None:
        """Put into ``news`` what the engine said of the event at ``offset`` of ``customer``."""
        news[self.digest(gone.customer)] = Entry(gone.why, gone.at, offset)

    def record(self, digest: str, entry: Entry) -> Outgoing:
        """The record that tells an entry."""
        number = f"{digest}.{entry.offset}"
        value = _to_json({"id": number, **msgspec.structs.asdict(entry)})
        return Outgoing(ERASED, digest.encode(), value, number)

    def restore(self, customer_id: str, parts: dict[str, bytes] | None) -> Customer:
        """A customer from stored parts, as far as the ledger lets any of it count."""
        entry, unknown = self.of(customer_id), not parts
        customer = Customer(customer_id, parts)
        if entry is None:
            return customer
        if unknown:
            if entry.gone:
                customer.now = Now(entry.at, entry.why)
                customer.put_now()
        elif customer.now.at < entry.at:
            # The store was set back to before that; the timers' entry is still to be removed.
            stored_due = customer.stored_due
            customer.wipe(entry.why if entry.gone else "", entry.at if entry.gone else 0)
            customer.stored_due = stored_due
        return customer


def keep_out(ledger: Ledger, partition: int, entries: list[list[Outgoing]]) -> None:
    """Learn what the outbox's entries (oldest first) tell of erasures, and take out of them what
    was decided about somebody before they left, and the proofs of their consents."""
    for records in entries:
        for record in records:
            if record.topic == ERASED:
                digest, told = read_record(record.key, record.value)
                ledger.keep(digest, told, partition)
    if not len(ledger):
        return
    left: set[str] = set()  # digests of whom a later entry erases
    for records in reversed(entries):
        kept = []
        for record in records:
            named = whose(record.topic, record.key, record.value)
            if not any(_left(ledger, customer_id, left) for customer_id in named):
                kept.append(record)
        for record in records:
            if record.topic == ERASED and record.key is not None:
                left.add(record.key.decode())
        records[:] = [_unproven(ledger, one) if one.topic == EVIDENCE else one for one in kept]


def _left(ledger: Ledger, customer_id: str, left: set[str]) -> bool:
    """Whether a customer is gone, or left after an entry and has returned since."""
    entry = ledger.of(customer_id)
    return entry is not None and (entry.gone or ledger.digest(customer_id) in left)


def _unproven(ledger: Ledger, record: Outgoing) -> Outgoing:
    """A piece of evidence, without its proof when its customer was erased after it."""
    entry = ledger.under((record.key or b"").decode())
    if entry is None or not (entry.gone or entry.covers(_CUSTOMER, *told_at(record.value))):
        return record
    return msgspec.structs.replace(record, value=without_proof(record.value))


def read_record(key: bytes | None, value: bytes | None) -> tuple[str, Entry]:
    """Digest and entry of one record of the topic.

    Raises:
        ValueError: the key is no digest, or the value no entry (msgspec's errors are among them).
    """
    digest = (key or b"").decode("ascii")
    if not _DIGEST(digest):
        raise ValueError("the key is no digest")
    entry = _from_json(value or b"")
    if entry.why not in _WORDS or not 0 <= entry.at <= TIME_MAX_MS or entry.offset < 0:
        raise ValueError("the value is no entry")
    return digest, entry


def take_told(ledger: Ledger, key: bytes | None, value: bytes | None) -> str:
    """Let a ledger learn a record of the topic; what is wrong with it, empty when nothing is.

    A tombstone takes nothing back: who is gone returns by consenting, not by somebody's deletion.
    """
    try:
        ledger.take(*read_record(key, value))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return "a tombstone" if value is None else str(error)
    return ""


class LedgerReader(Follower):
    """Keeps one :class:`Ledger` equal to the topic."""

    def __init__(
        self,
        options: Mapping[str, Any],
        prefix: str,
        ledger: Ledger,
        on_refused: Callable[[str, str], None],
    ) -> None:
        """``on_refused`` gets the topic and the reason of each record that is no entry."""
        super().__init__(options, prefix + ERASED)
        self._ledger = ledger
        self._on_refused = on_refused

    def apply(self, record: Any) -> None:
        """Take an entry; what is none changes nothing, and somebody must look who wrote it."""
        why = take_told(self._ledger, record.key, record.value)
        if why:
            self._on_refused(ERASED, "bad_data")
            log.error("no entry of the ledger of the erased", offset=record.offset, detail=why)

    async def catch_up(self) -> None:
        """Wait until everything that the topic holds now was applied; for claims."""
        ends = await self._consumer.end_offsets([self._tp])
        async with asyncio.timeout(CATCH_UP_S_MAX):
            # The follower is another task, which moves the position.
            while await self._consumer.position(self._tp) < ends[self._tp]:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
