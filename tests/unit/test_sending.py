"""An offer that leaves late: looked at again, held through quiet hours, and sent once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streams.clock import SystemClock
from streams.outbox import Outgoing, pack
from streams.sending import LATE_MS, LateCheck, hold, is_held, take_held
from tests.unit.harness import DAY, HOUR, MINUTE, make_book
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.durations import to_ms

QUIET = {"from": "21:00", "to": "08:00", "channels": ["email"], "then": "defer"}
BOOK = make_book(
    {"id": "r", "on": "cart.viewed", "lateness": {"skip_after": "8h"}},
    timezone="UTC",
    quiet_hours=QUIET,
)
MADE = to_ms("2026-03-02T20:00:00Z")
NIGHT, MORNING = MADE + 2 * HOUR, to_ms("2026-03-03T08:00:00Z")


def offer(until: int = MADE + DAY) -> Outgoing:
    data = {"rule": "r", "rule_book": "b", "kind": "cross_sell", "trigger": {}}
    value = msgspec.json.encode({"subject": "c1", "data": data})
    return Outgoing("offers.email", b"c1", value, "x", None, MADE, until, MADE, None)


def make_customer(consent: bool = True) -> Customer:
    customer = Customer("c1")
    customer.now.consents = {"*": consent}
    return customer


def check(record: Outgoing, customer: Customer, now: int) -> tuple[list[Outgoing], list[int]]:
    """What leaves at ``now``, and until when the offer was held."""
    held: list[int] = []

    async def find(_: str) -> Customer:
        return customer

    async def keep(_: str, until_ms: int, kept: Outgoing) -> None:
        held.append(until_ms)
        hold(customer, until_ms, kept)

    late = LateCheck(
        SystemClock(lambda: now), lambda: BOOK, Catalog(), find, keep, lambda rule, reason: None
    )
    return asyncio.run(late(record)), held


def test_within_a_minute_nothing_is_looked_at_again() -> None:
    assert check(offer(), make_customer(consent=False), MADE + LATE_MS) == ([offer()], [])


@pytest.mark.parametrize(
    ("record", "consent", "reason"),
    [(offer(MADE + MINUTE), True, "stale"), (offer(), False, "no_consent")],
)
def test_what_is_out_of_date_or_unwanted_leaves_a_note_instead(
    record: Outgoing, consent: bool, reason: str
) -> None:
    (note,), held = check(record, make_customer(consent), MADE + 30 * MINUTE)
    assert (note.topic, note.id, held) == ("decisions", "x.expired", [])
    assert msgspec.json.decode(note.value)["data"]["reason"] == reason


def test_an_offer_of_the_evening_is_held_until_the_morning() -> None:
    customer = make_customer()
    assert check(offer(), customer, NIGHT) == ([], [MORNING])
    assert customer.due_ms() == MORNING
    assert take_held(customer, MORNING - 1) == []
    assert take_held(customer, MORNING) == [offer()]
    assert customer.due_ms() == 0


def test_after_a_crash_the_copy_in_the_outbox_stays_for_the_held_one_whatever_the_hour() -> None:
    customer = make_customer()
    check(offer(), customer, NIGHT)
    assert is_held(customer, offer())
    for now in (NIGHT + HOUR, MORNING + MINUTE, MADE + 2 * DAY):
        assert check(offer(), customer, now) == ([], [])
    assert pack(take_held(customer, MORNING)) == pack([offer()])
    assert not is_held(customer, offer())
    assert check(offer(), customer, MORNING + MINUTE) == ([offer()], [])
