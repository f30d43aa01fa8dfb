"""Throughput of one worker on a real broker: events in, state in Redis, offers acknowledged.

Apache Kafka, Valkey (append-only file, everysec) and the worker share this machine. The log is
written before the clock starts; the clock stops when every event is applied and every offer and
decision is acknowledged (acks=all, sending `fast`). Afterwards decisions and state are compared
with the backtest over the same log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.cluster import (
    Cpu,
    WorkerProcess,
    make_year,
    preload,
    topic_counts,
)
from benchmarks.latency import measure_latency
from benchmarks.stock_faust import measure_stock_faust
from benchmarks.verify import verify
from streams.embedded import EmbeddedStore, free_port
from streams.recorded import Recorded, read_events
from streams.settings import load_settings
from streams.store.store import Store
from streams.topics import create_topics
from tests.kafka_server import running_kafka

RULES = Path(__file__).parent / "rules"
POLL_S = 0.05


def main() -> int:
    options = _options()
    files = make_year()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsuide-bench-")))
        kafka = stack.enter_context(running_kafka())
        store = stack.enter_context(EmbeddedStore(folder / "store"))
        settings = load_settings(
            kafka=kafka.address,
            redis=store.url,
            rules=RULES,
            partitions=options.partitions,
            clock="log",
            http=f"127.0.0.1:{free_port()}",
            data_dir=folder,
            log_level="warning",
        )
        create_topics(settings, rules=RULES, partitions=options.partitions, history=True)
        events = _first(files, options.events)
        begun = time.monotonic()
        sent = preload(settings, events)
        print(f"log written: {sent:,} events in {time.monotonic() - begun:.0f} s", flush=True)
        figures: dict[str, Any] = {"events": sent, "sending": "fast"}
        worker = WorkerProcess(settings, folder, options.profile)
        stack.callback(worker.stop)
        pids = {"worker": worker.pid, "broker": kafka.pid or 0, "redis": store.pid}
        figures |= asyncio.run(_race(settings, sent, pids, worker))
        worker.stop()
        counts = topic_counts(settings)
        figures["decisions_per_event"] = round(counts["decisions"] / sent, 3)
        figures["offers_per_event"] = round(counts["offers"] / sent, 3)
        print(json.dumps(figures), flush=True)
        same = options.skip_verify or verify(settings, files, options.events)
        if not options.skip_peers:
            figures["peers"] = measure_stock_faust(settings, sent)
        if not options.skip_latency:
            figures["latency_ms"] = measure_latency(kafka.address, store.url, files, folder)
    _show(figures)
    if options.json:
        print(json.dumps(figures))
    return 0 if same else 1


def _first(files: list[Path], most: int) -> list[Recorded]:
    """The catalogue and the first ``most`` customer events, by time."""
    every = read_events(files)
    chosen: list[Recorded] = []
    left = most
    for event in islice(every, None):
        if event.topic != "catalog":
            if not left:
                break
            left -= 1
        chosen.append(event)
    return chosen


async def _race(
    settings: Any, events: int, pids: dict[str, int], worker: WorkerProcess
) -> dict[str, Any]:
    """Wait from the first applied event to the last acknowledgement."""
    store = await Store.connect(settings.redis_url(), settings.prefix)
    started = 0.0
    cpu = Cpu(pids)
    try:
        while True:
            await asyncio.sleep(POLL_S)
            worker.check()
            metas = [await store.meta(n) for n in range(settings.partitions)]
            applied = sum(sum(meta.offsets.values()) for meta in metas if meta is not None)
            if not started:
                if applied:
                    started, base = time.monotonic(), applied
                    cpu.start()
                continue
            if applied < events:
                continue
            if not any([await store.outbox_size(n) for n in range(settings.partitions)]):
                break
        seconds = time.monotonic() - started
        done = events - base
        return {
            "events_per_second": round(done / seconds),
            "seconds": round(seconds, 2),
            "cpu_us_per_event": cpu.us_per(done),
        }
    finally:
        await store.close()


def _show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name:22} {value}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--skip-verify", action="store_true")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--skip-latency", action="store_true")
    parser.add_argument("--profile", type=Path, help="write the worker's profile there (cProfile)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
