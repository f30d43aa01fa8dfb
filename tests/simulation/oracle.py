"""What a run must have come to: the engine alone over the log as it lies there in the end.

Compared are every offer and decision with its bytes, the dead letters, every customer's document,
the pending timers, the offsets; how often a record came; and, by a second and much simpler
reckoning of our own, that nothing was offered without consent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgspec

from streams.activations import KEY as BOOKS_KEY
from streams.activations import read_activations
from streams.deadletters import dead_letter
from streams.erasure import Entry, Ledger
from streams.readback import record_id
from streams.topics import ERASED, EVIDENCE
from tests.simulation.fakelog import Record, Write
from tests.simulation.machine import Machine
from tests.simulation.shop import LEDGER_KEY, PARTITIONS, make_catalog, make_door
from triggers.customer import Customer
from triggers.durations import to_ms
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import TOPICS, Event
from triggers.judgement import Gone, Step

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_FOR_EVER_MS = 2**53


@dataclass
class Model:
    """What should be there."""

    #: (topic, id) -> value; more than one where an event came again after its customer was erased,
    #: with whom it was forgotten that it had come.
    records: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    letters: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # place -> record
    docs: dict[int, dict[tuple[bytes, str], bytes]] = field(default_factory=dict)
    due: dict[int, dict[bytes, int]] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)  # customer -> when last erased or objected
    revoked: dict[str, int] = field(default_factory=dict)  # customer -> last word against us
    ledger: Ledger = field(default_factory=lambda: Ledger(LEDGER_KEY))
    last_told: dict[str, str] = field(default_factory=dict)  # digest -> id of its last record
    without_consent: set[str] = field(default_factory=set)  # offers made in spite of that


class _Consents:
    """Our own reckoning of who may be spoken to."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, bool]] = defaultdict(dict)
        self._heard: dict[str, set[str]] = defaultdict(set)

    def hear(self, event: Event) -> None:
        words, heard = self._words[event.subject], self._heard[event.subject]
        if event.id in heard:
            return
        heard.add(event.id)
        if event.type in ("consent.granted", "consent.revoked"):
            data: Any = event.data
            channel = data.channel
            if channel == "*":
                words.clear()
            words[channel] = event.type == "consent.granted"
        elif event.type in ("customer.erase_requested", "customer.objected"):
            words.clear()
            heard.clear()

    def allow(self, customer: str, channel: str) -> bool:
        words = self._words[customer]
        return words.get(channel, words.get("*", False))


def merged(machine: Machine, number: int) -> Iterator[tuple[str, Record]]:
    """A partition's records in the order in which they are to be applied."""
    found = [
        (record.timestamp, rank, record.offset, topic, record)
        for rank, topic in enumerate(TOPICS)
        for record in machine.log.records.get((topic, number), ())
    ]
    for _, _, _, topic, record in sorted(found, key=lambda entry: entry[:3]):
        yield topic, record


def make_model(machine: Machine) -> Model:
    """Run the engine over the log."""
    model = Model()
    for number in range(PARTITIONS):
        _replay(machine, number, model)
    return model


def _replay(machine: Machine, number: int, model: Model) -> None:
    door, book, catalog = make_door(), machine.book, make_catalog()
    customers: dict[str, Customer] = {}
    consents = _Consents()
    for topic, record in merged(machine, number):
        try:
            event = door.decode(topic, number, *record[2:], record.timestamp, record.timestamp)
        except Refused as refused:
            _refuse(model, refused, topic, number, record)
            continue
        customer = customers.setdefault(event.subject, Customer(event.subject))
        out = Step()
        step(customer, event, record.timestamp, book, catalog, crc32(record.value), out)
        _take(out, model, consents)
        if out.conflict:
            detail = "another body came under this source and id within 72 h"
            _refuse(model, Refused("id_conflict", detail), topic, number, record)
            continue
        for gone in out.gone:
            _tell(model, gone, record.offset)
        consents.hear(event)
        if event.type in ("customer.erase_requested", "customer.objected"):
            model.gone[event.subject] = record.timestamp
        if event.type != "consent.granted":
            model.revoked[event.subject] = record.timestamp
    docs = model.docs[number] = {}
    due = model.due[number] = {}
    for name, customer in customers.items():
        out = Step()
        advance(customer, machine.now_ms(), book, catalog, out)
        _take(out, model, consents)
        docs |= {(name.encode(), part): kept for part, kept in customer.take_changes() if kept}
        if customer.due_ms():
            due[name.encode()] = customer.due_ms()


def _tell(model: Model, gone: Gone, offset: int) -> None:
    """What the ledger of the erased must be told."""
    news: dict[str, Entry] = {}
    model.ledger.note(gone, offset, news)
    for digest, entry in news.items():
        model.ledger.take(digest, entry)
        told = model.ledger.record(digest, entry)
        model.records[ERASED, told.id] = [told.value]
        model.last_told[digest] = told.id


def _take(out: Step, model: Model, consents: _Consents) -> None:
    for made in (*out.offers, *out.decisions):
        topic, _, number, value = made.record()
        versions = model.records.setdefault((topic, number), [])
        if value not in versions:
            versions.append(value)
    for decision in out.decisions:
        if decision.outcome != "offered":
            continue
        offer = next(o for o in out.offers if o.id == decision.offer_id)
        if not consents.allow(decision.customer, offer.channel):
            model.without_consent.add(decision.offer_id)


def _refuse(model: Model, refused: Refused, topic: str, number: int, record: Record) -> None:
    letter = dead_letter(
        refused.reason, refused.detail, topic, number, record.offset, record.key, record.value
    )
    model.letters[f"{topic}/{number}/{record.offset}"] = letter


def judge(machine: Machine) -> list[str]:
    """Everything that is wrong with how a run ended."""
    if machine.setup.jitter_ms:
        return list(_any_order(machine))
    model = make_model(machine)
    faults = list(_outputs(machine, model))
    for number in range(PARTITIONS):
        held = machine.store.state.held(number)
        docs = dict(held.docs)
        faults += _books(number, docs, machine.book.digest)
        faults += _differences(f"documents of {number}", docs, model.docs[number])
        faults += _differences(f"pending timers of {number}", held.due, model.due[number])
    return faults


def _books(number: int, docs: dict[tuple[bytes, str], bytes], digest: str) -> Iterator[str]:
    """The memory of rule books, taken out of ``docs``: the one book, from the beginning on."""
    packed = docs.pop(BOOKS_KEY, None)
    known = read_activations(packed)
    began = [(one.digest, set(one.offsets.values())) for one in known]
    if began != ([(digest, {0})] if packed or docs else []):
        yield f"partition {number} remembers the books {began}, not {digest} from 0 on"


def _any_order(machine: Machine) -> Iterator[str]:
    """What holds whatever the order was in which two topics' records were applied."""
    sent: dict[tuple[str, str], list[Write]] = defaultdict(list)
    for write in machine.log.writes:
        sent[write.topic, record_id(write.record.headers, write.record.value)].append(write)
    for name, found in sent.items():
        yield from _copies(str(name), found)
    for number, held in machine.store.state.partitions.items():
        for customer, part in held.docs:
            if part == "n":
                now = Customer(customer.decode(), {"n": held.docs[customer, "n"]}).now
                counts = (now.orders, now.spend, now.margin_micro, now.coupon_orders)
                if min(counts) < 0:
                    yield f"{customer!r} of {number} has negative counts: {counts}"


def _differences(what: str, found: dict[Any, Any], wanted: dict[Any, Any]) -> Iterator[str]:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            yield f"{what}: {key} is {found.get(key)!r}, not {wanted.get(key)!r}"


def _outputs(machine: Machine, model: Model) -> Iterator[str]:
    copies: dict[tuple[str, str], list[Write]] = defaultdict(list)
    letters: dict[str, list[Write]] = defaultdict(list)
    for write in machine.log.writes:
        if write.topic == EVIDENCE:  # it may come twice, and is read by nobody here
            continue
        number = record_id(write.record.headers, write.record.value)
        if write.topic == "dead-letters":
            letters[number].append(write)
        else:
            copies[write.topic, number].append(write)
    for name, found in copies.items():
        # Of two decisions under one id, which only an erasure allows, nobody can say how often
        # each was sent: a reader that drops repeats sees the first.
        # Of a digest the last word counts, so the ledger is not read back.
        if len(model.records.get(name, ())) < 2 and name[0] != ERASED:
            yield from _copies(str(name), found)
    for letter, found in letters.items():
        yield from _copies(letter, found)
    for (topic, number), versions in sorted(model.records.items()):
        value = versions[-1]
        found = copies.pop((topic, number), [])
        if any(write.record.value not in versions for write in found):
            yield f"{number} has other bytes: {found[0].record.value!r}, not {value!r}"
        offer = topic.startswith("offers.")
        late = copies.pop(("decisions", f"{number}.expired"), []) if offer else []
        if not (late and len(versions) > 1):
            yield from _sent(model, number, topic, value, found, late)
    for topic, number in sorted(copies):
        yield f"{number} was sent to {topic}, but the model knows nothing of it"
    got = {
        place: (write.record.key, write.record.value, write.record.headers)
        for place, (write, *_) in letters.items()
    }
    # What was refused of somebody who is gone, or was then, needs no letter: whose it is, the key
    # says or, under a wrong key, the value.
    gone = {key for name in model.gone for key in (name.encode(), f'"subject":"{name}"'.encode())}
    wanted = {
        place: letter
        for place, letter in model.letters.items()
        if place in got or not any(one == letter[0] or one in letter[1] for one in gone)
    }
    yield from _differences("dead letters", got, wanted)
    for number in sorted(model.without_consent):
        yield f"{number} was offered without consent"


def _copies(number: str, found: list[Write]) -> Iterator[str]:
    """A second copy is allowed where an answer was lost, or a worker wrote that was no longer
    the owner and could not know it."""
    if len(found) - 1 > sum(write.excused for write in found):
        yield f"{number} was sent {len(found)} times"


def _sent(
    model: Model, number: str, topic: str, value: bytes, found: list[Write], late: list[Write]
) -> Iterator[str]:
    """An offer is sent, or a note says that it expired; anything else is sent."""
    if not late:
        if found:
            return
        if topic == ERASED:
            # Of two words within one batch the last is enough.
            if number in model.last_told.values():
                yield f"{number} was not told to the ledger"
            return
        event = _decode(value)
        erased = model.gone.get(event["subject"], 0) >= to_ms(event["time"])
        if not erased:
            yield f"{number} was not sent to {topic}: {value!r}"
        return
    if found and not any(write.excused for write in (*found, *late)):
        yield f"{number} was sent, and also noted as expired"
    offer, note = _decode(value)["data"], _decode(late[0].record.value)
    noted_ms, at_ms = to_ms(note["time"]), to_ms(offer["valid_from"])
    reason = note["data"]["reason"]
    if noted_ms - at_ms <= 60_000:
        yield f"{number} expired within a minute"
    if reason == "no_consent" and model.revoked.get(_decode(value)["subject"], 0) < at_ms:
        yield f"{number} expired for want of consent, which was there"
    if reason not in ("no_consent", "stale"):
        yield f"{number} expired for {reason}"


def summary(machine: Machine) -> Counter[str]:
    """Figures of a run: what it went through, and how often."""
    found: Counter[str] = Counter()
    found["events"] = sum(machine.log.end((t, n)) for t in TOPICS for n in range(PARTITIONS))
    found["outputs"] = len(machine.log.writes)
    ids = Counter(
        (w.topic, record_id(w.record.headers, w.record.value))
        for w in machine.log.writes
        if w.topic != EVIDENCE  # it may come twice, see `_outputs`
    )
    found["copies"] = sum(count - 1 for count in ids.values())
    found["store calls"] = machine.store.state.calls
    found["loop steps"] = machine.loop.steps
    return found
