"""``tsuide explain CUSTOMER``: what is known of a customer, and why each rule would fire or not.

From the store, as the worker left it, with the catalogue from Kafka; or over recorded events, as
a backtest would have left the customer.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from streams.catalog import CatalogReader
from streams.clock import wall_ms
from streams.codec import Door
from streams.errors import PreconditionError, StreamsError, UsageError
from streams.explainview import show
from streams.history import Line, read_lines, topics_of
from streams.learning import LearnedReader
from streams.murmur2 import partition_of
from streams.replay import Replay, apply_line
from streams.settings import Settings
from streams.store.errors import StoreError
from streams.store.store import Store
from triggers import portrait
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import PART_LETTERS, Customer
from triggers.decisions import Decision
from triggers.durations import to_ms, to_text
from triggers.errors import Refused
from triggers.events import Event
from triggers.explain import Known, explain_rules
from triggers.forgetting import forget_idle
from triggers.judgement import Step
from triggers.rebuilt import rebuilt_events

_DECISIONS_MAX = 20
_CATALOG_RANK = 0
_KAFKA_SECONDS = 30


class UnknownCustomerError(StreamsError):
    """Nothing is known of the customer."""


@dataclass(slots=True)
class Subject:
    """A customer at an instant, and what stands around."""

    customer: Customer
    at_ms: int
    catalog: Catalog
    events: Mapping[str, Known]
    decisions: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def explanation(subject: Subject, book: Book) -> dict[str, Any]:
    """Everything that ``--json`` prints."""
    customer, at_ms = subject.customer, subject.at_ms
    last_ms = customer.now.at
    if forget_idle(customer, at_ms, book):
        subject.remarks.append(
            f"nothing has happened since {to_text(last_ms)}, longer than the book remembers: at "
            "the next event this is somebody new"
        )
    found: dict[str, Any] = {
        "customer": customer.id,
        "at": to_text(at_ms),
        "rule_book": book.digest,
        "remarks": subject.remarks,
    }
    if customer.now.gone:
        return {**found, "gone": customer.now.gone, "rules": []}
    answers = explain_rules(customer, at_ms, book, subject.catalog, subject.events)
    return {
        **found,
        "facts": portrait.facts(customer, at_ms, book, subject.catalog),
        "state": portrait.state(customer),
        "timers": portrait.timers(customer),
        "offers": portrait.offers(customer, at_ms),
        "decisions": subject.decisions,
        "rules": msgspec.to_builtins(answers),
    }


# -- over recorded events ------------------------------------------------------------------


class _Watched:
    """A replay, and what one customer's last events and decisions in it were."""

    def __init__(self, book: Book, customer_id: str) -> None:
        self._id = customer_id
        self.decisions: deque[Decision] = deque(maxlen=_DECISIONS_MAX)
        self.events: dict[str, Known] = {}
        self.replay = Replay(book, self._keep)

    def apply(self, line: Line) -> None:
        """Apply a line; one that is refused changes nothing."""
        try:
            event = apply_line(self.replay, line)
        except Refused:
            return
        if isinstance(event, Event) and event.subject == self._id:
            known = Known(event.type, event.data, line.at_ms, event.id, event.source)
            self.events[event.type] = known

    def _keep(self, out: Step) -> None:
        self.decisions += [each for each in out.decisions if each.customer == self._id]


class _Subject(msgspec.Struct, gc=False):
    subject: str


_subject = msgspec.json.Decoder(_Subject).decode


def _is_about(value: bytes, customer_id: str) -> bool:
    try:
        return _subject(value).subject == customer_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def from_events(
    book: Book, customer_id: str, files: Iterable[Path], until: str | None = None
) -> Subject:
    """The customer as a replay of ``files`` up to ``until`` (RFC 3339) leaves it.

    Raises:
        UnknownCustomerError: no event is about the customer.
        UsageError: ``until`` is no instant.
    """
    try:
        until_ms = None if until is None else to_ms(until)
    except ValueError:
        raise UsageError("--until is RFC 3339, for instance 2026-03-02T12:00:00+09:00") from None
    watched = _Watched(book, customer_id)
    replay = watched.replay
    last_ms = 0
    for line in read_lines(files, topics_of(book.custom)):
        if until_ms is not None and line.at_ms > until_ms:
            break
        last_ms = max(last_ms, line.at_ms)
        # Other customers matter only for what is learnt across all of them.
        if not (book.learning or line.rank == _CATALOG_RANK or _is_about(line.value, customer_id)):
            continue
        watched.apply(line)
    at_ms = last_ms if until_ms is None else until_ms
    replay.fire(at_ms)
    customer = replay.customers.get(customer_id)
    if customer is None:
        raise UnknownCustomerError(f"unknown customer: no event until {to_text(at_ms)} names it")
    subject = Subject(customer, max(at_ms, customer.now.at), replay.catalog, watched.events)
    subject.decisions = [
        {
            "at": to_text(each.at),
            "rule": each.rule,
            "outcome": each.outcome,
            "reason": each.reason,
            "offer_id": each.offer_id,
        }
        for each in reversed(watched.decisions)
    ]
    return subject


# -- from the store ------------------------------------------------------------------------


def from_store(settings: Settings, book: Book, customer_id: str) -> Subject:
    """The customer as the worker left it, at the present instant.

    Raises:
        UnknownCustomerError: the store has nothing about the customer.
        PreconditionError: the store does not answer, or no worker has used it yet.
    """
    return asyncio.run(_from_store(settings, book, customer_id))


def load_customer(settings: Settings, customer_id: str) -> Customer:
    """A customer's document as the store holds it; raises what :func:`from_store` does."""
    return asyncio.run(_load(settings, customer_id))[0]


async def _from_store(settings: Settings, book: Book, customer_id: str) -> Subject:
    customer, digest = await _load(settings, customer_id)
    at_ms = wall_ms() if settings.clock == "system" else customer.now.at
    catalog = Catalog()
    subject = Subject(customer, max(at_ms, customer.now.at), catalog, rebuilt_events(customer))
    if digest and digest != book.digest:
        subject.remarks.append(
            f"the worker decides by another rule book: {digest[:12]}, and this one is "
            f"{book.digest[:12]}"
        )
    try:
        async with asyncio.timeout(_KAFKA_SECONDS):
            await _read_catalog(settings, book, catalog, subject.at_ms)
    except Exception as error:  # noqa: BLE001 - what Kafka's client raises is no family
        subject.remarks.append(
            f"the catalogue could not be read from Kafka at {settings.kafka} "
            f"({type(error).__name__}): picks find nothing"
        )
    return subject


async def _load(settings: Settings, customer_id: str) -> tuple[Customer, str]:
    """The stored document, and the digest of the book that the worker decides by."""
    try:
        store = await Store.connect(settings.redis_url(), settings.prefix)
        try:
            first = await store.meta(0)
            if first is None:
                raise PreconditionError(
                    "the store holds no partitions yet", "run a worker, or give --events"
                )
            key = customer_id.encode()
            partition = partition_of(key, first.partitions)
            found = (await store.load(partition, [key], PART_LETTERS)).get(key)
            meta = await store.meta(partition)
        finally:
            await store.close()
    except StoreError as error:
        raise PreconditionError(f"Redis does not serve us: {error}", "set TSUIDE_REDIS") from error
    if not found:
        raise UnknownCustomerError("unknown customer: the store has none under this id")
    return Customer(customer_id, found), "" if meta is None else meta.book


async def _read_catalog(settings: Settings, book: Book, catalog: Catalog, at_ms: int) -> None:
    def ignore(topic: str, reason: str) -> None:
        """The worker counts refused records."""

    options = settings.kafka_options()
    door = Door(settings.partitions, book.custom)
    readers: list[Callable[[], Any]] = [
        lambda: CatalogReader(options, settings.prefix, catalog, door, ignore),
    ]
    if book.learning:
        readers.append(
            lambda: LearnedReader(
                options, settings.prefix, catalog.learned, ignore, lambda: (book, at_ms)
            )
        )
    for make in readers:
        reader = make()
        try:
            await reader.read_whole()
        finally:
            await reader.stop()


def run_explain(subject: Subject, book: Book, as_json: bool) -> None:
    """Show the explanation; ``as_json``: as one line."""
    found = explanation(subject, book)
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        show(found)
