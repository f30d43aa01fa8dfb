"""Records and timers that cannot be applied: found, set apart, and nothing else stops."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from streams.codec import Door
from streams.embedded import EmbeddedStore
from streams.letters import read_letter
from streams.murmur2 import partition_of
from streams.poison import STRETCH, TRIES, Care, Trial, next_trial
from streams.store import Store
from streams.store.calls import Batch
from streams.store.errors import StoreUnavailable
from tests.integration.bench import Bench, Log, Outcome, Record, model
from tests.integration.stores import opened, run
from tests.integration.test_inputs import book, cart
from tests.unit.harness import DAY, HOUR, MINUTE, NOON
from triggers.book import Book
from triggers.context import Context

pytestmark = pytest.mark.usefixtures("raw")

PARTITIONS = 2


class Trap:
    """A condition that raises, or as its harmless twin is false, about certain carts."""

    def __init__(self, carts: set[str], raises: bool) -> None:
        self.carts = carts
        self.raises = raises
        self.errors = 0
        self.sprung = 0

    def holds(self, ctx: Context) -> bool:
        if getattr(ctx.event, "cart_id", "") not in self.carts:
            return True
        self.sprung += 1
        if self.raises:
            raise ZeroDivisionError("secret-of-ann")
        return False


def trapped(rule: str, trap: Trap) -> Book:
    """The book of the inputs' tests, with a trap in one rule."""
    used = book()
    object.__setattr__(used.rules[rule], "when", (*used.rules[rule].when, trap))
    return used


def shopping(count: int, poison: set[int], seed: int = 1) -> Log:
    """Additions to carts of 20 people, a minute apart; those numbered in ``poison`` to cart bad."""
    log, chance = Log(PARTITIONS), random.Random(seed)
    for i in range(20):
        log.event("consent.granted", f"c{i}", NOON + i, {"channel": "*"}, f"consent{i}")
    for number in range(count):
        data = cart(number) | ({"cart_id": "bad"} if number in poison else {})
        who = f"c{chance.randrange(20)}"
        log.event("cart.item_added", who, NOON + (number + 1) * MINUTE, data, f"e{number}")
    return log


def without(log: Log, number: int) -> tuple[Log, dict[tuple[str, int, int], str]]:
    """The log with additions to cart bad made unreadable, and where they lie."""
    clean, places = Log(PARTITIONS), {}
    for (topic, partition), records in log.records.items():
        for record in records:
            bad = b'"bad"' in (record.value or b"")
            if bad:
                places[topic, partition, record.offset] = "crashed"
            value = b"{" if bad else record.value
            clean.append(topic, record.key, value, record.timestamp, partition)
    assert len(places) == number
    return clean, places


def applied(server: EmbeddedStore, used: Book, log: Log, until_ms: int, **how: Any) -> Outcome:
    found: list[Outcome] = []

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, used, log, **how)
            found.append(await bench.run(until_ms, random.Random(3)))

    run(work())
    return found[0]


@pytest.mark.parametrize("poison", [{0}, {7, 8, 9}, {0, 50, 99}])
def test_an_event_that_raises_becomes_a_dead_letter_and_stops_nothing(
    server: EmbeddedStore, poison: set[int]
) -> None:
    trap = Trap({"bad"}, raises=True)
    log = shopping(100, poison)
    found = applied(server, trapped("now", trap), log, NOON + 2 * HOUR)
    clean, places = without(log, len(poison))
    expected = model(book(), clean, NOON + 2 * HOUR)
    assert found.refused == places
    assert found.decisions == expected.decisions
    assert found.offers == expected.offers
    assert found.customers == expected.customers
    # In whole batches, in their halves, and three times alone.
    assert trap.sprung <= len(poison) * (TRIES + 12)


def test_a_letter_of_what_crashed_tells_kind_and_place_and_not_the_text(
    server: EmbeddedStore,
) -> None:
    found = applied(server, trapped("now", Trap({"bad"}, True)), shopping(3, {1}), NOON + 2 * HOUR)
    (letter,) = found.letters
    headers = dict(letter.headers or ())
    assert headers["reason"] == b"crashed"
    assert headers["detail"].startswith(b"ZeroDivisionError at test_poison.py:")
    assert b"secret" not in b"".join(headers.values())
    assert json.loads(letter.value)["id"] == "e1"


def test_a_record_at_which_the_door_itself_raises_is_set_apart(server: EmbeddedStore) -> None:
    class Breaking(Door):
        def decode(self, *args: Any) -> Any:
            event = super().decode(*args)
            if event.id == "e5":
                raise RecursionError("deep")
            return event

    log, found = shopping(20, set()), Outcome()

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, book(), log)
            bench.world.door = Breaking(PARTITIONS)
            await bench.run(NOON + 2 * HOUR)
            found.refused.update(bench.outcome.refused)
            found.notes.update(bench.outcome.notes)

    run(work())
    assert list(found.refused.values()) == ["crashed"]


def test_a_timer_that_raises_is_set_aside_and_takes_no_event_with_it(
    server: EmbeddedStore,
) -> None:
    log = shopping(40, {3, 4})
    # Later events of all, whose application fires what is due before them.
    for i in range(20):
        log.event("cart.item_added", f"c{i}", NOON + DAY + i, cart(1), f"late{i}")
    until = NOON + 2 * DAY
    found = applied(server, trapped("left", Trap({"bad"}, True)), log, until)
    expected = model(trapped("left", Trap({"bad"}, False)), log, until)
    assert found.decisions == expected.decisions
    assert found.offers == expected.offers
    assert set(found.refused.values()) == {"crashed"}
    assert {place[0] for place in found.refused} == {"timers"}
    told = [json.loads(letter.value) for letter in found.letters]
    assert {(letter["rule"], letter["about"]) for letter in told} == {("left", "bad")}
    letter = found.letters[0]
    read = read_letter(Record(0, 1, letter.key, letter.value, tuple(letter.headers or ())))
    assert read is not None
    assert read.is_timer
    assert not read.cut


def test_a_timer_that_raises_when_the_clock_fires_it_is_set_aside(server: EmbeddedStore) -> None:
    log = shopping(10, {3})
    until = NOON + 2 * DAY
    found = applied(server, trapped("left", Trap({"bad"}, True)), log, until)
    expected = model(trapped("left", Trap({"bad"}, False)), log, until)
    assert found.decisions == expected.decisions
    assert [place[0] for place in found.refused] == ["timers"]


def test_a_store_that_fails_is_no_poison(server: EmbeddedStore) -> None:
    class Failing(Store):
        async def load(self, *args: Any) -> Any:
            raise StoreUnavailable("NO_ANSWER", "gone")

    async def work() -> None:
        store = await Failing.connect(server.url)
        await store.ensure_functions()
        bench = Bench(store, book(), shopping(3, set()))
        with pytest.raises(StoreUnavailable):
            await bench.run(NOON + 2 * HOUR)
        assert bench.outcome.refused == {}
        await store.close()

    run(work())


# -- what kills the process ------------------------------------------------------------------


class Killed(MemoryError):  # noqa: N818 - no error: an end
    """Stands for the death of the process: nothing after it runs."""


def killing(door_of: Any, event_id: str) -> Door:
    class Deadly(Door):
        def decode(self, *args: Any) -> Any:
            event = super().decode(*args)
            if event.id == event_id:
                raise Killed
            return event

    return Deadly(door_of)


def lives(server: EmbeddedStore, used: Book, log: Log, deadly: str, most: int = 20) -> list[Any]:
    """Owners follow each other until one ends in peace; deaths, letters, and the trace's end."""
    told: list[Any] = []

    async def one(store: Store, number: int, outcome: Outcome) -> bool:
        bench = Bench(store, used, log)
        bench.outcome = outcome
        bench.world.door = killing(PARTITIONS, deadly)
        partition = await bench.open(number)
        meta = await store.meta(number)
        assert meta is not None
        partition.care = await Care.begin(store, number, meta.epoch, 2_000, asyncio.Lock())
        try:
            bench.clock.observe(log.last_ms())
            await bench.round(number)
        except Killed:
            return False
        await bench.close(number)
        await partition.care.end()
        return True

    async def work() -> None:
        outcome, deaths = Outcome(), 0
        number = partition_of(b"c1", PARTITIONS)
        async with opened(server) as store:
            while not await one(store, number, outcome):
                deaths += 1
                assert deaths < most
                await asyncio.sleep(0)
            told.extend([deaths, outcome, await store.trial(number)])

    run(work())
    return told


def one_customer(count: int) -> Log:
    log = Log(PARTITIONS)
    log.event("consent.granted", "c1", NOON, {"channel": "*"}, "consent")
    for number in range(count):
        at_ms = NOON + (number + 1) * MINUTE
        log.event("cart.item_added", "c1", at_ms, cart(number), f"e{number}")
    return log


@pytest.mark.parametrize("which", [0, 40, 99])
def test_a_record_that_kills_its_worker_is_given_up_after_counted_deaths(
    server: EmbeddedStore, which: int
) -> None:
    log = one_customer(100)
    deaths, found, trace = lives(server, book(), log, f"e{which}")
    # One in a whole batch, one in a stretch, and three alone.
    assert deaths == 2 + TRIES
    assert list(found.refused.values()) == ["crashed"]
    headers = dict(found.letters[0].headers or ())
    assert headers["detail"] == b"the worker died 3 times with it in hand"
    assert json.loads(found.letters[0].value)["id"] == f"e{which}"
    assert trace is None


def test_a_death_accuses_no_record_of_another_partition(server: EmbeddedStore) -> None:
    log = shopping(200, set())
    numbers = range(PARTITIONS)

    async def life(store: Store, outcome: Outcome) -> bool:
        bench, turns = Bench(store, book(), log), asyncio.Lock()
        bench.outcome = outcome
        bench.world.door = killing(PARTITIONS, "e100")
        for number in numbers:
            partition = await bench.open(number)
            meta = await store.meta(number)
            assert meta is not None
            partition.care = await Care.begin(store, number, meta.epoch, 2_000, turns)
        bench.clock.observe(log.last_ms())
        rounds = [asyncio.create_task(bench.round(number)) for number in numbers]
        await asyncio.wait(rounds, return_when=asyncio.FIRST_EXCEPTION)
        for one in rounds:
            one.cancel()
        ends = await asyncio.gather(*rounds, return_exceptions=True)
        if any(isinstance(end, Killed) for end in ends):
            return False
        for number in numbers:
            await bench.close(number)
        return True

    async def work() -> None:
        outcome, deaths = Outcome(), 0
        async with opened(server) as store:
            while not await life(store, outcome):
                deaths += 1
                assert deaths < 20
        assert deaths >= 2 + TRIES
        assert list(outcome.refused.values()) == ["crashed"]
        assert json.loads(outcome.letters[0].value)["id"] == "e100"

    run(work())


def test_deaths_that_have_nothing_to_do_with_a_record_give_up_nothing(
    server: EmbeddedStore,
) -> None:
    """An owner that dies at a random place leaves its care behind, and no letter."""

    async def work() -> None:
        log, chance, outcome = one_customer(300), random.Random(5), Outcome()
        number = partition_of(b"c1", PARTITIONS)
        async with opened(server) as store:
            for _ in range(60):
                bench = Bench(store, book(), log)
                bench.outcome = outcome
                partition = await bench.open(number)
                meta = await store.meta(number)
                assert meta is not None
                partition.care = await Care.begin(store, number, meta.epoch, 100, asyncio.Lock())
                await bench.round(number, {"cart": chance.randrange(30), "customer": 1})
                # No close, no end: it is gone.
            assert outcome.refused == {}

    run(work())


class Ward:
    """Nothing but the order of what is asked of it; every record has a timer before it."""

    def __init__(self, said: list[str]) -> None:
        self.said = said
        self.timers = 0

    async def room(self) -> None:
        self.said.append("room")

    async def attempt(self, records: Any, due: Any, one_timer: bool = False) -> str:
        self.said.append("attempt")
        return ""

    async def due_before(self, topic: str, record: Any) -> Any:
        self.timers = 2
        return [("ann", NOON)]

    async def first_due(self, customer_id: str, horizon_ms: int) -> int:
        self.timers -= 1
        return max(0, self.timers)

    async def give_up(self, topic: str, record: Any, error: str) -> None: ...
    async def set_aside(self, customer_id: str, horizon_ms: int, error: str) -> None: ...


@pytest.mark.parametrize(("before", "names"), [(0, 1), (1, 3)], ids=["stretches", "records"])
def test_nothing_is_accused_of_a_death_while_the_outbox_was_full(before: int, names: int) -> None:
    """A timer's entry may fill it just before the record; what waits is in no hand."""
    said: list[str] = []

    class Trials:
        async def trial(self, partition: int) -> bytes | None:
            return b'[6,%d,0,"",true]' % before

        async def set_trial(self, partition: int, trial: bytes | None) -> None:
            named = json.loads(trial or b"null")
            said.append("named" if named and named[3] else "not named")

    async def work() -> None:
        care = await Care.begin(Trials(), 0, 7, 2_000, asyncio.Lock())
        said.clear()
        record: Any = Record(5, NOON, b"ann", b"{}")
        await care.apply(Ward(said), [("cart", record)], [])

    run(work())
    assert said.count("named") == names
    assert all(said[at - 1] == "room" for at, what in enumerate(said) if what == "named")


def test_what_is_trimmed_beside_a_batch_on_its_way_does_not_overtake_it(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        log = one_customer(6)
        number = partition_of(b"c1", PARTITIONS)
        async with opened(server) as store:
            bench = Bench(store, book(), log, batch_records=2)
            partition = await bench.open(number)
            await bench.round(number, {"cart": 4, "customer": 1})
            await partition.relay.flush()
            go_on, apply, calls = asyncio.Event(), store.apply, []

            async def slowly(partition: int, batch: Batch) -> None:
                calls.append(batch.number)
                await go_on.wait()
                await apply(partition, batch)

            store.apply = slowly  # type: ignore[method-assign]
            applying = asyncio.create_task(bench.round(number))
            async with asyncio.timeout(10):
                while not calls:  # noqa: ASYNC110 - another task applies
                    await asyncio.sleep(0.005)
            held_by = partition._held_by  # as if the batch before had stored an offer that is late
            partition._held_by = partition.relay.done + 1
            await partition.trim(beside=True)
            assert len(calls) == 1
            partition._held_by = held_by
            partition.relay.trimmed = 0
            assert await store.outbox_size(number) > 0
            await partition.trim(beside=True)
            assert await store.outbox_size(number) == 0
            go_on.set()
            await applying
            await bench.close(number)

    run(work())


def test_the_trace_escalates_only_in_a_chain_of_owners() -> None:
    def pack(trial: Trial) -> bytes:
        import msgspec

        return msgspec.json.encode(trial)

    assert next_trial(None, 1) == Trial(1, hand=True)
    assert next_trial(b"rubbish", 5) == Trial(5, STRETCH)
    # The owner before died with a whole batch in hand, then with a stretch, then with a record.
    assert next_trial(pack(Trial(4, hand=True)), 5) == Trial(5, STRETCH)
    assert next_trial(pack(Trial(4, STRETCH, hand=True)), 5) == Trial(5, 1)
    assert next_trial(pack(Trial(4, 1, 0, "cart/9", hand=True)), 5) == Trial(5, 1, 1, "cart/9")
    assert next_trial(pack(Trial(4, 1, 2, "cart/9", hand=True)), 5) == Trial(5, 1, 3, "cart/9")
    # It died before it touched anything: nobody is the wiser.
    assert next_trial(pack(Trial(4, 1, 2, "cart/9")), 5) == Trial(5, 1, 2, "cart/9")
    # A zombie's trace, or that of a store that was set back, accuses nobody.
    assert next_trial(pack(Trial(2, 1, 2, "cart/9", hand=True)), 5) == Trial(5, STRETCH)
    assert next_trial(pack(Trial(9, 1, 2, "cart/9", hand=True)), 5) == Trial(5, STRETCH)


# -- floods ----------------------------------------------------------------------------------


def test_s20_a_flood_of_rubbish_is_summed_up_and_every_place_is_told(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    wanted = set()
    for number in range(500):
        if number % 7:
            log.append("cart", b"c-1", b"{", NOON + number)
            wanted.add(number)
        else:
            log.event("cart.item_added", "c-1", NOON + number, cart(number), f"e{number}")
    found = applied(server, book(), log, NOON + 2 * HOUR, dead_letters_per_second=10)
    offsets: list[int] = []
    alone = 0
    for letter in found.letters:
        read = read_letter(Record(0, 1, letter.key, letter.value, tuple(letter.headers or ())))
        assert read is not None
        assert (read.reason, read.topic) == ("not_json", "cart")
        alone += not read.is_summary
        assert not read.cut
        offsets += read.offsets()
    assert sorted(offsets) == sorted(wanted)
    assert len(found.letters) < 200
    assert found.notes["letters_summed"] == len(wanted) - alone
