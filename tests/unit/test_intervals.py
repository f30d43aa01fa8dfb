"""Intervals against published tables, and the borders of a rule's status."""

from __future__ import annotations

from statistics import mean, variance

import pytest

from triggers.intervals import (
    BANDS,
    OFFERS_MIN,
    Interval,
    Sample,
    Share,
    difference,
    mean_difference,
    mean_ratio,
    ratio,
    status_of,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_s_interval_is_that_of_the_published_table(
    hits: int, count: int, low: float, high: float
) -> None:
    assert wilson(Share(hits, count)) == pytest.approx((low, high), abs=5e-5)


def test_a_share_of_nothing_or_of_all_has_its_end_exactly() -> None:
    assert wilson(Share(0, 0)) == Interval(0.0, 1.0)
    assert wilson(Share(0, 50)).low == 0.0
    assert wilson(Share(50, 50)).high == 1.0


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, method 10
        (Share(56, 70), Share(48, 80), 0.0524, 0.3339),
        (Share(9, 10), Share(3, 10), 0.1705, 0.8090),
        (Share(6, 7), Share(2, 7), 0.0582, 0.8062),
        (Share(5, 56), Share(0, 29), -0.0381, 0.1926),
    ],
)
def test_the_interval_of_a_difference_is_that_of_the_published_table(
    a: Share, b: Share, low: float, high: float
) -> None:
    assert difference(a, b) == pytest.approx((low, high), abs=5e-5)
    assert difference(b, a) == pytest.approx((-high, -low), abs=5e-5)


def test_the_ratio_of_equal_shares_lies_evenly_around_one() -> None:
    found = ratio(Share(20, 200), Share(20, 200))
    assert found is not None
    assert found.low * found.high == pytest.approx(1.0)
    assert found.low < 1 < found.high
    assert ratio(Share(0, 200), Share(20, 200)) is None


def test_a_sample_has_the_mean_and_the_error_of_its_values() -> None:
    values = [0, 0, 4980, 1200, 0, 333]
    sample = Sample()
    for value in values:
        sample.add(value)
    assert sample.mean == pytest.approx(mean(values))
    assert sample.error_squared == pytest.approx(variance(values) / len(values))
    assert mean_difference(sample, Sample(1, 5, 25)) is None


def test_means_far_apart_have_intervals_without_nothing_and_one() -> None:
    high, low = Sample(), Sample()
    for value in range(100):
        high.add(2000 + value)
        low.add(1000 + value)
    gap, times = mean_difference(high, low), mean_ratio(high, low)
    assert gap is not None
    assert times is not None
    assert gap.low < 1000 < gap.high
    assert gap.low > 0
    assert 1 < times.low < 2049.5 / 1049.5 < times.high


def status(hits: int, count: int) -> str:
    return status_of(Share(hits, count)).status


@pytest.mark.covers("B11")
def test_one_offer_too_few_says_nothing_about_a_rule() -> None:
    assert status(0, OFFERS_MIN - 1) == "INSUFFICIENT"
    assert status(0, OFFERS_MIN) == "REVIEW"


@pytest.mark.covers("B11")
def test_the_last_acceptance_that_leaves_the_upper_end_under_seven_percent_is_review() -> None:
    hits = max(h for h in range(1000) if wilson(Share(h, 1000)).high < 0.07)
    assert hits == 54  # (0.07 - 0.054) / sqrt(0.07 * 0.93 / 1000) = 1.98 > 1.96; with 55: 1.86
    assert status(hits, 1000) == "REVIEW"
    assert status(hits + 1, 1000) == "NORMAL"


@pytest.mark.covers("B11")
def test_ten_percent_is_strong_and_one_acceptance_less_is_normal() -> None:
    assert status(70, 1000) == "NORMAL"
    assert status(99, 1000) == "NORMAL"
    assert status(100, 1000) == "STRONG"
    assert status(200, 1000) == "STRONG"


@pytest.mark.covers("B11")
def test_only_a_lower_end_over_twenty_percent_asks_to_check_the_tracking() -> None:
    hits = min(h for h in range(1000) if wilson(Share(h, 1000)).low > 0.20)
    assert hits == 225  # (0.225 - 0.2) / sqrt(0.2 * 0.8 / 1000) = 1.98 > 1.96; with 224: 1.90
    assert status(hits - 1, 1000) == "STRONG"
    assert status(hits, 1000) == "CHECK"


def test_every_status_can_be_reached_and_says_what_to_do() -> None:
    reached = {status(hits, count) for count in (50, 1000) for hits in range(0, count + 1, 10)}
    assert reached == {band.status for band in BANDS}
    assert all(band.remedy and band.holds_when for band in BANDS)
