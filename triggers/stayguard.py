"""The guard on a hotel's down-sells: a lower price must not lower the total of a stay."""

from __future__ import annotations

from typing import NamedTuple

from triggers.intervals import CUSTOMERS_MIN, Sample, mean_difference
from triggers.lift import HELD_OUT
from triggers.shoppers import Shoppers


class Guard(NamedTuple):
    """What a down-sell did to the total of a stay: ``state`` is ``alert`` (surely lower),
    ``watch`` (lower, not surely), ``ok`` or ``insufficient``. Money in minor units."""

    rule: str
    state: str
    stays: tuple[int, int]
    change: float
    low: float
    high: float


def guards(shoppers: Shoppers) -> list[Guard]:
    """The guard on the total of a stay (room and additions), for each down-sell with a holdout."""
    return [
        _guard(rule, *pair)
        for rule, pair in sorted(shoppers.stay_totals.items())
        if pair[HELD_OUT].count
    ]


def _guard(rule: str, treated: Sample, held_out: Sample) -> Guard:
    change = treated.mean - held_out.mean
    interval = mean_difference(treated, held_out)
    low, high = interval or (change, change)
    if min(treated.count, held_out.count) < CUSTOMERS_MIN:
        state = "insufficient"
    elif high < 0:
        state = "alert"
    else:
        state = "watch" if change < 0 else "ok"
    return Guard(rule, state, (treated.count, held_out.count), change, low, high)
