"""Days of the calendar: the same time on the wall, whatever the zone does to its clocks."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import available_timezones

from hypothesis import example, given, settings
from hypothesis import strategies as st

from triggers.durations import add_days, from_local, to_local, to_ms, to_text

ZONES = sorted(available_timezones())


@given(
    st.integers(0, 4_102_444_800_000),
    st.integers(-400, 400),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", *ZONES]),
)
@settings(max_examples=2_000, deadline=None)
@example(to_ms("2026-03-07T02:30:00-05:00"), 1, "America/New_York")
@example(to_ms("2026-10-31T01:30:00-04:00"), 1, "America/New_York")
@example(to_ms("2026-11-01T01:30:00-05:00"), 1, "America/New_York")
def test_days_are_added_to_the_time_on_the_wall(at_ms: int, days: int, zone: str) -> None:
    moved = to_local(at_ms, zone) + timedelta(days=days)
    assert add_days(at_ms, days, zone) == from_local(moved, zone)


def test_a_time_that_is_skipped_moves_on_and_of_one_that_comes_twice_the_first_is_taken() -> None:
    zone = "America/New_York"
    skipped = add_days(to_ms("2026-03-07T02:30:00-05:00"), 1, zone)
    assert skipped == to_ms("2026-03-08T03:30:00-04:00")
    twice = add_days(to_ms("2026-10-31T01:30:00-04:00"), 1, zone)
    assert twice == to_ms("2026-11-01T01:30:00-04:00")
    from_the_second = add_days(to_ms("2026-11-01T01:30:00-05:00"), 0, zone)
    assert from_the_second == to_ms("2026-11-01T01:30:00-04:00")


@given(st.integers(0, 253_402_300_799_999))
def test_an_instant_s_text_reads_back(at_ms: int) -> None:
    text = to_text(at_ms)
    assert to_ms(text) == at_ms
    assert len(text) == len("2026-01-31T09:00:00.000Z")
