"""Simulated workers: production ``Intake``, ``Partition`` and ``Relay`` in a process of their own,
and the consumer group that gives them their partitions."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faust.types import TP

from streams.clockguard import GuardedClock, compare_once, watch_clock
from streams.erasure import Ledger, read_record
from streams.intake import Intake
from streams.metrics import Metrics
from streams.observer import WorkerObserver
from streams.outbox import known_as
from streams.readback import record_id
from streams.store.errors import StoreError
from streams.topics import ERASED, output_topics
from streams.world import World
from tests.simulation.fakelog import BROKERS, Acked, BrokerAway, Draft, broker_of
from tests.simulation.loop import OWNER, Owner
from tests.simulation.shop import LEDGER_KEY, PARTITIONS, make_catalog, make_door
from tests.simulation.storelink import StoreLink
from triggers.events import TOPICS

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

#: In seconds of the loop. A real group takes ten times as long; what matters is the order.
SESSION_S = 1.2
REBALANCE_S = 8.0
CLAIM_S = 8.0
RELEASE_S = 10.0


_METRICS = Metrics()


class Killed(BaseException):
    """The process ended where it stood."""


@dataclass
class Given:
    """One assignment, compared by identity."""

    numbers: list[int]
    generation: int


class Worker(Owner):
    """One process, from its start to its end."""

    def __init__(self, machine: Machine, index: int, life: int) -> None:
        super().__init__(f"w{index}.{life}")
        self.index = index
        self.machine = machine
        self.joined = False
        self.leaving = False
        self._given: Given | None = None
        self._seeking: asyncio.Task[None] | None = None
        self._told = 0  # records of the ledger of the erased that were read
        self._positions: dict[tuple[str, int], int] = {}
        self.link = StoreLink(machine.store, self.name)
        book = machine.book
        begun_ms = machine.now_ms() + machine.skews.get(index, 0)
        running = machine.now_ms
        started_ms = running()
        self.clock = GuardedClock(
            wall=lambda: running() + machine.skews.get(index, 0),
            steady=lambda: begun_ms + running() - started_ms,
        )
        observer = WorkerObserver(book, _METRICS)
        catalog, settings = make_catalog(), machine.settings
        ledger = Ledger(LEDGER_KEY)
        self.world = World(
            self.link, make_door(), book, catalog, self.clock, observer, settings, ledger
        )
        self.intake = Intake(
            self.world,
            lambda: self,
            output_topics(book),
            self.crash,
            self._read_back,
            self._token,
            self._read_ledger,
        )
        observer.watch(self.world, self.intake)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something within this process."""
        return self.machine.loop.create_task(work, context=self.context)

    async def begin(self) -> None:
        """Do what a worker does before it joins the group."""
        try:
            await compare_once(self.clock, self.link)
        except StoreError as error:
            await self.crash(error)
            return
        self.start(watch_clock(self.clock, self.link))
        self.machine.group.join(self)

    def _token(self) -> str:
        self.machine.tokens += 1
        return f"{self.name}-{self.machine.tokens}"

    # -- the ways out ----------------------------------------------------------------------

    async def send_batch(
        self, topic: str, partition: int, records: Sequence[Draft], ownership: Any = None
    ) -> Acked:
        """The producer."""
        if self.frozen:
            await asyncio.sleep(0)
        log = self.machine.log
        return await log.write(
            (topic, partition), records, self.name, self.link.tokens.get(partition, "")
        )

    async def _read_back(
        self, options: Mapping[str, Any], prefix: str, starts: Mapping[tuple[str, int], int]
    ) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {partition: set() for _, partition in starts}
        read = await self.machine.log.read({(prefix + t, p): at for (t, p), at in starts.items()})
        if self.machine.mutation == "readback":
            return found
        for (topic, partition), records in read.items():
            for record in records:
                name = record_id(record.headers, record.value)
                found[partition].add(known_as(topic.removeprefix(prefix), name))
        return found

    async def _read_ledger(self) -> None:
        place = (ERASED, 0)
        read = await self.machine.log.read({place: self._told})
        for record in read.get(place, ()):
            self.world.ledger.take(*read_record(record.key, record.value))
            self._told = record.offset + 1

    # -- the group's side ------------------------------------------------------------------

    async def revoke(self) -> None:
        """What the consumer does before the group goes on."""
        given, self._given = self._given, None
        if self._seeking is not None:
            await asyncio.wait([self._seeking])
        if given is None:
            return
        try:
            async with asyncio.timeout(RELEASE_S):
                await self.intake.release(_places(given.numbers))
        except Exception as error:  # noqa: BLE001 - as the consumer does
            await self.crash(error)

    def assign(self, given: Given) -> None:
        """What the consumer does with an assignment: a claim in a task of its own."""
        self._given = given
        self._seeking = self.start(self._claim(given, self._seeking))

    async def _claim(self, given: Given, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        if self._given is not given or not given.numbers:
            return
        try:
            async with asyncio.timeout(CLAIM_S):
                stored = await self.intake.claim(_places(given.numbers), given.generation)
        except Exception as error:  # noqa: BLE001 - as the consumer does
            if self._given is given:
                await self.crash(error)
            return
        if self._given is not given:
            return
        log = self.machine.log
        for tp, offset in stored.items():
            place = (tp.topic, tp.partition)
            assert max(0, offset) <= log.end(place), "a stored offset that the log does not have"
            self._positions[place] = max(0, offset)
        for broker in range(BROKERS):
            self.start(self._fetch(given, broker))

    async def _fetch(self, given: Given, broker: int) -> None:
        log, intake = self.machine.log, self.intake
        places = [(t, n) for t in TOPICS if broker_of(t) == broker for n in given.numbers]
        while self._given is given:
            paused = intake.paused()
            wanted = {p: self._positions[p] for p in places if TP(*p) not in paused}
            most = self.machine.fetch_most
            found = await log.fetch(broker, wanted, most, self.clock.wall_ms())
            if self._given is not given:
                return
            records: dict[Any, list[Any]] = {}
            states = {}
            for place, (got, state) in found.items():
                self._positions[place] += len(got)
                records[TP(*place)] = list(got)
                states[TP(*place)] = state
            intake.deliver(records, states, self.clock.wall_ms())

    # -- ends ------------------------------------------------------------------------------

    async def crash(self, error: BaseException) -> None:
        """What the worker does when something unexpected happens: it stops in order."""
        if self.dead or self.leaving:
            return
        self.machine.note("crash", self.name, type(error).__name__)
        if not isinstance(error, StoreError | BrokerAway | TimeoutError):
            text = "".join(traceback.format_exception(error))
            self.machine.fail(f"{self.name} ended by {error!r}\n{text}")
        self.leaving = True
        self.start(self.leave())

    async def leave(self) -> None:
        """Stop in order."""
        await self.revoke()
        self.machine.ended(self)

    async def rejoin(self) -> None:
        """What a process does that finds itself put out of the group."""
        await self.revoke()
        if not self.leaving:
            self.machine.group.join(self)


def _places(numbers: list[int]) -> set[Any]:
    return {TP(topic, number) for topic in TOPICS for number in numbers}


class Group:
    """The group coordinator: everybody gives up everything before anybody gets something new."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._members: list[Worker] = []
        self._dirty = asyncio.Event()
        self._generation = 0
        self.calm = True

    @property
    def members(self) -> list[Worker]:
        """Who is in the group now."""
        return self._members

    def join(self, worker: Worker) -> None:
        """Take a worker in."""
        worker.joined = True
        if worker not in self._members:
            self._members.append(worker)
        self.disturb()

    def disturb(self) -> None:
        """Begin a rebalance."""
        self.calm = False
        self._dirty.set()

    def put_out(self, worker: Worker) -> None:
        """A worker left, or was silent for too long."""
        if worker in self._members:
            worker.joined = False
            self._members.remove(worker)
            self.disturb()

    async def run(self) -> None:
        """Rebalance whenever there is a reason."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._rebalance()
            self.calm = not self._dirty.is_set()

    async def _rebalance(self) -> None:
        chance = self._machine.random
        # The word reaches the members one after another.
        tasks: dict[Worker, asyncio.Task[Any]] = {}
        for member in list(self._members):
            await asyncio.sleep(0.05 * chance.random())
            if not member.dead:
                tasks[member] = member.start(member.revoke())
        loop = self._machine.loop
        end_s = loop.time() + REBALANCE_S
        while loop.time() < end_s:
            waiting = [t for m, t in tasks.items() if m in self._members and not t.done()]
            silent = [m for m in self._members if m.dead]
            if not waiting and not silent:
                break
            # Whoever dies meanwhile never finishes.
            await asyncio.wait(waiting or [loop.create_task(asyncio.sleep(0.1))], timeout=0.1)
        for member in list(self._members):
            task = tasks.get(member)
            if task is not None and not task.done():
                self.put_out(member)
                task.add_done_callback(_then(member))
        ready = [m for m in self._members if m in tasks and not m.dead and not m.leaving]
        self._generation += 1
        chance.shuffle(ready)
        self._machine.note("generation", self._generation, [m.name for m in ready])
        for place, member in enumerate(ready):
            numbers = list(range(PARTITIONS))[place :: len(ready)]
            member.assign(Given(numbers, self._generation))


def _then(member: Worker) -> Callable[[asyncio.Task[Any]], None]:
    def back(_: asyncio.Task[Any]) -> None:
        if not member.dead:
            member.start(member.rejoin())

    return back


def current() -> Worker | None:
    """The process that runs just now."""
    owner = OWNER.get()
    return owner if isinstance(owner, Worker) else None
