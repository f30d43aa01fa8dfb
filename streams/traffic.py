"""What a partition's traffic looks like: events that come late, and one customer who makes it all.

Late: an event's own time, or its record's timestamp, lies far behind. It counts when it comes, so
nothing is decided for the past; how much comes late is counted, since rules that speak of "now"
then speak late too.

Hot: anybody can choose ids that all fall on one partition, or send a partition's whole traffic
under one id. Nothing grows by that, but the partition is as quick as one partition can be, so the
largest customer's share is measured by a summary of fixed size (Misra and Gries, 1982): every
customer with more than one in ``COUNTERS`` of a window's events is in it.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from triggers.judgement import Step

log = structlog.get_logger(__name__)

_HOUR_MS: Final = 3_600_000
#: By how much an event is late, longest first, as its metric names it.
LATE_MS = (("7d", 168 * _HOUR_MS), ("1d", 24 * _HOUR_MS), ("1h", _HOUR_MS))
#: Counters of the summary.
COUNTERS = 64
#: Events of one window.
WINDOW_EVENTS = 20_000
#: A customer with a larger share of a window's events is hot.
HOT_SHARE = 0.2


class Traffic:
    """Measures one partition's events, batch by batch."""

    def __init__(self, number: int) -> None:
        self.share = 0.0  # of the largest customer in the last whole window
        self._number = number
        self._counts: dict[str, int] = {}
        self._events = 0

    def see(self, events: Mapping[str, int], out: Step) -> None:
        """Count a batch's events by customer; a window's end tells who was hot in it."""
        counts = self._counts
        for customer, count in events.items():
            counts[customer] = counts.get(customer, 0) + count
        self._events += sum(events.values())
        if len(counts) > COUNTERS:
            # All lose as much as the first that does not fit has, so what is left is the largest.
            least = sorted(counts.values(), reverse=True)[COUNTERS]
            self._counts = {who: count - least for who, count in counts.items() if count > least}
        if self._events >= WINDOW_EVENTS:
            self._end(out)

    def _end(self, out: Step) -> None:
        most = max(self._counts.values(), default=0)
        self.share = most / self._events
        for customer, count in self._counts.items():
            if count > HOT_SHARE * self._events:
                out.note("hot_key")
                log.warning(
                    "one customer makes a large part of a partition's events",
                    customer=customer,
                    partition=self._number,
                    percent=100 * count // self._events,
                )
        self._counts = {}
        self._events = 0


def lateness(at: int, stamp: int, time_ms: int) -> str:
    """The note on an event that is late; ``""`` below an hour, which is most.

    ``at`` is the customer's last instant, ``stamp`` the record's timestamp, both in ms.
    """
    behind = at - (min(time_ms, stamp))
    if behind < _HOUR_MS:
        return ""
    for name, ms in LATE_MS:
        if behind >= ms:
            return f"late_{name}"
    return ""
