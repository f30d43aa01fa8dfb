"""The report's fold under any log: every offer ends once, and partitions may come one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.logbook import DAY, START
from triggers.durations import to_text
from triggers.events import EVENT_TYPES
from triggers.ledger import DecisionMade, OfferMade
from triggers.reporting import Report
from triggers.shoppers import Shoppers

CUSTOMERS = ("a", "b", "c")
WORDS = ("shown", "clicked", "accepted", "declined", "complained")


class Move(NamedTuple):
    """Something happens to a customer so long after the move before it."""

    customer: str
    kind: str
    number: int
    later_ms: int


moves = st.lists(
    st.builds(
        Move,
        st.sampled_from(CUSTOMERS),
        st.sampled_from(("offer", "held", "withdrawn", "buy", "refund", "erase", *WORDS)),
        st.integers(0, 3),
        st.sampled_from((0, 1, DAY // 2, 3 * DAY, 8 * DAY)),
    ),
    max_size=40,
)


def decision(report: Report, move: Move, outcome: str, at: int) -> None:
    made = DecisionMade(f"r{move.number % 2}", "v1", "cross_sell", outcome, offer_id(move))
    report.decision(move.customer, made, at)


def offer_id(move: Move) -> str:
    return f"{move.customer}{move.number}"


def apply(report: Report, move: Move, at: int) -> None:
    if move.kind == "offer":
        until = to_text(at + DAY)
        rule = f"r{move.number % 2}"
        made = OfferMade(offer_id(move), rule, "v1", "cross_sell", "email", until)
        report.offer(move.customer, made, at)
        decision(report, move, "offered", at)
    elif move.kind == "held":
        decision(report, move, "held_out", at)
    elif move.kind == "withdrawn":
        decision(report, move, "withdrawn", at)
    else:
        kind, data = event(move)
        report.event(kind, move.customer, msgspec.convert(data, EVENT_TYPES[kind].data), at)


def event(move: Move) -> tuple[str, dict[str, Any]]:
    order = {"order_id": offer_id(move)}
    if move.kind == "buy":
        line = {"sku": "p", "quantity": 1, "unit_price": 100 + move.number}
        fields = {"items": [line], "total": 100 + move.number, "currency": "JPY"}
        return "purchase.completed", {**order, **fields}
    if move.kind == "refund":
        return "purchase.refunded", {**order, "total": 60}
    if move.kind == "erase":
        return "customer.erase_requested", {}
    return f"offer.{move.kind}", {"offer_id": offer_id(move)}


def timed(found: list[Move]) -> list[tuple[int, Move]]:
    at, result = START, []
    for move in found:
        at += move.later_ms
        result.append((at, move))
    return result


@pytest.mark.covers("B10")
@given(moves)
@settings(max_examples=300, deadline=None)
def test_every_offer_of_any_log_ends_exactly_once_and_weeks_add_up(found: list[Move]) -> None:
    report = Report()
    for at, move in timed(found):
        apply(report, move, at)
    for rule in report.body()["rules"].values():
        assert sum(rule["ends"].values()) == rule["made"]
        assert min(rule["ends"].values()) >= 0
        assert rule["ends"]["accepted"] == rule["accepted"] <= rule["made"]
        assert rule["ends"]["declined"] == rule["declined"]
        for name in ("made", *WORDS):
            assert sum(week[name] for week in rule["weeks"]) == rule[name]


def test_a_word_after_the_window_counts_nowhere_whoever_came_between() -> None:
    c, a = CUSTOMERS[-1], CUSTOMERS[0]
    made = Move(c, "offer", 0, 0)
    between = [Move(a, "offer", 1, 8 * DAY), Move(a, "offer", 2, 8 * DAY)]
    late = Move(c, "withdrawn", 0, 0)
    for found in ([made, *between, late], [made, late._replace(later_ms=16 * DAY)]):
        report = Report()
        for at, move in timed(found):
            apply(report, move, at)
        assert report.body()["rules"]["r0"]["ends"]["withdrawn"] == 0


@given(moves)
@settings(max_examples=300, deadline=None)
def test_customers_one_after_the_other_give_the_figures_of_the_merged_log(
    found: list[Move],
) -> None:
    merged, parted = Report(), Report()
    for at, move in timed(found):
        apply(merged, move, at)
    for customer in CUSTOMERS:
        for at, move in timed(found):
            if move.customer == customer:
                apply(parted, move, at)
    assert parted.body() == merged.body()


@given(moves)
@settings(max_examples=300, deadline=None)
def test_revenue_under_watch_is_never_negative_and_never_more_than_was_paid(
    found: list[Move],
) -> None:
    report = Report()
    paid = 0
    for at, move in timed(found):
        apply(report, move, at)
        paid += (100 + move.number) * (move.kind == "buy")
    report.body()
    for trial in report.trials.by_rule.values():
        for arm in trial.arms:
            assert 0 <= arm.revenue.total <= paid
            assert 0 <= arm.bought <= arm.revenue.count <= len(CUSTOMERS) * len(found)


def test_customers_beyond_the_bound_are_left_out_and_counted() -> None:
    shoppers = Shoppers(DAY, shoppers_max=2)
    data = msgspec.convert({"sku": "p"}, EVENT_TYPES["product.viewed"].data)
    for customer in ("a", "b", "c", "a"):
        shoppers.happened("product.viewed", customer, data, START)
    assert (sorted(shoppers.known), shoppers.left_out) == (["a", "b"], 1)
