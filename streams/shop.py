"""The shop: replays recorded events into Kafka, for the demo, the tests and the benchmarks.

It sends as a careful producer of the contract would: keyed by subject, on the partition that the
Java client computes, with `acks=all`, in the order of time.

Topics are separate logs, so a reader can meet a purchase before the cart that led to it. The shop
keeps that window small: it sends slices, each in one request that is acknowledged before the next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.errors import PreconditionError, StreamsError
from streams.murmur2 import Places
from streams.recorded import Recorded, RecordingError, read_events
from triggers.durations import to_text
from triggers.events import CATALOG, TOPICS

__all__ = ["Recorded", "RecordingError", "Sent", "Shop", "ShopError", "read_events"]

Progress = Callable[[int], None]
"""Called with the number of customers' events that Kafka has acknowledged so far."""

SLICE_RECORDS: Final = 2_000  # at a few hundred bytes each they fit in one request
SLICE_S: Final = 0.05  # of real time, when the pace is given
# A slice goes when it is flushed; live events wait this long for company.
SLICE_LINGER_MS: Final = 10_000
LIVE_LINGER_MS: Final = 1
IN_FLIGHT_MAX: Final = 20_000
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
BATCH_BYTES: Final = 512 * 1024  # half of what a broker takes by default
ACKNOWLEDGED_S_MAX: Final = 60.0
CLOSE_S_MAX: Final = 5.0


class ShopError(StreamsError):
    """Kafka did not take what the shop sent."""


class Sent(NamedTuple):
    """What a run has sent and Kafka has acknowledged; `stopped`: the events had not ended."""

    catalog: int
    events: int
    seconds: float
    stopped: bool


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Shop:
    """Sends recorded events to the topics of one cluster, one run at a time.

    `prefix` stands before every topic's name; `partitions` is that of the customers' topics.
    `wait_s_max` bounds the wait for a broker that does not answer.
    """

    def __init__(
        self, bootstrap: str, prefix: str = "", partitions: int = 8, wait_s_max: float = 15.0
    ) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._partitions = partitions
        self._places = Places(partitions)
        self._unanswered: deque[tuple[Any, Recorded]] = deque()
        self._wait_ms_max = round(wait_s_max * 1000)
        self._producer: KafkaProducer | None = None

    def run(
        self,
        events: Iterable[Recorded],
        speed: float | None = None,
        stop: threading.Event | None = None,
        on_progress: Progress | None = None,
        *,
        rate: float | None = None,
        now: bool = False,
    ) -> Sent:
        """Send `events` until they end or `stop` is set, and wait for the acknowledgements.

        `speed` is log seconds a real second, from the first customer event on; `rate` is events
        a second instead; with neither they go as fast as Kafka takes them. The catalogue goes
        first and at once. With `now` an event happens when it is sent: its `time` and the record's
        timestamp are the wall clock's. Raises `PreconditionError` when the broker does not answer
        or a topic is missing or has other partitions, and `ShopError` for a record that Kafka did
        not take.
        """
        if speed is not None and rate is not None:
            raise ValueError("speed and rate exclude each other")
        if any(pace is not None and not pace > 0 for pace in (speed, rate)):
            raise ValueError("speed and rate are above 0")
        live = now and (speed is not None or rate is not None)
        self._open(LIVE_LINGER_MS if live else SLICE_LINGER_MS)
        try:
            self._check_topics()
            run = _Run(self, _Pace(speed, rate), live, now, stop or threading.Event(), on_progress)
            return run.over(events)
        finally:
            self.close()

    def _open(self, linger_ms: int) -> None:
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=self._bootstrap.split(","),
                acks="all",
                linger_ms=linger_ms,
                batch_size=BATCH_BYTES,
                max_request_size=REQUEST_BYTES_MAX,
                max_block_ms=self._wait_ms_max,
                bootstrap_timeout_ms=self._wait_ms_max,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise PreconditionError(
                f"no Kafka answers at {self._bootstrap} ({type(error).__name__})",
                "start it, or give its address",
            ) from error

    def send(self, event: Recorded, now: bool) -> None:
        """Hand one event to the producer; it is acknowledged after the next `settle`."""
        partition = 0 if event.topic == CATALOG else self._places.of(event.key)
        value, ts_ms = event.value, event.ts_ms
        if now:
            ts_ms = time.time_ns() // 1_000_000
            value = _retimed(value, ts_ms)
        assert self._producer is not None, "run() opens it"
        try:
            future = self._producer.send(
                self._prefix + event.topic, value, event.key, None, partition, ts_ms
            )
        except (KafkaError, ValueError) as error:
            raise ShopError(f"{self._prefix}{event.topic}: not sent: {error}") from error
        self._unanswered.append((future, event))
        if len(self._unanswered) > IN_FLIGHT_MAX:
            self.settle()

    def settle(self) -> None:
        """Send what is waiting and return when all of it is acknowledged."""
        assert self._producer is not None, "run() opens it"
        try:
            self._producer.flush(ACKNOWLEDGED_S_MAX)
        except KafkaError as error:
            raise ShopError(f"no acknowledgement in {ACKNOWLEDGED_S_MAX:.0f} s") from error
        self.look()
        if self._unanswered:
            raise ShopError(f"{len(self._unanswered)} records were never answered")

    def look(self) -> None:
        """Forget what is acknowledged by now; raise for what was refused."""
        while self._unanswered and self._unanswered[0][0].is_done:
            future, event = self._unanswered.popleft()
            if future.failed():
                topic = self._prefix + event.topic
                raise ShopError(f"{topic}: Kafka did not take a record: {future.exception!r}")

    @property
    def pending(self) -> int:
        """How many records are sent and not known to be acknowledged."""
        return len(self._unanswered)

    def close(self) -> None:
        """Let the connection go, if there is one; what is on its way gets a few seconds."""
        producer, self._producer = self._producer, None
        self._unanswered.clear()
        if producer is not None:
            producer.close(timeout=CLOSE_S_MAX)

    def _check_topics(self) -> None:
        assert self._producer is not None, "run() opens it"
        for topic in (CATALOG, *TOPICS):
            name, wanted = self._prefix + topic, 1 if topic == CATALOG else self._partitions
            try:
                there = self._producer.partitions_for(name) or ()
            except KafkaError as error:
                raise PreconditionError(
                    f"topic {name} is missing ({error})", "tsuide topics create"
                ) from error
            if len(there) != wanted:
                raise PreconditionError(
                    f"topic {name} has {len(there)} partitions, not {wanted}",
                    "tsuide topics create",
                )


class _Pace(NamedTuple):
    """Log seconds a real second, or events a second, or neither: as fast as it goes."""

    speed: float | None
    rate: float | None

    @property
    def free(self) -> bool:
        return self.speed is None and self.rate is None

    def after_s(self, events: int, log_ms: int) -> float:
        """When, in seconds after the first, the event is due that has so many before it."""
        if self.rate is not None:
            return events / self.rate
        return log_ms / 1000 / self.speed if self.speed is not None else 0.0


class _Run:
    """One replay: where it is, how fast it may go, and when a slice is full."""

    def __init__(
        self,
        shop: Shop,
        pace: _Pace,
        live: bool,
        now: bool,
        stop: threading.Event,
        on_progress: Progress | None,
    ) -> None:
        self._shop, self._pace, self._live, self._now = shop, pace, live, now
        self._stop, self._progress = stop, on_progress
        self._catalog = self._events = self._in_slice = 0
        self._first_ms = 0
        self._began_s = self._slice_ends_s = 0.0

    def over(self, events: Iterable[Recorded]) -> Sent:
        started_s = time.monotonic()
        stopped = False
        for event in events:
            known = event.topic == CATALOG
            stopped = self._stop.is_set() if known else not self._wait(event)
            if stopped:
                break
            self._shop.send(event, self._now)
            self._catalog += known
            self._events += not known
            self._in_slice += 1
            if self._in_slice >= SLICE_RECORDS:
                self._close_slice()
        self._shop.settle()
        self._report()
        return Sent(self._catalog, self._events, time.monotonic() - started_s, stopped)

    def _wait(self, event: Recorded) -> bool:
        """Sleep until a customer's event is due; False when the shop was stopped meanwhile."""
        if self._events == 0:
            self._shop.settle()  # every worker can know the catalogue before a customer acts
            self._first_ms, self._began_s = event.ts_ms, time.monotonic()
            self._slice_ends_s = self._began_s + SLICE_S
        if self._pace.free:
            return not self._stop.is_set()
        due_s = self._began_s + self._pace.after_s(self._events, event.ts_ms - self._first_ms)
        if not self._live and due_s <= self._slice_ends_s:
            return not self._stop.is_set()
        # Live events go each at their own moment: waiting for a slice would add to their latency.
        self._close_slice()
        stopped = self._stop.wait(max(0.0, due_s - time.monotonic()))
        self._slice_ends_s = max(due_s, time.monotonic()) + SLICE_S
        return not stopped

    def _close_slice(self) -> None:
        self._in_slice = 0
        if self._live:
            self._shop.look()
        else:
            self._shop.settle()
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(max(0, self._events - self._shop.pending))


def _retimed(value: bytes, at_ms: int) -> bytes:
    """The event with its `time` at `at_ms`; every other field stays as it is."""
    fields = _fields(value)
    fields["time"] = msgspec.Raw(_encode(to_text(at_ms)))
    return _encode(fields)
