"""The HTTP side: who learns what, under which name, with which headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiohttp.test_utils import RawTestServer, TestClient

from streams.errors import SettingsError
from streams.metrics import Metrics
from streams.settings import load_settings
from streams.web.server import make_handler

TOKEN = "t" * 32
ELSEWHERE: dict[str, Any] = {"http": "0.0.0.0:0", "http_token": TOKEN}

Answer = tuple[int, str, Mapping[str, str]]


def ask(
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    **given: Any,
) -> Answer:
    """One request to a server with these settings; `Host` is loopback's unless told."""
    settings = load_settings(**{"http": "127.0.0.1:0", **given})
    status = {"ready": True, "partitions": [0, 1]}

    async def work(client: TestClient[Any, Any]) -> Answer:
        named = {"Host": "127.0.0.1", **(headers or {})}
        async with client.request(method, path, headers=named, data=body) as answer:
            return answer.status, await answer.text(), answer.headers

    return asyncio.run(_with(make_handler(settings, Metrics(), lambda: status), work))


async def _with(handler: Any, work: Callable[[TestClient[Any, Any]], Awaitable[Answer]]) -> Answer:
    client: TestClient[Any, Any]
    async with TestClient(RawTestServer(handler)) as client:
        return await work(client)


def test_loopback_needs_no_token() -> None:
    assert ask("GET", "/livez")[:2] == (200, "ok\n")
    assert ask("GET", "/readyz")[:2] == (200, "ok\nready: True\npartitions: [0, 1]\n")
    status, text, _ = ask("GET", "/metrics")
    assert status == 200
    assert "tsuide_events_applied_total" in text


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8087", "127.0.0.1.evil.example", ""]
)
def test_a_page_under_a_name_of_its_own_learns_nothing(path: str, host: str) -> None:
    status, text, _ = ask("GET", path, {"Host": host})
    assert "tsuide_" not in text
    assert "partitions" not in text
    assert status in (200, 421)


def test_a_name_that_was_allowed_is_served() -> None:
    headers = {"Host": "Shop.internal:8087"}
    assert ask("GET", "/metrics", headers, http_hosts="shop.internal")[0] == 200


def test_without_its_token_metrics_elsewhere_are_refused_and_a_probe_learns_one_word() -> None:
    status, text, headers = ask("GET", "/metrics", **ELSEWHERE)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert TOKEN not in text
    assert ask("GET", "/readyz", **ELSEWHERE)[:2] == (200, "ok\n")


@pytest.mark.parametrize(
    "given",
    ["Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer ", f"Bearer {TOKEN[:-1]}"],
)
def test_another_token_is_refused(given: str) -> None:
    assert ask("GET", "/metrics", {"Authorization": given}, **ELSEWHERE)[0] == 401


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_opens(given: str) -> None:
    assert ask("GET", "/metrics", {"Authorization": given}, **ELSEWHERE)[0] == 200


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/nowhere", "/%2e%2e/etc/passwd"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_answer_has_the_headers_that_browsers_need(path: str, method: str) -> None:
    status, _, headers = ask(method, path)
    assert status in (200, 404, 405)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expectation_that_is_no_text_fails_nothing(path: str, method: str) -> None:
    status, _, _ = ask(method, path, {"Expect": "100-co\udceentinue"})
    assert status in (200, 404, 405)


def test_p9_a_large_body_harms_nobody() -> None:
    assert ask("POST", "/metrics", body=b"x" * 1_000_000)[0] == 405


@pytest.mark.parametrize("address", ["0.0.0.0:8087", "[::]:8087", "10.1.2.3:8087"])
def test_elsewhere_without_a_token_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="TSUIDE_HTTP_TOKEN"):
        load_settings(http=address)
    with pytest.raises(SettingsError, match="22 characters"):
        load_settings(http=address, http_token="short")
    assert TOKEN not in repr(load_settings(http=address, http_token=TOKEN))
