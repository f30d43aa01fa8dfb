"""Sending refused records once more: in order, each once, and only what the door now takes.

What is sent is the original record, read again where it lies: with its headers, and whole also
where the letter kept only its beginning. Where its topic no longer keeps it, the letter's copy is
sent, if it is whole. ``(source, id)`` stay as they were, so the memory of repeats drops what was
applied meanwhile; and what was sent is noted on the compacted topic ``replays``, so that a second
run passes it over.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.clock import instant_text, wall_ms
from streams.codec import Door
from streams.control import told
from streams.deadletters import REPLAYED_FROM
from streams.errors import PreconditionError
from streams.letters import Letter, Wanted, read_letter
from streams.murmur2 import partition_of
from streams.scanning import partitions_of, reader, record_at, scan
from streams.settings import Settings
from streams.topicids import read_accepted
from streams.topics import DEAD_LETTERS, REPLAYS
from triggers.errors import Refused
from triggers.events import TOPICS, EventType
from triggers.state import SEEN_MS

_ACK_S = 30
#: The time of a note that tells none: later than any topic was made anew.
UNTOLD_MS = 2**62
#: Two topics are merged by timestamps of whole milliseconds: what follows must have a later one.
_NEXT_MS_S = 0.002

#: Whether a record of this customer, of that instant (ms), may come back: False for the erased.
#: Asked for each letter: somebody may be erased while a long replay runs.
MayReplay = Callable[[str, int], bool]


@dataclass(slots=True)
class Original:
    """What would be sent: the record as it lies in its topic, or the letter's copy of it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    at_ms: int
    is_copy: bool


@dataclass(slots=True)
class Outcome:
    """What became of one refused record: `what` is `sent`, `would send`, `skipped`,
    `refused`, or `left` for what lies beyond the limit."""

    place: str
    what: str
    why: str = ""
    to: str = ""


class Resender:
    """Judges refused records and sends them; one run."""

    def __init__(
        self,
        settings: Settings,
        custom: dict[str, EventType],
        *,
        again: bool = False,
        dry: bool = False,
        allowed: MayReplay,
        now: Callable[[], int] = wall_ms,
    ) -> None:
        """``custom`` are the types that the rule book declares; ``again`` sends also what was
        sent before; ``dry`` sends nothing; ``allowed`` asks the ledger of the erased."""
        self._settings = settings
        self._custom = custom
        self._again = again
        self._dry = dry
        self._allowed = allowed
        self._now = now
        self._last_topic = ""

    def run(self, wanted: Wanted, limit: int) -> Iterator[Outcome]:
        """Send what is wanted, at most ``limit`` records; `PreconditionError` without Kafka."""
        settings = self._settings
        with ExitStack() as stack:
            letters = stack.enter_context(reader(settings, "tsuide-dead-letters"))
            originals = stack.enter_context(reader(settings, "tsuide-originals"))
            self._originals = originals
            self._partitions = len(partitions_of(letters, settings.topic(TOPICS[0])))
            self._door = Door(self._partitions, self._custom)
            self._done = read_replays(settings)
            self._anew = read_accepted(told(settings))
            self._producer = None if self._dry else stack.enter_context(self._connect())
            taken = 0
            for letter in read_letters(letters, settings):
                if not wanted.takes(letter):
                    continue
                for offset in wanted.offsets(letter):
                    if taken == limit:
                        yield Outcome(f"{letter.topic}/{letter.number}/{offset}", "left")
                        continue
                    outcome = self._handle(letter, offset)
                    taken += outcome.what in ("sent", "would send")
                    yield outcome

    def _connect(self) -> Any:
        return closing(
            KafkaProducer(
                **self._settings.kafka_options(), client_id="tsuide-replay", acks="all", retries=5
            )
        )

    def _handle(self, letter: Letter, offset: int) -> Outcome:
        place = f"{letter.topic}/{letter.number}/{offset}"
        if letter.is_timer:
            return Outcome(place, "refused", "a timer: the next event that arms it does so anew")
        # Places in a topic that was made anew begin again from 0.
        anew_ms = self._anew.get(letter.topic, 0)
        if letter.is_summary and letter.at_ms < anew_ms:
            return Outcome(place, "refused", "its topic was made anew: other records lie there now")
        done_ms = self._done.get(place)
        if done_ms is not None and not (done_ms < anew_ms <= letter.at_ms) and not self._again:
            return Outcome(place, "skipped", f"sent before, at {replayed_at(done_ms)}")
        original = self._original(letter, offset)
        why = "gone from its topic, and no whole copy was kept" if original is None else ""
        if original is not None:
            why = self._objection(letter, original)
        if original is None or why:
            return Outcome(place, "refused", why)
        old = self._now() - original.at_ms > SEEN_MS
        note = "older than 72 h: what was applied since then is not noticed" if old else ""
        if self._dry:
            self._done.setdefault(place, self._now())
            return Outcome(place, "would send", note)
        to = self._send(place, original)
        return Outcome(place, "sent", note, to)

    def _original(self, letter: Letter, offset: int) -> Original | None:
        topic = self._settings.topic(letter.topic)
        found = record_at(self._originals, topic, letter.number, offset)
        if found is not None and (
            letter.is_summary or hashlib.sha256(found.value or b"").hexdigest() == letter.sha256
        ):
            headers = [(name, value) for name, value in found.headers or ()]
            key, value = found.key, found.value
            return Original(letter.topic, key, value, headers, found.timestamp, is_copy=False)
        if letter.is_summary or letter.cut:
            return None
        return Original(letter.topic, letter.key, letter.value, [], letter.at_ms, is_copy=True)

    def _objection(self, letter: Letter, original: Original) -> str:
        """Why a record is not sent; empty when it may go."""
        now = self._now()
        if letter.topic not in TOPICS:
            return "its topic is none of ours"
        key = original.key or b""
        try:
            event = self._door.decode(
                letter.topic,
                partition_of(key, self._partitions),
                original.key,
                original.value,
                original.headers,
                self._stamp(original) or now,
                now,
            )
        except Refused as refused:
            return f"it would be refused again: {refused.reason}: {refused.detail}"
        remembered_until = letter.at_ms + SEEN_MS
        if letter.reason == "id_conflict" and now <= remembered_until:
            return "it would be refused again: another body under its id is remembered for 72 h"
        # Of a copy only the event itself can tell how old it may be.
        at_ms = min(event.time_ms, original.at_ms) if original.is_copy else original.at_ms
        if not self._allowed(event.subject, at_ms):
            return "its customer was erased or objected since then"
        return ""

    def _stamp(self, original: Original) -> int | None:
        """The timestamp to send it with: now, but where time is the log's, its own."""
        return original.at_ms if self._settings.clock == "log" else None

    def _send(self, place: str, original: Original) -> str:
        """Send and note one record; answers where it lies. Each is acknowledged before the next,
        so that the order of a customer's records over several topics is kept."""
        if self._last_topic not in ("", original.topic):
            time.sleep(_NEXT_MS_S)
        self._last_topic = original.topic
        assert self._producer is not None
        kept = [(name, value) for name, value in original.headers if name != REPLAYED_FROM]
        key = original.key or b""
        try:
            sent = self._producer.send(
                self._settings.topic(original.topic),
                key=key,
                value=original.value,
                headers=[*kept, (REPLAYED_FROM, place.encode())],
                partition=partition_of(key, self._partitions),
                timestamp_ms=self._stamp(original),
            ).get(timeout=_ACK_S)
            to = f"{original.topic}/{sent.partition}/{sent.offset}"
            at = self._now()
            note = json.dumps({"at": at, "to": to}).encode()
            replays = self._settings.topic(REPLAYS)
            self._producer.send(replays, key=place.encode(), value=note, partition=0).get(_ACK_S)
        except KafkaError as error:
            raise PreconditionError(
                f"{place}: Kafka does not acknowledge ({type(error).__name__}); it may have been "
                "sent, and a second copy is dropped as a repeat"
            ) from error
        self._done[place] = at
        return to


def read_letters(consumer: Any, settings: Settings) -> Iterator[Letter]:
    """All letters up to the topic's present end, by partition, in the order of their refusal."""
    topic = settings.topic(DEAD_LETTERS)
    for number in partitions_of(consumer, topic):
        for record in scan(consumer, topic, number):
            letter = read_letter(record)
            if letter is not None:
                yield letter


def read_replays(settings: Settings) -> dict[str, int]:
    """Which places were sent once more, and when (ms); `PreconditionError` without the topic."""
    topic = settings.topic(REPLAYS)
    done: dict[str, int] = {}
    with reader(settings, "tsuide-replays") as consumer:
        partitions_of(consumer, topic)
        for record in scan(consumer, topic, 0):
            if record.key is not None and record.value is not None:
                done[record.key.decode(errors="replace")] = _noted_at(record.value)
    return done


def _noted_at(value: bytes) -> int:
    try:
        return int(json.loads(value)["at"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return UNTOLD_MS


def replayed_at(at_ms: int) -> str:
    """The instant of a note as text."""
    return "a time that the note does not tell" if at_ms == UNTOLD_MS else instant_text(at_ms)
