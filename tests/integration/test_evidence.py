"""The evidence of consent outlives the customer, and names nobody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

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


@pytest.mark.parametrize("crash", [False, True])
def test_the_reference_in_evidence_that_waits_does_not_leave_after_the_erasure(
    server: EmbeddedStore, crash: bool
) -> None:
    log = Log(1)
    granted = "consent.granted"
    for second in range(5):
        told = {"channel": "*", "proof": f"by ann herself, {second}"}
        log.event(granted, "ann", NOON + second, told, f"g{second}")
    log.event(granted, "bob", NOON + 5, {"channel": "*", "proof": "b"}, "b1")

    async def body() -> list[dict[str, Any]]:
        async with opened(server) as store:
            book = make_book({"id": "now", "on": "cart.item_added"})
            bench = Bench(store, book, log, StandingClock())
            held = bench.hold = asyncio.Event()
            await bench.open(0)
            for _ in range(6):  # entry by entry, so that some wait behind the one that is sent
                await bench.round(0, {"customer": 1}, whole=True)
                await asyncio.sleep(0)
            log.event("customer.erase_requested", "ann", NOON + HOUR, {}, "x1")
            log.event(granted, "ann", NOON + 2 * HOUR, {"channel": "*", "proof": "n"}, "n")
            await bench.round(0)
            if crash:  # its memory is lost, and what the producer was given never arrived
                bench = Bench(store, book, log, StandingClock())
                await bench.open(0)
            else:
                held.set()
            await bench.close(0)
            return [json.loads(r.value) for r in bench.published if r.topic == "consent-evidence"]

    found = run(body())
    proofs = [one["proof"] for one in found]
    # What was handed over to the producer before cannot be called back: one entry.
    assert sum("herself" in (proof or "") for proof in proofs) <= (0 if crash else 1)
    assert proofs.count("b") == 1, "of others it leaves as it is"
    assert proofs.count("n") == 1, "what follows the return is of a new customer"
    assert [one["said"] for one in found].count("erased") == 1
    assert len(found) == 8


def test_of_somebody_who_is_gone_no_later_reference_is_kept(server: EmbeddedStore) -> None:
    log = Log(1)
    log.event("customer.erase_requested", "ann", NOON, {}, "x1")
    told = {"channel": "*", "proof": "ann called"}
    log.event("consent.revoked", "ann", NOON + HOUR, told, "r1")

    async def body() -> Bench:
        async with opened(server) as store:
            book = make_book({"id": "now", "on": "cart.item_added"})
            bench = Bench(store, book, log, StandingClock(), batch_records=1)
            await bench.open(0)
            await bench.round(0)
            await bench.close(0)
            return bench

    assert not any(b"called" in record.value for record in run(body()).published)


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
