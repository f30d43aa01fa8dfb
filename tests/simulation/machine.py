"""One run: workers, group, log, store and shop in virtual time, under the faults of a plan."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.clockguard import TRUST_MS
from streams.failpoints import FAILPOINTS, arm, disarm
from streams.settings import Settings, load_settings
from streams.store.calls import Meta
from streams.store.errors import StoreError
from tests.simulation.fakelog import FakeLog, Faults, Write
from tests.simulation.fakestore import FakeStore
from tests.simulation.loop import SimulatedLoop, Stuck
from tests.simulation.plan import HEALED_S, Fault, draw_plan
from tests.simulation.processes import SESSION_S, Group, Killed, Worker, current
from tests.simulation.shop import BEGIN_MS, PARTITIONS, Planned, Shop, make_rules
from tests.simulation.storelink import StoreServer
from triggers.events import TOPICS

#: In seconds of the loop: a run that has not come to rest by then never will.
GIVE_UP_S = 60.0
SCALES = (1, 60, 3600)
_NEVER_MS = 30 * 86_400_000


@dataclass
class Setup:
    """What a run is made of; a seed alone says all of it."""

    seed: int
    workers: int
    faults: list[Fault]
    scale: int
    events: int
    mutation: str = ""  # "offsets", "token", "readback" or "consent": what is taken out
    repeats: bool = False  # every event comes up to four more times, now or later
    #: Producers' timestamps, which go back by up to so many ms; what the model says is then only
    #: one of the orders that are right.
    jitter_ms: int = 0

    @classmethod
    def of(cls, seed: int, mutation: str = "") -> Setup:
        """The setup of a seed."""
        chance = random.Random(f"setup-{seed}")
        workers, faults = draw_plan(seed)
        return cls(
            seed, workers, faults, chance.choice(SCALES), chance.choice([10, 40, 90]), mutation
        )


@dataclass
class Run:
    """What a run left."""

    failures: list[str]
    digest: str
    machine: Machine
    trace: list[str] = field(default_factory=list)


class Machine:
    """Everything that a run consists of."""

    def __init__(self, setup: Setup, trace: bool = False) -> None:
        self.setup = setup
        self.mutation = setup.mutation
        self.failures: list[str] = []
        self.trace: list[str] | None = [] if trace else None
        self._digest = hashlib.sha256()
        seed = setup.seed
        self.random = random.Random(f"machine-{seed}")
        self.loop = SimulatedLoop(self.random.randrange(2**32))
        self.book = make_rules(setup.scale, setup.mutation == "consent")
        self.settings = _settings(self.random)
        self.fetch_most = self.random.choice([1, 3, 20, 200])
        self.log = FakeLog(self.loop, random.Random(f"log-{seed}"), self.now_ms)
        self.log.slow_s = self.random.choice([0.02, 0.02, 0.3])
        self.log.on_write = self._written
        state = FakeStore(setup.mutation != "token", setup.mutation != "offsets")
        self.store = _server(self, state)
        self.shop = Shop(seed, setup.events, self._append)
        self.group = Group(self)
        self.tokens = 0
        self.skews: dict[int, int] = {}
        self._give_up_s = GIVE_UP_S
        self.workers: dict[int, Worker] = {}
        self.claimed: dict[int, str] = {}  # partition -> token of the latest claim
        self.refusals: Counter[str] = Counter()  # by the store, by code
        self.resurrected = 0  # partitions whose store knew an earlier owner again
        self.lives = 0
        self._floor = 0
        self._applied: set[int] = set()
        self._position: dict[int, dict[str, int]] = {}
        self._turns: dict[str, int] = {}
        self._over = False

    def now_ms(self) -> int:
        """The broker's clock."""
        return BEGIN_MS + int(self.loop.time() * 1000 * self.setup.scale)

    def note(self, *what: object) -> None:
        """Put something into the trace, of which the digest is taken."""
        line = f"{self.loop.time():.4f} {what}"
        self._digest.update(line.encode())
        if self.trace is not None:
            self.trace.append(line)

    def fail(self, text: str) -> None:
        """Note something that must not happen."""
        self.note("failure", text.splitlines()[0])
        self.failures.append(text)

    # -- the run ---------------------------------------------------------------------------

    def run(self, judge: Callable[[Machine], list[str]]) -> Run:
        """Run to rest and let ``judge`` say what is wrong with the outcome."""
        for name in FAILPOINTS:
            arm(name, self._reached)
        try:
            self.loop.run_until_complete(self._main())
            if not self.failures:
                self.failures += judge(self)
        except Stuck:
            self.fail("nothing is left to do, but the run is not over")
        finally:
            disarm()
            self._bury()
        return Run(self.failures, self._digest.hexdigest(), self, self.trace or [])

    def _patience_s(self) -> float:
        """How long a run may take: a clock that jumped and that nothing speaks for is believed
        after a while, and from then on there is work again."""
        longest_s = GIVE_UP_S + 2 * TRUST_MS / 1000 / self.setup.scale
        if any(worker.clock.jumped for worker in self.group.members):
            self._give_up_s = min(longest_s, max(self._give_up_s, self.loop.time() + GIVE_UP_S))
        return self._give_up_s

    async def _main(self) -> None:
        group = self.loop.create_task(self.group.run())
        for index in range(self.setup.workers):
            self._start(index)
        for planned in self.shop.planned:
            self.loop.after(planned.at_s, self._write, planned)
        for fault in self.setup.faults:
            if not fault.kind.endswith("_at"):
                self.loop.after(fault.at_s, self._inject, fault)
        await asyncio.sleep(HEALED_S)
        self._heal()
        while not self.failures and not self._rests():
            await asyncio.sleep(0.25)
            if self.loop.time() > self._patience_s():
                self.fail(f"no rest after {self.loop.time():.0f} s: {self._unrest()}")
        group.cancel()

    def _bury(self) -> None:
        """End every task, so that nothing of this run is left for the collector."""
        self._over = True
        for worker in self.workers.values():
            worker.leaving = True
        self.loop.bury()

    def _start(self, index: int) -> None:
        if self._over:
            return
        self.lives += 1
        worker = self.workers[index] = Worker(self, index, self.lives)
        self.note("start", worker.name)
        worker.start(worker.begin())

    def ended(self, worker: Worker) -> None:
        """A worker stopped in order; its supervisor starts it again."""
        worker.dead = True
        self.group.put_out(worker)
        if self.workers.get(worker.index) is worker:
            self.loop.after(0.1 + 0.5 * self.random.random(), self._start, worker.index)

    # -- rest ------------------------------------------------------------------------------

    def _rests(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> str:
        """What is still going on; "" when nothing is."""
        workers = list(self.workers.values())
        if not self.group.calm or any(w.dead or w.frozen or w.leaving for w in workers):
            return "the group is not calm"
        owners = [number for w in workers for number in w.intake.partitions]
        if sorted(owners) != list(range(PARTITIONS)):
            return f"partitions owned: {sorted(owners)}"
        if self.loop.time() < self.shop.planned[-1].at_s + 2.5:
            return "events are still to come"
        for number in range(PARTITIONS):
            held = self.store.state.held(number)
            for topic in TOPICS:
                stored, end = held.meta.get(f"o:{topic}", "0"), self.log.end((topic, number))
                if int(stored) != end:
                    return f"{topic}/{number} is applied up to {stored} of {end}"
            if held.outbox:
                return f"the outbox of {number} holds {sorted(held.outbox)}"
            due = min(held.due.values(), default=_NEVER_MS * 1000)
            if due < self.now_ms() + _NEVER_MS:
                return f"a timer of {number} is due in {due - self.now_ms()} ms"
        return ""

    # -- what happens ----------------------------------------------------------------------

    def _write(self, planned: Planned) -> None:
        again = self.shop.write(planned, self.now_ms(), self.setup.repeats)
        for later_s, args in again:
            self.loop.after(later_s, self._append, *args)

    def _append(self, place: tuple[str, int], key: bytes | None, value: bytes) -> None:
        back_ms = int(self.setup.jitter_ms * self.random.random())
        record = self.log.append(place, key, value, at_ms=self.now_ms() - back_ms)
        self.note("event", *place, record.offset, value)

    def _written(self, write: Write) -> None:
        write.stray = write.claim != self.claimed.get(write.partition)
        place = (write.topic, write.partition, write.record.offset)
        self.note("output", *place, write.writer, write.stray, write.unknown, write.record.value)
        if write.topic.startswith("offers."):
            answer = self.shop.answer(write.record.value)
            if answer is not None:
                self.loop.after(answer[0], self._write, answer[1])

    def store_called(self, who: str, name: str, partition: int, token: str, result: object) -> None:
        """The store answered a call."""
        if isinstance(result, StoreError):
            self.refusals[result.code] += 1
            self.note("refused", who, name, partition, result.code)
            return
        if name == "claim":
            assert isinstance(result, Meta)
            self.claimed[partition] = result.token
        held = self.store.state.held(partition)
        if token and token != held.meta["token"]:
            self.fail(f"{who} wrote to {partition} ({name}) after another had claimed it")
        if name == "apply":
            self._advanced(who, partition, held.meta)
            self._applied.add(partition)
            if len(self._applied) == PARTITIONS and not self._floor:
                self._floor = self.store.state.calls
        if name in ("claim", "apply", "trim"):
            self.note("stored", who, name, partition, held.meta)

    def _advanced(self, who: str, partition: int, meta: dict[str, str]) -> None:
        """Check that a batch moved its partition on by one call, and no offset back."""
        after = {name: int(text) for name, text in meta.items() if name == "n" or name[:2] == "o:"}
        before, self._position[partition] = self._position.get(partition, {}), after
        if after["n"] != before.get("n", 1) + 1 or any(
            after[name] < offset for name, offset in before.items()
        ):
            self.fail(f"{who} moved {partition} from {before} to {after}")

    # -- what goes wrong -------------------------------------------------------------------

    def _reached(self, name: str) -> None:
        worker = current()
        if worker is None or self._over:
            return
        turn = self._turns[name] = self._turns.get(name, 0) + 1
        if self.loop.time() >= HEALED_S:
            return
        for fault in self.setup.faults:
            if fault.kind.endswith("_at") and (fault.name, fault.which) == (name, turn):
                self.note("fault", fault, worker.name)
                if fault.kind == "stop_at":
                    self._stop(worker, fault.value)
                else:
                    self._kill(worker, fault.value)
                    raise Killed

    def _kill(self, worker: Worker, back_s: float) -> None:
        worker.dead = True
        self.loop.after(SESSION_S, self.group.put_out, worker)
        self.loop.after(back_s, self._start, worker.index)

    def _stop(self, worker: Worker, for_s: float) -> None:
        worker.frozen = True
        if for_s > SESSION_S:
            self.loop.after(SESSION_S, self._expire, worker)
        self.loop.after(for_s, self._thaw, worker)

    def _expire(self, worker: Worker) -> None:
        if worker.frozen and not worker.dead:
            self.note("expired", worker.name)
            self.group.put_out(worker)

    def _thaw(self, worker: Worker) -> None:
        if worker.dead or not worker.frozen:
            return
        self.note("goes on", worker.name)
        self.loop.thaw(worker)
        if not worker.joined and not worker.leaving:
            # It learns of it by its next heartbeat.
            self.loop.after(0.3 * self.random.random(), self._notice, worker)

    def _notice(self, worker: Worker) -> None:
        if not worker.dead and not worker.joined and not worker.leaving:
            worker.start(worker.rejoin())

    def _inject(self, fault: Fault) -> None:
        self.note("fault", fault)
        worker = self.workers.get(fault.which)
        alive = worker is not None and not (worker.dead or worker.frozen or worker.leaving)
        now_s = self.loop.time()
        if worker is not None and alive and fault.kind == "kill":
            self._kill(worker, fault.value)
        elif worker is not None and alive and fault.kind == "stop":
            self._stop(worker, fault.value)
        elif worker is not None and alive and fault.kind == "restart":
            worker.leaving = True
            worker.start(worker.leave())
        elif fault.kind == "churn":
            self.group.disturb()
        elif fault.kind in ("store_crash", "store_old"):
            if fault.kind == "store_crash":
                self.store.down_until = now_s + fault.value
            calls = self.store.state.calls - fault.which
            if self._floor:
                self.store.state.set_back(max(self._floor, calls))
                self.resurrected += sum(
                    held.meta["token"] != self.claimed[number]
                    for number, held in self.store.state.partitions.items()
                )
                self._position = {
                    number: {k: int(v) for k, v in held.meta.items() if k == "n" or k[:2] == "o:"}
                    for number, held in self.store.state.partitions.items()
                }
        elif fault.kind == "refuse":
            self.store.refusal = fault.name
            self.loop.after(fault.value, setattr, self.store, "refusal", "")
        elif fault.kind == "reply_lost":
            self.store.reply_lost = fault.which / 100
            self.loop.after(fault.value, setattr, self.store, "reply_lost", 0.0)
        elif fault.kind == "broker":
            self.log.down_until[fault.which] = now_s + fault.value
        elif fault.kind == "mute":
            self.log.mute_until = now_s + fault.value
        elif fault.kind == "produce":
            self.log.faults = Faults(**{fault.name: fault.which / 100})
            self.loop.after(fault.value, setattr, self.log, "faults", Faults())
        elif fault.kind == "clock":
            self.skews[fault.which] = int(fault.value)

    def _heal(self) -> None:
        self.note("healed")
        self.store.refusal, self.store.reply_lost = "", 0.0
        self.log.faults = Faults()
        self.skews.clear()
        for worker in list(self.workers.values()):
            self._thaw(worker)


def _server(machine: Machine, state: FakeStore) -> StoreServer:
    chance = random.Random(f"store-{machine.setup.seed}")
    return StoreServer(machine.loop, chance, state, machine.now_ms, on_call=machine.store_called)


def _settings(chance: random.Random) -> Settings:
    """Small batches, buffers and caches, so that every bound is met."""
    return _DEFAULTS.model_copy(
        update={
            "batch_records": chance.choice([1, 5, 50, 500]),
            "buffer_records": chance.choice([16, 16, 400]),
            "cache_customers": chance.choice([0, 2, 100]),
        }
    )


_DEFAULTS = load_settings(partitions=PARTITIONS)
