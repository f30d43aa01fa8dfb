"""What became of offers: a fold over decisions, offers and what customers said to them.

Each offer counts once in each column and ends in exactly one outcome: the first of ``accepted``
(an order that names it counts too), ``declined``, ``complained``, ``withdrawn`` and ``expired``
(not sent in time, or run out without an answer), or it is ``open`` at the end. As in the engine,
an answer that comes after an offer ran out counts nowhere, and one that contradicts the first
changes nothing; only a complaint about an offer that was answered counts in its column too.
"""

import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from triggers.intervals import Share, difference, status_of, wilson
from triggers.lift import HELD_OUT, TREATED, Trials, figure, lift_of

#: Offers kept at once, about 350 bytes each; beyond it the one that would be let go first goes.
OFFERS_MAX = 1_000_000
#: Versions of the rule book and weeks that a rule keeps apart; the oldest go.
VERSIONS_MAX = 50
WEEKS_MAX = 110
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STEPS = {
    "offer.shown": "shown",
    "offer.clicked": "clicked",
    "offer.accepted": "accepted",
    "offer.declined": "declined",
    "offer.complained": "complained",
}
_ENDS = ("accepted", "declined", "complained", "withdrawn", "expired")
_ARMS = {"offered": TREATED, "held_out": HELD_OUT}


class OfferMade(msgspec.Struct, gc=False):
    """What the report reads of an ``offer.made``."""

    offer_id: str
    rule: str
    rule_book: str
    kind: str
    channel: str
    valid_until: str


class DecisionMade(msgspec.Struct, gc=False):
    """What the report reads of a ``decision.made``."""

    rule: str
    rule_book: str
    kind: str
    outcome: str
    offer_id: str
    reason: str | None = None


@dataclass(slots=True)
class Counts:
    """Offers by how far they came, and by how they ended."""

    made: int = 0
    shown: int = 0
    clicked: int = 0
    accepted: int = 0
    declined: int = 0
    complained: int = 0
    ends: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*_ENDS, "open"), 0))

    @property
    def base(self) -> str:
        """Of what the rate of acceptance is a share: ``shown`` where it is told, else ``made``."""
        return "shown" if self.shown else "made"

    @property
    def taken(self) -> Share:
        """The accepted offers of those shown (or made)."""
        return Share(self.accepted, max(self.shown or self.made, self.accepted))

    def body(self) -> dict[str, Any]:
        """As the report shows it."""
        taken = self.taken
        steps = {name: getattr(self, name) for name in ("made", *STEPS.values())}
        return {
            **steps,
            "ends": dict(self.ends),
            "base": self.base,
            "accept_rate": figure(taken.rate, wilson(taken)),
        }


@dataclass(slots=True)
class RuleFigures:
    """One rule: all its offers, those of each week and of each version of the rule book."""

    kind: str
    total: Counts = field(default_factory=Counts)
    weeks: dict[str, Counts] = field(default_factory=dict)
    versions: dict[str, Counts] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    suppressed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    counts: tuple[Counts, ...]
    customer: str
    valid_until_ms: int
    reached: int = 0  # bits of the steps
    end: str = ""


_BITS = {name: 1 << place for place, name in enumerate(STEPS.values())}


class Ledger:
    """Offers and decisions of a log, in the order of time.

    Memory: an entry for each offer until ``window_ms`` after it ran out, at most ``OFFERS_MAX``.
    """

    def __init__(self, trials: Trials, window_ms: int, offers_max: int = OFFERS_MAX) -> None:
        self.rules: dict[str, RuleFigures] = {}
        self.trials = trials
        self.dropped = 0
        #: Whether any customer's word reached the log: without one, rates say nothing.
        self.told = False
        self._first_seen: dict[str, int] = {}  # digest of a rule book -> ms
        self._window_ms = window_ms
        self._offers_max = offers_max
        self._open: dict[str, _Open] = {}
        self._ending: list[tuple[int, str]] = []

    def offer(self, customer: str, made: OfferMade, at_ms: int, valid_until_ms: int) -> None:
        """An offer left; a second copy of one that is known changes nothing."""
        self._let_go(at_ms)
        if made.offer_id in self._open:
            return
        rule = self._rule(made.rule, made.kind, made.rule_book, at_ms)
        weekly = rule.weeks.setdefault(week_of(at_ms), Counts())
        versioned = rule.versions.setdefault(made.rule_book, Counts())
        if len(rule.weeks) > WEEKS_MAX:
            del rule.weeks[min(rule.weeks)]
        if len(rule.versions) > VERSIONS_MAX:
            del rule.versions[next(iter(rule.versions))]
        entry = _Open((rule.total, weekly, versioned), customer, valid_until_ms)
        for counts in entry.counts:
            counts.made += 1
            counts.ends["open"] += 1
        self._open[made.offer_id] = entry
        heapq.heappush(self._ending, (valid_until_ms + self._window_ms, made.offer_id))
        while len(self._open) > self._offers_max:
            self.dropped += self._drop_first()

    def decision(self, customer: str, made: DecisionMade, at_ms: int) -> None:
        """A decision; ``withdrawn`` and ``expired`` end their offer."""
        rule = self._rule(made.rule, made.kind, made.rule_book, at_ms)
        rule.decisions[made.outcome] = rule.decisions.get(made.outcome, 0) + 1
        if made.outcome == "suppressed" and made.reason:
            rule.suppressed[made.reason] = rule.suppressed.get(made.reason, 0) + 1
        arm = _ARMS.get(made.outcome)
        if arm is not None:
            self.trials.decided(customer, made.rule, arm, at_ms, week_of(at_ms))
        elif made.outcome in ("withdrawn", "expired") and self._watched(made.offer_id, at_ms):
            self.end(made.offer_id, made.outcome)

    def feedback(self, customer: str, offer_id: str, step: str, at_ms: int) -> None:
        """A customer's word, or an order that names the offer: a value of ``STEPS``."""
        self.told = True
        entry = self._watched(offer_id, at_ms)
        if entry is None or entry.customer != customer:
            return
        if at_ms > entry.valid_until_ms:
            self.end(offer_id, "expired")
        if entry.end == "expired" or (entry.end and step in ("accepted", "declined")):
            return
        # What was clicked was seen; a mail is taken up without a word about that.
        self._reach(entry, "shown" if step in ("shown", "clicked") else "", step)
        if step in _ENDS:
            self.end(offer_id, step)

    def _watched(self, offer_id: str, at_ms: int) -> _Open | None:
        """The offer while its window lasts.

        Another customer's later offer may have let it go already or not; the answer is the same.
        """
        entry = self._open.get(offer_id)
        over = entry is not None and entry.valid_until_ms + self._window_ms < at_ms
        return None if over else entry

    def end(self, offer_id: str, outcome: str) -> None:
        """The offer's outcome, unless it has one already."""
        entry = self._open.get(offer_id)
        if entry is None or entry.end:
            return
        entry.end = outcome
        for counts in entry.counts:
            counts.ends["open"] -= 1
            counts.ends[outcome] += 1

    def finish(self, end_ms: int) -> None:
        """The log is over: what ran out without an answer has expired, the rest stays open."""
        for offer_id, entry in self._open.items():
            if entry.valid_until_ms < end_ms:
                self.end(offer_id, "expired")
        self._open.clear()
        self._ending.clear()

    def _reach(self, entry: _Open, *steps: str) -> None:
        for step in steps:
            bit = _BITS.get(step, 0)
            if bit and not entry.reached & bit:
                entry.reached |= bit
                for counts in entry.counts:
                    setattr(counts, step, getattr(counts, step) + 1)

    def _let_go(self, at_ms: int) -> None:
        while self._ending and self._ending[0][0] < at_ms:
            self._drop_first()

    def _drop_first(self) -> int:
        _, offer_id = heapq.heappop(self._ending)
        self.end(offer_id, "expired")
        return int(self._open.pop(offer_id, None) is not None)

    def _rule(self, rule: str, kind: str, rule_book: str, at_ms: int) -> RuleFigures:
        known = self._first_seen.get(rule_book)
        if known is None or at_ms < known:
            self._first_seen[rule_book] = at_ms
        found = self.rules.get(rule)
        if found is None:
            found = self.rules[rule] = RuleFigures(kind)
        return found

    def body(self, rule: str) -> dict[str, Any]:
        """One rule as the report shows it."""
        found = self.rules[rule]
        band = status_of(found.total.taken if self.told else Share(0, 0))
        return {
            "kind": found.kind,
            **found.total.body(),
            "status": band.status,
            "remedy": band.remedy,
            "decisions": dict(sorted(found.decisions.items())),
            "suppressed": dict(sorted(found.suppressed.items())),
            "lift": lift_of(self.trials.by_rule.get(rule)),
            "change": self._change(found),
            "weeks": [
                {
                    "week": week,
                    **counts.body(),
                    "lift": lift_of(self.trials.by_week.get((rule, week))),
                }
                for week, counts in sorted(found.weeks.items())
            ],
        }

    def _change(self, rule: RuleFigures) -> dict[str, Any] | None:
        """The newest version of the book beside the one before; None with a single one."""
        ordered = sorted(
            rule.versions, key=lambda digest: (self._first_seen.get(digest, 0), digest)
        )
        if len(ordered) < 2:
            return None
        before, now = ordered[-2:]
        old, new = rule.versions[before], rule.versions[now]
        gap = difference(new.taken, old.taken)
        return {
            "from": before,
            "to": now,
            "before": old.body(),
            "now": new.body(),
            "accept_rate": figure(new.taken.rate - old.taken.rate, gap),
            "sure": gap.low > 0 or gap.high < 0,
        }


def week_of(at_ms: int) -> str:
    """The ISO week of an instant in UTC, such as ``2026-W09``."""
    year, week, _ = (_EPOCH + timedelta(milliseconds=at_ms)).isocalendar()
    return f"{year}-W{week:02d}"
