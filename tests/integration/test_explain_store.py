"""`tsuide explain` on a store: the customer as a worker left it."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.errors import PreconditionError
from streams.explain import UnknownCustomerError, explanation, from_store
from streams.murmur2 import partition_of
from streams.settings import Settings, load_settings
from streams.store import Batch, Store, new_token
from tests.integration.stores import opened, run
from tests.unit.harness import MINUTE, NOON, World, make_book

CART = {"id": "cart", "on": "cart.item_added", "when": "customer.orders > 1"}
LATER = {"id": "later", "on": "cart.item_added", "after": "1h"}
BOOK = make_book(CART, LATER)
PARTITIONS = 32


def settings(server: EmbeddedStore) -> Settings:
    return load_settings(redis=server.url, kafka="127.0.0.1:1", clock="log")


async def _fill(store: Store, world: World, digest: str) -> None:
    key = world.customer.id.encode()
    number = partition_of(key, PARTITIONS)
    for partition in sorted({0, number}):
        meta = await store.claim(partition, new_token(), 1, PARTITIONS, 1)
        if partition != number:
            continue
        docs = {(key, letter): packed for letter, packed in world.customer.take_changes()}
        batch = Batch(
            token=meta.token,
            number=meta.number,
            offsets={"cart": (None, 1)},
            docs=docs,
            due={},
            outbox=b"",
            book=digest,
        )
        await store.apply(partition, batch)


def fill(server: EmbeddedStore, world: World, digest: str = BOOK.digest) -> None:
    async def work() -> None:
        async with opened(server) as store:
            await _fill(store, world, digest)

    run(work())


def test_the_stored_customer_is_explained(server: EmbeddedStore, raw: redis.Redis) -> None:
    world = World(BOOK)
    world.add("a", NOON)
    fill(server, world)
    subject = from_store(settings(server), BOOK, "c1")
    assert subject.at_ms == NOON
    told = explanation(subject, BOOK)
    cart, later = told["rules"]
    assert (cart["verdict"], cart["lines"][-1]["values"]) == ("false", {"customer.orders": 0})
    assert (later["pending"], later["due"]) == (True, told["timers"][0]["due"])
    (remark,) = told["remarks"]
    assert remark.startswith("the catalogue could not be read from Kafka")


def test_another_rule_book_than_the_workers_is_remarked(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    world = World(BOOK)
    world.add("a", NOON + MINUTE)
    fill(server, world, "0" * 32)
    remarks = from_store(settings(server), BOOK, "c1").remarks
    assert any("another rule book: 000000000000" in remark for remark in remarks)


def test_a_customer_that_the_store_does_not_know_is_told_so(
    server: EmbeddedStore, raw: redis.Redis
) -> None:
    fill(server, World(BOOK))
    with pytest.raises(UnknownCustomerError, match="unknown customer"):
        from_store(settings(server), BOOK, "nobody")


def test_a_store_that_no_worker_has_used_is_told_so(
    server: EmbeddedStore, raw: redis.Redis, tmp_path: Path
) -> None:
    with pytest.raises(PreconditionError, match="no partitions"):
        from_store(settings(server), BOOK, "c1")
