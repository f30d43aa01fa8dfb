"""Recordings on their way into Kafka: topics, keys and the order of time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from streams.recorded import RecordingError, read_events
from streams.shop import _retimed


def event(kind: str, subject: str, time: str = "2017-01-01T00:00:00Z", **data: Any) -> str:
    body = {"specversion": "1.0", "id": f"{kind}{subject}{time}", "source": "shop", "type": kind}
    return json.dumps(body | {"time": time, "subject": subject, "data": data})


def recording(path: Path, *lines: str) -> Path:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_catalogue_records_have_the_keys_that_compaction_needs(tmp_path: Path) -> None:
    path = recording(
        tmp_path / "catalog.jsonl",
        event("catalog.product_set", "s1", name="Tea", price=1, currency="JPY"),
        event("catalog.stock_set", "s1", stock=3),
        event("catalog.bundle_set", "s1", items=["a", "b"], price=2, currency="JPY"),
        event("catalog.relation_set", "s1", to="s2", relation="complement", weight=0.5),
        event("catalog.removed", "s1"),
    )
    keys = [record.key for record in read_events([path])]
    assert keys == [b"s1", b"s1#stock", b"s1#bundle", b"s1>s2>complement", b"s1"]


def test_equal_times_go_by_topic_then_file_then_line(tmp_path: Path) -> None:
    purchase = recording(
        tmp_path / "a.jsonl", event("purchase.completed", "h1"), event("purchase.refunded", "h1")
    )
    cart = recording(tmp_path / "b.jsonl.gz", event("cart.viewed", "h1"))
    catalog = recording(tmp_path / "c.jsonl", event("catalog.removed", "s1"))
    merged = list(read_events([purchase, cart, catalog]))
    assert [record.topic for record in merged] == ["catalog", "cart", "purchase", "purchase"]
    assert b"completed" in merged[2].value


def test_times_are_merged_across_offsets(tmp_path: Path) -> None:
    first = recording(tmp_path / "a.jsonl", event("cart.viewed", "h1", "2017-01-01T09:00:00+09:00"))
    second = recording(tmp_path / "b.jsonl", event("cart.viewed", "h2", "2016-12-31T23:59:59.999Z"))
    merged = list(read_events([str(first), str(second)]))
    assert [record.key for record in merged] == [b"h2", b"h1"]
    assert merged[1].ts_ms == merged[0].ts_ms + 1


def test_a_line_that_is_no_event_is_named_by_file_and_number(tmp_path: Path) -> None:
    path = recording(tmp_path / "cart.jsonl", event("cart.viewed", "h1"), "{")
    with pytest.raises(RecordingError, match=r"cart\.jsonl:2: no event"):
        list(read_events([path]))


def test_a_type_without_a_topic_is_refused_unless_the_rule_book_names_one(tmp_path: Path) -> None:
    path = recording(tmp_path / "own.jsonl", event("loyalty.joined", "h1"))
    with pytest.raises(RecordingError, match=r"own\.jsonl:1: no topic"):
        list(read_events([path]))
    (record,) = read_events([path], {"loyalty.joined": "customer"})
    assert record.topic == "customer"


def test_an_event_of_the_moment_changes_its_time_and_nothing_else() -> None:
    value = event("cart.viewed", "h1", cart_id="c1", subtotal=9_007_199_254_740_991).encode()
    before, after = json.loads(value), json.loads(_retimed(value, 1_790_000_000_123))
    assert after.pop("time") == "2026-09-21T14:13:20.123Z"
    before.pop("time")
    assert after == before
