"""What offers changed: customers who were offered something beside those who were held out.

A customer takes part once per rule, and once for the whole book, from the first decision that was
``offered`` or ``held_out`` on; what is bought in the days after it counts. Only customers whose
days are over are compared, so both sides were watched equally long.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triggers.intervals import (
    CUSTOMERS_MIN,
    Interval,
    Sample,
    Share,
    difference,
    mean_difference,
    mean_ratio,
    ratio,
)

TREATED, HELD_OUT = 0, 1
#: Stands for the book as a whole where a rule's id would stand; no rule id is empty.
WHOLE_BOOK = ""
#: Customers under watch, about 300 bytes each and 150 for a rule's open window.
CUSTOMERS_MAX = 2_000_000


@dataclass(slots=True)
class Arm:
    """One side: how many customers bought, and what they paid, net, in minor units."""

    bought: int = 0
    revenue: Sample = field(default_factory=Sample)

    def add(self, orders: int, revenue_minor: int) -> None:
        """Take in one customer whose days are over."""
        self.bought += orders > 0
        self.revenue.add(revenue_minor)

    @property
    def share(self) -> Share:
        """The customers who bought, of all."""
        return Share(self.bought, self.revenue.count)


@dataclass(slots=True)
class Trial:
    """Both sides of one comparison."""

    arms: tuple[Arm, Arm] = field(default_factory=lambda: (Arm(), Arm()))


@dataclass(slots=True)
class Watch:
    """One customer under watch for one rule (or the book): ``until_ms`` belongs to it."""

    rule: str
    arm: int
    at_ms: int
    until_ms: int
    week: str
    orders: int = 0
    revenue_minor: int = 0


@dataclass(slots=True)
class _Watched:
    seen: dict[str, None] = field(default_factory=dict)
    open: list[Watch] = field(default_factory=list)


class Trials:
    """Trials by rule, and by rule and week of the first decision.

    ``whole`` says of a customer id whether the book's holdout holds it; without it the first
    decision says so. Memory: for each customer with a decision the ids of the rules that decided
    and, for ``window_ms`` after the first one of each, a :class:`Watch`; at most
    ``CUSTOMERS_MAX`` customers, further ones are counted in ``left_out``.
    """

    def __init__(self, window_ms: int, whole: Callable[[str], bool] | None = None) -> None:
        self.window_ms = window_ms
        self.left_out = 0
        self._whole = whole
        self.by_rule: dict[str, Trial] = {}
        self.by_week: dict[tuple[str, str], Trial] = {}
        self._watched: dict[str, _Watched] = {}

    def decided(self, customer: str, rule: str, arm: int, at_ms: int, week: str) -> None:
        """A first decision that was offered or held out; later ones change nothing."""
        known = self._watched.get(customer)
        if known is None:
            if len(self._watched) >= CUSTOMERS_MAX:
                self.left_out += 1
                return
            known = self._watched[customer] = _Watched()
        until_ms = at_ms + self.window_ms
        if WHOLE_BOOK not in known.seen:
            known.seen[WHOLE_BOOK] = None
            side = arm if self._whole is None else int(self._whole(customer))
            known.open.append(Watch(WHOLE_BOOK, side, at_ms, until_ms, week))
        if rule not in known.seen:
            known.seen[rule] = None
            known.open.append(Watch(rule, arm, at_ms, until_ms, week))

    def paid(self, customer: str, ordered_ms: int, at_ms: int, orders: int, minor: int) -> None:
        """An order (``orders`` 1), or what was given back of one (0, or -1 for all of it).

        It counts where the order came after the decision and ``at_ms`` lies in the days after it.
        """
        known = self._watched.get(customer)
        if known is None or not known.open:
            return
        self._close(known, at_ms)
        for watch in known.open:
            if watch.at_ms < ordered_ms:
                watch.orders += orders
                watch.revenue_minor += minor

    def forget(self, customer: str) -> None:
        """The customer asked for it: what is under watch is dropped, sums stay."""
        self._watched.pop(customer, None)

    def finish(self, end_ms: int) -> None:
        """Close what is over at the end of the log."""
        for known in self._watched.values():
            self._close(known, end_ms)

    def _close(self, known: _Watched, at_ms: int) -> None:
        over = [watch for watch in known.open if watch.until_ms < at_ms]
        if not over:
            return
        known.open = [watch for watch in known.open if watch.until_ms >= at_ms]
        for watch in over:
            arm = watch.arm
            trial = self.by_rule.setdefault(watch.rule, Trial())
            trial.arms[arm].add(watch.orders, watch.revenue_minor)
            trial = self.by_week.setdefault((watch.rule, watch.week), Trial())
            trial.arms[arm].add(watch.orders, watch.revenue_minor)


def lift_of(trial: Trial | None) -> dict[str, Any] | None:
    """Treated against held out, as the report shows it; None where nobody was held out.

    ``conversion`` and ``revenue`` (minor units a customer) have ``treated``, ``held_out``,
    ``difference`` and ``ratio`` (``{value, low, high}`` each, or None where it has no value).
    ``enough`` says whether each side has the customers that a statement needs.
    """
    if trial is None:
        return None
    treated, held_out = trial.arms
    if not treated.revenue.count or not held_out.revenue.count:
        return None
    a, b = treated.share, held_out.share
    c, d = treated.revenue, held_out.revenue
    return {
        "customers": {"treated": a.count, "held_out": b.count},
        "enough": min(a.count, b.count) >= CUSTOMERS_MIN,
        "conversion": {
            "treated": a.rate,
            "held_out": b.rate,
            "difference": figure(a.rate - b.rate, difference(a, b)),
            "ratio": figure(a.rate / b.rate if b.hits else None, ratio(a, b)),
        },
        "revenue": {
            "treated": c.mean,
            "held_out": d.mean,
            "difference": figure(c.mean - d.mean, mean_difference(c, d)),
            "ratio": figure(c.mean / d.mean if d.total > 0 else None, mean_ratio(c, d)),
        },
    }


def figure(value: float | None, interval: Interval | None) -> dict[str, float] | None:
    """A value with its interval; None where either is missing."""
    if value is None or interval is None:
        return None
    return {"value": value, "low": interval.low, "high": interval.high}
