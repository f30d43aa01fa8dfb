"""The records of one partition's topics, merged by record timestamp.

A topic that has records waiting is never overtaken. One that is empty holds the others back until
it is known to be caught up by a fetch that was *sent after* the waiting record had been received:
an answer that was under way before may have passed the place where an older record was about to
land, and live decisions would then differ from a replay's.
"""

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple, Protocol


class Raw(Protocol):
    """What the merge needs of a fetched record; aiokafka's records have it."""

    @property
    def timestamp(self) -> int: ...  # noqa: D102

    @property
    def offset(self) -> int: ...  # noqa: D102


class FetchState(NamedTuple):
    """What the last successful fetch answer of a topic partition told.

    ``position`` is the next offset to read, records already handed over included;
    ``stable_end`` the last stable offset; ``sent_ms`` when the request was sent (steady time).
    """

    position: int
    stable_end: int
    sent_ms: float


#: Beyond every timestamp that a record can have, which has 64 bits and comes from anybody.
_FOREVER = 2**63


class _Queue:
    """The waiting records of one topic, oldest first, with the instants they were received."""

    __slots__ = ("bytes", "chunks", "place", "rank", "size", "state", "topic")

    def __init__(self, topic: str, rank: int) -> None:
        self.topic = topic
        self.rank = rank
        self.chunks: deque[tuple[float, Sequence[Raw], int]] = deque()
        self.place = 0  # of the next record in the first chunk
        self.size = 0
        self.bytes = 0  # of whole chunks: one that is begun counts until it is finished
        self.state: FetchState | None = None

    def head(self) -> Raw:
        return self.chunks[0][1][self.place]

    def caught_up_ms(self) -> float:
        """When the fetch was sent whose answer found nothing more; 0 when not caught up."""
        state = self.state
        if state is None or state.position < state.stable_end:
            return 0
        return state.sent_ms


class Merge:
    """Buffers of one partition, by topic, in the rank in which equal timestamps are applied."""

    def __init__(self, topics: Sequence[str], bound: int, bytes_bound: int = _FOREVER) -> None:
        """``topics`` in rank order; a topic counts as full with ``bound`` records waiting, or
        with records of ``bytes_bound`` bytes."""
        self._queues = {topic: _Queue(topic, rank) for rank, topic in enumerate(topics)}
        self._bound = bound
        self._bytes_bound = bytes_bound
        self.size = 0
        self._room_bytes = 0

    def add(
        self, topic: str, records: Sequence[Raw], received_ms: float, size_bytes: int = 0
    ) -> None:
        """Append fetched records of one topic, in offset order; ``size_bytes`` is their size."""
        if records:
            queue = self._queues[topic]
            queue.chunks.append((received_ms, records, size_bytes))
            queue.size += len(records)
            queue.bytes += size_bytes
            self.size += len(records)

    def learn(self, topic: str, state: FetchState) -> None:
        """Note what the last fetch answer told about a topic."""
        self._queues[topic].state = state

    def sizes_bytes(self) -> dict[str, int]:
        """Bytes of records that wait, by topic."""
        return {topic: queue.bytes for topic, queue in self._queues.items()}

    def sizes(self) -> dict[str, int]:
        """Records that wait, by topic."""
        return {topic: queue.size for topic, queue in self._queues.items()}

    def states(self) -> dict[str, FetchState]:
        """The last fetch answers, by topic."""
        return {t: queue.state for t, queue in self._queues.items() if queue.state is not None}

    def full(self) -> list[str]:
        """Topics to pause. The one with the smallest head is never among them: no deadlock."""
        waiting = [queue for queue in self._queues.values() if queue.size]
        if not waiting:
            return []
        first = min(waiting, key=lambda queue: (queue.head().timestamp, queue.rank))
        return [q.topic for q in waiting if self._is_full(q) and q is not first]

    def _is_full(self, queue: _Queue) -> bool:
        return queue.size >= self._bound or queue.bytes >= self._bytes_bound

    def blockers(self) -> list[str]:
        """Topics that hold records back because nothing is known of what comes next in them."""
        if not self.size:
            return []
        received = min(q.chunks[0][0] for q in self._queues.values() if q.size)
        return [
            queue.topic
            for queue in self._queues.values()
            if not queue.size and queue.caught_up_ms() <= received
        ]

    def take(self, most: int, most_bytes: int = _FOREVER) -> list[tuple[str, Raw]]:
        """Remove and return up to ``most`` records in the order in which they are applied.

        No further fetched piece is begun when those that were finished have ``most_bytes``.
        """
        taken: list[tuple[str, Raw]] = []
        self._room_bytes = most_bytes
        known_ms = min(
            (queue.caught_up_ms() for queue in self._queues.values() if not queue.size),
            default=_FOREVER,
        )
        waiting = [queue for queue in self._queues.values() if queue.size]
        while waiting and len(taken) < most and self._room_bytes > 0:
            waiting.sort(key=lambda queue: (queue.head().timestamp, queue.rank))
            queue = waiting[0]
            limit = _FOREVER
            if len(waiting) > 1:
                other = waiting[1]
                limit = other.head().timestamp + (1 if queue.rank < other.rank else 0)
            if not self._run(queue, limit, known_ms, most, taken):
                break
            if not queue.size:
                waiting.remove(queue)
                known_ms = min(known_ms, queue.caught_up_ms())
        self.size -= len(taken)
        return taken

    def _run(
        self, queue: _Queue, limit: int, known_ms: float, most: int, taken: list[tuple[str, Raw]]
    ) -> bool:
        """Take the records of one topic below ``limit``; whether any could be taken."""
        before = len(taken)
        topic = queue.topic
        while queue.chunks and len(taken) < most:
            received_ms, records, size_bytes = queue.chunks[0]
            if received_ms >= known_ms:
                break
            place, end = queue.place, len(records)
            stop = min(end, place + most - len(taken))
            if limit >= _FOREVER:  # no other topic has records: nothing to compare with
                taken.extend(zip(repeat(topic), records[place:stop], strict=False))
                place = stop
            while place < stop and records[place].timestamp < limit:
                taken.append((topic, records[place]))
                place += 1
            queue.place = place
            if place < end:
                break
            queue.chunks.popleft()
            queue.place = 0
            queue.bytes -= size_bytes
            self._room_bytes -= size_bytes
            if self._room_bytes <= 0:
                break
        queue.size -= len(taken) - before
        return len(taken) > before

    def caught_up_ms(self) -> float:
        """When the last fetch was sent after which nothing is left to read; 0 before."""
        if self.size:
            return 0
        return min(queue.caught_up_ms() for queue in self._queues.values())

    def read_up_to(self, clock_at_ms: "ClockAt", margin_ms: int) -> int:
        """The instant up to which everything is read, so that timers due by it may fire.

        A topic with records waiting is read up to just before its next one; a caught-up one up to
        where the clock stood ``margin_ms`` before the fetch that found nothing was sent.
        """
        horizon = _FOREVER
        for queue in self._queues.values():
            if queue.size:
                horizon = min(horizon, queue.head().timestamp - 1)
                continue
            sent_ms = int(queue.caught_up_ms())
            horizon = min(horizon, clock_at_ms(sent_ms - margin_ms) if sent_ms else 0)
        return horizon


class ClockAt(Protocol):
    """Where a clock stood when the machine's clock showed ``wall``."""

    def __call__(self, wall: int) -> int: ...  # noqa: D102
