"""What one batch gathers before it is applied, and the records that leave because of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from streams.deadletters import dead_letter, is_replayed, summary_letter
from streams.erasure import RETURNED, Entry, Ledger
from streams.evidence import WORDS, Said, evidence
from streams.outbox import Outgoing, Relay
from streams.replay import CONFLICT
from streams.results import in_order, outgoing
from streams.subjects import whose
from streams.topics import DEAD_LETTERS
from streams.traffic import lateness
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.engine import step
from triggers.event import Event
from triggers.events import CUSTOMER
from triggers.judgement import Gone, Step


class Refusal(NamedTuple):
    """A record that was refused, and why; `detail` names the field, never what stood in it."""

    topic: str
    offset: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    timestamp: int


class Work:
    """What one batch gathers before it is applied, under one rule book."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.out = Step()
        self.types: Counter[tuple[str, str]] = Counter()
        self.records: list[Outgoing] = []  # offers whose hold is over, letters of timers
        self.refusals: list[Refusal] = []
        self.offsets: dict[str, int] = {}
        self.changed: dict[str, Customer] = {}
        self.holds: list[Any] = []
        self.left: dict[str, Entry] = {}  # news for the ledger of the erased, by digest
        self.said: list[Said] = []  # about consent
        self.gone: set[bytes] = set()  # who is gone at the end of the batch
        self.erased: dict[bytes, Entry] = {}  # who was erased in it, gone or back since
        self.docs: dict[tuple[bytes, str], bytes] = {}
        self.due: dict[bytes, int | None] = {}  # of the customers whose earliest timer changed

    def refuse(self, topic: str, record: Any, reason: str, detail: str) -> None:
        """Note that a record is refused."""
        self.refusals.append(
            Refusal(
                topic, record.offset, reason, detail, record.key, record.value, record.timestamp
            )
        )

    def leave(self, gone: Gone, offset: int, ledger: Ledger) -> None:
        """Note who was erased, or came back, by the event at ``offset``."""
        ledger.note(gone, offset, self.left)
        raw_id = gone.customer.encode()
        if gone.why != RETURNED:
            self.erased[raw_id] = Entry(gone.why, gone.at, offset)
        if gone.why == RETURNED:
            self.gone.discard(raw_id)
        else:
            self.gone.add(raw_id)

    def told(self, number: int, ledger: Ledger) -> list[Outgoing]:
        """The records for the ledger of the erased and for the evidence of consent."""
        news = [ledger.record(*one) for one in self.left.items()]
        return news + [evidence(one, number, ledger, self.left) for one in self.said]

    def depart(self, number: int, ledger: Ledger, relay: Relay, call: int) -> None:
        """Tell ledger and relay who was erased or returned, once call number ``call`` stored it."""
        for digest, entry in self.left.items():
            ledger.keep(digest, entry, number)
            relay.recalls.proof(digest.encode(), call)
        for raw_id in self.erased:
            self.out.note("erased_dropped", relay.forget(raw_id.decode(), call))

    def drop_erased(self, ledger: Ledger) -> None:
        """Take out the refusals of whoever is gone: a letter would hold id and payload."""
        kept = [one for one in self.refusals if not self._is_gone(one, ledger)]
        if len(kept) < len(self.refusals):
            self.out.note("erased_dropped", len(self.refusals) - len(kept))
            self.refusals = kept

    def _is_gone(self, one: Refusal, ledger: Ledger) -> bool:
        # Under a wrong key it is the value that says whose event it is.
        named = whose(DEAD_LETTERS, one.key, one.value)
        return any(self._left(who, one, ledger) for who in named)

    def _left(self, who: str, one: Refusal, ledger: Ledger) -> bool:
        raw_id = who.encode("utf-8", "surrogatepass")
        erased = self.erased.get(raw_id)
        if erased is not None and erased.covers(one.topic, one.offset, one.timestamp):
            return True
        entry = ledger.of(who)
        return raw_id in self.gone or (
            entry is not None and (entry.gone or entry.covers(one.topic, one.offset, one.timestamp))
        )

    def order(self, records: list[tuple[str, Any]]) -> None:
        """Bring the refusals into the order of the records, so that they are replayed in it."""
        if len(self.refusals) > 1:
            places = {(topic, record.offset): i for i, (topic, record) in enumerate(records)}
            self.refusals.sort(key=lambda one: places[one.topic, one.offset])

    def pack(self) -> None:
        """Take what changed of the customers, packed."""
        for customer_id, customer in self.changed.items():
            raw_id = customer_id.encode()
            for letter, packed in customer.take_changes():
                self.docs[raw_id, letter] = packed
            for name, count in customer.take_losses():
                self.out.note(f"bound_{name}", count)
            due_ms = customer.due_ms()
            if due_ms != customer.stored_due:
                customer.stored_due = due_ms
                self.due[raw_id] = due_ms or None
        self.records = outgoing(self.out) + self.records


def step_by_customer(
    decoded: list[tuple[Event, str, Any]],
    work: Work,
    customers: Mapping[str, Customer],
    catalog: Catalog,
    ledger: Ledger,
) -> dict[str, int]:
    """Run a batch's events customer by customer; what comes of it is in the log's order.

    Customers do not see each other, so only the order of each one's events matters; taking them
    together keeps a document in the processor's cache while it is worked on. ``decoded``: events,
    each with its topic and record. Answers how many events each customer had.
    """
    book, out = work.book, work.out
    decisions, offers, learnt = out.decisions, out.offers, out.learnt
    by_customer: dict[str, list[int]] = {}
    for place, (event, _, _) in enumerate(decoded):
        known = by_customer.get(event.subject)
        if known is None:
            by_customer[event.subject] = [place]
        else:
            known.append(place)
    if ledger:
        _drop_erased(by_customer, decoded, ledger, out)
    order: list[int] = []  # the place of the event behind each decision
    offer_order: list[int] = []
    fact_order: list[int] = []
    for subject, places in by_customer.items():
        customer = work.changed[subject] = customers[subject]
        begun = len(decisions), len(offers)
        latest = customer.now.at
        for place in places:
            event, topic, record = decoded[place]
            stamp: int = record.timestamp
            latest = max(latest, stamp)
            late = lateness(latest, stamp, event.time_ms)
            if late:
                out.note(late)
            if customer.now.gone and is_replayed(record.headers):
                out.note("erased_dropped")  # a consent from before the erasure brings nobody back
                continue
            step(customer, event, stamp, book, catalog, crc32(record.value), out)
            if topic == CUSTOMER and event.type in WORDS and not out.conflict:
                work.said.append(Said(event, stamp, record.offset))
            if out.conflict:
                work.refuse(topic, record, "id_conflict", CONFLICT)
            if out.gone:
                work.leave(out.gone.pop(), record.offset, ledger)
                if customer.now.gone:  # what was decided before is not to leave any more
                    del decisions[begun[0] :], order[begun[0] :]
                    del offers[begun[1] :], offer_order[begun[1] :]
            if len(decisions) > len(order):
                order += [place] * (len(decisions) - len(order))
                offer_order += [place] * (len(offers) - len(offer_order))
            if len(learnt) > len(fact_order):
                fact_order += [place] * (len(learnt) - len(fact_order))
    decisions[:] = in_order(decisions, order)
    learnt[:] = in_order(learnt, fact_order)
    offers[:] = in_order(offers, offer_order)
    return {subject: len(places) for subject, places in by_customer.items()}


def _drop_erased(
    by_customer: dict[str, list[int]],
    decoded: list[tuple[Any, str, Any]],
    ledger: Ledger,
    out: Step,
) -> None:
    """Leave out what lies before its customer's erasure."""
    for subject, places in by_customer.items():
        entry = ledger.of(subject)
        if entry is None:
            continue
        kept = []
        for place in places:
            _, topic, record = decoded[place]
            if not entry.covers(topic, record.offset, record.timestamp):
                kept.append(place)
        if len(kept) < len(places):
            out.note("erased_dropped", len(places) - len(kept))
            places[:] = kept


class LetterRate:
    """How many letters of a reason are written in a second; of what is over that, their places.

    A sender that floods a partition with rubbish fills the dead letters with summaries, not with
    copies: nothing is lost as long as its topic keeps it.
    """

    def __init__(self, per_second: int) -> None:
        self._most = per_second
        self._second = -1
        self._written: Counter[str] = Counter()

    def allows(self, reason: str, wall_ms: int) -> bool:
        """Whether a letter of its own may be written; what crashed always has one."""
        if wall_ms // 1000 != self._second:
            self._second = wall_ms // 1000
            self._written.clear()
        self._written[reason] += 1
        return reason == "crashed" or self._written[reason] <= self._most

    def letters(
        self, refusals: list[Refusal], number: int, wall_ms: int, out: Step
    ) -> list[Outgoing]:
        """The dead letters of a batch, in its order; ``out`` counts what has no letter alone."""
        records: list[Outgoing] = []
        over: dict[tuple[str, str], list[Refusal]] = {}
        for one in refusals:
            if self.allows(one.reason, wall_ms):
                records.append(_letter(one, number))
            else:
                over.setdefault((one.topic, one.reason), []).append(one)
        for (topic, reason), kept in over.items():
            if len(kept) == 1:
                records.append(_letter(kept[0], number))
                continue
            out.note("letters_summed", len(kept))
            offsets = sorted(one.offset for one in kept)
            for summary in summary_letter(reason, topic, number, offsets):
                _, value, headers, name = summary
                records.append(Outgoing(DEAD_LETTERS, None, value, name, headers))
        return records


def _letter(one: Refusal, number: int) -> Outgoing:
    key, value, headers = dead_letter(
        one.reason, one.detail, one.topic, number, one.offset, one.key, one.value
    )
    place = f"{one.topic}/{number}/{one.offset}"
    return Outgoing(DEAD_LETTERS, key, value, place, headers)


def timer_letter(customer_id: str, number: int, timer: Any, name: str, detail: str) -> Outgoing:
    """The dead letter of a timer that was set aside. ``name``: the id of what it would have
    decided, 32 hex digits, which makes its place one of its own."""
    value = msgspec.json.encode(
        {
            "rule": timer.rule,
            "about": timer.about,
            "due_ms": timer.due_ms,
            "armed_by": timer.event_id,
            "armed_by_source": timer.source,
            "event": timer.event_type,
        }
    )
    offset = int(name[:15], 16) % 10**18
    key, value, headers = dead_letter(
        "crashed", detail, "timers", number, offset, customer_id.encode(), value
    )
    return Outgoing(DEAD_LETTERS, key, value, f"timers/{number}/{offset}", headers)
