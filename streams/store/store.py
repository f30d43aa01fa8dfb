"""The store: what a partition knows, moved by one atomic call at a time.

Every partition has a connection of its own, so that their calls overlap in the server's queue and
one that is dropped disturbs no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Self

from streams.store.calls import (
    LIBRARY,
    Batch,
    Meta,
    apply_command,
    claim_command,
    load_commands,
    read_due,
    read_entries,
    read_meta,
    trim_command,
)
from streams.store.connection import Address, Link
from streams.store.errors import FunctionsMissing, StoreError, StoreUnavailable, error_for
from streams.store.keys import PartitionKeys, check_prefix, partition_keys
from streams.store.server import Finding, check_info, parse_info

OUTBOX_PAGE = 64
"""Entries fetched at once: one may hold the records of a thousand decisions."""


@cache
def library_code() -> str:
    """The text of the function library."""
    return files("streams.store").joinpath("functions.lua").read_text("utf-8")


class Store:
    """The partitions' state in a Redis or Valkey server.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it.
        prefix: goes into every key's tag, for several books on one server.
        timeout_s: deadline of one call, connecting included.

    Every method raises :class:`StoreError` or one of its kinds.
    """

    def __init__(self, url: str, prefix: str = "", timeout_s: float = 5.0) -> None:
        self.prefix = check_prefix(prefix)
        self._address = Address(url, timeout_s)
        self._shared = self._new_link()
        self._links: dict[int, Link] = {}
        self._keys: dict[int, PartitionKeys] = {}

    def __repr__(self) -> str:
        return f"Store({self._address}, prefix={self.prefix!r})"

    @classmethod
    async def connect(cls, url: str, prefix: str = "", timeout_s: float = 5.0) -> Self:
        """A store whose server answers."""
        store = cls(url, prefix, timeout_s)
        await store._shared.call(("PING",))
        return store

    async def close(self) -> None:
        """Close all connections, each after its call in flight."""
        for partition in list(self._links):
            await self.release(partition)
        await self._shared.close()

    async def release(self, partition: int) -> None:
        """Close the connection of a partition that was given up."""
        link = self._links.pop(partition, None)
        if link is not None:
            await link.close()

    def keys(self, partition: int) -> PartitionKeys:
        """The keys of a partition."""
        keys = self._keys.get(partition)
        if keys is None:
            keys = self._keys[partition] = partition_keys(partition, self.prefix)
        return keys

    def _link(self, partition: int) -> Link:
        link = self._links.get(partition)
        if link is None:
            link = self._links[partition] = self._new_link()
        return link

    def _new_link(self) -> Link:
        return Link(self._address)

    # The server

    async def ensure_functions(self) -> None:
        """Load the function library unless the server has exactly this one.

        A user who may not manage functions is served when the library is there already.
        """
        code = library_code()
        try:
            listed = await self._shared.call(
                ("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE"), again=True
            )
            known = dict(zip(listed[0][::2], listed[0][1::2], strict=True)) if listed else {}
            if known.get(b"library_code") != code.encode():
                await self._shared.call(("FUNCTION", "LOAD", "REPLACE", code), again=True)
        except StoreError as error:
            if error.code != "NOPERM":
                raise
            await self._probe_functions()

    async def _probe_functions(self) -> None:
        try:
            await self._shared.call(("FCALL", LIBRARY + "_trim", 0), again=True)
        except FunctionsMissing:
            raise FunctionsMissing(
                "NOT_FOUND", f"an administrator must load the function library {LIBRARY}"
            ) from None
        except StoreError as error:
            if error.code != "BAD_KEYS":  # the library's own answer to a call without keys
                raise

    async def check_server(self) -> list[Finding]:
        """What is wrong with the server; fatal findings forbid to start."""
        info = await self._shared.call(("INFO",), again=True)
        return check_info(parse_info(info.decode("utf-8", "replace")))

    async def appendfsync(self) -> str:
        """The server's ``appendfsync``; "" when the user may not ask."""
        try:
            reply = await self._shared.call(("CONFIG", "GET", "appendfsync"), again=True)
        except StoreUnavailable:
            raise
        except StoreError:
            return ""
        return reply[1].decode() if len(reply) == 2 else ""

    async def server_ms(self) -> int | None:
        """The server's own clock, ms since 1970; None when the user may not ask."""
        try:
            seconds, micros = await self._shared.call(("TIME",), again=True)
        except StoreUnavailable:
            raise
        except StoreError:
            return None
        return int(seconds) * 1000 + int(micros) // 1000

    # A partition

    async def claim(
        self, partition: int, token: str, generation: int, partitions: int, schema: int
    ) -> Meta:
        """Become the owner of a partition; the last to claim is the owner.

        Args:
            partition: the partition.
            token: random text of this claim (``new_token``).
            generation: the consumer group's generation, for people who look.
            partitions: the topics' number of partitions.
            schema: version of the packed documents that we write.

        Raises:
            SchemaNewer: a later release wrote the partition.
            PartitionCountChanged: it was written under another number of partitions.
        """
        command = claim_command(self.keys(partition), token, generation, partitions, schema)
        return read_meta(await self._link(partition).call(command, again=True))

    async def meta(self, partition: int) -> Meta | None:
        """The partition's meta, None when it was never claimed."""
        flat = await self._link(partition).call(("HGETALL", self.keys(partition).meta), again=True)
        return read_meta(flat) if flat else None

    async def positions(self, partitions: Sequence[int]) -> dict[int, tuple[int, str]]:
        """The number of the next call and the digest of the rule book, of claimed partitions."""
        asked = [("HMGET", self.keys(number).meta, "n", "book") for number in partitions]
        if not asked:
            return {}
        replies = await self._shared.pipeline(asked, again=True)
        found = zip(partitions, replies, strict=True)
        return {p: (int(n), (book or b"").decode()) for p, (n, book) in found if n is not None}

    async def verify(self, partition: int, token: str, number: int) -> None:
        """Check that a partition is where its owner left it, when no batch is there to tell.

        Raises:
            Fenced: the partition belongs to another worker.
            OffsetMismatch: ``number`` is not that of the next call: the store was set back.
        """
        meta = await self.meta(partition)
        if meta is not None and meta.token != token:
            raise error_for("FENCED")
        if meta is None or meta.number != number:
            raise error_for("OFFSET_MISMATCH")

    async def own(self, partition: int, token: str) -> None:
        """Whether the partition is still that token's; raises `Fenced` when not."""
        meta = await self.meta(partition)
        if meta is not None and meta.token != token:
            raise error_for("FENCED")

    async def identity(self, partition: int) -> str | None:
        """The identity that a partition got in this store; None where it has none."""
        command = ("HGET", self.keys(partition).meta, "store")
        found = await self._link(partition).call(command, again=True)
        return None if found is None else str(found.decode())

    async def identify(self, partition: int, identity: str) -> None:
        """Give a claimed partition an identity, unless it has one."""
        command = ("HSETNX", self.keys(partition).meta, "store", identity)
        await self._link(partition).call(command, again=True)

    async def apply(self, partition: int, batch: Batch) -> None:
        """Write a batch as a whole or not at all.

        Raises:
            Fenced: the partition belongs to another worker; nothing was written.
            OffsetMismatch: the store stands elsewhere; nothing was written.
            StoreFull: no memory; nothing was written.
            StoreUnavailable: no answer; it is unknown whether the batch was written. It is never
                sent again by itself: claim, and see where the store stands.
        """
        (reply,) = await self._link(partition).packed(apply_command(self.keys(partition), batch))
        if reply != b"%d" % batch.number:
            await self.release(partition)
            raise StoreUnavailable("NOT_OURS", "the answer belongs to another call")

    async def trial(self, partition: int) -> bytes | None:
        """What the last owner had in hand (``streams.poison``); None when it gave it up."""
        reply: bytes | None = await self._link(partition).call(
            ("GET", self.keys(partition).trial), again=True
        )
        return reply

    async def set_trial(self, partition: int, trial: bytes | None) -> None:
        """Note what is in hand, or that nothing is."""
        key = self.keys(partition).trial
        command: tuple[bytes | str, ...] = ("SET", key, trial) if trial else ("DEL", key)
        await self._link(partition).call(command, again=True)

    async def load(
        self, partition: int, customers: Iterable[bytes], parts: str
    ) -> dict[bytes, dict[str, bytes]]:
        """The stored parts (by letter) of customers; an unknown customer has none."""
        asked = load_commands(self.keys(partition), customers, parts)
        if not asked:
            return {}
        replies = await self._link(partition).pipeline([cmd for _, cmd in asked], again=True)
        loaded: dict[bytes, dict[str, bytes]] = {}
        width = len(parts)
        for (members, _), values in zip(asked, replies, strict=True):
            for i, customer in enumerate(members):
                found = zip(parts, values[i * width : (i + 1) * width], strict=True)
                loaded[customer] = {part: value for part, value in found if value is not None}
        return loaded

    async def page(
        self, partition: int, bucket: int, letter: str, cursor: int, count: int
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Some customers of a bucket with one of their parts, and where to go on, 0 at its end.

        As with Redis's ``HSCAN``: whoever is there from the first page to the last is told at
        least once, and ``count`` is what a page costs, not what it holds.
        """
        key = self.keys(partition).customers[bucket]
        command = ("HSCAN", key, cursor, "MATCH", f"{letter}*", "COUNT", count)
        further, flat = await self._link(partition).call(command, again=True)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return int(further), [(field[1:], value) for field, value in pairs]

    async def due(self, partition: int, up_to_ms: int, limit: int) -> list[tuple[bytes, int]]:
        """At most ``limit`` customers with a timer due at or before a time, earliest first."""
        command = ("ZRANGE", self.keys(partition).due, "-inf", up_to_ms, "BYSCORE")
        page = ("LIMIT", 0, limit, "WITHSCORES")
        return read_due(await self._link(partition).call((*command, *page), again=True))

    async def next_due(self, partition: int) -> int | None:
        """The earliest due time in ms, None without any timer."""
        command = ("ZRANGE", self.keys(partition).due, 0, 0, "WITHSCORES")
        first = read_due(await self._link(partition).call(command, again=True))
        return first[0][1] if first else None

    async def pending(self, partition: int) -> int:
        """The number of customers who have a timer pending."""
        command = ("ZCARD", self.keys(partition).due)
        return int(await self._link(partition).call(command, again=True))

    async def outbox(
        self, partition: int, after: int = 0, limit: int = 1_000_000
    ) -> list[tuple[int, bytes]]:
        """The (number, records) of calls whose records were not trimmed, after a number."""
        entries: list[tuple[int, bytes]] = []
        while len(entries) < limit:
            count = min(OUTBOX_PAGE, limit - len(entries))
            start = f"({entries[-1][0] if entries else after}-0"
            command = ("XRANGE", self.keys(partition).outbox, start, "+", "COUNT", count)
            page = read_entries(await self._link(partition).call(command, again=True))
            entries += page
            if len(page) < count:
                break
        return entries

    async def outbox_size(self, partition: int) -> int:
        """The number of calls whose records were not trimmed."""
        command = ("XLEN", self.keys(partition).outbox)
        return int(await self._link(partition).call(command, again=True))

    async def trim(
        self, partition: int, token: str, up_to: int, trimmed: Mapping[str, int]
    ) -> None:
        """Trim the outbox up to a number, inclusive, when no batch is there to do it.

        Raises:
            Fenced: the partition belongs to another worker.
            OffsetMismatch: that number was not given yet: the store was set back.
        """
        command = trim_command(self.keys(partition), token, up_to, trimmed)
        await self._link(partition).call(command, again=True)
