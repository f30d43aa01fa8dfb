"""A line that is repeated without end is written a few times a minute and counted."""

from __future__ import annotations

import logging

from streams.lograte import KINDS_MAX, LINES_MAX, WINDOW_S, RateLimit


def line(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("streams.x", level, "f", 1, {"event": text}, (), None)


def test_p9_a_repeated_line_is_written_a_few_times_a_minute_and_the_rest_is_counted() -> None:
    now = [0.0]
    rate = RateLimit(lambda: now[0])
    assert sum(rate.filter(line("refused")) for _ in range(1_000)) == LINES_MAX
    assert rate.filter(line("another"))
    assert rate.take_dropped() == 1_000 - LINES_MAX
    assert rate.take_dropped() == 0
    now[0] = WINDOW_S
    first = line("refused")
    assert rate.filter(first)
    assert first.msg == {"event": "refused", "lines_left_out": 1_000 - LINES_MAX}


def test_a_critical_line_is_always_written() -> None:
    rate = RateLimit()
    assert all(rate.filter(line("worker ends", logging.CRITICAL)) for _ in range(100))


def test_p9_the_kinds_of_lines_that_are_remembered_are_bounded() -> None:
    rate = RateLimit()
    for number in range(3 * KINDS_MAX):
        assert rate.filter(line(f"line {number}"))
    assert len(rate._kinds) <= KINDS_MAX
