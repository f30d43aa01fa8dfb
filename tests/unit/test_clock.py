"""The log's clock stands at the highest record timestamp read."""

from streams.clock import LogClock, SystemClock, wall_ms
from streams.clockguard import make_clock


def test_the_logs_clock_never_goes_back() -> None:
    clock = LogClock()
    clock.observe(500)
    clock.observe(300)
    assert clock.now_ms() == 500


def test_the_logs_clock_knows_where_it_stood() -> None:
    clock = LogClock()
    before = wall_ms() - 1
    clock.observe(500)
    assert clock.at(before) == 0
    assert clock.at(wall_ms()) == 500


def test_an_instant_that_was_passed_tells_when() -> None:
    clock = LogClock()
    before = wall_ms()
    clock.observe(500)
    assert before <= clock.reached(400) <= wall_ms()


def test_the_systems_clock_is_the_machines() -> None:
    clock = make_clock("system")
    assert isinstance(clock, SystemClock)
    assert abs(clock.now_ms() - wall_ms()) < 1_000
    assert clock.at(7) == 7
