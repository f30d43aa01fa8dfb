"""Parts of the throughput benchmark: the log, the worker process, CPU time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition

from streams.demo import worker_environment
from streams.murmur2 import partition_of
from streams.recorded import Recorded
from streams.rulefiles import load_book
from streams.settings import Settings
from streams.topics import output_topics

ROOT = Path(__file__).resolve().parents[1]
YEAR = ROOT / ".bench" / "year"
NAMES = ("catalog", "customer", "cart", "checkout", "purchase")
_TICKS = os.sysconf("SC_CLK_TCK")


def make_year() -> list[Path]:
    """The whole year's files; made on the first call (needs `make data`)."""
    files = [YEAR / f"{name}.jsonl" for name in NAMES]
    if not all(file.exists() for file in files):
        maker = ROOT / "examples" / "retail-year" / "make.py"
        subprocess.run([sys.executable, str(maker), "--out", str(YEAR)], check=True)
    return files


def preload(settings: Settings, events: Iterable[Recorded]) -> int:
    """Write events with their own timestamps, whole batches at a time; the customers' count."""
    return asyncio.run(_preload(settings, events))


async def _preload(settings: Settings, events: Iterable[Recorded]) -> int:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, acks="all", max_batch_size=256 * 1024
    )
    await producer.start()
    places: dict[bytes, int] = {}
    open_batches: dict[tuple[str, int], Any] = {}
    sent: list[Any] = []
    count = 0
    try:
        for event in events:
            number = 0
            if event.topic != "catalog":
                count += 1
                number = places.get(event.key, -1)
                if number < 0:
                    number = places[event.key] = partition_of(event.key, settings.partitions)
            place = (settings.topic(event.topic), number)
            batch = open_batches.get(place)
            if batch is None:
                batch = open_batches[place] = producer.create_batch()
            row = {"key": event.key, "value": event.value, "timestamp": event.ts_ms}
            if batch.append(**row) is None:
                sent.append(await producer.send_batch(batch, place[0], partition=number))
                batch = open_batches[place] = producer.create_batch()
                batch.append(**row)
                if len(sent) > 200:
                    await asyncio.gather(*sent)
                    sent.clear()
        for (topic, number), batch in open_batches.items():
            sent.append(await producer.send_batch(batch, topic, partition=number))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return count


class WorkerProcess:
    """A worker under the benchmark's settings."""

    def __init__(self, settings: Settings, folder: Path, profile: Path | None = None) -> None:
        self._log = folder / f"worker-{time.monotonic_ns()}.log"
        # -P: what runs is what runs here, compiled or not, whatever the folder is.
        command = [sys.executable, "-P", "-m", "streams.cli", "worker"]
        if profile is not None:
            command[2:2] = ["-m", "cProfile", "-o", str(profile)]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env=worker_environment(settings),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        if self._process.poll() is not None:
            raise SystemExit(f"the worker ended:\n{self._log.read_text()[-4000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Cpu:
    """User and system time of processes over a span."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._begun: dict[str, float] = {}

    def start(self) -> None:
        self._begun = {name: _cpu_s(pid) for name, pid in self._pids.items()}

    def us_per(self, events: int) -> dict[str, float]:
        return {
            name: round((_cpu_s(pid) - self._begun[name]) / events * 1e6, 1)
            for name, pid in self._pids.items()
        }


def read_topic(settings: Settings, name: str) -> list[Any]:
    """All records of a topic, name without prefix."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, isolation_level="read_committed")
    try:
        topic = settings.topic(name)
        tps = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        ends = consumer.end_offsets(tps)
        records: list[Any] = []
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            for found in consumer.poll(timeout_ms=500).values():
                records += found
        return records
    finally:
        consumer.close()


def topic_counts(settings: Settings) -> dict[str, int]:
    """How many decisions and offer records there are."""
    assert settings.rules is not None
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka)
    try:
        counts = {"decisions": 0, "offers": 0}
        for name in output_topics(load_book(settings.rules)):
            kind = "offers" if name.startswith("offers.") else name
            if kind in counts:
                tps = [TopicPartition(settings.topic(name), n) for n in range(settings.partitions)]
                counts[kind] += sum(consumer.end_offsets(tps).values())
        return counts
    finally:
        consumer.close()
