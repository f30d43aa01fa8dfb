"""What partitions learn and tell each other, by real workers on the embedded broker and store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.embedded import EmbeddedKafka, EmbeddedStore
from streams.learning import LETTER, take_told
from tests.integration.pipeline import PARTITIONS, Pipeline, now_ms
from triggers.customer import PART_LETTERS
from triggers.learned import BOUGHT, RULE, UNIT, View

pytestmark = pytest.mark.timeout(180)

BOOK = """
book: {name: learning, timezone: Asia/Tokyo, currency: JPY, pause_over: {complaints: 5%}}
rules:
  - id: together
    kind: cross_sell
    on: product.viewed
    pick: {bought_together_with: event.sku, min_support: 6}
    channel: onsite
    reason: {ja: "一緒に選ばれています。", en: "Often chosen together."}
"""

#: An idle worker stops at once; the time is for a busy machine.
STOP_S_MAX = 20


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("services")
    with EmbeddedKafka(folder / "broker") as kafka, EmbeddedStore(folder / "store") as store:
        yield kafka.address, store.url


def order(name: str, skus: str) -> dict[str, Any]:
    items = [{"sku": sku, "quantity": 1, "unit_price": 500} for sku in skus]
    return {"order_id": name, "items": items, "total": 500 * len(items), "currency": "JPY"}


def wait_until_applied(pipeline: Pipeline, seconds: float = 60) -> None:
    pipeline.producer.flush()
    deadline = time.monotonic() + seconds
    while left := pipeline.unapplied():
        assert time.monotonic() < deadline, f"{left} records stay unapplied"
        time.sleep(0.1)


def merged(pipeline: Pipeline) -> tuple[View, set[int]]:
    """The topic as a worker reads it, and the partitions that told something."""
    view, sources = View(), set()
    for record in pipeline.read("learned"):
        take_told(view, record.key, record.value)
        sources.add(json.loads(record.value)["partition"])
    return view, sources


def pairs(view: View, at: int) -> dict[str, int]:
    return {each.sku: each.pairs for each in view.partners(BOUGHT, "a", at)}


def test_partitions_tell_each_other_what_they_learnt_and_a_restart_goes_on_counting(
    services: tuple[str, str], tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "book.yaml").write_text(BOOK)
    pipeline = Pipeline(*services, tmp_path, rules)
    try:
        for sku in "abc":
            product = {"name": sku, "price": 500, "currency": "JPY", "category": f"kind-{sku}"}
            pipeline._catalog(sku, "catalog.product_set", sku, product, now_ms())
        pipeline.producer.flush()
        # The pair is bought five times in all: enough for no partition and not for all together.
        for number in range(12):
            buyer = f"buyer-{number}"
            pipeline.send(
                "purchase.completed", buyer, order(f"o{number}", "ab" if number < 5 else "a")
            )
        worker = pipeline.start_worker()
        worker.wait_until_ready()
        wait_until_applied(pipeline)
        assert worker.stop(STOP_S_MAX) == 0
        view, sources = merged(pipeline)
        at = now_ms()
        assert view.counts(BOUGHT, "", at) == (12 * UNIT,)
        assert view.counts(BOUGHT, "a", at) == (12 * UNIT,)
        assert pairs(view, at) == {"b": 5 * UNIT}
        assert len(sources) > 1

        worker = pipeline.start_worker()
        worker.wait_until_ready()
        pipeline.send("consent.granted", "early", {"channel": "*"})
        pipeline.send("product.viewed", "early", {"sku": "a"})
        pipeline.send("purchase.completed", "buyer-0", order("o-more", "ab"))  # the sixth
        wait_until_applied(pipeline)
        assert worker.stop(STOP_S_MAX) == 0
        assert pairs(merged(pipeline)[0], at) == {"b": 6 * UNIT}

        worker = pipeline.start_worker()
        worker.wait_until_ready()
        pipeline.send("consent.granted", "late", {"channel": "*"})
        pipeline.send("product.viewed", "late", {"sku": "a"})
        wait_until_applied(pipeline)
        assert worker.stop(STOP_S_MAX) == 0
        offers = [json.loads(record.value) for record in pipeline.read("offers.onsite")]
        assert [(o["subject"], o["data"]["items"][0]["sku"]) for o in offers] == [("late", "b")]
        # The offer itself was counted too, for the rule's own rate of complaints.
        assert merged(pipeline)[0].counts(RULE, "together", at) == (UNIT, 0)
    finally:
        pipeline.close()


def test_no_part_of_a_customer_has_the_letter_of_what_is_learnt() -> None:
    assert LETTER not in PART_LETTERS
    assert PARTITIONS > 1
