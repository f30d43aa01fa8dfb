"""The append-only file cut in the middle of a call: the server starts, and the call never was."""

from __future__ import annotations

import shutil
from pathlib import Path

import redis

from streams.embedded import EmbeddedStore
from streams.store import Batch
from tests.integration.stores import opened, run

#: With the first and last bytes of the call and so many in between; each is a start of a server.
CUTS = 14


def batch(token: str, number: int, value: bytes) -> Batch:
    return Batch(
        token=token,
        number=number,
        offsets={"cart": (None if number == 1 else number - 1, number)},
        docs={(b"ann", "n"): value, (b"bob", "n"): value},
        due={b"ann": 1_000 + number},
        outbox=value,
    )


def stored(raw: redis.Redis) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for key in sorted(raw.scan_iter()):
        kind = raw.type(key)
        if kind == b"hash":
            found[key] = raw.hgetall(key)
        elif kind == b"zset":
            found[key] = raw.zrange(key, 0, -1, withscores=True)
        else:
            found[key] = raw.xrange(key)
    return found


def test_s06_a_call_that_is_cut_anywhere_in_the_file_is_gone_as_a_whole(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    with (
        EmbeddedStore(origin, options={"appendfsync": "always"}) as server,
        redis.Redis.from_url(server.url, protocol=2) as raw,
    ):

        async def body() -> tuple[dict[bytes, object], int]:
            async with opened(server) as store:
                meta = await store.claim(0, "t", 1, 1, 1)
                await store.apply(0, batch(meta.token, 1, b"first"))
                before = stored(raw)
                size = log_of(origin).stat().st_size
                await store.apply(0, batch(meta.token, 2, b"second"))
                return before, size

        before, begin = run(body())
        after = stored(raw)
    end = log_of(origin).stat().st_size
    assert before != after
    assert end - begin > CUTS * 2
    places = {begin, begin + 1, end - 1, end}
    places |= {begin + (end - begin) * cut // CUTS for cut in range(1, CUTS)}
    for place in sorted(places):
        copy = tmp_path / f"cut-{place}"
        shutil.copytree(origin, copy)
        with log_of(copy).open("r+b") as stream:
            stream.truncate(place)
        with EmbeddedStore(copy) as server, redis.Redis.from_url(server.url, protocol=2) as raw:
            assert stored(raw) == (after if place == end else before), place
        shutil.rmtree(copy)


def log_of(directory: Path) -> Path:
    """The part of the append-only file that grows."""
    (found,) = directory.rglob("*.incr.aof")
    return found
