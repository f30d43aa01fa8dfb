"""Each list of a customer's document has its bound; what is forgotten because of it is counted."""

from __future__ import annotations

import gc
import time
from collections import Counter

import msgspec
import pytest

from streams.codec import Door
from tests.unit.harness import HOUR, NOON, World, make_book
from triggers import state
from triggers.catalog import Catalog
from triggers.durations import to_ms
from triggers.errors import Refused
from triggers.events import EVENT_TYPES, Tombstone
from triggers.sizes import TEXT_CHARS_MAX
from triggers.timers import HORIZON_MS_MAX

ANSWERING = make_book(
    {"id": "at-once", "on": "cart.item_added", "once_per": "about", "placement": "top"},
    {"id": "later", "kind": "follow_up", "on": "cart.item_added", "after": "30d",
     "unless": ["purchase.completed"], "once_per": "always"},
)  # fmt: skip


def lost(world: World) -> Counter[str]:
    return Counter(dict(world.customer.take_losses()))


def size(world: World) -> int:
    """Bytes of the whole document."""
    world.reload()
    return sum(map(len, world._stored.values()))


def flood(world: World, events: int, begin: int = 0) -> None:
    """Traffic of one customer in which no id comes twice."""
    for number in range(begin, begin + events):
        kind = number % 8
        if kind < 3:
            world.add(f"sku-{number:07}", cart=f"cart-{number // 40:07}")
        elif kind < 5:
            world.send("product.viewed", sku=f"sku-{number:07}")
        elif kind == 5:
            world.buy(f"order-{number:07}", [f"sku-{number:07}", f"more-{number:07}"])
        elif kind == 6:
            world.send("usage.recorded", metric=f"m{number:07}", value=1.0, quota=2.0)
        else:
            world.send("problem.reported", tag=f"t{number:07}")


def flood_s(world: World, events: int, begin: int) -> float:
    """Processor seconds of :func:`flood`, without the collector: it goes over all that the other
    tests of the process hold, whoever's events it falls on."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        flood(world, events, begin)
        return time.process_time() - began
    finally:
        gc.enable()


def test_s27_one_customers_events_leave_a_document_of_bounded_size_and_equal_speed() -> None:
    world = World(ANSWERING)
    flood(world, 8_000)
    early_bytes = size(world)
    first_s = flood_s(world, 8_000, begin=8_000)
    flood(world, 8_000, begin=16_000)
    last_s = flood_s(world, 8_000, begin=24_000)
    assert abs(size(world) - early_bytes) < early_bytes / 50
    assert last_s < 1.7 * first_s + 0.2
    flood(world, 800, begin=32_000)
    forgotten = lost(world)
    for name in ("carts", "owned", "orders", "views", "problems", "metrics", "repeats"):
        assert forgotten[name] > 0, name


def test_s27_a_cart_of_a_thousand_products_keeps_its_first_lines() -> None:
    world = World(ANSWERING)
    for number in range(1_000):
        world.add(f"sku-{number}")
    assert len(world.customer.now.carts[-1].lines) == state.MAX_CART_LINES
    assert lost(world)["cart_lines"] == 1_000 - state.MAX_CART_LINES


def test_s27_an_order_of_a_thousand_products_keeps_its_first_lines() -> None:
    world = World(ANSWERING)
    world.buy("big", [f"sku-{number}" for number in range(1_000)])
    (order,) = world.customer.orders.values()
    assert len(order.lines) == state.MAX_ORDER_LINES
    assert lost(world)["order_lines"] == 1_000 - state.MAX_ORDER_LINES


def test_p9_a_customer_has_at_most_so_many_timers_and_those_due_last_are_dropped() -> None:
    world = World(ANSWERING)
    for number in range(state.MAX_TIMERS + 30):
        world.add("a", cart=f"cart-{number}")
    timers = world.customer.now.timers
    assert len(timers) == state.MAX_TIMERS
    assert {timer.about for timer in timers} == {f"cart-{n}" for n in range(state.MAX_TIMERS)}
    assert lost(world)["timers"] == 30
    assert len(world.customer.armed.events) == state.MAX_TIMERS


def test_p9_a_timer_that_is_set_anew_replaces_the_one_before() -> None:
    book = make_book({"id": "quiet", "on": "cart.item_added", "after_silence": "1h"})
    world = World(book)
    for _ in range(500):
        world.add("a")
    assert len(world.customer.now.timers) == 1


@pytest.mark.parametrize(
    ("name", "most", "send"),
    [
        ("tickets", state.MAX_TICKETS,
         lambda world, n: world.send("support.opened", ticket_id=f"t{n}")),
        ("contracts", state.MAX_CONTRACTS,
         lambda world, n: world.send("contract.started", contract_id=f"k{n}", plan="p",
                                     renews_at="2027-01-01T00:00:00Z")),
        ("deployed", state.MAX_DEPLOYED,
         lambda world, n: world.send("deployment.completed", product=f"p{n}")),
        ("consents", state.MAX_CONSENTS - 1,
         lambda world, n: world.send("consent.granted", channel=f"c{n}")),
        ("checkouts", state.MAX_CHECKOUTS,
         lambda world, n: world.send("checkout.started", checkout_id=f"k{n}", cart_id="k",
                                     total=1, currency="JPY")),
    ],
)  # fmt: skip
def test_p9_a_list_at_its_bound_forgets_and_counts(name: str, most: int, send: object) -> None:
    world = World(ANSWERING)
    lost(world)
    for number in range(most):
        send(world, number)  # type: ignore[operator]
    assert lost(world)[name] == 0
    send(world, most)  # type: ignore[operator]
    assert lost(world)[name] == 1


LATER = make_book(
    {"id": "later", "kind": "follow_up", "on": ["purchase.completed", "customer.profile_set"],
     "after": "30d", "once_per": "always"}
)  # fmt: skip


def test_p9_the_event_behind_a_timer_is_kept_with_the_first_entries_of_its_lists() -> None:
    world = World(LATER)
    world.buy("big", [f"sku-{number:05}" for number in range(5_000)])
    lost(world)
    world.buy("small", ["a", "b"])
    assert lost(world) == Counter()
    big, small = world.customer.armed.events.values()
    kept = range(state.MAX_PAYLOAD_ENTRIES)
    assert [item.sku for item in big.items] == [f"sku-{n:05}" for n in kept]
    assert [item.sku for item in small.items] == ["a", "b"]
    before = size(world)
    for number in range(state.MAX_TIMERS):
        world.buy(f"big-{number:04}", [f"sku-{n:05}" for n in range(5_000)])
    assert size(world) < before + state.MAX_TIMERS * state.MAX_PAYLOAD_ENTRIES * 100


def test_an_order_as_large_as_any_of_the_recorded_year_is_kept_whole_behind_its_timer() -> None:
    world = World(make_book({"id": "w", "on": "purchase.completed", "after": "7d"}))
    items = [{"sku": f"s{i}", "quantity": 1, "unit_price": 1} for i in range(161)]
    world.send("purchase.completed", order_id="o", items=items, total=161, currency="JPY")
    (kept,) = world.customer.armed.events.values()
    payload = kept if not isinstance(kept, bytes) else msgspec.json.decode(kept)
    lines = payload["items"] if isinstance(payload, dict) else payload.items
    assert len(lines) == 161


def test_p9_a_profile_keeps_a_hundred_attributes_and_the_beginning_of_long_texts() -> None:
    world = World(LATER)
    world.send("customer.profile_set", attributes={f"a{n}": "x" * 2_000 for n in range(150)})
    kept = world.customer.now.attributes
    assert list(kept) == [f"a{n}" for n in range(state.MAX_ATTRIBUTES)]
    assert set(map(len, kept.values())) == {TEXT_CHARS_MAX}
    (payload,) = world.customer.armed.events.values()
    assert payload.attributes == kept
    assert lost(world)["attributes"] > 0
    world.reload()
    world.send("customer.profile_set", attributes={"goal": "run", "age": 41})
    assert world.customer.now.attributes == {"goal": "run", "age": 41}


RENEWAL = make_book(
    {"id": "renew", "kind": "follow_up", "on": "contract.renewal_set",
     "before": {"date": "event.renews_at", "by": "30d"}}
)  # fmt: skip


def renewal(world: World, date: str) -> None:
    world.send("contract.renewal_set", contract_id="k", plan="p", renews_at=date)


def test_s23_a_date_beyond_the_horizon_sets_no_timer_and_a_nearer_one_does() -> None:
    world = World(RENEWAL)
    renewal(world, "2099-01-01T00:00:00Z")
    assert world.customer.now.timers == []
    assert lost(world)["horizon"] == 1
    renewal(world, "2028-01-01T00:00:00Z")
    (timer,) = world.customer.now.timers
    assert NOON < timer.due_ms <= NOON + HORIZON_MS_MAX
    renewal(world, "2099-01-01T00:00:00Z")  # the date it counted back from is no longer the latest
    assert world.customer.now.timers == []


@pytest.mark.parametrize(
    "date",
    ["9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z",
     "1772420400000-0000000", "2026-04-01T00:00:00.000", "1969-12-31T00:00:00Z",
     "2026-13-01T00:00:00Z"],
)  # fmt: skip
def test_s23_a_date_that_cannot_be_counted_from_sets_no_timer(date: str) -> None:
    world = World(RENEWAL)
    renewal(world, date)
    assert world.customer.now.timers == []
    assert world.out.decisions == []


def catalog_event(kind: str, **data: object) -> object:
    return msgspec.convert(data, EVENT_TYPES[kind].data)


def test_p9_a_catalogue_takes_no_more_than_its_bounds_and_what_it_has_can_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triggers.catalog.PRODUCTS_MAX", 3)
    monkeypatch.setattr("triggers.catalog.RELATIONS_OF_ONE_MAX", 2)
    catalog = Catalog()
    product = catalog_event("catalog.product_set", name="n", price=1, currency="JPY")
    for sku in "abc":
        catalog.apply("catalog.product_set", sku, product)
    with pytest.raises(Refused, match="catalog_full"):
        catalog.apply("catalog.product_set", "d", product)
    catalog.apply("catalog.product_set", "a", product)
    for to in "bc":
        edge = catalog_event("catalog.relation_set", to=to, relation="complement", weight=0.5)
        catalog.apply("catalog.relation_set", "a", edge)
    edge = catalog_event("catalog.relation_set", to="z", relation="complement", weight=0.5)
    with pytest.raises(Refused, match="catalog_full"):
        catalog.apply("catalog.relation_set", "a", edge)
    catalog.forget(Tombstone("relation", "a", "b", "complement"))
    catalog.apply("catalog.relation_set", "a", edge)
    assert catalog.sizes() == {
        "products": 3, "relations": 2, "bundles": 0, "stocks": 0, "removed": 0
    }  # fmt: skip


ZONED = make_book(
    {"id": "calendar", "kind": "follow_up", "on": "cart.item_added", "after": "1d",
     "once_per": "always"},
    timezone="Europe/Berlin",
)  # fmt: skip


@pytest.mark.parametrize(
    ("armed", "due"),
    [
        ("2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00"),  # 02:30 does not exist
        ("2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),  # 02:30 comes twice: the first
        ("2028-02-28T12:00:00+01:00", "2028-02-29T12:00:00+01:00"),  # the leap day
        ("2028-02-29T12:00:00+01:00", "2028-03-01T12:00:00+01:00"),
        ("2026-12-31T23:59:59+01:00", "2027-01-01T23:59:59+01:00"),
    ],
)
def test_s17_a_timer_of_a_day_is_due_at_the_same_local_time_over_clock_changes_and_leap_days(
    armed: str, due: str
) -> None:
    world = World(ZONED)
    world.add("a", at=to_ms(armed))
    (timer,) = world.customer.now.timers
    assert timer.due_ms == to_ms(due)
    assert world.pass_to(timer.due_ms - 1).fired == []
    assert world.pass_to(timer.due_ms).fired == [timer.due_ms]


def test_s17_quiet_hours_are_those_of_the_customers_own_zone() -> None:
    quiet = {"from": "21:00", "to": "08:00", "channels": ["email"], "then": "defer"}
    book = make_book({"id": "now", "on": "cart.item_added"}, quiet_hours=quiet)
    world = World(book)  # Tokyo, noon: in New York it is 22:00 of the day before
    world.send("customer.profile_set", timezone="America/New_York")
    world.add("a", at=NOON)
    assert [outcome for _, outcome, _ in world.outcomes()] == ["deferred"]
    (timer,) = world.customer.now.timers
    assert timer.due_ms == NOON + 10 * HOUR  # 08:00 there


@pytest.mark.parametrize(("items", "reason"), [(2_000, None), (1_000_000, "too_large")])
def test_s27_an_order_of_a_million_products_does_not_pass_the_door(
    items: int, reason: str | None
) -> None:
    one = '{"sku":"a","quantity":1,"unit_price":500}'
    data = ",".join([one] * items)
    value = (
        '{"specversion":"1.0","id":"e","source":"s","type":"purchase.completed","subject":"c",'
        f'"time":"2026-03-02T03:00:00Z","data":{{"order_id":"o","items":[{data}],"total":1,'
        '"currency":"JPY"}}'
    ).encode()
    door = Door(1)
    if reason is None:
        event = door.decode("purchase", 0, b"c", value, (), NOON, NOON)
        assert len(getattr(event.data, "items")) == items  # noqa: B009 - the payload of that type
        return
    with pytest.raises(Refused, match=reason):
        door.decode("purchase", 0, b"c", value, (), NOON, NOON)
