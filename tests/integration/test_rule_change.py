"""The rule book changes while a partition works: between two batches, and for good in the store."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import redis

from streams.activations import LETTER, Activation, activations, book_at
from streams.embedded import EmbeddedStore
from tests.integration.bench import Bench, Log, Outcome, replay, same
from tests.integration.stores import keys_of, opened, run
from tests.integration.test_inputs import PEOPLE, shopping
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, make_book
from triggers.book import Book
from triggers.customer import PART_LETTERS

pytestmark = pytest.mark.usefixtures("raw")


NOW: dict[str, Any] = {"id": "now", "on": "cart.item_added", "cooldown": "10m"}
LEFT: dict[str, Any] = {
    "id": "left", "on": "cart.item_added", "after_silence": "3h", "channel": "push",
    "unless": ["purchase.completed"],
}  # fmt: skip
WEEK: dict[str, Any] = {
    "id": "week", "kind": "follow_up", "on": "purchase.completed", "after": "7d",
}  # fmt: skip
#: Books that follow each other: rules come, change and go.
BOOKS = (
    make_book(NOW, LEFT, WEEK),
    make_book({**NOW, "cooldown": "2h"}, WEEK),
    make_book(NOW, {**LEFT, "after_silence": "1h"}),
    make_book(NOW, LEFT, WEEK, holdout={"share": "50%", "salt": "s"}),
)
BY_DIGEST: dict[str, Book] = {book.digest: book for book in BOOKS}


def shopping_log(seed: int) -> tuple[Log, int]:
    chance = random.Random(seed)
    log, at = Log(1), NOON
    for number, (name, kind, data) in enumerate(shopping(chance, 150)):
        at += chance.choice((1, SECOND, 5 * MINUTE, HOUR))  # never two at one instant
        log.event(kind, name, at, data, f"e{number}")
    return log, at + 30 * DAY


@pytest.mark.parametrize("seed", range(4))
def test_s26_a_replay_with_the_book_of_each_offset_decides_the_same(
    server: EmbeddedStore, seed: int
) -> None:
    log, until = shopping_log(seed)
    chance = random.Random(seed)
    found: list[tuple[Outcome, list[Activation]]] = []

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, BOOKS[0], log)
            await bench.open(0)
            merged = log.merged(0)
            cuts = sorted(chance.sample(range(1, len(merged)), 12))
            for begin, end in zip([0, *cuts], [*cuts, len(merged)], strict=True):
                # A round of what comes next in time, then perhaps another book or another worker.
                topics = [topic for topic, _ in merged[begin:end]]
                await bench.round(0, {topic: topics.count(topic) for topic in topics}, True)
                if chance.random() < 0.5:
                    bench.world.use(chance.choice(BOOKS))
                if chance.random() < 0.3:
                    await bench.open(0)
            bench.clock.observe(until)
            await bench.round(0)
            known = await activations(store, 0)
            meta = await store.meta(0)
            assert meta is not None
            assert meta.book == known[-1].digest
            await bench.close(0)
            await bench.read_documents()
            found.append((bench.outcome, known))

    run(work())
    outcome, known = found[0]
    assert len({one.digest for one in known}) > 2
    assert len(outcome.offers) > 15
    same(outcome, replay(BY_DIGEST, log, known, until))


def test_s26_a_change_is_stored_with_the_first_batch_that_it_decides(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "c")
    log.event("product.viewed", "ann", NOON + 1, {"sku": "a"}, "v1")
    log.event("product.viewed", "ann", NOON + 2, {"sku": "a"}, "v2")
    log.event("product.viewed", "ann", NOON + 3, {"sku": "a"}, "v3")

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, BOOKS[0], log)
            await bench.open(0)
            await bench.round(0, {"customer": 1, "cart": 1}, True)
            bench.world.use(BOOKS[1])
            (first,) = await activations(store, 0)
            assert (first.digest, set(first.offsets.values())) == (BOOKS[0].digest, {0})
            await bench.round(0, {}, True)  # nothing to decide: nothing is stored
            assert await activations(store, 0) == [first]
            before = {key: raw.dump(key) for key in keys_of(raw)}
            await bench.round(0, {"cart": 1}, True)
            _, second = await activations(store, 0)
            assert second.digest == BOOKS[1].digest
            assert (second.offsets["customer"], second.offsets["cart"]) == (1, 1)
            assert (await store.meta(0)).book == BOOKS[1].digest  # type: ignore[union-attr]
            await bench.open(0)  # another worker with the same book changes nothing
            await bench.round(0, {"cart": 1}, True)
            assert await activations(store, 0) == [first, second]
            await bench.close(0)
            # A store that is set back forgets the change with what was decided after it.
            raw.flushdb()
            for key, packed in before.items():
                raw.restore(key, 0, packed)  # type: ignore[arg-type]
            assert await activations(store, 0) == [first]
            assert (await store.meta(0)).book == BOOKS[0].digest  # type: ignore[union-attr]

    run(work())


def test_s26_timers_of_a_removed_rule_end_with_that_reason_and_others_go_on(
    server: EmbeddedStore,
) -> None:
    log, until = Log(1), NOON + 30 * DAY
    item = {"sku": "a", "quantity": 1, "unit_price": 100}
    for number, name in enumerate(PEOPLE):
        log.event("consent.granted", name, NOON, {"channel": "*"}, f"c{number}")
        data = {"cart_id": "k", "item": item, "subtotal": 100, "currency": "JPY"}
        log.event("cart.item_added", name, NOON + 1, data, f"a{number}")
        bought = {"order_id": "o", "items": [item], "total": 100, "currency": "JPY", "cart_id": "x"}
        log.event("purchase.completed", name, NOON + 2, bought, f"p{number}")
    values: list[dict[str, Any]] = []

    async def work() -> None:
        async with opened(server) as store:
            bench = Bench(store, make_book(LEFT, WEEK), log)
            await bench.open(0)
            await bench.round(0)
            bench.world.use(make_book(WEEK))
            take, values_of = bench.outcome.take, values.append
            bench.outcome.take = lambda topic, value: (  # type: ignore[method-assign]
                values_of(json.loads(value)), take(topic, value)
            )[1]  # fmt: skip
            bench.clock.observe(until)
            await bench.round(0)
            await bench.close(0)

    run(work())
    ended = [
        (one["subject"], one["data"]["rule"], one["data"]["outcome"], one["data"]["reason"])
        for one in values
        if one["type"] == "decision.made"
    ]
    assert sorted(ended) == sorted(
        [(name, "left", "withdrawn", "rule_removed") for name in PEOPLE]
        + [(name, "week", "offered", None) for name in PEOPLE]
    )
    offers = [one["data"]["rule"] for one in values if one["type"] == "offer.made"]
    assert offers == ["week"] * len(PEOPLE)


def test_the_memory_of_books_has_a_letter_of_its_own_and_a_bound() -> None:
    from streams import activations as module
    from streams.learning import LETTER as LEARNED_LETTER

    assert LETTER not in PART_LETTERS + LEARNED_LETTER
    assert module.ACTIVATIONS_MAX <= 200


def test_the_book_of_an_offset_is_the_last_that_began_at_or_before_it() -> None:
    known = [
        Activation("a", {"cart": 0, "purchase": 0}, 1),
        Activation("b", {"cart": 5, "purchase": 2}, 2),
        Activation("c", {"cart": 5, "purchase": 4}, 3),
    ]
    assert [book_at(known, "cart", offset) for offset in (0, 4, 5)] == ["a", "a", "c"]
    assert [book_at(known, "purchase", offset) for offset in (1, 2, 4)] == ["a", "b", "c"]
    assert book_at(known[1:], "cart", 4) is None
