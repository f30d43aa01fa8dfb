"""The named measures: one table of name, unit, meaning and function, from which the page is drawn.

A function takes the sums and notes of :mod:`triggers.shoppers` and answers a number, a mapping of
buckets to numbers, or None where there is nothing to measure. Money is in minor units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from triggers.durations import DAY_MS
from triggers.lift import HELD_OUT, TREATED
from triggers.shopper import Rung, Shopper
from triggers.shoppers import Shoppers

Number = int | float
Value = Number | dict[str, Number] | None

SILENT_MS = 90 * DAY_MS
RETENTION_MS = 30 * DAY_MS


class Measure(NamedTuple):
    """One line of the table."""

    name: str
    unit: str
    meaning: str
    function: Callable[[Shoppers], Value]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _buyers(shoppers: Shoppers) -> Iterable[Shopper]:
    return (one for one in shoppers.known.values() if one.orders > 0)


def _orders(shoppers: Shoppers) -> int:
    return sum(one.orders for one in shoppers.known.values())


def _revenue(shoppers: Shoppers) -> int:
    return sum(one.spend for one in shoppers.known.values())


def _aov(shoppers: Shoppers) -> Value:
    orders = _orders(shoppers)
    return _revenue(shoppers) // orders if orders else None


def _tenure(shoppers: Shoppers) -> Value:
    days = [(shoppers.end_ms - one.first_order_ms) // DAY_MS for one in _buyers(shoppers)]
    return sum(days) / len(days) if days else None


def _ltv(shoppers: Shoppers) -> Value:
    values = [one.margin_micro // 1_000_000 for one in _buyers(shoppers)]
    return sum(values) / len(values) if values else None


def _unit_price(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.units_value, shoppers.sums.units)


def _items_per_order(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.units, shoppers.sums.orders)


def _ticket(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.ordered, shoppers.sums.orders)


def _repeat_rate(shoppers: Shoppers) -> Value:
    counts = [one.orders for one in _buyers(shoppers)]
    return _share(sum(count >= 2 for count in counts), len(counts))


def _satisfaction(shoppers: Shoppers) -> Value:
    csat = shoppers.sums.csat
    return csat.mean if csat.count else None


def _stars(shoppers: Shoppers) -> Value:
    stars = shoppers.sums.stars
    return stars.mean if stars.count else None


def _revisit(shoppers: Shoppers) -> Value:
    visits = [one.visits for one in shoppers.known.values() if one.visits]
    return _share(sum(count >= 2 for count in visits), len(visits))


def _held(shopper: Shopper) -> int:
    return sum(count > 0 for count in shopper.families.values())


def _bucket(families: int) -> str:
    return "3+" if families >= 3 else str(families)


def _families(shoppers: Shoppers) -> Value:
    found = Counter(_bucket(held) for one in shoppers.known.values() if (held := _held(one)))
    return {bucket: found[bucket] for bucket in ("1", "2", "3+") if bucket in found}


def _gone(shopper: Shopper, end_ms: int) -> bool:
    if shopper.contracts:
        return all(note.ended_ms for note in shopper.contracts)
    return end_ms - shopper.last_ms >= SILENT_MS


def _churn(shoppers: Shoppers) -> Value:
    all_of: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for one in shoppers.known.values():
        held = _held(one)
        if held:
            all_of[_bucket(held)] += 1
            gone[_bucket(held)] += _gone(one, shoppers.end_ms)
    return {bucket: gone[bucket] / all_of[bucket] for bucket in sorted(all_of)}


def _set_ratio(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.set_orders, shoppers.sums.orders)


def _retention(shoppers: Shoppers) -> Value:
    begun = kept = 0
    for one in shoppers.known.values():
        for note in one.contracts:
            if note.started_ms and note.started_ms + RETENTION_MS <= shoppers.end_ms:
                begun += 1
                kept += not note.ended_ms or note.ended_ms - note.started_ms > RETENTION_MS
    return _share(kept, begun)


def _parcels(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.orders, shoppers.sums.units)


def _rung_name(rung: Rung) -> str:
    return f"{rung[0]}/{rung[1]:g}"


def _menu_mix(shoppers: Shoppers) -> Value:
    sold = shoppers.sums.rung_units
    whole: Counter[str] = Counter()
    for (ladder, _), units in sold.items():
        whole[ladder] += units
    return {_rung_name(rung): sold[rung] / whole[rung[0]] for rung in sorted(sold)} or None


def _upper(shoppers: Shoppers) -> Value:
    top: dict[str, float] = {}
    for sku in shoppers.catalog.skus():
        product = shoppers.catalog.product(sku)
        if product is not None and product.ladder is not None:
            ladder, step = product.ladder
            top[ladder] = max(step, top.get(ladder, step))
    holders: Counter[str] = Counter()
    uppers: Counter[str] = Counter()
    for one in shoppers.known.values():
        highest: dict[str, float] = {}
        for (ladder, step), count in one.rungs.items():
            if count > 0 and ladder in top:
                highest[ladder] = max(step, highest.get(ladder, step))
        for ladder, step in highest.items():
            holders[ladder] += 1
            uppers[ladder] += step >= top[ladder]
    return {ladder: uppers[ladder] / holders[ladder] for ladder in sorted(holders)} or None


def _pass_rate(shoppers: Shoppers) -> Value:
    results = [one.passed for one in shoppers.known.values() if one.passed is not None]
    return _share(sum(results), len(results))


def _referrals(shoppers: Shoppers) -> int:
    return shoppers.sums.referrals


def _referred(shoppers: Shoppers) -> int:
    return sum(bool(one.attributes.get("referred_by")) for one in shoppers.known.values())


def _fill(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.plans_filled, shoppers.sums.plans_left)


def _adr(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.room_revenue, shoppers.sums.nights)


def _onsite(shoppers: Shoppers) -> Value:
    return _share(shoppers.sums.stays_added, shoppers.sums.stays)


def _stay_change(shoppers: Shoppers) -> Value:
    changes = {
        rule: pair[TREATED].mean - pair[HELD_OUT].mean
        for rule, pair in sorted(shoppers.stay_totals.items())
        if pair[TREATED].count and pair[HELD_OUT].count
    }
    return dict(changes) or None


#: Every measure, in the order in which the report shows them.
MEASURES = (
    Measure("orders", "orders", "completed and not wholly given back", _orders),
    Measure("revenue", "minor units", "totals of orders, net of what was given back", _revenue),
    Measure("aov", "minor units", "revenue an order, rounded down", _aov),
    Measure("ticket", "minor units", "mean total of orders as they were completed", _ticket),
    Measure("tenure_days", "days", "whole days since a buyer's first order, on average", _tenure),
    Measure(
        "ltv",
        "minor units",
        "earned from a buyer so far: price times quantity times margin, net, on average",
        _ltv,
    ),
    Measure("unit_price", "minor units", "mean price of one unit ordered", _unit_price),
    Measure("items_per_order", "units", "units an order", _items_per_order),
    Measure("repeat_rate", "share", "buyers with two or more orders", _repeat_rate),
    Measure("satisfaction", "1 to 5", "mean `csat` of resolved tickets", _satisfaction),
    Measure("stars", "1 to 5", "mean of product reviews", _stars),
    Measure(
        "revisit_rate",
        "share",
        "visitors who came again: a visit ends after 30 minutes without cart, product or checkout",
        _revisit,
    ),
    Measure(
        "held_families",
        "customers",
        "customers by how many product families they ordered (and kept) or have had a contract for",
        _families,
    ),
    Measure(
        "churn_by_families",
        "share",
        "of those, who left: all contracts ended; without a contract, no event for 90 days",
        _churn,
    ),
    Measure(
        "set_ratio", "share", "orders that hold a bundle's sku or all skus of a bundle", _set_ratio
    ),
    Measure(
        "subscription_retention",
        "share",
        "contracts not ended within 30 days, of those begun at least 30 days before the end",
        _retention,
    ),
    Measure(
        "shipping_cost",
        "parcels a unit",
        "orders over units ordered: stands for the cost of shipping, which no event tells",
        _parcels,
    ),
    Measure(
        "menu_mix", "share", "units ordered of each step of a ladder, of the ladder", _menu_mix
    ),
    Measure(
        "upper_course_share",
        "share",
        "holders of a ladder's top step (order or contract), of the ladder's holders",
        _upper,
    ),
    Measure(
        "pass_rate",
        "share",
        "passed, of customers with a result: attribute `exam_passed`, or events `exam.passed` and "
        "`exam.failed`; the last one counts",
        _pass_rate,
    ),
    Measure("referrals", "events", "`referral.made`, a type of the rule book's own", _referrals),
    Measure("referred_customers", "customers", "with an attribute `referred_by`", _referred),
    Measure(
        "vacancy_fill",
        "share",
        "plans put back, after which the guest ordered or arrived within the window",
        _fill,
    ),
    Measure(
        "adr",
        "minor units",
        "paid for rooms a night, of stays that ended: the order of the plan, else its price",
        _adr,
    ),
    Measure("onsite_add_rate", "share", "stays with an order between arrival and leaving", _onsite),
    Measure(
        "stay_total_change",
        "minor units",
        "room and additions a stay after a down-sell, minus that of guests held out, by rule",
        _stay_change,
    ),
)


def values(shoppers: Shoppers) -> dict[str, Value]:
    """Every measure by name."""
    return {measure.name: measure.function(shoppers) for measure in MEASURES}


def table_markdown() -> str:
    """The table of measures for the documentation."""
    rows = ["| measure | unit | meaning |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {one.unit} | {one.meaning} |" for one in MEASURES]
    return "\n".join(rows)
