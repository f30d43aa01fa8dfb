"""The simulation's store answers what the function library in a real server answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from streams.embedded import EmbeddedStore
from streams.store import Batch, Store, StoreError
from streams.store.calls import NUMBER_MAX
from streams.store.keys import BUCKETS
from tests.simulation.fakestore import FakeStore

CUSTOMERS = [b"a", b"b", b"{p1}", b"\x00", "顧客".encode(), b"n"]
TOPICS = ["cart", "purchase", "usage"]
ODD_TOPICS = ["", "x y", "t" * 249, "t" * 250, "a.b_c-d"]
ODD_NUMBERS = [-1, 0, 1, NUMBER_MAX - 1, NUMBER_MAX, NUMBER_MAX + 1]
PARTS = "no"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("model")) as running:
        yield running


class Caller:
    """Makes up calls: most are good ones for where the store stands, some are off."""

    def __init__(self, seed: int, fake: FakeStore, partition: int) -> None:
        self.random = random.Random(seed)
        self._fake = fake
        self._partition = partition
        self._tokens = ["t0"]

    def next_call(self) -> tuple[str, tuple[Any, ...]]:
        """Name and arguments of a method of the store."""
        draw = self.random.random()
        if draw < 0.12:
            return "claim", self._claim()
        if draw < 0.25:
            return "trim", self._trim()
        if draw < 0.40:
            return self._look()
        return "apply", (self._batch(),)

    def _odd(self, number: int, share: float = 0.04) -> int:
        odd = self.random.random() < share
        return self.random.choice([*ODD_NUMBERS, number + 1, number - 1]) if odd else number

    def _token(self) -> str:
        fresh = self.random.random() < 0.93
        return self._tokens[-1] if fresh else self.random.choice([*self._tokens, "", "t" * 65])

    def _number(self) -> int:
        meta = self._fake.meta(self._partition)
        return 1 if meta is None else meta.number

    def _claim(self) -> tuple[Any, ...]:
        token = f"t{len(self._tokens)}" if self.random.random() < 0.95 else "é" * 33
        if len(token.encode()) <= 64:
            self._tokens.append(token)
        return token, self._odd(7), self._odd(8, 0.02), self._odd(1, 0.02)

    def _trimmed(self) -> dict[str, int]:
        chance = self.random
        topics = ODD_TOPICS if chance.random() < 0.04 else ["offers.email", "decisions"]
        names = chance.sample(topics, chance.randint(0, 2))
        return {topic: self._odd(chance.randint(0, 99), 0.02) for topic in names}

    def _trim(self) -> tuple[Any, ...]:
        behind = self.random.randint(1, 4)
        return self._token(), self._odd(max(0, self._number() - behind)), self._trimmed()

    def _look(self) -> tuple[str, tuple[Any, ...]]:
        chance = self.random
        return chance.choice(
            [
                ("load", (chance.sample(CUSTOMERS, 3), PARTS)),
                ("due", (chance.choice([0, 500, NUMBER_MAX]), chance.randint(1, 4))),
                ("next_due", ()),
                ("pending", ()),
                ("outbox", (chance.randint(0, 3), chance.randint(1, 9))),
                ("outbox_size", ()),
                ("meta", ()),
            ]
        )

    def _batch(self) -> Batch:
        chance, number = self.random, self._number()
        meta = self._fake.meta(self._partition)
        offsets: dict[str, tuple[int | None, int]] = {}
        for topic in TOPICS if chance.random() < 0.97 else ODD_TOPICS:
            known = None if meta is None else meta.offsets.get(topic)
            if chance.random() < 0.02:
                known = chance.choice([None, 3, -1, NUMBER_MAX + 1])
            offsets[topic] = (known, self._odd((known or 0) + chance.randint(0, 3), 0.01))
        customers = CUSTOMERS if chance.random() < 0.97 else [*CUSTOMERS, b""]
        places = [(c, part) for c in customers for part in PARTS]
        some = chance.sample(places, chance.randint(0, len(places)))
        due = chance.sample(customers, chance.randint(0, len(customers)))
        return Batch(
            token=self._token(),
            number=self._odd(number),
            offsets=offsets,
            docs={place: chance.choice([b"", b"x", b"\x00\xff"]) for place in some},
            due={c: self._odd(chance.randint(1, 999), 0.01) for c in due}
            | {c: None for c in due if chance.random() < 0.3},
            outbox=chance.choice([b"", b"r", b"records"]),
            book=chance.choice(["", "x", "b" * 128, "b" * 129 if chance.random() < 0.1 else "y"]),
            trim_to=None if chance.random() < 0.6 else self._odd(max(0, number - 2), 0.1),
            trimmed=self._trimmed(),
        )


async def real_answer(store: Store, name: str, partition: int, args: tuple[Any, ...]) -> Any:
    try:
        return await getattr(store, name)(partition, *args)
    except StoreError as error:
        return type(error), str(error)


def fake_answer(fake: FakeStore, name: str, partition: int, args: tuple[Any, ...]) -> Any:
    try:
        return getattr(fake, name)(partition, *args)
    except StoreError as error:
        return type(error), str(error)


async def everything(store: Store, partition: int) -> tuple[Any, ...]:
    return (
        await store.meta(partition),
        await store.load(partition, CUSTOMERS, PARTS),
        await store.due(partition, NUMBER_MAX, 99),
        await store.outbox(partition),
        [sorted(await pages(store, partition, bucket)) for bucket in range(BUCKETS)],
    )


async def pages(store: Store, partition: int, bucket: int) -> list[tuple[bytes, bytes]]:
    cursor, found = await store.page(partition, bucket, PARTS[0], 0, 1)
    while cursor:
        cursor, page = await store.page(partition, bucket, PARTS[0], cursor, 1)
        found += page
    return found


def all_of(fake: FakeStore, partition: int) -> tuple[Any, ...]:
    return (
        fake.meta(partition),
        fake.load(partition, CUSTOMERS, PARTS),
        fake.due(partition, NUMBER_MAX, 99),
        fake.outbox(partition),
        [sorted(fake.page(partition, bucket, PARTS[0], 0, 1)[1]) for bucket in range(BUCKETS)],
    )


def test_random_calls_good_and_bad_get_the_same_answers_from_both_stores(
    server: EmbeddedStore,
) -> None:
    async def work() -> None:
        store = await Store.connect(server.url)
        await store.ensure_functions()
        seen: set[Any] = set()
        try:
            for seed in range(40):
                fake = FakeStore()
                caller = Caller(seed, fake, seed)
                for _ in range(120):
                    name, args = caller.next_call()
                    real = await real_answer(store, name, seed, args)
                    assert fake_answer(fake, name, seed, args) == real, (seed, name, args)
                    seen.add(real[0].__name__ if isinstance(real, tuple) else name)
                assert all_of(fake, seed) == await everything(store, seed)
        finally:
            await store.close()
        assert seen >= {"Fenced", "OffsetMismatch", "StoreError", "SchemaNewer", "apply", "trim"}

    asyncio.run(work())


def test_a_store_that_was_set_back_is_what_its_first_calls_had_made_of_it() -> None:
    fake = FakeStore()
    caller = Caller(7, fake, 0)
    states = []
    while fake.calls < 60:
        name, args = caller.next_call()
        before = fake.calls
        fake_answer(fake, name, 0, args)
        if fake.calls > before:
            states.append(all_of(fake, 0))
    for calls in (60, 41, 17, 1):
        fake.set_back(calls)
        assert all_of(fake, 0) == states[calls - 1]
        assert fake.calls == calls
