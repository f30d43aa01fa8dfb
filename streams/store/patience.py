"""A store that is waited for while its server is away, full, or refuses to write.

A worker that ended with every hiccup of its store would turn a restart of two seconds into an
alarm. What passes by itself is waited out here, with pauses that grow and differ; the partition
stands still meanwhile and everything else of the worker goes on. What does not pass (another
owner, another position, a lost function library) is raised as before and ends the worker.

Calls that may be repeated are. A batch whose answer was lost is offered again as it was: token and
number let the store take it once, and where it says that it stands elsewhere, its position tells
whether that is because the batch was taken the first time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from streams.clock import steady_ms
from streams.store.calls import Batch
from streams.store.connection import Address, Link
from streams.store.errors import OffsetMismatch, StoreError, StoreFull, StoreUnavailable
from streams.store.store import Store

log = structlog.get_logger(__name__)

#: What passes by itself, beside `StoreUnavailable` and `StoreFull`; nothing was written.
PASSING: Final = frozenset({"MISCONF", "READONLY", "NOREPLICAS"})
#: The answer of a server that has become another's replica: the address may lead elsewhere now.
ELSEWHERE: Final = frozenset({"READONLY", "MASTERDOWN"})
PAUSE_S_MIN: Final = 0.05
PAUSE_S_MAX: Final = 2.0


def passes(error: StoreError) -> bool:
    """Whether an error is waited out."""
    return isinstance(error, StoreUnavailable | StoreFull) or error.code in PASSING


class Patience:
    """Who waits for the store, and why; shared by all connections of a worker."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()  # pauses so far, by code
        self._troubles: dict[object, str] = {}
        self._halt = ""
        self._open = asyncio.Event()
        self._open.set()
        self._since_ms = 0
        self._until_ms = 0

    @property
    def trouble(self) -> str:
        """Why something waits now: a code of the store or of a finding; empty when all is well."""
        return self._halt or next(iter(self._troubles.values()), "")

    @property
    def until_ms(self) -> int:
        """When something last had to wait, steady time; now, while something does."""
        return steady_ms() if self.trouble else self._until_ms

    @contextmanager
    def _noting(self, who: object) -> Iterator[None]:
        try:
            yield
        finally:
            if self._troubles.pop(who, None) is not None:
                self._maybe_over()

    def waiting(self, who: object) -> Any:
        """A context in which ``who`` makes its tries; its trouble ends with it."""
        return self._noting(who)

    async def pause(self, who: object, error: StoreError, tries: int) -> None:
        """Wait before try number ``tries`` + 1."""
        if not self.trouble:
            self._begin(error.code)
        self._troubles[who] = error.code
        self.waits[error.code] += 1
        pause_s = min(PAUSE_S_MAX, PAUSE_S_MIN * 2 ** min(tries, 10))
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads the tries

    def halt(self, code: str) -> None:
        """Let no batch be written until `resume`: the server is not fit to hold our state."""
        if self._halt != code:
            self._begin(code)
        self._halt = code
        self._open.clear()

    def resume(self) -> None:
        """Let batches be written again."""
        if self._halt:
            self._halt = ""
            self._open.set()
            self._maybe_over()

    async def open(self) -> None:
        """Wait until batches may be written."""
        await self._open.wait()

    def _begin(self, code: str) -> None:
        self._since_ms = steady_ms()
        log.error("the store is waited for", code=code)

    def _maybe_over(self) -> None:
        self._until_ms = steady_ms()
        if not self.trouble:
            log.warning("the store serves again", after_ms=self._until_ms - self._since_ms)


class PatientLink(Link):
    """A connection whose repeatable calls are repeated until they are answered."""

    def __init__(self, address: Address, patience: Patience) -> None:
        super().__init__(address)
        self._patience = patience

    async def packed(self, data: bytes, replies: int = 1, *, again: bool = False) -> list[Any]:
        """As :meth:`Link.packed`; with ``again`` what passes is waited out."""
        if not again:
            return await super().packed(data, replies)
        who, tries = object(), 0
        with self._patience.waiting(who):
            while True:
                try:
                    # Once: the try that `again` would add could hide a silent server for 5 s more.
                    return await super().packed(data, replies)
                except StoreError as error:
                    if not passes(error):
                        raise
                    if error.code in ELSEWHERE:
                        await self.close()
                    await self._patience.pause(who, error, tries)
                    tries += 1


class PatientStore(Store):
    """A store whose calls wait for the server; see the module."""

    def __init__(self, url: str, prefix: str = "", timeout_s: float = 5.0) -> None:
        self.patience = Patience()
        super().__init__(url, prefix, timeout_s)

    def _new_link(self) -> Link:
        return PatientLink(self._address, self.patience)

    async def apply(self, partition: int, batch: Batch) -> None:
        """As :meth:`Store.apply`, but only what does not pass is raised."""
        tries, doubtful = 0, False
        who = object()
        with self.patience.waiting(who):
            while True:
                # Before each try: a halt may begin while what passes by itself is waited out.
                await self.patience.open()
                try:
                    await super().apply(partition, batch)
                    return
                except OffsetMismatch:
                    if doubtful and await self._took(partition, batch):
                        return
                    raise
                except StoreError as error:
                    if not passes(error):
                        raise
                    doubtful = doubtful or isinstance(error, StoreUnavailable)
                    if error.code in ELSEWHERE:
                        await self.release(partition)
                    await self.patience.pause(who, error, tries)
                    tries += 1

    async def _took(self, partition: int, batch: Batch) -> bool:
        """Whether the store stands where the batch leads, under the batch's token."""
        meta = await self.meta(partition)
        if meta is None or meta.token != batch.token or meta.number != batch.number + 1:
            return False
        return all(meta.offsets.get(topic, 0) == new for topic, (_, new) in batch.offsets.items())

    async def look_anew(self) -> None:
        """Drop all connections, each after its call in flight: the address may lead elsewhere."""
        for partition in list(self._links):
            await self.release(partition)
        await self._shared.close()
