"""The machine's clock, as far as it can be believed.

A clock can be set while a worker runs: by an operator, by a time server, by a machine that wakes
with the time of 1970. A worker that followed a leap of a year would fire a year of timers at once,
and one that followed a leap back would refuse the broker's records as coming from the future. So
decisions take the time that went by since the process began, corrected by the machine's clock in
small steps; a large one is a jump, and is not followed until something else speaks for it.

A process that begins under a wrong clock has nothing to measure it by; the worker compares it with
the store's (:meth:`GuardedClock.compare`).
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from streams.clock import Clock, LogClock, SystemClock, steady_ms, wall_ms

log = structlog.get_logger(__name__)

#: A larger step of the machine's clock is a jump.
JUMP_MS_MAX = 300_000
#: How long the machine's clock has to stand by a jump back before it is believed.
TRUST_MS = 600_000
#: Smaller differences are the rounding of two clocks, not steps.
_STEP_MS_MIN = 20
#: How often the store is asked while the two clocks differ.
_COMPARE_S = 5
#: How far a record may lie ahead of the clock, as at the door.
_AHEAD_MS_MAX = 60_000


class GuardedClock(SystemClock):
    """The machine's clock without its jumps. It never goes back by a step.

    A step of up to ``jump_ms`` is followed: forward at once, back by standing still until the time
    is made up. At a larger one the clock goes on as if nothing had happened, and says
    :attr:`jumped`, until

    - the machine's clock comes back to it, or
    - a record's timestamp bears a jump ahead out (in production it is the broker's clock that
      sets those), or
    - the store's clock agrees with the machine's and did not leap along with it (the two may be
      one: a store on the same machine bears nothing out), or
    - a jump back has stood for ``TRUST_MS`` and no record that was read lies ahead of it.

    A machine that slept has not jumped: its sleep is time that went by.
    """

    def __init__(
        self,
        jump_ms: int = JUMP_MS_MAX,
        wall: Callable[[], int] = wall_ms,
        steady: Callable[[], int] = steady_ms,
    ) -> None:
        """``wall`` can be set by anybody, ``steady`` by nobody."""
        super().__init__(steady)
        self.jumps = 0
        self._jump_ms = jump_ms
        self._machine = wall
        self._offset = 0  # machine's clock less steady time, as far as it is believed
        self._before: tuple[int, int] | None = None  # an earlier offset, and until when it held
        self._highest = 0
        self._leap: int | None = None  # the step that is not believed
        self._leapt_at = 0
        self._newest = 0  # the highest record timestamp that was read
        self._differs = False  # from the store's clock, since the start
        self._store_offset: int | None = None  # the store's clock less steady time, at rest
        self._stood_by = False  # since the leap the store has shown the time as it was
        self._witness = 0  # the furthest that a clock was ahead of steady time, the store's too

    @property
    def jumped(self) -> bool:
        """Whether the machine's clock is not believed now."""
        return self._leap is not None or self._differs

    def now_ms(self) -> int:
        """The machine's present instant, without its jumps."""
        steady = self.wall_ms()
        step = self._machine() - steady - self._offset
        if abs(step) > self._jump_ms:
            self._doubt(steady, step)
        elif abs(step) >= _STEP_MS_MIN or self._leap is not None:
            self._follow(steady, step)
        self._highest = max(self._highest, steady + self._offset)
        return self._highest

    def latest_ms(self) -> int:
        """The latest of what this clock, the machine's and the store's say.

        A worker whose clock is slow, or was set back, must not take the broker's records for
        ones from the future.
        """
        return max(self.now_ms(), self._machine(), self.wall_ms() + self._witness)

    def _follow(self, steady: int, step: int) -> None:
        if self._leap is not None:
            log.warning("the machine's clock is believed again", step_ms=step)
        self._leap = None
        self._before = (self._offset, steady)
        self._offset += step

    def _doubt(self, steady: int, step: int) -> None:
        if self._leap is None or abs(step - self._leap) > self._jump_ms:
            self._leap, self._leapt_at = step, steady
            self._stood_by = False
            self.jumps += 1
            log.error("the machine's clock jumped: timers wait", step_ms=step)
        elif step < 0 and steady - self._leapt_at >= TRUST_MS:
            there = steady + self._offset + step
            if self._newest <= there + _AHEAD_MS_MAX:
                self._highest = there
                self._follow(steady, step)

    def at(self, wall: int) -> int:
        """Where this clock stood at an instant of steady time."""
        if self._before is not None and wall < self._before[1]:
            return wall + min(self._before[0], self._offset)
        return wall + self._offset

    def reached(self, instant: int) -> int:
        """The instant of steady time at which this clock showed ``instant``."""
        return instant - self._offset

    def observe(self, timestamp_ms: int) -> None:
        """A record of that timestamp exists: it is at least so late."""
        if timestamp_ms <= self.now_ms() + _AHEAD_MS_MAX:  # one that the door takes
            self._newest = max(self._newest, timestamp_ms)
        if self._differs and abs(timestamp_ms - self.now_ms()) <= self._jump_ms:
            self._agree()
        if self._leap is not None and self._leap > 0:
            machine = self._machine()
            if abs(machine - timestamp_ms) <= self._jump_ms:
                steady = self.wall_ms()
                self._follow(steady, machine - steady - self._offset)

    def compare(self, other_ms: int) -> None:
        """Look at another machine's clock, at the start and while this one is not believed.

        A step after which the two agree was a correction, and is followed in either direction.
        """
        self.now_ms()
        steady, machine = self.wall_ms(), self._machine()
        self._witness = max(self._witness, other_ms - steady)
        if self._leap is None:
            self._store_offset = other_ms - steady
        elif abs(machine - other_ms) > self._jump_ms:
            self._stood_by = True
        elif self._stood_by or not self._leapt_along(other_ms - steady):
            self._highest = min(self._highest, machine)
            self._follow(steady, machine - steady - self._offset)
        if self._leap is not None:
            return  # counted already
        differs = abs(other_ms - self.now_ms()) > self._jump_ms
        if differs and not self._differs:
            self._differs = True
            self.jumps += 1
            log.error(
                "this machine's clock is not that of the store: timers wait",
                ahead_ms=self.now_ms() - other_ms,
            )
        elif not differs and self._differs:
            self._agree()

    def _leapt_along(self, offset: int) -> bool:
        """Whether the store's clock has leapt, too, as far as that is known."""
        return self._store_offset is None or abs(offset - self._store_offset) > self._jump_ms

    def _agree(self) -> None:
        self._differs = False
        log.warning("this machine's clock agrees again")


class Timed(Protocol):
    """A server that has a clock of its own."""

    async def server_ms(self) -> int | None:
        """What it shows; None when it may not be asked."""
        ...


async def compare_with(clock: Clock, store: Timed) -> None:
    """Compare a guarded clock with the store's until the two agree."""
    while isinstance(clock, GuardedClock):
        there = await store.server_ms()
        if there is None:
            return
        clock.compare(there)
        if not clock.jumped:
            return
        await asyncio.sleep(_COMPARE_S)


async def compare_once(clock: Clock, store: Timed) -> None:
    """Compare a guarded clock with the store's, before anything is judged by it."""
    if isinstance(clock, GuardedClock) and (there := await store.server_ms()) is not None:
        clock.compare(there)


async def watch_clock(clock: Clock, store: Timed) -> None:
    """Compare with the store's clock at the start, and whenever this one is not believed."""
    await compare_with(clock, store)
    while isinstance(clock, GuardedClock):
        await asyncio.sleep(_COMPARE_S)
        if clock.jumped:
            await compare_with(clock, store)


def make_clock(kind: str, jump_ms: int = JUMP_MS_MAX) -> Clock:
    """The clock of that name, ``system`` or ``log``; ``jump_ms`` is what the former believes."""
    return LogClock(steady_ms) if kind == "log" else GuardedClock(jump_ms)
