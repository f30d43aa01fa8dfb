"""The same log through stock Faust apps.

One only decodes and counts. The other does the least of what a trigger system does: a row for each
customer in a table, whose changes Faust writes to a changelog topic, and an offer for every eighth
event.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from streams.settings import Settings

EVENTS = 100_000
EVENTS_AN_OFFER = 8
_LIMIT_S = 120


def measure_stock_faust(settings: Settings, events: int) -> dict[str, int]:
    """Events a second over the first hundred thousand, by kind of app."""
    return {
        "stock faust, counting only": _measure(settings, events, "count"),
        "stock faust, table and offers": _measure(settings, events, "keep"),
    }


def _measure(settings: Settings, events: int, kind: str) -> int:
    most = min(EVENTS, events)
    environment = {
        **os.environ,
        "BENCH_KAFKA": settings.kafka,
        "BENCH_EVENTS": str(most),
        "BENCH_PREFIX": settings.prefix,
        "BENCH_PARTITIONS": str(settings.partitions),
        "BENCH_KIND": kind,
    }
    command = [sys.executable, str(Path(__file__)), "worker", "-l", "error", "--without-web"]
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    for line in answer.stdout.splitlines():
        if line.startswith("events_per_second "):
            return round(float(line.split()[1]))
    raise SystemExit(
        f"stock faust gave no figure:\n{answer.stdout[-500:]}\n{answer.stderr[-2000:]}"
    )


def run() -> None:
    import json
    import tempfile

    import faust

    prefix, kind = os.environ["BENCH_PREFIX"], os.environ["BENCH_KIND"]
    most, partitions = int(os.environ["BENCH_EVENTS"]), int(os.environ["BENCH_PARTITIONS"])
    app = faust.App(
        f"stock-{kind}-{time.time_ns()}",
        broker=f"kafka://{os.environ['BENCH_KAFKA']}",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_partitions=partitions,
        producer_acks=-1,
        datadir=tempfile.mkdtemp(prefix="stock-faust-"),
    )
    customers = app.Table("customers", default=dict, partitions=partitions)
    offers = app.topic(f"{app.conf.id}-offers", value_serializer="json", partitions=partitions)

    @app.task
    async def declare():  # type: ignore[no-untyped-def]
        await offers.declare()

    seen = {"count": 0, "started": 0.0}

    def saw_one() -> int:
        if not seen["count"]:
            seen["started"] = time.monotonic()
        seen["count"] += 1
        if seen["count"] == most:
            rate = most / (time.monotonic() - seen["started"])
            # Faust turns what is printed into log lines; this goes past it.
            os.write(1, f"\nevents_per_second {rate}\n".encode())
            os._exit(0)
        return seen["count"]

    async def count(stream):  # type: ignore[no-untyped-def]
        async for value in stream:
            json.loads(value)
            saw_one()

    async def keep(stream):  # type: ignore[no-untyped-def]
        async for key, value in stream.items():
            event = json.loads(value)
            row = customers[key]
            row[event["type"]] = row.get(event["type"], 0) + 1
            customers[key] = row
            if saw_one() % EVENTS_AN_OFFER == 0:
                await offers.send(key=key, value={"for": event["id"], "seen": row})

    for name in ("customer", "cart", "checkout", "purchase"):
        topic = app.topic(prefix + name, key_type=bytes, value_serializer="raw")
        app.agent(topic, name=f"{kind}-{name}")({"count": count, "keep": keep}[kind])
    app.main()


if __name__ == "__main__":
    run()
