"""What a customer used, by the customer's own days."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, NOON, REASON, SECOND, World, make_book
from triggers import usage
from triggers.compiler import compile_content
from triggers.context import Context
from triggers.durations import to_ms, to_text
from triggers.state import MAX_METRICS, MAX_USAGE_DAYS

LISTENS = {"id": "listens", "on": "usage.recorded"}


def world(**book: Any) -> World:
    return World(make_book(**book), at=NOON - 30 * DAY)


def use(to: World, value: float, quota: float | None = None, **more: Any) -> None:
    data = {"metric": "seats", "value": value, **more}
    to.send("usage.recorded", **(data if quota is None else {**data, "quota": quota}))


def facts(of: World, at: int) -> Context:
    return Context(None, "usage.recorded", of.customer, at, of.book, of.catalog)


def test_a_sum_covers_today_and_the_days_before_it() -> None:
    one = world()
    for back in (7, 6, 1, 0):
        use(one, 2.5 + back, at=NOON - back * DAY)
    assert usage.usage_sum(facts(one, NOON), "seats", "7d") == 2.5 + 3.5 + 8.5
    assert usage.usage_sum(facts(one, NOON), "seats", "8d") == 2.5 + 3.5 + 8.5 + 9.5
    assert usage.usage_sum(facts(one, NOON), "chairs", "8d") == 0.0


def test_a_day_ends_at_the_customers_midnight() -> None:
    one = world()
    use(one, 1.0, at=to_ms("2026-03-02T23:59:59+09:00"))
    use(one, 4.0, at=to_ms("2026-03-03T00:00:00+09:00"))
    assert usage.usage_sum(facts(one, one.at), "seats", "1d") == 4.0
    assert usage.usage_sum(facts(one, one.at + DAY - SECOND), "seats", "1d") == 4.0
    assert usage.usage_sum(facts(one, one.at + DAY), "seats", "1d") == 0.0


def test_a_customer_in_new_york_has_other_days_than_the_book() -> None:
    one = world()
    one.send("customer.profile_set", timezone="America/New_York")
    use(one, 1.0, at=to_ms("2026-03-02T23:59:59-05:00"))
    use(one, 4.0, at=to_ms("2026-03-03T00:00:00-05:00"))
    assert usage.usage_sum(facts(one, one.at), "seats", "1d") == 4.0


def test_a_move_to_the_west_never_turns_days_back() -> None:
    one = world()
    use(one, 1.0, 10.0, at=to_ms("2026-03-03T00:30:00+09:00"))
    one.send("customer.profile_set", timezone="America/New_York")
    use(one, 9.0, at=to_ms("2026-03-03T01:00:00+09:00"))  # still the second in New York
    assert len(one.customer.usage["seats"].days) == 34
    assert usage.usage_sum(facts(one, one.at), "seats", "1d") == 10.0


def test_a_share_is_values_over_quotas() -> None:
    one = world()
    use(one, 80.0, 100.0, at=NOON)
    use(one, 10.0, 200.0, at=NOON + HOUR)
    assert usage.usage_share(facts(one, one.at), "seats", "7d") == 90.0 / 300.0
    assert usage.usage_share(facts(one, one.at), "chairs", "7d") == 0.0


def test_a_reading_without_a_quota_has_the_last_one_told() -> None:
    one = world()
    use(one, 50.0, at=NOON)  # no quota known yet: no share
    use(one, 80.0, 100.0, at=NOON + HOUR)
    use(one, 60.0, at=NOON + 2 * HOUR)
    assert usage.usage_share(facts(one, one.at), "seats", "7d") == 140.0 / 200.0
    assert usage.usage_sum(facts(one, one.at), "seats", "7d") == 190.0


def test_a_quota_of_zero_is_no_quota() -> None:
    one = world()
    use(one, 50.0, 0.0, at=NOON)
    assert usage.usage_share(facts(one, one.at), "seats", "7d") == 0.0
    assert usage.days_over(facts(one, one.at), "seats", 0.0, "7d") == 0


def test_a_day_is_over_when_one_reading_reached_the_share() -> None:
    one = world()
    for back, value in ((3, 80.0), (2, 79.999), (1, 100.0), (0, 12.0)):
        use(one, value, 100.0, at=NOON - back * DAY)
    use(one, 81.0, at=NOON + HOUR)
    use(one, 2.0, at=NOON + 2 * HOUR)
    assert usage.days_over(facts(one, one.at), "seats", 0.8, "7d") == 3


def test_any_counts_the_days_on_which_one_of_the_metrics_was_over() -> None:
    one = world()
    use(one, 90.0, 100.0, at=NOON - 2 * DAY)
    use(one, 90.0, 100.0, metric="calls", at=NOON - 2 * DAY)
    use(one, 95.0, 100.0, metric="calls", at=NOON)
    use(one, 500.0, metric="logins", at=NOON - DAY)  # has no quota
    assert usage.days_over(facts(one, one.at), "any", 0.8, "7d") == 2
    assert usage.usage_share(facts(one, one.at), "any", "7d") == (90.0 + 95.0) / 200.0


@pytest.mark.parametrize(("days", "stage"), [(4, "active"), (5, "heavy")])
def test_who_is_at_80_percent_on_five_of_seven_days_is_heavy(days: int, stage: str) -> None:
    rule = {**LISTENS, "when": f'event.value > 0.5 && customer.stage == "{stage}"'}
    one = World(make_book(rule), at=NOON - 60 * DAY)
    one.buy("o1", ["a"], NOON - 40 * DAY)
    for back in range(days):
        use(one, 80.0, 100.0, at=NOON - (6 - back) * DAY)
    use(one, 1.0, at=NOON)
    assert one.outcomes()[-1:] == [("listens", "offered", None)]


def test_rules_call_the_functions_by_either_name() -> None:
    when = [
        'usage_sum("seats", "30d") == 90.0',
        'customer.usage_share("seats", "7d") >= 0.9',
        'days_over("any", 0.8, "7d") == 1',
    ]
    one = World(make_book({**LISTENS, "when": when}))
    use(one, 90.0, 100.0)
    assert one.outcomes() == [("listens", "offered", None)]


@pytest.mark.parametrize("span", ["12h", "91d", "soon"])
def test_a_span_that_is_not_whole_days_is_refused_at_its_place(span: str) -> None:
    source = f'usage_sum("seats", "{span}") > 1.0'
    rest = {"kind": "cross_sell", "channel": "email", "pick": "none", "reason": REASON}
    rule = {**LISTENS, **rest, "when": source}
    book = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    found = compile_content({"book": book, "rules": [rule]})
    assert isinstance(found, list)
    assert span in found[0].message
    assert source[found[0].column - 1 :].startswith(span)


def test_the_metric_not_told_for_longest_is_forgotten() -> None:
    one = world()
    for number in range(MAX_METRICS):
        use(one, 1.0, metric=f"m{number}")
    use(one, 1.0, metric="m0")
    use(one, 1.0, metric="new")
    assert len(one.customer.usage) == MAX_METRICS
    assert "m0" in one.customer.usage
    assert "m1" not in one.customer.usage


def test_ninety_days_are_kept() -> None:
    one = world()
    for day in range(MAX_USAGE_DAYS + 1):
        use(one, 1.0, at=NOON + day * DAY)
    assert len(one.customer.usage["seats"].days) == MAX_USAGE_DAYS * 34
    assert usage.usage_sum(facts(one, one.at), "seats", "90d") == 90.0


READINGS = st.lists(
    st.tuples(
        st.sampled_from(["seats", "calls"]),
        st.integers(0, 120),
        st.sampled_from([None, 0, 100, 64]),
        st.integers(1, 40 * HOUR),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(READINGS)
def test_the_packed_days_tell_what_a_list_of_readings_tells(
    readings: list[tuple[str, int, int | None, int]],
) -> None:
    one = world()
    told: list[tuple[str, int, int | None, str]] = []
    quotas: dict[str, int | None] = {}
    for metric, value, quota, pause in readings:
        use(one, float(value), quota, metric=metric, at=one.at + pause)
        one.reload()
        quotas[metric] = quota if quota is not None else quotas.get(metric)
        told.append((metric, value, quotas[metric], to_text(one.at + 9 * HOUR)[:10]))
    last = {to_text(one.at + 9 * HOUR - back * DAY)[:10] for back in range(7)}
    ctx = facts(one, one.at)
    days = set()
    for metric in ("seats", "calls"):
        mine = [(v, q, day) for m, v, q, day in told if m == metric and day in last]
        assert usage.usage_sum(ctx, metric, "7d") == sum(v for v, _, _ in mine)
        over = {day for v, q, day in mine if q and v / q >= 0.8}
        days |= over
        assert usage.days_over(ctx, metric, 0.8, "7d") == len(over)
        whole = sum(q for _, q, _ in mine if q)
        share = sum(v for v, q, _ in mine if q) / whole if whole else 0.0
        assert usage.usage_share(ctx, metric, "7d") == share
    assert usage.days_over(ctx, "any", 0.8, "7d") == len(days)
