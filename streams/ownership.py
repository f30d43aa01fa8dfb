"""Whether a partition is still ours, as far as the store has said so.

A process that stood still past its session learns of another worker's claim only when it asks the
store again. Until then it must not publish: the other one has read back what lay in the topics,
and has published the rest itself.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from streams.clock import steady_ms

#: How long an answer of the store is relied on.
SURE_MS: Final = 2_000


class Ownership:
    """One partition's: when the store was last asked for something that only its owner gets."""

    __slots__ = ("_ask", "_asked_ms", "_steady")

    def __init__(
        self,
        ask: Callable[[], Awaitable[None]] | None = None,
        steady: Callable[[], int] = steady_ms,
    ) -> None:
        """``ask`` raises when the partition is another's; without it nothing is ever in doubt."""
        self._ask = ask
        self._steady = steady
        self._asked_ms = 0

    def sure(self, asked_ms: int) -> None:
        """The store answered a call that was begun at an instant of steady time.

        Not when the answer was read: it may have lain there while the process stood still.
        """
        self._asked_ms = asked_ms

    @property
    def fresh(self) -> bool:
        """Whether the last answer may be relied on."""
        return self._ask is None or self._steady() - self._asked_ms <= SURE_MS

    async def check(self) -> None:
        """Ask, unless the last answer may be relied on; raises what ``ask`` raises.

        At most twice: an answer that came late may be an old one, but a store that is always slow
        must not hold everything up.
        """
        for _ in range(2):
            if self.fresh:
                return
            asked_ms = self._steady()
            assert self._ask is not None
            await self._ask()
            self.sure(asked_ms)
