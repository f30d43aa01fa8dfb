"""Worker processes under a supervisor, shoppers, and the model that says what must come of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis as redis_client
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.embedded import free_port
from streams.settings import Settings
from streams.store.keys import partition_keys
from tests.faults.model import Model, compare, make_model
from tests.integration.audit import audit_pipeline
from tests.integration.pipeline import PARTITIONS, SPAN_MS, Pipeline, Worker

RULES = Path(__file__).parent / "rules"
SESSION_S = 6
SKUS = [(f"sku{i}", f"sku{(i + 1) % 12}") for i in range(12)]


def seeds(name: str, short: int) -> int:
    """How many rounds a test makes: ``short`` by default, more by an environment variable."""
    return int(os.environ.get(f"TSUIDE_TEST_{name}", short))


def at_length(*more: str) -> tuple[str, ...]:
    """Variants that only the long version tries (`TSUIDE_TEST_LONG=1`)."""
    return more if seeds("LONG", 0) else ()


def wait_for(
    what: str, ready: Callable[[], bool], seconds: float = 60, step: float = 0.05
) -> float:
    """Wait until something holds; how many seconds that took."""
    begun = time.monotonic()
    while not ready():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(step)
    return time.monotonic() - begun


class Slot:
    """One worker as a process manager sees it: started again whenever it ends."""

    def __init__(self, settings: Settings, folder: Path, number: int) -> None:
        self.settings = settings
        self.log = folder / f"worker-{number}.log"
        self.wanted = True
        self.exits: list[int] = []
        self.lock = threading.RLock()
        self.worker = Worker(settings, self.log)
        self.begun = time.monotonic()

    @property
    def pid(self) -> int:
        return self.worker.process.pid

    def look(self) -> None:
        """Start it again when it has ended."""
        with self.lock:
            code = self.worker.process.poll()
            if code is None or not self.wanted or time.monotonic() - self.begun < 0.5:
                return
            self.exits.append(code)
            # A failpoint is for one life.
            settings = self.settings.model_copy(update={"failpoint": ""})
            self.worker = Worker(settings, self.log)
            self.begun = time.monotonic()

    def kill(self) -> None:
        """SIGKILL; the supervisor starts it again."""
        with self.lock:
            self.worker.process.kill()

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """End it for good."""
        with self.lock:
            self.wanted = False
        process = self.worker.process
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        return process.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        """A signal to the process."""
        self.worker.process.send_signal(number)

    def metric(self, name: str) -> float:
        """The sum over a metric's series; raises `OSError` where the worker does not answer."""
        with urllib.request.urlopen(f"{self.worker.url}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"tsuide_{name} ", f"tsuide_{name}{{"))
        )

    def ready(self) -> dict[str, str] | None:
        """What ``/readyz`` says by name, its status as ``code``; None without an answer."""
        try:
            with urllib.request.urlopen(f"{self.worker.url}/readyz", timeout=2) as answer:
                code, text = 200, answer.read().decode()
        except urllib.error.HTTPError as error:
            code, text = error.code, error.read().decode()
        except OSError:
            return None
        pairs = (line.partition(": ") for line in text.splitlines())
        return {"code": str(code), **{name: fact for name, sep, fact in pairs if sep}}

    def owned(self) -> list[int]:
        """The partitions that it has."""
        found: list[int] = json.loads((self.ready() or {}).get("partitions", "[]"))
        return found

    def is_ready(self) -> bool:
        return (self.ready() or {}).get("code") == "200"

    def answers(self) -> bool:
        return self.ready() is not None

    def said(self, text: str) -> int:
        """How often its log holds a text, over all its lives."""
        return self.log.read_text(errors="replace").count(text)

    def lost_records(self) -> int:
        """Records whose produce answers were lost, over all its lives."""
        text = self.log.read_text(errors="replace")
        return sum(int(count) for count in re.findall(r"answer was lost to (\d+) records", text))

    def processor_seconds(self) -> float:
        """Processor time that the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Rig(Pipeline):
    """A pipeline whose workers are watched over, and whose end is compared with the model's."""

    def __init__(
        self,
        kafka: str,
        redis: str,
        folder: Path,
        rules: Path = RULES,
        workers: Mapping[str, Any] | None = None,
    ) -> None:
        """``workers``: settings of the workers alone, such as the address of a proxy."""
        super().__init__(kafka, redis, folder, rules)
        changed = {"session_seconds": float(SESSION_S), "rules_poll_seconds": 0.2}
        self.settings = self.settings.model_copy(update=changed)
        self._reader: KafkaConsumer | None = None
        self._of_workers = dict(workers or {})
        self.slots: list[Slot] = []
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def _supervise(self) -> None:
        while not self._over.wait(0.1):
            for slot in list(self.slots):
                slot.look()

    def add(self, failpoint: str = "", **settings: Any) -> Slot:
        """Start one more worker."""
        given = {"http": f"127.0.0.1:{free_port()}", "failpoint": failpoint}
        given |= self._of_workers | settings
        slot = Slot(self.settings.model_copy(update=given), self.folder, len(self.slots))
        self.slots.append(slot)
        return slot

    def begin(self, workers: int, **settings: Any) -> list[Slot]:
        """A catalogue and so many workers, all with partitions."""
        self.send_catalog(SKUS)
        slots = [self.add(**settings) for _ in range(workers)]
        for slot in slots:
            wait_for("a worker is ready", slot.is_ready)
        return slots

    def end(self) -> None:
        """Stop all workers in order."""
        for slot in self.slots:
            if slot.wanted:
                # One that was started again a moment ago cannot hear a signal before it runs.
                wait_for("a worker answers", slot.answers)
                assert slot.end() == 0, slot.log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        self._over.set()
        self._supervisor.join()
        for slot in self.slots:
            slot.end(signal.SIGKILL)
        with contextlib.suppress(KafkaError):
            if self._reader is not None:
                self._reader.close()
            super().close()

    def turn_to(self, redis: str) -> None:
        """Look at another store from now on."""
        self._store.close()
        self._store = redis_client.from_url(redis)
        self.settings = self.settings.model_copy(update={"redis": redis})

    def cut_off_from_the_store(self) -> None:
        """End all connections that anybody has to the store; new ones are welcome."""
        self._store.client_kill_filter(_type="normal", skipme=True)

    # -- what the store holds --------------------------------------------------------------

    def meta(self, number: int) -> dict[str, str]:
        """The meta of a partition."""
        found: Any = self._store.hgetall(partition_keys(number, self.prefix).meta)
        return {name.decode(): value.decode() for name, value in found.items()}

    def calls(self) -> list[int]:
        """The number of the next call of each partition."""
        return [int(self.meta(number).get("n", "0")) for number in range(PARTITIONS)]

    def in_flight(self) -> int | None:
        """Records in the log that are not applied; None while broker or store does not answer."""
        try:
            return self.unapplied()
        except (KafkaError, redis_client.RedisError, OSError, AssertionError):
            return None

    def settle(self, seconds: float = 120) -> None:
        """Wait until everything is applied, fired and sent."""
        self.producer.flush()
        wait_for("all is applied", lambda: self.in_flight() == 0, seconds, 0.3)
        wait_for("all timers fired", lambda: self.due_within(SPAN_MS) == 0, seconds, 0.3)
        wait_for("all is sent", lambda: self.outboxes() == 0, seconds, 0.3)

    # -- the comparison --------------------------------------------------------------------

    def read(self, topic: str) -> list[Any]:
        """All records of a topic; with one consumer for all reads, which saves seconds."""
        if self._reader is None:
            address = self.settings.kafka
            self._reader = KafkaConsumer(
                bootstrap_servers=address, isolation_level="read_committed"
            )
        reader = self._reader
        numbers = reader.partitions_for_topic(self.prefix + topic) or set()
        tps = [TopicPartition(self.prefix + topic, number) for number in sorted(numbers)]
        reader.assign(tps)
        reader.seek_to_beginning(*tps)
        ends = reader.end_offsets(tps)
        records: list[Any] = []
        while any(reader.position(tp) < ends[tp] for tp in tps):
            for found in reader.poll(timeout_ms=500).values():
                records += found
        return records

    def model(self) -> Model:
        """What should be there, by the engine alone over the log as it lies in Kafka."""
        return make_model(self)

    def check(self, copies: int = 0) -> Counter[str]:
        """Compare everything with the model; the figures of the run.

        ``copies``: how many records may lie there a second time.
        """
        model = self.model()
        found = compare(self, model)
        assert found.faults == [], "\n".join(found.faults[:20])
        assert found.figures["copies"] <= copies, found.figures
        account = audit_pipeline(self, copies)
        account.check()
        refused = {f"{topic}/{number}/{offset}" for topic, number, offset in account.refused}
        assert refused == model.letters
        return found.figures


class Shoppers:
    """Customers who fill carts, buy and give back; sends from the thread that asks."""

    def __init__(self, rig: Rig, customers: int = 60, seed: int = 1) -> None:
        self.rig = rig
        self.names = [f"c{i}" for i in range(customers)]
        self.random = random.Random(seed)
        self.sent = 0
        self.orders: list[tuple[str, str]] = []
        for name in self.names:
            rig.send("consent.granted", name, {"channel": "*"})
        rig.producer.flush()

    def one(self) -> None:
        """One event."""
        name, number = self.random.choice(self.names), self.sent
        self.sent += 1
        roll = self.random.random()
        if roll < 0.75:
            item = {"sku": f"sku{number % 12}", "quantity": 1, "unit_price": 50 + number % 500}
            data = {"cart_id": f"cart-{name}", "item": item, "subtotal": 700, "currency": "JPY"}
            self.rig.send("cart.item_added", name, data)
        elif roll < 0.93 or not self.orders:
            order = f"o{number}"
            item = {"sku": f"sku{number % 12}", "quantity": 1, "unit_price": 500}
            data = {"order_id": order, "items": [item], "total": 500, "currency": "JPY"}
            if number % 3:
                data["cart_id"] = f"cart-{name}"
            self.rig.send("purchase.completed", name, data)
            self.orders = [*self.orders, (name, order)][-200:]
        else:
            buyer, order = self.random.choice(self.orders)
            self.rig.send("purchase.refunded", buyer, {"order_id": order})

    def many(self, count: int) -> None:
        """Events as fast as they go, acknowledged."""
        for _ in range(count):
            self.one()
        self.rig.producer.flush()

    def steady(self, seconds: float, rate: float = 200) -> None:
        """Events at a rate."""
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            for _ in range(max(1, int(rate / 20))):
                self.one()
            time.sleep(0.05)
        self.rig.producer.flush()

    def until_in_flight(self, most: int = 100, seconds: float = 60) -> int:
        """Events as fast as they go, until more than ``most`` are not applied; how many are not."""
        deadline = time.monotonic() + seconds
        while (found := self.rig.in_flight() or 0) <= most:
            assert time.monotonic() < deadline, f"never more than {found} in flight"
            for _ in range(400):
                self.one()
        return found
