"""What a reader of offers must leave out: copies, what ran out, what was withdrawn. No I/O here.

The topics ``offers.<channel>`` may hold an offer twice (same id, same bytes) where the answer to a
send was lost. A reader keeps the ids of offers that are still valid, for an offer that ran out is
left out anyway: so the memory needs no more than ``valid_until`` and a bound.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from typing import Any, Final, NamedTuple

import msgspec

from triggers.rfc3339 import rfc3339_ms

#: How much longer than valid an id is remembered: the clocks of two readers differ.
SKEW_MS: Final = 60_000
#: How long a withdrawal is remembered; its offer comes before it, but for copies and re-reads.
WITHDRAWN_MS: Final = 7 * 86_400_000
IDS_MAX: Final = 1_000_000
OPEN_MAX: Final = 10_000

Place = tuple[str, int]
"""Topic and partition."""


class Offer(NamedTuple):
    """An offer, or with ``withdrawn`` the news that one is no longer to be shown.

    ``event`` is the whole CloudEvent; times in ms since 1970.
    """

    id: str
    customer: str
    valid_until_ms: int
    withdrawn: bool
    event: dict[str, Any]
    place: Place
    offset: int

    @property
    def data(self) -> dict[str, Any]:
        """The payload: items, prices, reasons."""
        data: dict[str, Any] = self.event["data"]
        return data


class TooManyOpenError(RuntimeError):
    """Offers were handed over, and too many of them never reported as done."""


class Remembered:
    """Ids, each until its instant and at most so many; the oldest go first."""

    def __init__(self, most: int = IDS_MAX) -> None:
        self._most = most
        self._until: OrderedDict[str, int] = OrderedDict()
        self._ends: list[tuple[int, str]] = []
        self.forgotten = 0  # before their time, because there were too many

    def __len__(self) -> int:
        return len(self._until)

    def add(self, name: str, until_ms: int, now_ms: int) -> None:
        """Remember an id until an instant."""
        self._expire(now_ms)
        if name not in self._until:
            heapq.heappush(self._ends, (until_ms, name))
        self._until[name] = max(until_ms, self._until.get(name, 0))
        if len(self._until) > self._most:
            self._until.popitem(last=False)
            self.forgotten += 1
        if len(self._ends) > 2 * self._most + 16:
            self._ends = [(until, name) for name, until in self._until.items()]
            heapq.heapify(self._ends)

    def holds(self, name: str, now_ms: int) -> bool:
        """Whether the id is remembered."""
        self._expire(now_ms)
        return name in self._until

    def _expire(self, now_ms: int) -> None:
        ends = self._ends
        while ends and ends[0][0] <= now_ms:
            _, name = heapq.heappop(ends)
            until_ms = self._until.get(name)
            if until_ms is None:
                continue
            if until_ms > now_ms:  # it was remembered for longer since then
                heapq.heappush(ends, (until_ms, name))
            else:
                del self._until[name]


class Offsets:
    """Up to where each partition may be committed: below the first record that is not done."""

    def __init__(self) -> None:
        self._open: dict[Place, dict[int, None]] = {}
        self._next: dict[Place, int] = {}
        self._told: dict[Place, int] = {}

    def take(self, place: Place, offset: int) -> None:
        """A record was read. One that was read before means that the partition came back to us."""
        if offset < self._next.get(place, 0):
            self.drop(place)
        self._open.setdefault(place, {})[offset] = None
        self._next[place] = offset + 1

    def done(self, place: Place, offset: int) -> None:
        """A record was handled, or is left out."""
        self._open.get(place, {}).pop(offset, None)

    def drop(self, place: Place) -> None:
        """Forget a partition that was lost."""
        for known in (self._open, self._next, self._told):
            known.pop(place, None)

    @property
    def open(self) -> int:
        """Records that are not done."""
        return sum(map(len, self._open.values()))

    def committable(self) -> dict[Place, int]:
        """The offsets to commit that have moved since they were told last."""
        found = {}
        for place, after in self._next.items():
            upto = next(iter(self._open.get(place, ())), after)
            if upto != self._told.get(place):
                found[place] = upto
        return found

    def committed(self, offsets: dict[Place, int]) -> None:
        """These were committed."""
        self._told.update({p: upto for p, upto in offsets.items() if p in self._next})


class Sieve:
    """Takes records in, gives each offer out once; the caller asks its own memory besides.

    ``counts`` says what was ``handed`` over and what was left out: ``repeated``, ``expired``,
    ``withdrawn``, ``foreign`` (no offer), ``lost`` (to another reader, while it was held), and
    ``released_early`` (held, but too many were).
    """

    def __init__(
        self,
        hold_ms: int = 0,
        withdrawals: bool = False,
        open_max: int = OPEN_MAX,
        ids_max: int = IDS_MAX,
    ) -> None:
        """``hold_ms``: how long an offer waits for a withdrawal that may follow it."""
        self.counts: Counter[str] = Counter()
        self.offsets = Offsets()
        self._hold_ms = hold_ms
        self._withdrawals = withdrawals
        self._open_max = open_max
        self._waiting: deque[tuple[int, Offer]] = deque()  # by the instant when it may go
        self._flying: dict[tuple[str, bool], tuple[Place, int]] = {}
        self._withdrawn = Remembered(ids_max)

    def take(self, place: Place, offset: int, value: bytes | None, now_ms: int) -> None:
        """Take one record, in the order of its partition."""
        self.offsets.take(place, offset)
        found = read_offer(value, place, offset)
        if found is None:
            self.leave_out(place, offset, "foreign")
            return
        if found.withdrawn:
            self._withdrawn.add(found.id, now_ms + WITHDRAWN_MS, now_ms)
            if not self._withdrawals:
                self.offsets.done(place, offset)
                return
        self._waiting.append((now_ms + (0 if found.withdrawn else self._hold_ms), found))

    def next(self, now_ms: int) -> Offer | None:
        """The next offer that may go; None: there is none yet.

        Raises `TooManyOpenError` where offers are taken and never reported as done.
        """
        while self._waiting:
            ready_ms, found = self._waiting[0]
            if ready_ms > now_ms:
                if len(self._waiting) <= self._open_max:
                    return None
                self.counts["released_early"] += 1
            if len(self._flying) >= self._open_max:
                raise TooManyOpenError(f"{len(self._flying)} offers are not done")
            self._waiting.popleft()
            flying = self._flying.get((found.id, found.withdrawn))
            if flying == (found.place, found.offset):
                # Read once more because the partition came back to us; it stays open till done.
                self.counts["repeated"] += 1
                continue
            why = self._left_out(found, now_ms)
            if why:
                self.leave_out(found.place, found.offset, why)
                continue
            self._flying[found.id, found.withdrawn] = (found.place, found.offset)
            return found
        return None

    def _left_out(self, found: Offer, now_ms: int) -> str:
        if (found.id, found.withdrawn) in self._flying:
            return "repeated"
        if found.withdrawn:
            return ""
        if self._withdrawn.holds(found.id, now_ms):
            return "withdrawn"
        return "expired" if now_ms > found.valid_until_ms else ""

    def leave_out(self, place: Place, offset: int, why: str) -> None:
        """Count a record that is not handed over, and let its offset pass."""
        self.counts[why] += 1
        self.offsets.done(place, offset)

    def known(self, offer: Offer) -> None:
        """The caller's memory has it: it is not handed over."""
        self._flying.pop((offer.id, offer.withdrawn), None)
        self.leave_out(offer.place, offer.offset, "repeated")

    def lost(self, offer: Offer) -> None:
        """Its partition went to another reader while it waited: that one has it."""
        self._flying.pop((offer.id, offer.withdrawn), None)
        self.counts["lost"] += 1

    def done(self, offer: Offer) -> None:
        """It was handled: its offset may be committed."""
        if self._flying.pop((offer.id, offer.withdrawn), None) is not None:
            self.counts["handed"] += 1
        self.offsets.done(offer.place, offer.offset)

    def ready_in_ms(self, now_ms: int) -> int | None:
        """How long until the first that waits may go; None: nothing waits."""
        return max(0, self._waiting[0][0] - now_ms) if self._waiting else None


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_offer(value: bytes | None, place: Place, offset: int) -> Offer | None:
    """The offer or withdrawal of a record; None where it is neither."""
    try:
        event = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    data, kind, customer = event.get("data"), event.get("type"), event.get("subject")
    if not isinstance(data, dict) or not isinstance(customer, str):
        return None
    name, until = data.get("offer_id"), data.get("valid_until")
    if not isinstance(name, str):
        return None
    if kind == "offer.withdrawn":
        return Offer(name, customer, 0, True, event, place, offset)
    until_ms = rfc3339_ms(until) if isinstance(until, str) else None
    if kind != "offer.made" or until_ms is None:
        return None
    return Offer(name, customer, until_ms, False, event, place, offset)


def remembered_until_ms(offer: Offer, now_ms: int) -> int:
    """Until when a reader must know the id: no copy of it is handed over after that anyway."""
    until = now_ms + WITHDRAWN_MS if offer.withdrawn else offer.valid_until_ms
    return until + SKEW_MS


def memory_name(offer: Offer) -> str:
    """The id under which a reader remembers it; a withdrawal is not its offer."""
    return f"{offer.id}.withdrawn" if offer.withdrawn else offer.id
