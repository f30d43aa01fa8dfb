"""A worker whose intake only writes down what it was given; run by test_transport_kafka.py.

Offsets, deliveries and claims are kept in one SQLite file that all workers of a test share, as
the real ones share Redis: what is applied and the next offset change in one transaction, and only
for the worker that claimed last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from faust.types import TP

from streams import transport
from streams.app import create_app, run_app
from streams.transport import FetchState

SCHEMA = """
create table if not exists offsets (topic, part, next, owner, primary key (topic, part));
create table if not exists applied (topic, part, offset, worker, primary key (topic, part, offset));
create table if not exists log (at, worker, what, generation, topic, part);
"""


class Settings(NamedTuple):
    """What `create_app` asks for."""

    kafka: str
    group: str
    prefix: str = ""
    instance: str | None = None
    session_seconds: float = 10.0
    data_dir: str = "unused"

    def kafka_options(self) -> dict[str, Any]:
        return {"bootstrap_servers": [self.kafka]}


def open_book(path: Path) -> sqlite3.Connection:
    """Open the shared file; each statement is its own transaction unless `with` says otherwise."""
    book = sqlite3.connect(path, isolation_level=None, timeout=20)
    book.execute("pragma journal_mode=wal")
    book.execute("pragma synchronous=off")
    book.executescript(SCHEMA)
    return book


class BookIntake:
    """Applies what it is given to the shared file."""

    def __init__(self, path: Path, name: str, fault: str | None = None) -> None:
        self.book = open_book(path)
        self.name = name
        self.fault = fault
        self.next: dict[TP, int] = {}

    def paused(self) -> set[TP]:
        return set()

    def deliver(
        self, records: dict[TP, list[Any]], states: dict[TP, FetchState], received_ms: float
    ) -> None:
        if records and self.fault == "deliver":
            raise RuntimeError("the intake fell over")
        if not records:
            return
        self.book.execute("begin immediate")
        for tp, some in records.items():
            held = self.book.execute(
                "select next, owner from offsets where topic=? and part=?", tp
            ).fetchone()
            assert held == (self.next[tp], self.name), (tp, held, self.next[tp])
            assert some[0].offset >= self.next[tp], (tp, some[0].offset, self.next[tp])
            self.book.executemany(
                "insert into applied values (?, ?, ?, ?)",
                [(*tp, one.offset, self.name) for one in some],
            )
            self.next[tp] = some[-1].offset + 1
            self.book.execute(
                "update offsets set next=? where topic=? and part=?", (self.next[tp], *tp)
            )
        self.book.execute("commit")

    async def claim(self, tps: set[TP], generation: int) -> dict[TP, int]:
        if self.fault == "claim":
            raise RuntimeError("the store said no")
        if self.fault == "slow":
            await asyncio.sleep(60)
        self.book.execute("begin immediate")
        for tp in tps:
            self.book.execute("insert or ignore into offsets values (?, ?, 0, '')", tp)
            self.book.execute(
                "update offsets set owner=? where topic=? and part=?", (self.name, *tp)
            )
            (self.next[tp],) = self.book.execute(
                "select next from offsets where topic=? and part=?", tp
            ).fetchone()
            self._note("claim", generation, tp)
        self.book.execute("commit")
        return {tp: self.next[tp] for tp in tps}

    async def release(self, tps: set[TP]) -> None:
        for tp in tps:
            self.next.pop(tp, None)
            self._note("release", 0, tp)

    def applied(self) -> dict[TP, int]:
        return {tp: offset - 1 for tp, offset in self.next.items() if offset}

    def _note(self, what: str, generation: int, tp: TP) -> None:
        self.book.execute(
            "insert into log values (?, ?, ?, ?, ?, ?)",
            (time.time(), self.name, what, generation, *tp),
        )


async def main(given: dict[str, Any]) -> int:
    """Run until told to stop; answer the exit code."""
    intake = BookIntake(Path(given["book"]), given["name"], given.get("fault"))
    settings = Settings(
        given["kafka"],
        given["group"],
        instance=given.get("instance"),
        session_seconds=given.get("session_s", 10.0),
    )
    app = create_app(settings, intake, given["topics"])
    return await run_app(app)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    arguments = json.loads(sys.argv[1])
    if arguments.get("fault") == "slow":
        transport.SEEK_S_MAX = 1.0
    code = asyncio.run(main(arguments))
    if code:
        os._exit(code)
