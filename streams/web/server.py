"""`/livez`, `/readyz` and `/metrics`, for probes and Prometheus.

Loopback needs no token; elsewhere `/metrics` and the reasons of `/readyz` want the bearer token,
while a probe without one learns a single word. The Host header is checked wherever more than that
word is told, because a page in a browser can reach a loopback port under a name of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from streams.log import clean
from streams.metrics import PROCESS
from streams.settings import Settings

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

Status = Callable[[], Mapping[str, Any]]
"""What the worker says of itself: `ready` (a bool) and further facts, each a line of `/readyz`.

It is asked anew at each request and must be quick. No fact may name a customer.
"""


class Exposing(Protocol):
    """Has the text that Prometheus scrapes."""

    def exposition(self) -> bytes:
        """The text, up to date."""
        ...


def make_handler(settings: Settings, metrics: Exposing, status: Status) -> Handler:
    """What answers a request, without the port; tests put a client before it.

    Three pages need no framework's routing, whose own answers (to an ``Expect`` that is no text,
    say) may fail where nobody sees it.
    """
    guard = _Guard(settings)

    def livez(_: web.BaseRequest) -> web.Response:
        # That this answers shows that the loop turns; the watchdog sees what it does not show.
        return web.Response(text="ok\n")

    def readyz(request: web.BaseRequest) -> web.Response:
        now = status()
        ready = bool(now["ready"])
        lines = ["ok" if ready else "not ready"]
        if guard.refusal(request) is None:
            lines += [f"{name}: {clean(str(fact))}" for name, fact in now.items()]
        return web.Response(text="\n".join(lines) + "\n", status=200 if ready else 503)

    def metrics_page(request: web.BaseRequest) -> web.Response:
        refusal = guard.refusal(request)
        if refusal is not None:
            return refusal
        return web.Response(
            body=metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    pages = {"/livez": livez, "/readyz": readyz, "/metrics": metrics_page}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        page = pages.get(request.path)
        if page is None:
            response = web.Response(text="not found\n", status=404)
        elif request.method not in ("GET", "HEAD"):
            response = web.Response(text="only read\n", status=405, headers={"Allow": "GET, HEAD"})
        else:
            response = page(request)
        response.headers.update(_HEADERS)
        return response

    return handle


class WebServer:
    """The pages, listening. `address` tells the port where the setting left it free (0)."""

    def __init__(self, settings: Settings, status: Status, metrics: Exposing = PROCESS) -> None:
        self._settings = settings
        self._handler = make_handler(settings, metrics, status)
        self._runner: web.ServerRunner | None = None
        self.address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        server = web.Server(self._handler, access_log=None, keepalive_timeout=15)
        self._runner = web.ServerRunner(server, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._settings.http_host, self._settings.http_port, shutdown_timeout=2
        )
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = (str(host), int(port))

    async def stop(self) -> None:
        """Close the port and what is open on it."""
        if self._runner is not None:
            await self._runner.cleanup()


class _Guard:
    """Who may see more than one word."""

    def __init__(self, settings: Settings) -> None:
        self._loopback = settings.http_is_loopback
        token = settings.http_token.get_secret_value() if settings.http_token else None
        self._digest = None if token is None else hashlib.sha256(token.encode()).digest()
        further = {name.strip().lower() for name in settings.http_hosts.split(",") if name.strip()}
        self._hosts = {"localhost", "127.0.0.1", "[::1]", settings.http_host.lower()} | further

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to somebody who may not, or None."""
        host = request.headers.get("Host", "").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self._hosts:
            return web.Response(text="unknown host\n", status=421)
        if self._digest is None:
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).digest()
        if scheme.lower() == "bearer" and hmac.compare_digest(sent, self._digest):
            return None
        return web.Response(
            text="a bearer token is needed\n", status=401, headers={"WWW-Authenticate": "Bearer"}
        )
