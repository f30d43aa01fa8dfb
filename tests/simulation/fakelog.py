"""The log in memory: topic partitions, fetches, writes; with the delays and faults of a broker.

Two brokers share the topics. The broker's clock gives every record its timestamp, so that inside
a topic partition timestamps never go back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from streams.merge import FetchState
from tests.simulation.loop import SimulatedLoop

BROKERS = 2
FETCH_WAIT_S = 0.1

Place = tuple[str, int]  # topic, partition
Draft = tuple[bytes | None, bytes | None, list[tuple[str, bytes]] | None, int]


class Record(NamedTuple):
    """A record as the merge and the door want it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class Acked(NamedTuple):
    """The answer to a write."""

    base_offset: int
    next_offset: int


class BrokerAway(Exception):  # noqa: N818 - it says what happened
    """The outcome of a write or read is unknown."""


@dataclass
class Write:
    """One written record of our output: who wrote it, under which claim."""

    topic: str
    partition: int
    record: Record
    writer: str
    claim: str
    unknown: bool  # the writer was not told that it was written
    stray: bool = False  # the writer was not the latest owner any more

    @property
    def excused(self) -> bool:
        """Whether a second copy is nobody's fault."""
        return self.unknown or self.stray


@dataclass
class Faults:
    """How likely a write goes wrong, in which way."""

    late: float = 0.0
    error_after_write: float = 0.0
    error_before_write: float = 0.0
    partly: float = 0.0
    forgotten: float = 0.0


@dataclass
class FakeLog:
    """Topics without prefix."""

    loop: SimulatedLoop
    random: random.Random
    now_ms: Callable[[], int]
    slow_s: float = 0.02  # a message is under way for so long at most
    faults: Faults = field(default_factory=Faults)
    records: dict[Place, list[Record]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    down_until: list[float] = field(default_factory=lambda: [0.0] * BROKERS)
    mute_until: float = 0.0  # until then nothing is written
    on_write: Callable[[Write], None] = lambda write: None

    def end(self, place: Place) -> int:
        """The offset that the next record gets."""
        return len(self.records.get(place, ()))

    def append(
        self,
        place: Place,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
        at_ms: int | None = None,
    ) -> Record:
        """Write a record at the broker's time, or under the producer's timestamp ``at_ms``."""
        records = self.records.setdefault(place, [])
        stamp = self.now_ms() if at_ms is None else at_ms
        record = Record(len(records), stamp, key, value, list(headers))
        records.append(record)
        return record

    def latency(self) -> float:
        """How long a message is under way, seconds."""
        return 0.001 + self.slow_s * self.random.random() ** 3

    def _away_s(self, topic: str) -> float:
        return self.down_until[broker_of(topic)] - self.loop.time()

    # -- reading ---------------------------------------------------------------------------

    async def fetch(
        self, broker: int, positions: Mapping[Place, int], most: int, sent_ms: int
    ) -> dict[Place, tuple[list[Record], FetchState]]:
        """What a fetch answers: at once when there is something, else after a while."""
        answer: asyncio.Future[dict[Place, tuple[list[Record], FetchState]]]
        answer = self.loop.create_future()

        def look(last: bool) -> None:
            away_s = self.down_until[broker] - self.loop.time()
            if away_s > 0:
                self.loop.after(away_s + self.latency(), look, last)
                return
            if not last and all(self.end(p) <= at for p, at in positions.items()):
                self.loop.after(FETCH_WAIT_S, look, True)
                return
            found = {}
            for place, position in positions.items():
                records = self.records.get(place, [])[position : position + most]
                state = FetchState(position + len(records), self.end(place), sent_ms)
                found[place] = (records, state)
            if not answer.done():
                answer.set_result(found)

        self.loop.after(self.latency(), look, False)
        return await answer

    async def read(self, starts: Mapping[Place, int]) -> dict[Place, list[Record]]:
        """Everything from ``starts`` to the ends as they are when the request arrives."""
        answer: asyncio.Future[dict[Place, list[Record]]] = self.loop.create_future()

        def look() -> None:
            away_s = max(self._away_s(topic) for topic, _ in starts)
            if away_s > 0:
                if not answer.done():
                    answer.set_exception(BrokerAway("read back"))
                return
            found = {place: self.records.get(place, [])[at:] for place, at in starts.items()}
            self.loop.after(self.latency(), _settle, answer, found)

        self.loop.after(self.latency(), look)
        return await answer

    # -- writing ---------------------------------------------------------------------------

    async def write(self, place: Place, drafts: Sequence[Draft], writer: str, claim: str) -> Acked:
        """Write records in order, as an idempotent producer does that never gives up by itself."""
        answer: asyncio.Future[Acked] = self.loop.create_future()
        draw, faults = self.random.random(), self.faults
        delay_s = self.latency()
        fault = ""
        for name in ("late", "error_after_write", "error_before_write", "partly", "forgotten"):
            share = getattr(faults, name)
            if draw < share:
                fault = name
                break
            draw -= share
        if fault == "late":
            delay_s += 0.5 * self.random.random()

        def arrive() -> None:
            away_s = max(self._away_s(place[0]), self.mute_until - self.loop.time())
            if away_s > 0:
                self.loop.after(away_s + self.latency(), arrive)
                return
            unknown = fault in ("error_after_write", "error_before_write", "partly")
            kept = drafts[: self.random.randint(0, len(drafts))] if fault == "partly" else drafts
            base = self.end(place)
            for key, value, headers, _ in kept:
                record = self.append(place, key, value or b"", headers or ())
                write = Write(*place, record, writer, claim, unknown)
                self.writes.append(write)
                self.on_write(write)
            if unknown:
                fail()
            elif not answer.done():
                known = Acked(base, base + len(drafts))
                acked = Acked(-1, -1) if fault == "forgotten" else known
                self.loop.after(self.latency(), _settle, answer, acked)

        def fail() -> None:
            if not answer.done():
                answer.set_exception(BrokerAway("outcome unknown"))

        if fault == "error_before_write":  # the answer is lost; the request lands later
            self.loop.after(delay_s, fail)
            self.loop.after(delay_s + 1.5 * self.random.random(), arrive)
        else:
            self.loop.after(delay_s, arrive)
        return await answer


def broker_of(topic: str) -> int:
    """Which of the brokers leads a topic's partitions."""
    return crc32(topic.encode()) % BROKERS


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)
