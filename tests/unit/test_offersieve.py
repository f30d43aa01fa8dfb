"""What a reader of offers leaves out: copies, what ran out, what was withdrawn."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.offers_consumer import LocalSeen
from streams.offersieve import (
    Offer,
    Offsets,
    Remembered,
    Sieve,
    TooManyOpenError,
    memory_name,
    read_offer,
    remembered_until_ms,
)
from triggers.durations import to_text

PLACE = ("offers.email", 0)
NOW = 1_750_000_000_000
HOUR = 3_600_000


def made(name: str, until_ms: int = NOW + HOUR) -> bytes:
    data = {"offer_id": name, "valid_until": to_text(until_ms), "rule": "r"}
    event = {"id": name, "type": "offer.made", "subject": "c-1", "data": data}
    return json.dumps(event).encode()


def withdrawn(name: str) -> bytes:
    event = {
        "id": f"{name}.withdrawn",
        "type": "offer.withdrawn",
        "subject": "c-1",
        "data": {"offer_id": name, "rule": "r", "reason": "purchase.completed"},
    }
    return json.dumps(event).encode()


def drain(sieve: Sieve, now_ms: int = NOW, done: bool = True) -> list[Offer]:
    found = []
    while (offer := sieve.next(now_ms)) is not None:
        found.append(offer)
        if done:
            sieve.done(offer)
    return found


def feed(sieve: Sieve, values: list[bytes | None], now_ms: int = NOW, first: int = 0) -> None:
    for offset, value in enumerate(values, start=first):
        sieve.take(PLACE, offset, value, now_ms)


def test_p2_a_copy_of_an_offer_in_hand_is_not_handed_over() -> None:
    sieve = Sieve()
    feed(sieve, [made("a"), made("a"), made("b")])
    assert [offer.id for offer in drain(sieve, done=False)] == ["a", "b"]
    assert sieve.counts["repeated"] == 1


def test_an_offer_is_left_out_once_it_has_run_out() -> None:
    sieve = Sieve()
    feed(sieve, [made("a", NOW), made("b", NOW - 1)])
    assert [offer.id for offer in drain(sieve)] == ["a"]
    assert sieve.counts["expired"] == 1


def test_an_offer_that_runs_out_while_it_waits_is_left_out() -> None:
    sieve = Sieve(hold_ms=1_000)
    feed(sieve, [made("a", NOW + 500)])
    assert drain(sieve, NOW) == []
    assert drain(sieve, NOW + 1_000) == []
    assert sieve.counts["expired"] == 1


def test_a_withdrawal_in_the_same_fetch_takes_its_offer_back() -> None:
    sieve = Sieve()
    feed(sieve, [made("a"), made("b"), withdrawn("a")])
    assert [offer.id for offer in drain(sieve)] == ["b"]
    assert sieve.counts["withdrawn"] == 1


def test_a_withdrawal_within_the_hold_takes_its_offer_back() -> None:
    sieve = Sieve(hold_ms=1_000)
    feed(sieve, [made("a"), made("b")])
    assert drain(sieve, NOW + 999) == []
    feed(sieve, [withdrawn("a")], NOW + 999, first=2)
    assert [offer.id for offer in drain(sieve, NOW + 1_000)] == ["b"]


def test_a_copy_after_the_withdrawal_stays_withdrawn() -> None:
    sieve = Sieve()
    feed(sieve, [withdrawn("a"), made("a")])
    assert drain(sieve) == []


def test_withdrawals_are_handed_over_where_they_are_asked_for() -> None:
    sieve = Sieve(withdrawals=True)
    feed(sieve, [made("a")])
    (offer,) = drain(sieve)
    feed(sieve, [withdrawn("a")], first=1)
    (news,) = drain(sieve)
    assert (offer.withdrawn, news.withdrawn, news.id) == (False, True, "a")
    assert memory_name(offer) != memory_name(news)
    assert remembered_until_ms(offer, NOW) > offer.valid_until_ms


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"{", b"[]", b'"x"', b"\xff", b'{"data": {}}', b"[" * 5_000,
        b'{"type": "offer.made", "subject": "c", "data": {"offer_id": "a"}}',
        b'{"type": "offer.made", "subject": "c", "data": {"offer_id": "a", "valid_until": 5}}',
        b'{"type": "offer.made", "subject": 5, "data": {"offer_id": "a"}}',
        b'{"type": "other", "subject": "c", "data": {"offer_id": "a"}}',
    ],
)  # fmt: skip
def test_what_is_no_offer_is_counted_and_passed_over(value: bytes | None) -> None:
    assert read_offer(value, PLACE, 0) is None
    sieve = Sieve()
    feed(sieve, [value, made("a")])
    assert [offer.id for offer in drain(sieve)] == ["a"]
    assert sieve.counts["foreign"] == 1
    assert sieve.offsets.committable() == {PLACE: 2}


def test_only_what_is_done_is_committed() -> None:
    sieve = Sieve()
    feed(sieve, [made("a"), made("b"), made("b"), made("c")])
    a, b, c = drain(sieve, done=False)
    assert sieve.offsets.committable() == {PLACE: 0}
    sieve.done(b)
    sieve.done(c)
    assert sieve.offsets.committable() == {PLACE: 0}
    sieve.done(a)
    assert sieve.offsets.committable() == {PLACE: 4}
    sieve.offsets.committed({PLACE: 4})
    assert sieve.offsets.committable() == {}
    assert sieve.counts["handed"] == 3


def test_a_record_in_hand_that_is_read_again_stays_open_until_it_is_done() -> None:
    sieve = Sieve()
    feed(sieve, [made("a"), made("b")])
    a, b = drain(sieve, done=False)
    feed(sieve, [made("a"), made("b")])  # the partition was lost and came back
    assert drain(sieve) == []
    sieve.done(b)
    assert sieve.offsets.committable() == {PLACE: 0}
    sieve.done(a)
    assert sieve.offsets.committable() == {PLACE: 2}


def test_offers_that_are_never_done_end_in_an_error_and_not_in_memory() -> None:
    sieve = Sieve(open_max=10)
    feed(sieve, [made(f"o{i}") for i in range(11)])
    with pytest.raises(TooManyOpenError):
        drain(sieve, done=False)


def test_too_many_held_offers_leave_early_and_are_counted() -> None:
    sieve = Sieve(hold_ms=HOUR, open_max=10)
    feed(sieve, [made(f"o{i}") for i in range(25)])
    assert len(drain(sieve)) == 15
    assert sieve.counts["released_early"] == 15


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 100), st.integers(0, 30)), max_size=80),
    st.integers(1, 10),
)
def test_a_memory_holds_what_is_valid_within_its_bound(
    steps: list[tuple[int, int, int]], most: int
) -> None:
    memory, model, now = Remembered(most), dict[str, int](), 0
    for number, lasts, passes in steps:
        now += passes
        model = {name: until for name, until in model.items() if until > now}
        name = str(number)
        model[name] = max(now + lasts, model.get(name, 0))
        memory.add(name, now + lasts, now)
        if len(model) > most:
            del model[next(iter(model))]
        assert len(memory) == len(model) <= most
        assert {name for name in map(str, range(21)) if memory.holds(name, now)} == set(model)


def test_the_memory_of_a_year_at_constant_traffic_stays_flat() -> None:
    memory, sizes = Remembered(1_000), []
    for day in range(365):
        for number in range(50):
            memory.add(f"{day}-{number}", (day + 7) * 86_400_000, day * 86_400_000)
        sizes.append(len(memory))
    assert set(sizes[10:]) == {350}
    assert memory.forgotten == 0


Arrival = tuple[str, int]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), max_size=60), st.data())
def test_p2_any_copies_in_any_order_give_each_offer_once(
    arrivals: list[Arrival], data: st.DataObject
) -> None:
    """Kinds 0 to 2 are offers (copies have equal bytes), 3 is a withdrawal."""
    sieve, seen = Sieve(), LocalSeen(now=lambda: NOW)
    handed: list[str] = []
    gone: set[str] = set()
    pending: list[Offer] = []
    for offset, (name, kind) in enumerate(arrivals):
        sieve.take(PLACE, offset, withdrawn(name) if kind == 3 else made(name), NOW)
        if kind == 3:
            gone.add(name)
        while (offer := sieve.next(NOW)) is not None:
            assert offer.id not in gone
            if seen.holds(memory_name(offer)):
                sieve.known(offer)
                continue
            handed.append(offer.id)
            pending.append(offer)
        now_done: bool = data.draw(st.booleans())
        if pending and now_done:
            offer = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
            seen.add(memory_name(offer), remembered_until_ms(offer, NOW))
            sieve.done(offer)
    assert len(handed) == len(set(handed))
    upto = sieve.offsets.committable().get(PLACE, 0)
    assert all(offer.offset >= upto for offer in pending)
    for offer in pending:
        sieve.done(offer)
    assert sieve.offsets.committable() == ({PLACE: len(arrivals)} if arrivals else {})


def test_offsets_of_a_lost_partition_are_forgotten() -> None:
    offsets = Offsets()
    offsets.take(PLACE, 5)
    offsets.drop(PLACE)
    assert offsets.committable() == {}
    assert offsets.open == 0
    offsets.done(PLACE, 5)
    assert offsets.committable() == {}


def test_a_consumer_that_commits_by_itself_is_refused() -> None:
    from streams.offers_consumer import OffersConsumer

    class Consumer:
        config: dict[str, Any] = {"enable_auto_commit": True}  # noqa: RUF012

    with pytest.raises(ValueError, match="enable_auto_commit=False"):
        OffersConsumer(Consumer())


class Assigned(NamedTuple):
    topic: str
    partition: int


class Group:
    """A consumer that gets its partitions after a while, in a time that the test makes."""

    def __init__(self, joins_ms: int | None) -> None:
        self.config = {"enable_auto_commit": False}
        self.joins_ms = joins_ms
        self.now_ms = 0
        self.knows = False

    def now(self) -> int:
        return self.now_ms

    def topics(self) -> set[str]:
        assert self.now_ms == 0, "asked before the first poll, in which it joins"
        self.knows = True
        return {"offers"}

    def assignment(self) -> set[Any]:
        there = self.joins_ms is not None and self.now_ms >= self.joins_ms
        return {Assigned("offers", 0)} if there else set()

    def poll(self, timeout_ms: int) -> dict[Any, Any]:
        assert self.knows, "it would join without a word of its topics"
        self.now_ms += timeout_ms
        return {}


@pytest.mark.parametrize(
    ("joins_ms", "ends_ms"),
    [(0, 3_200), (9_000, 12_000), (None, 63_000)],
    ids=["at once", "after a while", "never"],
)
def test_a_loop_is_idle_once_the_group_has_given_it_partitions(
    joins_ms: int | None, ends_ms: int
) -> None:
    from streams.offers_consumer import OffersConsumer

    group = Group(joins_ms)
    assert list(OffersConsumer(group, idle_ms=3_000, now=group.now)) == []
    assert abs(group.now_ms - ends_ms) <= 200
