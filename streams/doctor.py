"""``tsuide doctor``: every precondition, one line each, and what to do about it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import streams
import triggers
from streams.catalog import CatalogReader
from streams.clock import wall_ms
from streams.codec import Door
from streams.erasurekey import check_erasure_key
from streams.errors import PreconditionError
from streams.rulefiles import load_folder
from streams.settings import Settings
from streams.store.errors import StoreError
from streams.store.store import Store
from streams.topics import check_topics
from triggers.book import Book
from triggers.bounds import out_of_bounds
from triggers.catalog import Catalog


class Finding(NamedTuple):
    """One precondition: its name, whether it holds, what was seen, what to do."""

    name: str
    ok: bool
    text: str
    remedy: str = ""


def run_doctor(settings: Settings, as_json: bool = False) -> int:
    """Look at everything; 0 when nothing forbids to start."""
    findings = list(_examine(settings))
    for finding in findings:
        mark = "ok  " if finding.ok else "FAIL"
        remedy = f" -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        print(f"{mark} {finding.name}: {finding.text}{remedy}")
    if as_json:
        print(json.dumps({finding.name: finding.ok for finding in findings}))
    return 0 if all(finding.ok for finding in findings) else 1


def foreign_packages() -> list[str]:
    """Our packages that another distribution has overwritten."""
    try:
        ours = distribution("tsuide")
    except PackageNotFoundError:
        return []  # run from a source tree
    found = []
    for package in (streams, triggers):
        place = Path(package.__file__ or "")
        files = ours.files or []
        known = {Path(str(ours.locate_file(file))).resolve() for file in files}
        editable = not any(file.name == "__init__.py" for file in known)
        if not editable and place.resolve() not in known:
            found.append(package.__name__)
    return found


def _examine(settings: Settings) -> Iterator[Finding]:
    foreign = foreign_packages()
    yield Finding(
        "packages",
        not foreign,
        "streams and triggers are ours" if not foreign else f"not ours: {', '.join(foreign)}",
        "install tsuide into an environment of its own",
    )
    book = None
    if settings.rules is None:
        yield Finding("rule book", False, "no folder given", "set TSUIDE_RULES")
    else:
        found = load_folder(settings.rules)
        if isinstance(found, Book):
            book = found
            yield Finding("rule book", True, f"{len(found.rules)} rules, {found.digest[:12]}")
        else:
            text = f"{len(found)} faults, the first: {found[0]}"
            yield Finding("rule book", False, text, f"tsuide check {settings.rules}")
    topics = list(_guarded("topics", lambda: _topics(settings, book)))
    yield from topics
    if book is not None and all(finding.ok for finding in topics):
        yield prices(asyncio.run(_catalog(settings, book)), book)
    yield from _guarded("erasures", lambda: iter([_erasure_key(settings)]))
    yield from _guarded("store", lambda: iter(asyncio.run(_store(settings))))


def _erasure_key(settings: Settings) -> Finding:
    """Whether the key is the one of before, and whether there is one, which forbids no start.

    Raises `PreconditionError` where a worker would refuse to start.
    """
    check_erasure_key(settings)
    if settings.erasure_key is None:
        text = "TSUIDE_ERASURE_KEY is not set: digests of erased customers can be guessed from ids"
        return Finding("erasures", True, text)
    return Finding("erasures", True, "digests are keyed")


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from list(look())
    except PreconditionError as error:
        yield Finding(name, False, str(error), error.remedy)
    except StoreError as error:
        yield Finding(name, False, f"{settings_hint(name)}{error}", "start it, or set TSUIDE_REDIS")


def settings_hint(name: str) -> str:
    """How an error of the store is introduced."""
    return "Redis does not serve us: " if name == "store" else ""


def _topics(settings: Settings, book: Book | None) -> Iterator[Finding]:
    count = check_topics(settings, book)
    yield Finding("topics", True, f"all there, {count} partitions")


async def _catalog(settings: Settings, book: Book) -> Catalog:
    """The catalogue as the topic tells it now; what the door refuses is left out."""
    catalog, door = Catalog(), Door(settings.partitions, book.custom)
    options = settings.kafka_options()
    reader = CatalogReader(options, settings.prefix, catalog, door, lambda topic, reason: None)
    try:
        await reader.read_whole()
    finally:
        await reader.stop()
    return catalog


def prices(catalog: Catalog, book: Book) -> Finding:
    """What is passed over for its price. It forbids no start: all else is offered."""
    found = [message for _, message in out_of_bounds(catalog, book.allowed)]
    text = "all sets and tiers within their bounds"
    return Finding("prices", True, f"passed over: {'; '.join(found)}" if found else text)


def clocks(here_ms: int, there_ms: int | None, seconds_max: int) -> list[Finding]:
    """Whether this machine's clock is that of the store; nothing where the store tells none."""
    if there_ms is None:
        return []
    apart_s = abs(here_ms - there_ms) / 1000
    side = "ahead of" if here_ms > there_ms else "behind"
    return [
        Finding(
            "clock",
            apart_s <= seconds_max,
            f"{apart_s:.1f} s {side} the store's",
            "set both by a time server: a worker fires no timer while they differ",
        )
    ]


async def _store(settings: Settings) -> list[Finding]:
    store = await Store.connect(settings.redis_url(), settings.prefix)
    try:
        found = [
            Finding("store", not finding.fatal, finding.text, "see the documentation on running it")
            for finding in await store.check_server()
        ]
        await store.ensure_functions()
        found.append(Finding("store functions", True, "loaded"))
        found += clocks(wall_ms(), await store.server_ms(), settings.clock_jump_seconds)
        if settings.sending == "fsync" and await store.appendfsync() != "always":
            text = "TSUIDE_SENDING=fsync, but appendfsync is not always"
            found.append(Finding("store", False, text, "appendfsync always, or sending fast"))
        return found
    finally:
        await store.close()
