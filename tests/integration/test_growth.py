"""Thirty days of constant traffic leave a store that no longer grows, and a worker that does not.

A production partition on a real store, in virtual time. What is measured at the end of each day:
the server's memory for the partition's keys, the documents in them, the timers that wait, the
outbox. In the last ten days none of it may have a slope.

``TSUIDE_TEST_GROWTH_DAYS`` (30) and ``TSUIDE_TEST_GROWTH_CUSTOMERS`` (16) make it longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import redis

from streams.embedded import EmbeddedStore
from tests.integration.bench import Bench, Log
from tests.integration.stores import empty, opened, run
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, make_book
from triggers.events import EVENT_TYPES

DAYS = int(os.environ.get("TSUIDE_TEST_GROWTH_DAYS", "30"))
CUSTOMERS = int(os.environ.get("TSUIDE_TEST_GROWTH_CUSTOMERS", "16"))
LAST = 10
SLOPE_MAX = 0.01
SKUS = 360
CARTS_A_DAY = 12

BOOK = make_book(
    {"id": "at-once", "on": "cart.item_added", "once_per": "about", "placement": "top"},
    {"id": "together", "on": "product.viewed", "channel": "onsite", "once_per": "always",
     "pick": {"bought_together_with": "event.sku", "min_support": 6}},
    {"id": "left", "kind": "follow_up", "on": "cart.item_added", "after_silence": "3h",
     "unless": ["purchase.completed"], "once_per": "always"},
    {"id": "week-after", "kind": "follow_up", "on": "purchase.completed", "after": "7d",
     "once_per": "always", "lateness": {"skip_after": "1d"}},
)  # fmt: skip

pytestmark = pytest.mark.timeout(3600 if DAYS > 30 else 120)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[tuple[EmbeddedStore, redis.Redis]]:
    with EmbeddedStore(tmp_path / "store") as server:
        for found in empty(server):
            yield server, found


class Sizes(NamedTuple):
    """What is there at the end of a day."""

    documents_bytes: int
    fields: int
    keys_bytes: int
    timers: int
    outbox_entries: int
    cached: int


def measure(client: redis.Redis, cached: int) -> Sizes:
    documents = fields = keys = timers = outbox = 0
    for key in client.scan_iter():
        assert isinstance(key, bytes)
        size: Any = client.memory_usage(key, samples=0)
        keys += size
        if b":c:" in key:
            found: Any = client.hgetall(key)
            fields += len(found)
            documents += sum(len(name) + len(value) for name, value in found.items())
        elif key.endswith(b":due"):
            timers += int(client.zcard(key))
        elif key.endswith(b":outbox"):
            outbox += int(client.xlen(key))
    return Sizes(documents, fields, keys, timers, outbox, cached)


def fill_catalog(bench: Bench) -> None:
    kind = EVENT_TYPES["catalog.product_set"]
    for number in range(SKUS):
        product = {"name": "n", "price": 500, "currency": "JPY", "category": f"c{number % 40}"}
        bench.world.catalog.apply(
            "catalog.product_set", sku(number), msgspec.convert(product, kind.data)
        )


def sku(number: int) -> str:
    return f"sku-{number % SKUS:05}"


def write_day(log: Log, day: int) -> None:
    """Everybody's day: carts with and without an order, views, usage, problems."""
    begin = NOON + day * DAY
    for person in range(CUSTOMERS):
        who = f"customer-{person:04}"
        if day == 0:
            log.event("consent.granted", who, begin - HOUR, {"channel": "*"}, f"g{person:04}")
    for cart in range(CARTS_A_DAY):
        for person in range(CUSTOMERS):
            number = (day * CARTS_A_DAY + cart) * 3 + person * 7
            at = begin + cart * 110 * MINUTE + person * 1_000
            _write_cart(log, f"customer-{person:04}", f"{day:05}-{cart:02}", number, at)


def _write_cart(log: Log, who: str, name: str, number: int, at: int) -> None:
    def item(place: int) -> dict[str, Any]:
        return {"sku": sku(number + place), "quantity": 1, "unit_price": 500}

    cart = {"cart_id": f"k{name}", "subtotal": 500, "currency": "JPY"}
    log.event("product.viewed", who, at, {"sku": sku(number)}, f"v{name}")
    log.event("cart.item_added", who, at + 1, {**cart, "item": item(0)}, f"a{name}")
    log.event("usage.recorded", who, at + 2, {"metric": f"m{name}", "value": 1.5}, f"u{name}")
    log.event("problem.reported", who, at + 3, {"tag": f"t{name}"}, f"p{name}")
    if number % 2 == 0:
        order = {
            "order_id": f"o{name}", "items": [item(0), item(1), item(2)], "total": 1_500,
            "currency": "JPY", "cart_id": f"k{name}",
        }  # fmt: skip
        log.event("purchase.completed", who, at + 4, order, f"b{name}")


def slope(values: list[int]) -> float:
    """Growth over the whole span by least squares, as a part of the mean."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    top = sum((x - middle) * (y - mean) for x, y in enumerate(values))
    bottom = sum((x - middle) ** 2 for x in range(count))
    return top / bottom * count / max(1.0, mean)


def test_p9_thirty_days_of_constant_traffic_end_flat(
    client: tuple[EmbeddedStore, redis.Redis], capsys: pytest.CaptureFixture[str]
) -> None:
    server, looker = client
    days: list[Sizes] = []

    async def work() -> None:
        async with opened(server) as store:
            log = Log(1)
            bench = Bench(store, BOOK, log, cache_customers=CUSTOMERS // 2)
            fill_catalog(bench)
            partition = await bench.open(0)
            for day in range(DAYS):
                write_day(log, day)
                await bench.round(0)
                await partition.relay.flush()
                await partition.trim()
                days.append(measure(looker, partition.cached))
            assert bench.outcome.refused == {}
            assert partition.relay.size == 0
            await bench.close(0)

    run(work())
    last = days[-LAST:]
    grown = {name: slope([getattr(day, name) for day in last]) for name in Sizes._fields}
    with capsys.disabled():
        shown = ", ".join(f"{name} {value:+.2%}" for name, value in grown.items())
        per = last[-1].keys_bytes // CUSTOMERS
        print(f"\ngrowth in the last {LAST} of {DAYS} days: {shown}; {per} bytes a customer")
    for name, value in grown.items():
        assert value < SLOPE_MAX, (name, value, [getattr(day, name) for day in last])
    assert last[-1].timers == CUSTOMERS
    assert last[-1].outbox_entries == 0
    assert last[-1].cached <= CUSTOMERS // 2
    assert days[0].documents_bytes < last[-1].documents_bytes / 3  # it had grown before
