"""A TCP proxy on loopback that cuts, holds, delays and loses what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Proxy:
    """Stands before one server; a context manager. Its methods may be called from any thread.

    Args:
        port: the server's port on loopback.
        listen: the proxy's own port; 0 takes a free one.
    """

    def __init__(self, port: int, listen: int = 0) -> None:
        self._target = port
        self.port = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._up = asyncio.Event()  # from clients to the server
        self._down = asyncio.Event()
        self._up.set()
        self._down.set()
        self._refusing = False
        self._delay_s = 0.0
        self._losing: Callable[[bytes], bool] | None = None
        self._pairs: set[asyncio.StreamWriter] = set()
        self.lost = 0  # answers that were dropped
        self.accepted = 0  # connections so far

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    # -- what goes wrong -------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._do(self._cut)

    def hold(self, up: bool = True, down: bool = True) -> None:
        """Let nothing through any more, in one direction or both; nobody is told."""
        if up:
            self._do(self._up.clear)
        if down:
            self._do(self._down.clear)

    def turn_to(self, port: int) -> None:
        """Lead new connections to another server; those that are there stay."""
        self._target = port

    def slow(self, seconds: float) -> None:
        """Delay each piece in both directions."""
        self._delay_s = seconds

    def lose_answer(self, wanted: Callable[[bytes], bool] = lambda _: True) -> None:
        """Drop the next answer to a request that is ``wanted``, and reset its connection."""
        self._losing = wanted

    def heal(self) -> None:
        """Let everything through again."""
        self._do(self._heal)

    def _do(self, work: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(5)

    def _cut(self) -> None:
        self._refusing = True
        for writer in list(self._pairs):
            writer.transport.abort()

    def _heal(self) -> None:
        self._refusing = False
        self._delay_s = 0.0
        self._losing = None
        self._up.set()
        self._down.set()

    # -- the loop --------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        self._cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            beyond_in, beyond_out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, beyond_out}
        self._pairs |= both
        losing: list[bool] = []
        try:
            await asyncio.gather(
                self._pump(reader, beyond_out, self._up, losing, True),
                self._pump(beyond_in, writer, self._down, losing, False),
            )
        except (OSError, ConnectionError):
            pass
        finally:
            self._pairs -= both
            for one in both:
                one.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        losing: list[bool],
        up: bool,
    ) -> None:
        while data := await reader.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await gate.wait()
            if up and self._losing is not None and self._losing(data):
                self._losing = None
                losing.append(True)
            elif not up and losing:
                self.lost += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
        raise ConnectionResetError  # one end is enough
