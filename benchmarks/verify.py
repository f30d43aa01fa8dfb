"""After a run: the same decisions, offers and documents as the backtest over the same log?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from zlib import crc32

from benchmarks.cluster import read_topic
from streams.codec import LineDoor
from streams.history import read_lines
from streams.replay import Replay
from streams.rulefiles import load_book
from streams.settings import Settings
from streams.store.store import Store
from streams.topics import output_topics
from triggers.customer import PART_LETTERS
from triggers.decisions import Decision, Offer
from triggers.events import CatalogEvent
from triggers.judgement import Step

FIRST = ("offered", "suppressed", "deferred", "held_out", "outranked")


def verify(settings: Settings, files: list[Path], most: int) -> bool:
    """Compare; prints what differs."""
    assert settings.rules is not None
    decisions: set[tuple[str, str]] = set()
    offers: set[str] = set()

    def write(out: Step) -> None:
        decisions.update((d.offer_id, d.outcome) for d in out.decisions if _first(d))
        offers.update(offer.offer_id for offer in out.offers if isinstance(offer, Offer))

    replay = Replay(load_book(settings.rules), write)
    door = LineDoor()
    last_ms = count = 0
    for line in read_lines(files):
        event = door.decode(line.value)
        if isinstance(event, CatalogEvent):
            replay.catalog.apply(event.type, event.subject, event.data)
            continue
        if count == most:
            break
        count += 1
        last_ms = line.at_ms
        replay.event(event, line.at_ms, crc32(line.value))
    replay.fire(last_ms)
    same = _compare_output(settings, decisions, offers)
    return asyncio.run(_compare_state(settings, replay)) and same


def _first(decision: Decision) -> bool:
    return decision.outcome in FIRST


def _compare_output(settings: Settings, decisions: set[tuple[str, str]], offers: set[str]) -> bool:
    assert settings.rules is not None
    found: set[tuple[str, str]] = set()
    made: set[str] = set()
    copies = 0
    for name in output_topics(load_book(settings.rules)):
        for record in read_topic(settings, name):
            event = json.loads(record.value)
            if event["type"] == "decision.made" and event["data"]["outcome"] in FIRST:
                key = (event["data"]["offer_id"], event["data"]["outcome"])
                copies += key in found
                found.add(key)
            elif event["type"] == "offer.made":
                copies += event["id"] in made
                made.add(event["id"])
    print(
        f"decisions {len(found):,}, backtest {len(decisions):,}, differing {len(found ^ decisions)}"
    )
    print(f"offers {len(made):,}, backtest {len(offers):,}, differing {len(made ^ offers)}")
    print(f"second copies {copies}")
    return found == decisions and made == offers and not copies


async def _compare_state(settings: Settings, replay: Replay) -> bool:
    store = await Store.connect(settings.redis_url(), settings.prefix)
    differing = 0
    try:
        wanted = {name.encode(): customer for name, customer in replay.customers.items()}
        stored: dict[bytes, dict[str, bytes]] = {}
        for number in range(settings.partitions):
            loaded = await store.load(number, wanted, PART_LETTERS)
            stored |= {raw: parts for raw, parts in loaded.items() if parts}
        for raw, customer in wanted.items():
            expected = {letter: packed for letter, packed in customer.take_changes() if packed}
            if stored.get(raw, {}) != expected:
                differing += 1
        print(f"documents {len(wanted):,}, differing {differing}")
    finally:
        await store.close()
    return not differing
