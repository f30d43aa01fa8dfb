"""The engine over recorded events: the same decisions as live, without Kafka and Redis.

Events of several files are merged by time; every customer's timers fire at their due time, in the
order of all due times. Output files are in decision order and the same for the same input.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from streams.deadletters import dead_letter_line
from streams.history import Line, read_lines, topics_of
from streams.replay import Replay
from streams.stretches import STRETCH_LINES, Stretches
from triggers.book import Book
from triggers.durations import to_ms
from triggers.errors import Refused
from triggers.judgement import Step

Progress = Callable[[int, int], None]  # events so far, instant in ms
_REPORT_EVERY = 5_000


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
    stretch_lines: int = STRETCH_LINES,
) -> dict[str, Any]:
    """Replay ``events`` under ``book`` into the directory ``out``; the figures of the run.

    ``until`` is RFC 3339: events after it are left out and timers fire up to it; without it the
    replay ends with the last event. ``stretch_lines`` are applied at once, which changes nothing
    but the time it takes. Returns the object that ``--json`` prints.
    """
    started = time.perf_counter()
    until_ms = None if until is None else to_ms(until)
    with ExitStack() as stack:
        output = _Output(out, stack)
        replay = Replay(book, output.write)
        stretches = Stretches(replay, output.refuse, stretch_lines)
        count = last_ms = 0
        for line in _up_to(
            read_lines(events, topics_of(book.custom), replay.door.decode), until_ms
        ):
            count += 1
            last_ms = max(last_ms, line.at_ms)
            stretches.add(line)
            if progress is not None and count % _REPORT_EVERY == 0:
                progress(count, last_ms)
        stretches.end()
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
