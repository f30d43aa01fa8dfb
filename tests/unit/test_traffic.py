"""Late events are counted, and a customer who makes most of a partition's traffic is noticed."""

from __future__ import annotations

from collections import Counter

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streams.traffic import COUNTERS, HOT_SHARE, WINDOW_EVENTS, Traffic, lateness
from tests.unit.harness import DAY, HOUR, MINUTE, NOON
from triggers.judgement import Step


@pytest.mark.parametrize(
    ("behind", "name"),
    [(59 * MINUTE, ""), (HOUR, "late_1h"), (DAY, "late_1d"), (8 * DAY, "late_7d")],
)
def test_s16_an_event_that_comes_late_is_counted_by_how_late(behind: int, name: str) -> None:
    assert lateness(NOON, NOON, NOON - behind) == name  # it happened long before its record
    assert lateness(NOON, NOON - behind, NOON) == name  # its record is the late one


def test_s27_a_customer_with_most_of_the_events_is_noticed_and_named_by_nobody() -> None:
    traffic, out = Traffic(3), Step()
    with structlog.testing.capture_logs() as lines:
        for batch in range(WINDOW_EVENTS // 1_000):
            traffic.see({"whale": 600} | {f"c{batch}-{n}": 1 for n in range(400)}, out)
    assert traffic.share == pytest.approx(0.6, abs=0.05)
    assert out.notes == {"hot_key": 1}
    assert [one["customer"] for one in lines] == ["whale"]  # the log hashes this field


def test_s27_a_million_ids_on_one_partition_make_nobody_hot_and_take_no_memory() -> None:
    traffic, out = Traffic(0), Step()
    for batch in range(250):
        traffic.see({f"id-{batch}-{n}": 1 for n in range(4_000)}, out)
        assert len(traffic._counts) <= COUNTERS
    assert out.notes == {}
    assert traffic.share < 1 / COUNTERS


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 3_000)), max_size=60))
def test_s27_whoever_is_hot_beyond_doubt_is_noticed(batches: list[dict[str, int]]) -> None:
    traffic, out, told = Traffic(0), Step(), 0
    window: Counter[str] = Counter()
    for number, batch in enumerate(batches):
        crowd = {f"x{number}-{n}": 1 for n in range(200)}
        window.update(batch | crowd)
        with structlog.testing.capture_logs() as lines:
            traffic.see(batch | crowd, out)
        if window.total() >= WINDOW_EVENTS:
            sure = (HOT_SHARE + 1 / COUNTERS) * window.total()
            certain = {who for who, count in window.items() if count > sure}
            named = {line["customer"] for line in lines}
            assert certain <= named
            assert all(window[who] > HOT_SHARE * window.total() for who in named)
            told += len(named)
            window.clear()
    assert out.notes.get("hot_key", 0) == told
