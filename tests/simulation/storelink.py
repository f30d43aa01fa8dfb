"""A worker's way to the store: delays, lost answers, refusals; the fake store at its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from streams.store.calls import Batch, Meta
from streams.store.errors import StoreError, StoreUnavailable, error_for
from streams.store.store import Store
from tests.simulation.fakestore import FakeStore
from tests.simulation.loop import OWNER, SimulatedLoop

T = TypeVar("T")


@dataclass
class StoreServer:
    """The one store of a run, with what goes wrong on the way to it."""

    loop: SimulatedLoop
    random: random.Random
    state: FakeStore
    now_ms: Callable[[], int]
    reply_lost: float = 0.0
    refusal: str = ""  # OOM or READONLY, while it lasts
    down_until: float = 0.0
    #: Told of every call that arrived: who, what, partition, the token of a write, and the answer.
    on_call: Callable[[str, str, int, str, object], None] = lambda *call: None

    def latency(self) -> float:
        """How long a message is under way, seconds."""
        return 0.0002 + 0.01 * self.random.random() ** 4

    def refused(self, name: str) -> str:
        """The code under which the server refuses a function just now."""
        if self.refusal == "OOM" and name == "trim":
            return ""  # it deletes, so it is let through
        return self.refusal


class StoreLink(Store):
    """What a simulated worker holds instead of a :class:`Store`; every call takes its time."""

    def __init__(self, server: StoreServer, who: str) -> None:
        super().__init__("redis://127.0.0.1:1")
        self._server = server
        self._who = who
        self._locks: dict[int, asyncio.Lock] = {}
        self.tokens: dict[int, str] = {}  # of the claims that were answered

    async def _ask(self, name: str, partition: int, what: Callable[[], T], token: str) -> T:
        """The answer to a call; ``token`` is that of a write, empty where nothing is written."""
        owner = OWNER.get()
        if owner is not None and owner.frozen:
            await asyncio.sleep(0)  # the process was stopped just before this call
        server = self._server
        # As with a connection: the calls of a partition go one after another.
        async with self._locks.setdefault(partition, asyncio.Lock()):
            answer: asyncio.Future[T] = server.loop.create_future()

            def arrive() -> None:
                result: T | StoreError
                if server.down_until > server.loop.time():
                    result = StoreUnavailable("NO_ANSWER", "the server is away")
                elif token and (code := server.refused(name)):
                    result = error_for(code)
                else:
                    try:
                        result = what()
                    except StoreError as error:
                        result = error
                    server.on_call(self._who, name, partition, token, result)
                    if token and server.random.random() < server.reply_lost:
                        result = StoreUnavailable("NO_ANSWER", "the answer was lost")
                server.loop.after(server.latency(), _settle, answer, result)

            server.loop.after(server.latency(), arrive)
            return await answer

    async def release(self, partition: int) -> None:
        """Nothing is open."""

    async def claim(
        self, partition: int, token: str, generation: int, partitions: int, schema: int
    ) -> Meta:
        """As ``Store.claim``."""
        state = self._server.state
        args = (partition, token, generation, partitions, schema)
        meta = await self._ask("claim", partition, lambda: state.claim(*args), token)
        self.tokens[partition] = token
        return meta

    async def apply(self, partition: int, batch: Batch) -> None:
        """As ``Store.apply``."""
        state = self._server.state
        await self._ask("apply", partition, lambda: state.apply(partition, batch), batch.token)

    async def trim(
        self, partition: int, token: str, up_to: int, trimmed: Mapping[str, int]
    ) -> None:
        """As ``Store.trim``."""
        state = self._server.state
        args = (partition, token, up_to, dict(trimmed))
        await self._ask("trim", partition, lambda: state.trim(*args), token)

    async def meta(self, partition: int) -> Meta | None:
        """As ``Store.meta``."""
        state = self._server.state
        return await self._look("meta", partition, lambda: state.meta(partition))

    async def own(self, partition: int, token: str) -> None:
        """As ``Store.own``."""
        meta = await self.meta(partition)
        if meta is not None and meta.token != token:
            raise error_for("FENCED")

    async def server_ms(self) -> int | None:
        """As ``Store.server_ms``."""
        return await self._look("server_ms", -1, self._server.now_ms)

    async def trial(self, partition: int) -> bytes | None:
        """As ``Store.trial``."""
        state = self._server.state
        return await self._look("trial", partition, lambda: state.trial(partition))

    async def set_trial(self, partition: int, trial: bytes | None) -> None:
        """As ``Store.set_trial``."""
        state = self._server.state
        await self._look("set_trial", partition, lambda: state.set_trial(partition, trial))

    async def load(
        self, partition: int, customers: Iterable[bytes], parts: str
    ) -> dict[bytes, dict[str, bytes]]:
        """As ``Store.load``."""
        state, wanted = self._server.state, list(customers)
        return await self._look("load", partition, lambda: state.load(partition, wanted, parts))

    async def page(
        self, partition: int, bucket: int, letter: str, cursor: int, count: int
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """As ``Store.page``."""
        state, asked = self._server.state, (partition, bucket, letter, cursor, count)
        return await self._look("page", partition, lambda: state.page(*asked))

    async def due(self, partition: int, up_to_ms: int, limit: int) -> list[tuple[bytes, int]]:
        """As ``Store.due``."""
        state = self._server.state
        return await self._look("due", partition, lambda: state.due(partition, up_to_ms, limit))

    async def next_due(self, partition: int) -> int | None:
        """As ``Store.next_due``."""
        state = self._server.state
        return await self._look("next_due", partition, lambda: state.next_due(partition))

    async def pending(self, partition: int) -> int:
        """As ``Store.pending``."""
        state = self._server.state
        return await self._look("pending", partition, lambda: state.pending(partition))

    async def outbox(
        self, partition: int, after: int = 0, limit: int = 1_000_000
    ) -> list[tuple[int, bytes]]:
        """As ``Store.outbox``."""
        state = self._server.state
        return await self._look("outbox", partition, lambda: state.outbox(partition, after, limit))

    async def _look(self, name: str, partition: int, what: Callable[[], T]) -> T:
        return await self._ask(name, partition, what, "")


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, StoreError):
        answer.set_exception(result)
    else:
        answer.set_result(result)
