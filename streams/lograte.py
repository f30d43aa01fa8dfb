"""A bound on what a repeated line can write: a flood of one warning fills no disk.

Lines are alike when they have the same logger, level and event text (a library's: the text that it
was made from). Of those ``LINES_MAX`` a minute are written and the rest is counted; the first line
after it says how many were left out.
"""

import logging
import time
from collections.abc import Callable

LINES_MAX = 30
WINDOW_S = 60.0
#: Kinds of lines that are told apart at once.
KINDS_MAX = 1_000

_Kind = tuple[str, int, str]


class RateLimit(logging.Filter):
    """Lets the first lines of a kind pass, each minute; a critical one always."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._kinds: dict[_Kind, list[float]] = {}  # begin of the minute, written, left out
        self._dropped = 0

    def take_dropped(self) -> int:
        """How many lines were left out since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno >= logging.CRITICAL:
            return True
        message = record.msg
        text = message.get("event", "") if isinstance(message, dict) else message
        kind = (record.name, record.levelno, str(text)[:200])
        now_s = self._clock_s()
        seen = self._kinds.get(kind)
        if seen is None or now_s - seen[0] >= WINDOW_S:
            left_out = 0 if seen is None else int(seen[2])
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[kind] = [now_s, 1, 0]
            if left_out and isinstance(message, dict):
                record.msg = {**message, "lines_left_out": left_out}
            return True
        if seen[1] < LINES_MAX:
            seen[1] += 1
            return True
        seen[2] += 1
        self._dropped += 1
        return False
