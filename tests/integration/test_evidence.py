"""The evidence of consent outlives the customer, and names nobody."""

from __future__ import annotations

import json

import pytest

from streams.embedded import EmbeddedStore
from tests.integration.bench import Bench, Log, StandingClock
from tests.integration.stores import opened, run
from tests.unit.harness import HOUR, NOON, make_book
from triggers.durations import to_text

pytestmark = pytest.mark.usefixtures("raw")


def test_each_word_about_consent_is_kept_with_its_proof_and_without_the_id(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "email", "proof": "form-7"}, "g1")
    log.event("customer.profile_set", "ann", NOON + 1, {"locale": "ja"}, "p1")
    log.event("consent.granted", "ann", NOON + 2, {"channel": "sms"}, "g1")  # another body: refused
    log.event("consent.revoked", "ann", NOON + HOUR, {"channel": "*"}, "r1")
    log.event("customer.erase_requested", "ann", NOON + 2 * HOUR, {}, "x1")

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(
                store,
                make_book({"id": "now", "on": "cart.item_added"}),
                log,
                StandingClock(),
                batch_records=1,
            )
            await bench.open(0)
            await bench.round(0)
            await bench.close(0)
            return bench

    bench = run(body())
    kept = [record for record in bench.published if record.topic == "consent-evidence"]
    found = [json.loads(record.value) for record in kept]
    told = [(one["said"], one["channel"], one["proof"], one["at"], one["place"]) for one in found]
    assert told == [
        ("granted", "email", "form-7", to_text(NOON), "customer/0/0"),
        ("revoked", "*", None, to_text(NOON + HOUR), "customer/0/3"),
        ("erased", "*", None, to_text(NOON + 2 * HOUR), "customer/0/4"),
    ]
    digest = bench.ledger.digest("ann")
    assert {one["customer"] for one in found} == {digest}
    assert {record.key for record in kept} == {digest.encode()}
    assert not any(b'"ann"' in record.value for record in kept)
    assert len({one["id"] for one in found}) == 3


def test_the_reference_of_somebody_who_is_erased_meanwhile_is_left_out(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "*", "proof": "by ann herself"}, "g1")
    log.event("customer.erase_requested", "ann", NOON + 1, {}, "x1")

    async def body() -> Bench:
        async with opened(server) as store:
            bench = Bench(store, make_book({"id": "now", "on": "cart.item_added"}), log)
            await bench.open(0)
            await bench.round(0)
            await bench.close(0)
            return bench

    bench = run(body())
    assert not any(b"herself" in record.value for record in bench.published)
    assert sum(record.topic == "consent-evidence" for record in bench.published) == 2
