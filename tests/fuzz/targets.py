"""What is fuzzed. A target answers what came of an input, in words that do not depend on its
texts: an answer that is new marks an input that is worth keeping. It raises for what must not be.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.codec import Door, LineDoor
from streams.metrics import Metrics
from streams.rulefiles import read_folder
from streams.scenarios import read_scenarios
from streams.settings import load_settings
from streams.web.server import WebServer
from tests.contract.door_samples import AT_MS, CUSTOMER_TYPES, PARTITIONS, SUBJECT, encode, event
from triggers.book import Book
from triggers.errors import Refused
from triggers.events import EVENT_TYPES

EXAMPLES = Path(__file__).parents[2] / "examples"
#: An answer that takes longer is a hang.
ANSWER_S_MAX = 5.0
#: Whoever waits so long waits for us: the rest of a request that was cut.
SILENCE_S = 0.02

Target = Callable[[bytes], str]

_DOOR, _LINES = Door(PARTITIONS), LineDoor()
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]+")


def seeds_of_door() -> list[bytes]:
    """A valid event of every type."""
    return [encode(event(kind)) for kind in sorted(CUSTOMER_TYPES)]


def door(given: bytes) -> str:
    """The decoder: structured and binary mode, the catalogue's, a file's line."""
    key = SUBJECT.encode()
    topic = next((t.topic for name, t in EVENT_TYPES.items() if name.encode() in given), "cart")
    half = len(given) // 2
    headers = (
        ("ce_type", given[:40]),
        ("ce_id", given[half : half + 20]),
        ("ce_specversion", b"1.0"),
    )
    answers = []
    for decode in (
        lambda: _DOOR.decode(topic, 3, key, given, (), AT_MS, AT_MS),
        lambda: _DOOR.decode(topic, 3, given[:64], given, headers, AT_MS, AT_MS),
        lambda: _DOOR.decode_catalog(given[:64], given, (), AT_MS),
        lambda: _LINES.decode(given),
    ):
        try:
            answers.append(type(decode()).__name__)
        except Refused as refused:
            answers.append(f"{refused.reason} {_VARYING.sub('', refused.detail)}"[:60])
    assert all(answers)
    return " | ".join(answers)


def seeds_of_rules() -> list[bytes]:
    """The rule books and scenarios of the examples, in pieces that a reader could have written."""
    found = [path.read_bytes() for path in sorted(EXAMPLES.glob("*/rules/*.yaml"))]
    found += [path.read_bytes() for path in sorted(EXAMPLES.glob("*/scenarios*.yaml"))]
    small = [text for text in found if len(text) < 20_000]
    return [*small, *(text[:4_000] for text in found)]


def rules(given: bytes) -> str:
    """The loader of rule books and scenarios: a book, or faults with their places."""
    folder = Path(tempfile.mkdtemp(prefix="tsuide-fuzz-"))
    try:
        (folder / "book.yaml").write_bytes(given)
        source = read_folder(folder)
        found = source.book()
        scenarios = read_scenarios(folder, source)
    finally:
        shutil.rmtree(folder)
    if isinstance(found, Book):
        return f"book of {len(found.rules)} rules, {len(scenarios) > 0}"
    assert found, "neither a book nor a fault"
    for fault in found:
        assert re.match(r"\S*book\.yaml(:\d+:\d+)?: \S", str(fault)), str(fault)
    return " | ".join(sorted({_VARYING.sub("", str(fault))[:60] for fault in found})[:4])


def seeds_of_http() -> list[bytes]:
    """Requests that probes, Prometheus and browsers make."""
    return [
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: localhost:8087\r\nConnection: close\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer aaaaaaa\r\n\r\n",
        b"HEAD /metrics HTTP/1.0\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil\r\n\r\n",
        b"GET /%2e%2e/metrics?x=%00 HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=b\r\n\r\n",
    ]


@contextmanager
def http() -> Iterator[Target]:
    """The HTTP side of a worker, on a port of its own."""
    settings = load_settings(http="127.0.0.1:0", http_token="a" * 32)
    metrics = Metrics()
    loop = asyncio.new_event_loop()
    server = WebServer(settings, lambda: {"ready": True, "partitions": [0]}, metrics)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    address = server.address
    assert address is not None

    def ask(given: bytes) -> str:
        answer = _exchange(address, given, SILENCE_S)
        alive = _exchange(
            address, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert b" 200 " in alive[:16], f"it no longer answers: {alive[:80]!r}"
        status = answer[9:12].decode("ascii", "replace") if answer.startswith(b"HTTP/1.") else ""
        assert not status.startswith("5"), answer[:200]
        if b"/livez" not in given:
            assert b"tsuide_" not in answer or b"a" * 32 in given, "metrics without the token"
        return f"{status} {len(answer) > 0}"

    try:
        yield ask
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _exchange(address: tuple[str, int], given: bytes, wait_s: float = ANSWER_S_MAX) -> bytes:
    """Send it all and take what is answered, until the server hangs up or says no more."""
    with socket.create_connection(address, timeout=wait_s) as connection:
        found = b""
        try:
            connection.sendall(given)
            while piece := connection.recv(65536):
                found += piece
                connection.settimeout(SILENCE_S)
                if len(found) > 1_000_000:
                    break
        except (ConnectionError, TimeoutError):
            pass  # it hung up on us, or waits for the rest of a request
        return found
