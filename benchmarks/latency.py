"""From an event's record timestamp to its offer's, both set by the broker, at a steady rate."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.cluster import WorkerProcess, read_topic
from streams.embedded import free_port
from streams.recorded import read_events
from streams.rulefiles import load_book
from streams.settings import load_settings
from streams.shop import Shop
from streams.topics import create_topics, output_topics
from triggers.events import TOPICS

RULES = Path(__file__).parent / "rules"
RATE = 2_000
SECONDS = 30
PARTITIONS = 4


def measure_latency(kafka: str, redis: str, files: list[Path], folder: Path) -> dict[str, float]:
    """p50 and p99 in ms over the immediate offers of half a minute at 2,000 events/s."""
    settings = load_settings(
        kafka=kafka,
        redis=redis,
        rules=RULES,
        prefix="latency-",
        group="latency",
        partitions=PARTITIONS,
        http=f"127.0.0.1:{free_port()}",
        data_dir=folder,
        log_level="warning",
    )
    # The offers' timestamps are the broker's, too: only so the two can be compared.
    create_topics(settings, rules=RULES, partitions=PARTITIONS)
    worker = WorkerProcess(settings, folder)
    try:
        time.sleep(8)
        worker.check()
        shop = Shop(kafka, settings.prefix, PARTITIONS)
        events = iter(read_events(files))
        chosen = []
        left = RATE * SECONDS
        for event in events:
            if event.topic != "catalog":
                if not left:
                    break
                left -= 1
            chosen.append(event)
        shop.run(chosen, rate=RATE, now=True)
        time.sleep(3)
    finally:
        worker.stop()
    arrived: dict[str, int] = {}
    for name in TOPICS:
        for record in read_topic(settings, name):
            arrived[json.loads(record.value)["id"]] = record.timestamp
    late: list[int] = []
    for name in output_topics(load_book(RULES)):
        if not name.startswith("offers."):
            continue
        for record in read_topic(settings, name):
            event = json.loads(record.value)
            if event["type"] == "offer.made" and "event_id" in event["data"]["trigger"]:
                late.append(record.timestamp - arrived[event["data"]["trigger"]["event_id"]])
    late.sort()
    return {
        "p50": late[len(late) // 2],
        "p99": late[len(late) * 99 // 100],
        "offers": len(late),
    }
