"""When a broker is asked for more records.

What was read waits for word of the topics that brought nothing (see :mod:`streams.merge`). So a
broker is asked once more soon after records were handed over, and a moment later only, and it waits
for records as with any other fetch: a broker stamps a record before anybody can read it. On a busy
machine milliseconds lie between the two, in which another topic's record of the same instant is
there already; the answer that counts is the one after them.

Fetches, rounds and batches cost CPU whatever they bring. Where little comes, each broker has its
turn only so often, and one look between two turns. Measured at 2,000 records/s: 0.41 of a core, and
0.56 with turns twice as often. A broker that does not wait for records, or answers with an error at
once, would be asked a whole core long.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Milliseconds between two turns of a broker that has little.
TURN_MS: Final = 20
#: Milliseconds between the end of a round that brought little and the look for older records.
LOOK_MS: Final = 5
#: A round of fewer records is little.
FEW_RECORDS: Final = 500


class _Asked(msgspec.Struct, gc=False):
    """What one broker was asked, and when."""

    rounds: int = 0  # those that lay before its last fetch
    looked: bool = False  # at once, since its last turn
    turn_s: float = float("-inf")


class FetchPace:
    """The turns of all brokers."""

    def __init__(self) -> None:
        self._rounds = 0  # that brought records
        self._few = False
        self._brokers: dict[int, _Asked] = {}

    def handed_over(self, records: int) -> None:
        """Note a round that brought so many records, at least one."""
        self._rounds += 1
        self._few = records < FEW_RECORDS

    def found_nothing(self) -> None:
        """Note a fetch that brought no records."""
        self._few = True

    def rest_s(self, broker: int, now_s: float) -> float:
        """How long to wait before a broker is asked; ``now_s`` by a clock that never goes back."""
        asked = self._of(broker)
        if not self._few:
            return 0.0
        if self._may_look(asked):
            return LOOK_MS / 1000
        return max(0.0, asked.turn_s + TURN_MS / 1000 - now_s)

    def ask(self, broker: int, now_s: float) -> bool:
        """Note that a broker is asked now; whether somebody waits for the answer."""
        asked = self._of(broker)
        look = asked.rounds < self._rounds
        asked.looked = self._may_look(asked)
        if not asked.looked:
            asked.turn_s = now_s
        asked.rounds = self._rounds
        return look

    def _of(self, broker: int) -> _Asked:
        return self._brokers.setdefault(broker, _Asked())

    def _may_look(self, asked: _Asked) -> bool:
        return asked.rounds < self._rounds and not asked.looked
