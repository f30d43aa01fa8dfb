"""The engine over recorded events: the same decisions as live, without Kafka and Redis.

Events of several files are merged by time; every customer's timers fire at their due time, in the
order of all due times. Output files are in decision order and the same for the same input.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import msgspec

from streams.codec import LineDoor
from streams.deadletters import dead_letter_line
from streams.history import Line, read_lines, topics_of
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.durations import to_ms
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import CatalogEvent
from triggers.judgement import Step
from triggers.learned import Tally
from triggers.state import Customer

Progress = Callable[[int, int], None]  # events so far, instant in ms
_REPORT_EVERY = 5_000
_encode = msgspec.json.Encoder().encode


class Replay:
    """Applies a merged log to customers held in memory and hands over what comes of it."""

    def __init__(self, book: Book, write: Callable[[Step], None]) -> None:
        self.book = book
        self.catalog = Catalog()
        self.door = LineDoor(book.custom)
        self.customers: dict[str, Customer] = {}
        self._write = write
        self._tally = Tally()
        self._heap: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}

    def event(self, event: Any, at_ms: int, checksum: int) -> bool:
        """Apply one event; False when its id stands for another body already."""
        self.fire(at_ms)
        customer = self.customers.get(event.subject)
        if customer is None:
            customer = self.customers[event.subject] = Customer(event.subject)
        out = step(customer, event, at_ms, self.book, self.catalog, checksum)
        self._schedule(customer)
        self._handle(out)
        return not out.conflict

    def fire(self, up_to_ms: int) -> None:
        """Fire all timers due at or before ``up_to_ms``, in due order over all customers."""
        heap = self._heap
        while heap and heap[0][0] <= up_to_ms:
            due_ms, customer_id = heapq.heappop(heap)
            if self._due.get(customer_id) != due_ms:
                continue  # cancelled or moved since
            customer = self.customers[customer_id]
            out = Step()
            advance(customer, due_ms, self.book, self.catalog, out)
            self._due.pop(customer_id, None)
            self._schedule(customer)
            self._handle(out)

    def _handle(self, out: Step) -> None:
        if out.decisions:
            self._write(out)
        if out.learnt:
            self._tally.share(self.catalog.learned, 0, out.learnt)

    def _schedule(self, customer: Customer) -> None:
        due_ms = customer.due_ms()
        if due_ms != self._due.get(customer.id, 0):
            if due_ms:
                self._due[customer.id] = due_ms
                heapq.heappush(self._heap, (due_ms, customer.id))
            else:
                del self._due[customer.id]


class _Output:
    """The three files that a backtest writes, and the figures of its summary."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        directory.mkdir(parents=True, exist_ok=True)

        def create(name: str) -> IO[bytes]:
            return stack.enter_context((directory / name).open("wb"))

        self._offers = create("offers.jsonl")
        self._decisions = create("decisions.jsonl")
        self._dead = create("dead-letters.jsonl")
        self.offers: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.rules: dict[str, Counter[str]] = {}
        self.dead_letters = 0

    def write(self, out: Step) -> None:
        for offer in out.offers:
            _, _, event_id, value = offer.record()
            self._offers.write(value + b"\n")
            if not event_id.endswith(".withdrawn"):
                self.offers[offer.rule] += 1
        for decision in out.decisions:
            self._decisions.write(decision.encode() + b"\n")
            self.decisions[decision.outcome] += 1
            self.rules.setdefault(decision.rule, Counter())[decision.outcome] += 1

    def refuse(self, refused: Refused, line: Line) -> None:
        self.dead_letters += 1
        letter = dead_letter_line(
            refused.reason, refused.detail, line.file, line.number, line.value
        )
        self._dead.write(letter + b"\n")


def run_backtest(
    book: Book,
    events: Iterable[Path],
    out: Path,
    until: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay ``events`` under ``book`` into the directory ``out``; the figures of the run.

    ``until`` is RFC 3339: events after it are left out and timers fire up to it; without it the
    replay ends with the last event. Returns the object that ``--json`` prints.
    """
    started = time.perf_counter()
    until_ms = None if until is None else to_ms(until)
    with ExitStack() as stack:
        output = _Output(out, stack)
        replay = Replay(book, output.write)
        count = last_ms = 0
        for line in _up_to(read_lines(events, topics_of(book.custom)), until_ms):
            count += 1
            last_ms = max(last_ms, line.at_ms)
            try:
                apply_line(replay, line)
            except Refused as refused:
                output.refuse(refused, line)
            if progress is not None and count % _REPORT_EVERY == 0:
                progress(count, last_ms)
        replay.fire(last_ms if until_ms is None else until_ms)
    return {
        "events": count,
        "offers": dict(sorted(output.offers.items())),
        "decisions": dict(sorted(output.decisions.items())),
        "rules": {rule: dict(sorted(c.items())) for rule, c in sorted(output.rules.items())},
        "dead_letters": output.dead_letters,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _up_to(lines: Iterator[Line], until_ms: int | None) -> Iterator[Line]:
    for line in lines:
        if until_ms is not None and line.at_ms > until_ms:
            return
        yield line


def apply_line(replay: Replay, line: Line) -> None:
    """Decode one line and apply it, the catalogue's too; raises `Refused`."""
    event = replay.door.decode(line.value)
    if isinstance(event, CatalogEvent):
        replay.fire(line.at_ms)
        replay.catalog.apply(event.type, event.subject, event.data)
    elif not replay.event(event, line.at_ms, crc32(line.value)):
        raise Refused("id_conflict", "another body came under this source and id within 72 h")
