"""What time it is: the machine's clock, or the log's own.

Nobody believes the machine's clock blindly: see :mod:`streams.clockguard`.

The log's clock replays recorded history: it stands at the highest record timestamp read, so that
a year can pass in minutes and "one week after" really fires.
"""

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from typing import Protocol

from triggers.durations import to_text

#: 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z: no event happens outside of them.
TIME_MIN_MS = 946_684_800_000
TIME_MAX_MS = 4_102_444_800_000

#: Counts the time that a machine sleeps, too, where the system has such a clock.
_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: How long the log's clock remembers when it reached which instant, and how many such marks.
_MARKS_MAX = 4096


def wall_ms() -> int:
    """The machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


def _running_ms() -> int:
    return time.clock_gettime_ns(_RUNNING) // 1_000_000


_BEGAN_MS = wall_ms() - _running_ms()


def steady_ms() -> int:
    """The machine's clock as this process found it, moved on by the time that went by since.

    For the spans between two instants of one process: nobody can set it and it never goes back.
    """
    return _BEGAN_MS + _running_ms()


def steady() -> float:
    """The same in ms with their fractions, for the order of what happens within one."""
    return _BEGAN_MS + time.clock_gettime_ns(_RUNNING) / 1_000_000


class Clock(Protocol):
    """The seam through which the shell learns the time."""

    follows_log: bool

    @property
    def jumped(self) -> bool:
        """Whether the machine's clock leapt and is not believed: no timer may fire by it."""
        ...

    @property
    def jumps(self) -> int:
        """How often it has leapt."""
        ...

    def wall_ms(self) -> int:
        """The machine's time for measuring spans, in ms since 1970 (:func:`steady_ms`)."""
        ...

    def now_ms(self) -> int:
        """The clock's present instant."""
        ...

    def latest_ms(self) -> int:
        """The latest instant that it may be: nothing of before it comes from the future."""
        ...

    def at(self, wall: int) -> int:
        """Where this clock stood when the machine's clock showed ``wall``."""
        ...

    def reached(self, instant: int) -> int:
        """What the machine's clock showed when this clock came to ``instant``."""
        ...

    def observe(self, timestamp_ms: int) -> None:
        """Learn of a record timestamp that was read."""
        ...


class SystemClock:
    """The machine's clock, believed as it is."""

    follows_log = False
    jumps: int = 0

    def __init__(self, wall: Callable[[], int] = wall_ms) -> None:
        """``wall`` reads the machine's clock, ms."""
        self.wall_ms = wall

    @property
    def jumped(self) -> bool:
        """Never: it is believed."""
        return False

    def now_ms(self) -> int:
        """The machine's present instant."""
        return self.wall_ms()

    def latest_ms(self) -> int:
        """The machine's present instant."""
        return self.now_ms()

    def at(self, wall: int) -> int:
        """The same instant."""
        return wall

    def reached(self, instant: int) -> int:
        """The same instant."""
        return instant

    def observe(self, timestamp_ms: int) -> None:
        """Nothing: records do not move this clock."""


class LogClock:
    """A clock that stands at the highest record timestamp read, 0 before the first."""

    follows_log = True
    jumped = False
    jumps = 0

    def __init__(self, wall: Callable[[], int] = wall_ms) -> None:
        """``wall`` reads the machine's clock, ms."""
        self.wall_ms = wall
        self._walls: deque[int] = deque(maxlen=_MARKS_MAX)
        self._instants: deque[int] = deque(maxlen=_MARKS_MAX)
        self._highest = 0

    def now_ms(self) -> int:
        """The highest record timestamp read."""
        return self._highest

    def latest_ms(self) -> int:
        """The highest record timestamp read."""
        return self._highest

    def at(self, wall: int) -> int:
        """The highest record timestamp that was read when the machine's clock showed ``wall``.

        Before the oldest mark that is still remembered the answer is 0: never too late a time.
        """
        place = bisect_right(self._walls, wall)
        return self._instants[place - 1] if place else 0

    def reached(self, instant: int) -> int:
        """When the machine's clock saw this one pass ``instant``; now, when it has not yet."""
        place = bisect_left(self._instants, instant)
        return self._walls[place] if place < len(self._walls) else self.wall_ms()

    def observe(self, timestamp_ms: int) -> None:
        """Move on to ``timestamp_ms`` when it lies ahead, and in a year that the door takes."""
        if timestamp_ms <= self._highest or timestamp_ms > TIME_MAX_MS:
            return
        self._highest = timestamp_ms
        wall = self.wall_ms()
        if self._walls and wall - self._walls[-1] < 10:
            # Marks 10 ms apart are fine enough; the later instant goes to the later mark.
            self._walls.pop()
            self._instants.pop()
        self._walls.append(wall)
        self._instants.append(timestamp_ms)


def instant_text(at_ms: int) -> str:
    """An instant as text; where somebody's clock was beyond all bounds, the figure."""
    try:
        return to_text(at_ms)
    except (OverflowError, ValueError):
        return f"{at_ms} ms"
