"""The machine's clock is followed in small steps and never by a jump."""

from __future__ import annotations

import asyncio

import pytest

from streams.clockguard import (
    JUMP_MS_MAX,
    TRUST_MS,
    GuardedClock,
    compare_once,
    compare_with,
)
from streams.doctor import clocks
from triggers.durations import to_ms

NOON = to_ms("2026-03-02T12:00:00+09:00")
MINUTE, DAY = 60_000, 86_400_000


class Machine:
    """A machine whose clock can be set, and whose time goes by."""

    def __init__(self) -> None:
        self.steady = self.wall = NOON
        self.clock = GuardedClock(JUMP_MS_MAX, lambda: self.wall, lambda: self.steady)
        assert self.clock.now_ms() == NOON

    def wait(self, ms: int) -> int:
        self.steady += ms
        self.wall += ms
        return self.clock.now_ms()

    def step(self, ms: int) -> int:
        self.wall += ms
        return self.clock.now_ms()


@pytest.mark.parametrize(
    "jump", [10 * MINUTE, -10 * MINUTE, 400 * DAY, -NOON], ids=["+10m", "-10m", "+400d", "1970"]
)
def test_s17_a_jump_is_not_followed_and_alarms_once(jump: int) -> None:
    machine = Machine()
    assert machine.step(jump) == NOON
    assert machine.clock.jumped
    assert machine.wait(MINUTE) == NOON + MINUTE
    assert machine.clock.jumps == 1


def test_s17_a_clock_that_comes_back_is_believed_again() -> None:
    machine = Machine()
    machine.step(400 * DAY)
    machine.wait(MINUTE)
    assert machine.step(-400 * DAY) == NOON + MINUTE
    assert not machine.clock.jumped


def test_s17_small_steps_are_followed_forward_and_stood_out_backward() -> None:
    machine = Machine()
    assert machine.step(4 * MINUTE) == NOON + 4 * MINUTE
    assert machine.step(-4 * MINUTE) == NOON + 4 * MINUTE
    assert machine.wait(MINUTE) == NOON + 4 * MINUTE
    assert machine.wait(4 * MINUTE) == NOON + 5 * MINUTE
    assert machine.clock.jumps == 0


def test_s17_a_record_bears_a_jump_ahead_out_and_an_old_one_does_not() -> None:
    machine = Machine()
    machine.step(3 * 3_600_000)
    machine.clock.observe(NOON + MINUTE)
    assert machine.clock.now_ms() == NOON
    assert machine.clock.jumped
    machine.clock.observe(machine.wall - 1_000)
    assert machine.clock.now_ms() == machine.wall
    assert not machine.clock.jumped


def test_s17_a_jump_back_is_believed_when_it_stands_and_no_record_lies_ahead() -> None:
    machine = Machine()
    machine.step(-DAY)
    assert machine.wait(TRUST_MS) == NOON - DAY + TRUST_MS
    assert not machine.clock.jumped


def test_s17_a_jump_back_stays_unbelieved_while_records_lie_ahead_of_it() -> None:
    machine = Machine()
    machine.clock.observe(NOON)
    machine.step(-NOON)
    assert machine.wait(10 * TRUST_MS) == NOON + 10 * TRUST_MS
    assert machine.clock.jumped


def test_s17_the_clock_never_goes_back_while_it_is_not_believed() -> None:
    machine = Machine()
    seen = [machine.clock.now_ms()]
    for step in (90_000, -200_000, DAY, -2 * DAY, DAY, -40_000, 1):
        seen.append(machine.step(step))
        seen.append(machine.wait(1_000))
    assert seen == sorted(seen)


def test_s17_a_machine_that_slept_has_not_jumped() -> None:
    machine = Machine()
    assert machine.wait(8 * 3_600_000) == NOON + 8 * 3_600_000
    assert not machine.clock.jumped


def test_s17_spans_and_marks_of_the_fetcher_do_not_see_a_jump() -> None:
    machine = Machine()
    machine.step(-NOON)
    assert machine.clock.wall_ms() == NOON
    assert machine.clock.at(NOON - 250) == NOON - 250
    assert machine.clock.reached(NOON + 5) == NOON + 5


def test_s17_what_was_read_before_a_followed_step_counts_by_the_clock_before_it() -> None:
    machine = Machine()
    asked = machine.clock.wall_ms()
    machine.wait(1_000)
    machine.step(2 * MINUTE)
    assert machine.clock.at(asked) == NOON
    assert machine.clock.at(machine.clock.wall_ms()) == NOON + 1_000 + 2 * MINUTE


class Server:
    """A store with a clock of its own, some of whose answers differ from ours."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)

    async def server_ms(self) -> int | None:
        return self.answers.pop(0)


def test_s17_a_worker_that_begins_under_another_clock_than_the_stores_waits() -> None:
    machine = Machine()

    async def begin() -> None:
        server = Server(NOON - 400 * DAY, NOON)
        comparing = asyncio.create_task(compare_with(machine.clock, server))
        await asyncio.sleep(0)
        assert machine.clock.jumped
        comparing.cancel()
        await asyncio.gather(comparing, return_exceptions=True)
        await compare_with(machine.clock, server)

    asyncio.run(begin())
    assert not machine.clock.jumped
    assert machine.clock.jumps == 1


def test_s17_a_store_that_tells_no_time_hinders_nobody() -> None:
    machine = Machine()
    asyncio.run(compare_with(machine.clock, Server(None)))
    assert not machine.clock.jumped


def test_s17_a_record_decides_between_the_workers_clock_and_the_stores() -> None:
    machine = Machine()
    machine.clock.compare(NOON + DAY)
    assert machine.clock.jumped
    machine.clock.observe(NOON - MINUTE)
    assert not machine.clock.jumped


def test_s17_the_doctor_compares_the_clocks() -> None:
    (near,) = clocks(NOON, NOON + 2_000, 300)
    assert (near.ok, near.text) == (True, "2.0 s behind the store's")
    (far,) = clocks(NOON + DAY, NOON, 300)
    assert (far.ok, far.text) == (False, "86400.0 s ahead of the store's")
    assert clocks(NOON, None, 300) == []


@pytest.mark.parametrize("jump", [2 * DAY, -2 * DAY], ids=["ahead", "back"])
def test_s17_a_correction_is_believed_once_the_stores_clock_says_the_same(jump: int) -> None:
    machine = Machine()
    assert machine.step(jump) == NOON
    machine.clock.compare(NOON)  # the store stands by the old time
    assert machine.clock.now_ms() == NOON
    assert machine.clock.jumps == 1
    machine.clock.compare(machine.wall - 1_000)
    assert machine.clock.now_ms() == NOON + jump
    assert not machine.clock.jumped
    assert machine.wait(MINUTE) == NOON + jump + MINUTE


def test_s17_a_worker_that_began_under_a_wrong_clock_is_right_again_when_it_is_set_right() -> None:
    machine = Machine()
    machine.clock.compare(NOON - DAY)
    assert machine.clock.jumps == 1
    machine.step(-DAY)
    machine.clock.compare(NOON - DAY)
    assert machine.clock.now_ms() == NOON - DAY
    assert not machine.clock.jumped


def test_s17_a_clock_that_was_set_back_takes_no_record_for_one_from_the_future() -> None:
    machine = Machine()
    assert machine.step(-4 * MINUTE) == NOON  # followed: it stands still for four minutes
    assert machine.wait(2 * MINUTE) == NOON
    assert machine.clock.latest_ms() == NOON + 2 * MINUTE


@pytest.mark.parametrize("behind", [2 * MINUTE, 10 * MINUTE, 400 * DAY])
def test_s17_a_worker_that_begins_under_a_slow_clock_asks_the_store_what_is_the_future(
    behind: int,
) -> None:
    machine = Machine()
    asyncio.run(compare_once(machine.clock, Server(NOON + behind)))
    machine.wait(MINUTE)
    assert machine.clock.now_ms() == NOON + MINUTE
    assert machine.clock.latest_ms() == NOON + behind + MINUTE


@pytest.mark.parametrize("jump", [400 * DAY, -DAY], ids=["ahead", "back"])
def test_s17_a_store_whose_clock_leaps_along_bears_nothing_out(jump: int) -> None:
    machine = Machine()
    machine.clock.compare(NOON)
    machine.step(jump)
    machine.clock.compare(machine.wall)  # the same machine's clock, or the same time server's
    machine.wait(MINUTE)
    machine.clock.compare(machine.wall)
    assert machine.clock.now_ms() == NOON + MINUTE
    assert machine.clock.jumped
    assert machine.clock.jumps == 1
    machine.step(-jump)
    machine.clock.compare(machine.wall)
    assert machine.clock.now_ms() == NOON + MINUTE
    assert not machine.clock.jumped


def test_s17_a_store_that_went_on_as_before_tells_a_correction_from_a_leap() -> None:
    machine = Machine()
    machine.clock.compare(NOON + 2 * MINUTE)
    machine.wait(MINUTE)
    machine.step(10 * MINUTE)  # a machine that stood still without noticing
    machine.clock.compare(machine.wall + 2 * MINUTE)
    assert machine.clock.jumped  # so did the store
    other = Machine()
    other.clock.compare(NOON + 20 * MINUTE)
    other.step(20 * MINUTE)
    other.clock.compare(NOON + 20 * MINUTE)
    assert other.clock.now_ms() == NOON + 20 * MINUTE
    assert not other.clock.jumped
