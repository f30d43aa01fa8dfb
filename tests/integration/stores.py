"""What the tests of the store share: a store that is ready, a good batch, all that is stored."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import redis

from streams.embedded import EmbeddedStore
from streams.store import Batch, Meta, Store, new_token

P = 17
T = TypeVar("T")


def empty(server: EmbeddedStore) -> Iterator[redis.Redis]:
    """A plain client, on an empty server."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("maxmemory", "0")
        client.flushall()
        yield client


@contextlib.asynccontextmanager
async def opened(
    server: EmbeddedStore, prefix: str = "", timeout_s: float = 5.0
) -> AsyncIterator[Store]:
    """A store with its functions loaded."""
    async with opened_at(server.url, prefix, timeout_s) as store:
        yield store


@contextlib.asynccontextmanager
async def opened_at(url: str, prefix: str = "", timeout_s: float = 5.0) -> AsyncIterator[Store]:
    """The same by an address."""
    store = await Store.connect(url, prefix, timeout_s)
    try:
        await store.ensure_functions()
        yield store
    finally:
        await store.close()


async def claimed(store: Store, partition: int = P) -> Meta:
    """The meta of a fresh claim."""
    return await store.claim(partition, new_token(), 1, 32, 1)


def first(meta: Meta, **changes: Any) -> Batch:
    """A batch that a partition without offsets takes."""
    batch: dict[str, Any] = {
        "token": meta.token,
        "number": meta.number,
        "offsets": {"cart": (None, 5), "purchase": (None, 3)},
        "docs": {(b"c-1", "n"): b"now", (b"c-1", "o"): b"orders", (b"c-2", "n"): b"other"},
        "due": {b"c-1": 2_000, b"c-2": 1_000},
        "outbox": b"records",
        "book": "digest",
    }
    return Batch(**{**batch, **changes})


def keys_of(client: redis.Redis) -> list[bytes]:
    """The names of all keys."""
    return sorted({bytes(key) for key in client.scan_iter() if isinstance(key, bytes)})


def execute(client: redis.Redis, *words: str) -> None:
    """Run a command that the client has no method for."""
    client.execute_command(*words)  # type: ignore[no-untyped-call]


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """All that the server holds."""
    return {key: client.dump(key) for key in keys_of(client)}


async def until(ready: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's work, within a minute; what it returns."""
    return asyncio.run(asyncio.wait_for(work, 60))
