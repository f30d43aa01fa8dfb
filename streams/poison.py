"""What cannot be applied is found and set apart, so that it stops nothing else.

An event or a timer that raises something unexpected spoils its batch, which is never stored. The
batch is then taken again in halves, down to the record that fails alone; after `TRIES` it becomes
a dead letter, ``crashed``, which moves the offset like any other. Timers likewise, one by one.

What kills the process leaves no error to catch, so a partition's owner leaves a trace: a key
beside its meta says that the partition is in hand, and a release removes it. Who claims a
partition and finds the trace of the owner before takes the next records in short stretches, each
named in the key before it is touched; a stretch that kills is taken record by record by the next
owner, and a record that was in hand at `TRIES` deaths in a row is given up. A worker's partitions
take turns meanwhile, so that a death accuses only what it came from. Without a death this costs
two calls a claim, and nothing a batch.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import msgspec
import structlog

from streams.store.errors import Fenced, StoreError
from triggers.errors import StateError
from triggers.state import MAX_TIMERS

log = structlog.get_logger(__name__)

#: Failures after which a record or timer is given up.
TRIES: Final = 3
#: Records of one stretch after a death.
STRETCH: Final = 32

Records = list[tuple[str, Any]]
Due = list[tuple[str, int]]


class Ward(Protocol):
    """What a partition does for this module."""

    async def room(self) -> None:
        """Wait until the outbox takes an entry."""
        ...

    async def attempt(self, records: Records, due: Due, one_timer: bool = False) -> str:
        """Apply as a batch; empty when that worked, else what was raised: nothing is stored then,
        and nothing of it is left in memory. ``one_timer``: only the first of the due timers."""
        ...

    async def due_before(self, topic: str, record: Any) -> Due:
        """The record's customer, when it has timers that fire before the record."""
        ...

    async def first_due(self, customer_id: str, horizon_ms: int) -> int:
        """A number that stands for the customer's next due timer; 0: none is due."""
        ...

    async def give_up(self, topic: str, record: Any, error: str) -> None:
        """Let the record become a dead letter."""
        ...

    async def set_aside(self, customer_id: str, horizon_ms: int, error: str) -> None:
        """Let the customer's next due timer become a dead letter."""
        ...


def is_poison(error: Exception) -> bool:
    """Whether an error may lie in what was applied, and not in the store or the machine."""
    return not isinstance(error, StoreError | StateError | MemoryError | OSError)


def told(error: Exception) -> str:
    """The kind and place of an error. Its text may quote what it failed on, so it stays out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace is not None else "?"
    return f"{type(error).__name__} at {code}:{trace.tb_lineno if trace is not None else 0}"


async def apply_apart(ward: Ward, records: Records, due: Due) -> None:
    """Apply what failed as one batch, in smaller ones; give up what fails alone."""
    if records:
        await _records_apart(ward, records)
    if due:
        await _timers(ward, due)


async def _records(ward: Ward, records: Records) -> None:
    if len(records) == 1 or await ward.attempt(records, []):
        await _records_apart(ward, records)


async def _records_apart(ward: Ward, records: Records) -> None:
    if len(records) > 1:
        middle = len(records) // 2
        await _records(ward, records[:middle])
        await _records(ward, records[middle:])
        return
    ((topic, record),) = records
    # A timer that cannot fire must not take the record with it that makes it fire.
    due = await ward.due_before(topic, record)
    if due:
        await _timers(ward, due)
    error = ""
    for _ in range(TRIES):
        error = await ward.attempt(records, [])
        if not error:
            return
    await ward.give_up(topic, record, error)


async def _timers(ward: Ward, due: Due) -> None:
    if not await ward.attempt([], due):
        return
    if len(due) > 1:
        middle = len(due) // 2
        await _timers(ward, due[:middle])
        await _timers(ward, due[middle:])
        return
    ((customer_id, horizon_ms),) = due
    # Each timer fires at most twice within a span: it may be put off once.
    for _ in range(2 * MAX_TIMERS):
        if not await ward.first_due(customer_id, horizon_ms):
            return
        for _ in range(TRIES):
            error = await ward.attempt([], due, one_timer=True)
            if not error:
                break
        else:
            await ward.set_aside(customer_id, horizon_ms, error)


class Trial(msgspec.Struct, frozen=True, array_like=True):
    """The trace that an owner leaves: what it has in hand, and how often that killed an owner.

    ``size`` 0: whole batches. ``hand``: something is in hand, ``at`` says what, without a name of
    anybody.
    """

    epoch: int
    size: int = 0
    tries: int = 0
    at: str = ""
    hand: bool = False


_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(Trial).decode


def next_trial(left: bytes | None, epoch: int) -> Trial:
    """How an owner begins, given the trace that lay there at its claim number ``epoch``."""
    if left is None:
        return Trial(epoch, hand=True)
    try:
        before = _unpack(left)
    except msgspec.DecodeError:
        return Trial(epoch, STRETCH)
    if before.epoch != epoch - 1:  # not the owner before us: a zombie's, or that of an older state
        return Trial(epoch, STRETCH)
    if not before.hand:  # it died before it touched anything
        return Trial(epoch, before.size, before.tries, before.at)
    if before.size == 1:
        return Trial(epoch, 1, before.tries + 1, before.at)
    return Trial(epoch, 1 if before.size else STRETCH)


class TrialStore(Protocol):
    """Where the trace lies."""

    async def trial(self, partition: int) -> bytes | None:
        """The trace of a partition."""
        ...

    async def set_trial(self, partition: int, trial: bytes | None) -> None:
        """Write it, or remove it."""
        ...


class Care:
    """How carefully a partition's owner goes."""

    def __init__(
        self, store: TrialStore, number: int, begin: Trial, normal: int, turns: asyncio.Lock
    ) -> None:
        """``normal`` is the size of a batch without care, records; ``turns`` is shared by the
        partitions of a worker."""
        self._turns = turns
        self._store = store
        self._number = number
        self._begin = begin
        self._normal = normal
        self._size = begin.size
        self._left = STRETCH if begin.size == 1 else normal if begin.size else 0

    @classmethod
    async def begin(
        cls, store: TrialStore, number: int, epoch: int, normal: int, turns: asyncio.Lock
    ) -> Care:
        """Look for the trace of the owner before, and leave our own."""
        begin = next_trial(await store.trial(number), epoch)
        await store.set_trial(number, _pack(begin))
        if begin.size:
            log.warning("the owner before died", partition=number, stretch=begin.size)
        return cls(store, number, begin, normal, turns)

    async def end(self) -> None:
        """Remove our own trace: all that was in hand is done."""
        left = await self._store.trial(self._number)
        if left is not None and left.startswith(b"[%d," % self._begin.epoch):
            await self._store.set_trial(self._number, None)

    @property
    def careful(self) -> bool:
        """Whether stretches are named before they are touched."""
        return self._size > 0

    @property
    def most(self) -> int:
        """Most records of the next batch."""
        return min(self._size, self._normal) if self._size else self._normal

    async def apply(self, ward: Ward, records: Records, due: Due) -> None:
        """Apply a stretch: records, or timers."""
        await self._turns.acquire()
        try:
            await self._apply(ward, records, due)
        except (asyncio.CancelledError, Fenced):  # it is not ours any more
            self._turns.release()
            raise
        # After an error the worker ends, and nobody else may take something in hand meanwhile.
        self._turns.release()

    async def _apply(self, ward: Ward, records: Records, due: Due) -> None:
        if self._size > 1:
            await self._name(ward, "stretch")
            if await ward.attempt(records, due):
                await apply_apart(ward, records, due)
        else:
            for topic, record in records:
                await self._one_record(ward, topic, record)
            await self._singly(ward, due)
        self._left -= len(records) + len(due)
        if self._left <= 0:
            await self._ease()
        if self._size:
            begin = self._begin
            rest = Trial(begin.epoch, self._size, begin.tries, begin.at)
            await self._store.set_trial(self._number, _pack(rest))

    async def _ease(self) -> None:
        if self._size == 1:
            self._size, self._left = STRETCH, self._normal
            return
        self._size = 0
        await self._store.set_trial(self._number, _pack(Trial(self._begin.epoch, hand=True)))

    async def _one_record(self, ward: Ward, topic: str, record: Any) -> None:
        name = f"{topic}/{record.offset}"
        if self._killed(name):
            await ward.give_up(topic, record, f"the worker died {TRIES} times with it in hand")
            return
        await self._name(ward, name)
        due = await ward.due_before(topic, record)
        if due:
            await self._singly(ward, due)
            await self._name(ward, name)
        if await ward.attempt([(topic, record)], []):
            await apply_apart(ward, [(topic, record)], [])

    async def _singly(self, ward: Ward, due: Due) -> None:
        for customer_id, horizon_ms in due:
            for _ in range(2 * MAX_TIMERS):
                timer = await ward.first_due(customer_id, horizon_ms)
                if not timer:
                    break
                name = f"timers/{timer}"
                if self._killed(name):
                    error = f"the worker died {TRIES} times with it in hand"
                    await ward.set_aside(customer_id, horizon_ms, error)
                    continue
                await self._name(ward, name)
                if await ward.attempt([], [(customer_id, horizon_ms)], one_timer=True):
                    await apply_apart(ward, [], [(customer_id, horizon_ms)])
            await ward.attempt([], [(customer_id, horizon_ms)])  # what was held until now

    def _killed(self, name: str) -> bool:
        return self._begin.at == name and self._begin.tries >= TRIES

    async def _name(self, ward: Ward, name: str) -> None:
        # A death while we wait for Kafka must accuse nothing that was not touched.
        await ward.room()
        tries = self._begin.tries if name == self._begin.at else 0
        trial = Trial(self._begin.epoch, self._size, tries, name, hand=True)
        await self._store.set_trial(self._number, _pack(trial))
