"""The same log through a stock Faust app: one agent a topic that decodes and counts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from streams.settings import Settings

EVENTS = 100_000
_LIMIT_S = 120


def measure_stock_faust(settings: Settings, events: int) -> int:
    """Events a second over the first hundred thousand."""
    most = min(EVENTS, events)
    environment = {
        **os.environ,
        "BENCH_KAFKA": settings.kafka,
        "BENCH_EVENTS": str(most),
        "BENCH_PREFIX": settings.prefix,
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

    app = faust.App(
        f"stock-{time.time_ns()}",
        broker=f"kafka://{os.environ['BENCH_KAFKA']}",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        datadir=tempfile.mkdtemp(prefix="stock-faust-"),
    )
    most = int(os.environ["BENCH_EVENTS"])
    seen = {"count": 0, "started": 0.0}

    async def count(stream):  # type: ignore[no-untyped-def]
        async for value in stream:
            json.loads(value)
            if not seen["count"]:
                seen["started"] = time.monotonic()
            seen["count"] += 1
            if seen["count"] == most:
                rate = most / (time.monotonic() - seen["started"])
                # Faust turns what is printed into log lines; this goes past it.
                os.write(1, f"\nevents_per_second {rate}\n".encode())
                os._exit(0)

    for name in ("customer", "cart", "checkout", "purchase"):
        topic = app.topic(os.environ["BENCH_PREFIX"] + name, value_serializer="raw")
        app.agent(topic, name=f"count-{name}")(count)
    app.main()


if __name__ == "__main__":
    run()
