"""How fast what is due may fire, so that fresh events are not starved."""


class TimerBudget:
    """How many due timers may fire in this second."""

    def __init__(self, per_second: int) -> None:
        self._most = self.left = per_second
        self._second = 0

    def at(self, wall_ms: int) -> int:
        """How many may fire now."""
        if wall_ms // 1000 != self._second:
            self._second = wall_ms // 1000
            self.left = self._most
        return self.left
