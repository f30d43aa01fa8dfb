"""A certificate authority for tests, and a door with TLS before a server that has none."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

CHUNK = 1 << 16


class Authority:
    """Signs certificates; everything lies as PEM files in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.cafile = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.cafile))

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files of a certificate for `name` (DNS or address) and of its key (PKCS 8)."""
        made = self._ca.issue_cert(name, common_name=name)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        # The form that Java reads.
        secret = load_pem_private_key(made.private_key_pem.bytes(), None)
        key.touch(mode=0o600)
        key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key

    def server_context(self, name: str, mutual: bool = False) -> ssl.SSLContext:
        """What a server called `name` serves with; `mutual`: for holders of a certificate only."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.issue(name))
        if mutual:
            context.load_verify_locations(self.cafile)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class TlsDoor:
    """Speaks TLS on a port of loopback and plainly with the server behind; a context manager."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._target = port
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        # What a client does wrong is the test's affair, not a line in its output.
        self._loop.set_exception_handler(lambda loop, context: None)
        self.port = 0

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

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._context, ssl_shutdown_timeout=1
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond_in, beyond_out = await asyncio.open_connection("127.0.0.1", self._target)
        pumps = [
            asyncio.ensure_future(_pump(reader, beyond_out)),
            asyncio.ensure_future(_pump(beyond_in, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.transport.abort()
            beyond_out.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
