"""An event loop in virtual time: the same seed gives the same order of everything.

Nothing is waited for: when no callback is ready the clock jumps to the next one's time. Among
the callbacks that are ready at once a seeded generator chooses. Callbacks belong to an owner (a
simulated process), found by a context variable that tasks hand on to what they start: those of a
stopped owner are put aside until it goes on, those of a dead one never run.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable
from typing import Any


class Owner:
    """A simulated process, as far as the loop has to know it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.held: list[asyncio.Handle] = []
        #: Callbacks that begin in this context belong to the process.
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("owner", default=None)


class Stuck(Exception):  # noqa: N818 - it says what happened
    """Nothing is ready and nothing is scheduled, but the run is not over."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Virtual time and a seeded choice among what is ready."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._now_s = 0.0
        self._random = random.Random(seed).random
        self.steps = 0
        self._graves: list[asyncio.Handle] = []  # what the dead did not come to
        self._stopped: set[Owner] = set()
        self._buried = False
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._now_s

    def thaw(self, owner: Owner) -> None:
        """Let a stopped process go on, with all that came up meanwhile."""
        owner.frozen = False
        held, owner.held = owner.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        ready: Any = self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck
            self._now_s = max(self._now_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        batch = list(ready)
        ready.clear()
        choose = self._random
        for left in range(len(batch), 0, -1):
            place = int(choose() * left)
            batch[place], batch[left - 1] = batch[left - 1], batch[place]
            handle = batch.pop()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and (owner.dead or owner.frozen) and not self._buried:
                if owner.dead:
                    self._graves.append(handle)
                else:
                    owner.held.append(handle)
                    self._stopped.add(owner)
                continue
            self.steps += 1
            handle._run()

    def bury(self) -> None:
        """End every task that is left, whoever it belonged to, and close."""
        self._buried = True
        for owner in self._stopped:
            self._graves += owner.held
        self._ready.extend(self._graves)  # type: ignore[attr-defined]
        tasks = asyncio.all_tasks(self)
        for _ in range(20):
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            end = self.create_future()
            self.after(10, end.set_result, None)
            self.run_until_complete(end)
            tasks = asyncio.all_tasks(self)
        self.close()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # They are dropped when their time comes.
        pass

    def after(self, seconds: float, what: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call something later that belongs to no process."""
        return self.call_later(seconds, what, *args, context=_NOBODY)


_NOBODY = contextvars.copy_context()
