"""One connection to the store, on which a reply always belongs to its own call.

redis-py makes the connection (TLS, user and password, database) and hiredis packs and parses. The
asyncio client of redis-py packs its commands in Python, which would cost more than the server's
work on them, so commands are packed here.

A call that is cancelled, times out or fails in the middle closes its connection: otherwise the
next call would read the reply of the previous one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from streams.store.calls import Command, pack
from streams.store.errors import StoreError, StoreUnavailable, error_for
from streams.tls import HUNG_UP, tls_reason

_CODE = re.compile(r"[A-Z][A-Z_]{1,31}")
_READ_SIZE = 1 << 18


class Address:
    """Where the store is and how to get in. Its text never holds the password.

    Raises:
        ValueError: the URL is none of redis://, rediss:// and unix://.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            options: dict[str, Any] = dict(parse_url(url))
        except ValueError:
            # The parser's own text may quote a piece of the password.
            raise ValueError(
                "the store's URL must read redis://, rediss:// or unix://, then "
                "[user:password@]host[:port][/db], special characters percent-encoded"
            ) from None
        self._kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        # Ours govern: one deadline for a whole call, and replies as flat lists.
        options.update(
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            protocol=2,
            decode_responses=False,
            driver_info=None,
            socket_read_size=_READ_SIZE,
        )
        for name in ("max_connections", "timeout", "retry_on_timeout", "health_check_interval"):
            options.pop(name, None)
        self._options = options
        self.timeout_s = timeout_s
        self.tls = issubclass(self._kind, SSLConnection)

    def __repr__(self) -> str:
        where = self._options.get("path") or (
            f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"
        )
        return f"{where}/{self._options.get('db', 0)}"

    def connection(self) -> AbstractConnection:
        """A new connection, not yet open."""
        return self._kind(**self._options)


class Link:
    """A connection that opens when needed; its calls go one after another."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def call(self, command: Command, *, again: bool = False) -> Any:
        """Send one command and return its reply.

        Args:
            command: the command and its arguments.
            again: the command may be sent a second time when the connection turns out to be dead.

        Raises:
            StoreError: as its code says.
        """
        return (await self.pipeline([command], again=again))[0]

    async def pipeline(self, commands: Sequence[Command], *, again: bool = False) -> list[Any]:
        """Send commands at once and return their replies in order; see :meth:`call`.

        Raises:
            StoreError: the first error among the replies.
        """
        return await self.packed(b"".join(map(pack, commands)), len(commands), again=again)

    async def packed(self, data: bytes, replies: int = 1, *, again: bool = False) -> list[Any]:
        """Send packed commands and return as many replies; see :meth:`call`."""
        async with self._lock:
            # A connection that stood idle may have been closed by the other side.
            again = again and self._connection is not None
            try:
                answers = await self._exchange(data, replies)
            except StoreUnavailable:
                if not again:
                    raise
                answers = await self._exchange(data, replies)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer
        return answers

    async def _exchange(self, data: bytes, replies: int) -> list[Any]:
        opened = False
        try:
            async with asyncio.timeout(self._address.timeout_s):
                if self._connection is None:
                    self._connection = self._address.connection()
                    await self._connection.connect()  # type: ignore[no-untyped-call]
                    opened = True
                await self._connection.send_packed_command(data, check_health=False)
                return [await self._read(self._connection) for _ in range(replies)]
        except BaseException as error:
            await self._drop()
            if isinstance(error, RedisError | OSError):  # TimeoutError is an OSError
                raise _unavailable(error, self._address, opened) from None
            raise

    async def _read(self, connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response()
        except RedisError as error:
            code = _code(error)
            if not code or not connection.is_connected:
                raise
            return error_for(code)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the connection after the call in flight."""
        async with self._lock:
            await self._drop()


def _code(error: RedisError) -> str:
    """The server's error code; "" when the error is none of the server's."""
    code = getattr(error, "status_code", None)
    text = str(error)
    if code == "ERR" or (code is None and text.startswith("ERR ")):
        return "NOT_FOUND" if text.endswith("Function not found") else "ERR"
    word = code or text.partition(" ")[0]
    return word if _CODE.fullmatch(word) else ""


def _unavailable(error: Exception, address: Address, opened: bool) -> StoreError:
    """What is raised for a call that failed, on a connection that it had just opened or not."""
    code = _code(error) if isinstance(error, RedisError) else ""
    if code:
        return error_for(code)
    reason = tls_reason(error)
    # A server's word about a certificate comes after the handshake, and redis-py passes it over.
    if opened and address.tls and isinstance(error, ConnectionLost):
        reason = HUNG_UP
    if reason:
        return StoreUnavailable("TLS", f"no connection to {address}, {reason}")
    return StoreUnavailable("NO_ANSWER", f"no answer from {address} ({type(error).__name__})")
