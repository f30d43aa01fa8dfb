"""One partition: the only writer of its customers.

It takes the merged records of its topics, lets the engine decide, and moves its state, timers,
outbox and source offsets forward by one atomic call to the store; then the relay publishes.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from streams.activations import Activations
from streams.cache import DocumentCache
from streams.failpoints import reach
from streams.learning import Learner
from streams.merge import FetchState, Merge
from streams.outbox import Outgoing, Relay, pack
from streams.pacing import TimerBudget
from streams.poison import Care, Due, Records, apply_apart, is_poison, told
from streams.retention import Sweeper
from streams.sending import LateCheck, hold, take_held
from streams.store.calls import Batch, Meta
from streams.traffic import Traffic
from streams.ward import PartitionWard
from streams.work import LetterRate, Work, step_by_customer
from streams.world import World
from triggers.customer import PART_LETTERS, Customer
from triggers.engine import advance, fire_first
from triggers.errors import Refused
from triggers.events import TOPICS

#: How long after a due time a fetch must have been sent that found nothing more (clock skew
#: between broker and worker).
TIMER_MARGIN_MS = 250
#: Timers of so many customers fire in one batch, so that fresh events are not starved.
TIMERS_PER_BATCH = 200
#: Bytes of records that go into one batch, but for the last fetched piece.
BATCH_BYTES_MAX = 16 * 1024 * 1024
_IDLE_S = 0.05
_NEVER = 2**62


class Partition:
    """State machine of one partition number, from claim to release."""

    def __init__(
        self,
        number: int,
        world: World,
        meta: Meta,
        relay: Relay,
        topics: Iterable[str] = TOPICS,
    ) -> None:
        """``meta`` is what the claim answered: token, offsets and the number of the next call."""
        self.number = number
        self.relay = relay
        self.offsets: dict[str, int | None] = {t: meta.offsets.get(t) for t in topics}
        self._world = world
        self._token = meta.token
        self._call = meta.number
        self._merge = Merge(
            tuple(topics), world.settings.buffer_records, world.settings.buffer_bytes
        )
        self._cache = DocumentCache()
        self._learner = Learner(number, world.store)
        self._books = Activations(number, world.store)
        self.traffic = Traffic(number)
        self._wake = asyncio.Event()
        self._stopping = False
        self._next_due: int | None = None  # None: ask the store
        self._holds: list[tuple[str, int, Outgoing, asyncio.Future[None]]] = []
        self._held = asyncio.Event()
        self._held_by = 0  # the last call that stored a held offer
        relay.recheck = LateCheck(
            world.clock,
            lambda: world.book,
            world.catalog,
            self._find,
            self._hold,
            world.observer.expired,
        )
        self._budget = TimerBudget(world.settings.timers_per_second)
        self._begun = world.clock.latest_ms(), world.clock.wall_ms()
        self.applied_at = world.clock.wall_ms()  # machine clock of the last applied batch
        self.pending_timers = 0  # customers, as of the last look
        self._looked_at = 0
        self.care: Care | None = None  # None: nothing is known of the owner before
        self._ward = PartitionWard(number, world, self._room, self._once, self._find, self._commit)
        self._sweeper = Sweeper(number, world, self._read_up_to, self._find, self._commit)
        self._letters = LetterRate(world.settings.dead_letters_per_second)
        self.ended = False  # :meth:`run` came to its end, with all in hand applied

    # -- intake ----------------------------------------------------------------------------

    def add(self, topic: str, records: list[Any], received_ms: float) -> None:
        """Take fetched records of one topic, which were there at ``received_ms``, steady time."""
        size = sum([len(record.value or b"") for record in records])  # sooner than a generator
        self._merge.add(topic, records, received_ms, size)
        self._wake.set()

    def learn(self, topic: str, state: FetchState) -> None:
        """Take what a fetch answer told about one topic."""
        self._merge.learn(topic, state)
        self._wake.set()

    def full_topics(self) -> list[str]:
        """Topics that are not to be fetched now."""
        return self._merge.full()

    def blockers(self) -> list[str]:
        """Topics that hold waiting records back."""
        return self._merge.blockers()

    def buffered(self) -> dict[str, int]:
        """Records that wait, by topic."""
        return self._merge.sizes()

    def buffered_bytes(self) -> int:
        """Bytes of the records that wait."""
        return sum(self._merge.sizes_bytes().values())

    def lag(self) -> dict[str, int]:
        """Records not yet applied, by topic, as of the last fetch answers."""
        return {
            topic: max(0, state.stable_end - (self.offsets[topic] or 0))
            for topic, state in self._merge.states().items()
        }

    @property
    def cached(self) -> int:
        """Customers kept in memory."""
        return len(self._cache)

    @property
    def cached_bytes(self) -> int:
        """Bytes of their documents, packed."""
        return self._cache.bytes

    @property
    def waiting(self) -> int:
        """Records that wait in the buffers."""
        return self._merge.size

    def stop(self) -> None:
        """Let :meth:`run` return after the batch in hand."""
        self._stopping = True
        self._wake.set()

    # -- the loop --------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply batches until stopped; any error ends the worker."""
        while not self._stopping:
            self._wake.clear()
            if not await self.turn():
                await self._pause()
        if self._learner.waiting:
            await self._commit(Work(self._world.book), last=True)
        self.ended = True

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _IDLE_S)
        except TimeoutError:
            await self.trim()
            await self._look()

    async def _look(self) -> None:
        """Look now and then, while nothing happens, where the store stands and what is pending.

        A store that was set back has lost timers and records that nobody would miss before the
        next record comes.
        """
        now, store = self._world.clock.wall_ms(), self._world.store
        if abs(now - self._looked_at) > 1_000:
            self._looked_at = now
            await store.verify(self.number, self._token, self._call)
            self.pending_timers = await store.pending(self.number)

    async def turn(self) -> bool:
        """Apply one batch of records and due timers; whether there was anything to do."""
        world, care = self._world, self.care
        careful = care is not None and care.careful
        if not careful:
            await self._sweeper.turn()
        records, due = Records(), Due()
        if await self._room():
            most = world.settings.batch_records if care is None else care.most
            records = self._merge.take(most, BATCH_BYTES_MAX)
            self._sweeper.saw(records)
            if not (records and careful):
                due = (await self._due_customers())[: most if careful else None]
        idle = not records and not due and not self._holds
        if idle and not self._learner.ready(world.clock.now_ms()):
            self._settle()
            return False
        if care is not None and careful and (records or due):
            await care.apply(self._ward, records, due)
        elif await self._once(records, due):
            await apply_apart(self._ward, records, due)
        return True

    def _settle(self) -> None:
        """Forget what our output held at the claim, once all that led to it is decided again.

        Until then the next claim must read it back: a store that was set back lets records and
        timers of long ago be decided anew.
        """
        relay, due = self.relay, self._next_due
        if not relay.knows or relay.waiting or self._world.clock.jumped or due is None:
            return
        if due > self._begun[0] and self._merge.caught_up_ms() > self._begun[1]:
            relay.forget_known()

    async def _once(self, records: Records, due: Due, one_timer: bool = False) -> str:
        """Apply a batch with what is to be held; what was raised while it was worked out."""
        work = Work(self._world.book)
        work.holds, self._holds = self._holds, []
        self._held.clear()
        try:
            await self._work_out(records, due, work, one_timer)
        except Exception as error:
            if not is_poison(error):
                raise
            self._forget(work)
            if not (records or due):
                raise
            return told(error)
        await self._commit(work)
        for *_, stored in work.holds:
            self._held_by = self._call - 1
            stored.set_result(None)
        return ""

    def _forget(self, work: Work) -> None:
        """Drop what a batch that will not be stored has left in memory."""
        self._cache.clear()
        self._next_due = None
        if work.holds:
            self._holds = work.holds + self._holds
            self._held.set()

    async def _work_out(self, records: Records, due: Due, work: Work, one_timer: bool) -> None:
        if records:
            await self._decide(records, work)
        if due:
            await self._fire(due, work, one_timer)
        await self._load_missing(customer_id for customer_id, _, _, _ in work.holds)
        for customer_id, until_ms, record, _ in work.holds:
            customer = self._cache[customer_id]
            if not customer.now.gone:
                hold(customer, until_ms, record)
            work.changed[customer_id] = customer
        work.pack()

    async def _room(self) -> bool:
        """Wait until the outbox takes another entry; False when an offer must be held first.

        What is held makes no entry. The relay waits for it, and would wait for ever if it had to
        make room before.
        """
        relay = self.relay
        while relay.full and not self._holds:
            either = [asyncio.create_task(one) for one in (relay.room(), self._held.wait())]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for one in either:
                one.cancel()
        return not relay.full

    async def _hold(self, customer_id: str, until_ms: int, record: Outgoing) -> None:
        """Keep a late offer with its customer; returns when the store has it."""
        stored = asyncio.get_running_loop().create_future()
        self._holds.append((customer_id, until_ms, record, stored))
        self._held.set()
        self._wake.set()
        await stored

    async def _find(self, customer_id: str) -> Customer:
        """A customer as it stands now, for a look only."""
        await self._load_missing([customer_id])
        return self._cache[customer_id]

    async def _decide(self, records: list[tuple[str, Any]], work: Work) -> None:
        """Decode the records, load their customers, and let the engine decide in order."""
        world = self._world
        door, number = world.door, self.number
        now = world.clock.latest_ms()
        decoded: list[tuple[Any, str, Any]] = []
        missing: set[str] = set()
        cache = self._cache
        for topic, record in records:
            work.offsets[topic] = record.offset + 1
            try:
                event = door.decode(
                    topic, number, record.key, record.value, record.headers, record.timestamp, now
                )
            except Refused as refused:
                work.refuse(topic, record, refused.reason, refused.detail)
                continue
            if event.subject not in cache:
                missing.add(event.subject)
            decoded.append((event, topic, record))
        work.types.update([(topic, event.type) for event, topic, _ in decoded])
        world.observer.loaded(len(decoded), len(missing))
        await self._load_missing(missing)
        self.traffic.see(
            step_by_customer(decoded, work, cache, world.catalog, world.ledger), work.out
        )
        work.order(records)

    async def _load_missing(self, ids: Iterable[str]) -> None:
        """Bring the customers that are not in the cache into it."""
        cache = self._cache
        wanted = [customer_id.encode() for customer_id in ids if customer_id not in cache]
        if not wanted:
            return
        stored = await self._world.store.load(self.number, wanted, PART_LETTERS)
        for raw_id in wanted:
            customer_id = raw_id.decode()
            # The relay may have brought it in while we waited; there must be one of it.
            parts = stored.get(raw_id, {})
            customer = self._world.ledger.restore(customer_id, dict(parts))
            cache.setdefault(customer_id, customer)
            cache.weigh(customer_id, sum(map(len, parts.values())))

    def _read_up_to(self) -> int:
        return self._merge.read_up_to(self._world.clock.at, TIMER_MARGIN_MS)

    async def _due_customers(self) -> Due:
        """Customers whose timers the clock may fire now, in due order."""
        world = self._world
        now = world.clock.now_ms()
        if world.clock.jumped:
            return []
        horizon = min(now, self._read_up_to())
        if self._next_due is None:
            self._next_due = await world.store.next_due(self.number) or _NEVER
        most = min(TIMERS_PER_BATCH, self._budget.at(world.clock.wall_ms()))
        if self._next_due > horizon or most <= 0:
            return []
        found = await world.store.due(self.number, horizon, most)
        self._budget.left -= len(found)
        self._next_due = None
        return [(raw.decode(), horizon) for raw, _ in found]

    async def _fire(self, due: Due, work: Work, one_timer: bool) -> None:
        world = self._world
        await self._load_missing(customer_id for customer_id, _ in due)
        for customer_id, horizon in due:
            customer = self._cache[customer_id]
            fire = fire_first if one_timer else advance
            fire(customer, horizon, work.book, world.catalog, work.out)
            held = take_held(customer, horizon)
            for record in held:
                self.relay.recalls.offer(record.id, self._call)
            work.records += held
            work.changed[customer_id] = customer

    # -- the atomic step -------------------------------------------------------------------

    async def _commit(self, work: Work, last: bool = False) -> None:
        world = self._world
        digest = work.book.digest
        docs = await self._books.changes(digest, self.offsets, world.clock.now_ms())
        docs.update(work.docs)
        due = work.due
        if self._next_due is not None:
            self._next_due = min([self._next_due, *(ms for ms in due.values() if ms)])
        records = work.records
        records += work.told(self.number, world.ledger)
        if world.ledger or work.erased:
            work.drop_erased(world.ledger)
        if work.refusals:
            wall_ms = world.clock.wall_ms()
            records += self._letters.letters(work.refusals, self.number, wall_ms, work.out)
        if work.out.learnt or self._learner.waiting:
            now_ms = world.clock.now_ms()
            sums, news = await self._learner.learn(work.out.learnt, now_ms, everything=last)
            docs.update(sums)
            records += news
        relay = self.relay
        trim_to = relay.done if relay.done > relay.trimmed else None
        outbox = pack(records) if records else b""
        batch = Batch(
            token=self._token,
            number=self._call,
            offsets={t: (n, work.offsets.get(t, n or 0)) for t, n in self.offsets.items()},
            docs=docs,
            due=due,
            outbox=outbox,
            book=digest,
            trim_to=trim_to,
            trimmed=dict(relay.offsets) if trim_to is not None else {},
        )
        started, asked_ms = time.perf_counter(), world.clock.wall_ms()
        reach("before_fcall")
        await world.store.apply(self.number, batch)
        reach("after_fcall")
        took_s = time.perf_counter() - started
        relay.ownership.sure(asked_ms)
        if trim_to is not None:
            relay.trimmed = max(relay.trimmed, trim_to)
        for topic, (_, new) in batch.offsets.items():
            self.offsets[topic] = new
        work.depart(self.number, world.ledger, relay, self._call)
        if records:
            relay.put(self._call, records, len(outbox))
        self._call += 1
        self.applied_at = world.clock.wall_ms()
        for refusal in work.refusals:
            world.observer.dead_letter(refusal.topic, refusal.reason)
        world.observer.applied(work.types, len(work.changed), work.out, took_s)
        self._cache.weigh_written(work.docs)
        self._cache.make_room(world.cache_share, world.cache_share_bytes)

    async def trim(self, beside: bool = False) -> None:
        """Tell the store what is acknowledged, when no batch is there to carry it.

        ``beside``: while a batch is perhaps on its way, which a second call must not overtake.
        """
        relay, done = self.relay, self.relay.done
        if done <= relay.trimmed:
            return
        if self._held_by <= done:
            reach("before_trim")
            await self._world.store.trim(self.number, self._token, done, dict(relay.offsets))
            relay.trimmed = max(relay.trimmed, done)
        elif not beside:
            await self._commit(Work(self._world.book))  # it notices when the store lost the hold
