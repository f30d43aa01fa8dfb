"""The clock of supplies: when what a customer bought runs out, and what fills it up again.

The catalogue's relation ``replenishes`` leads from what runs out to what fills it up (printer to
ink). The clock starts with the last order of either; an order of both counts what it fills with.
"""

from typing import TYPE_CHECKING

from triggers.catalog import Ranked
from triggers.durations import DAY_MS, parse_duration, to_text
from triggers.usage import sum_since

if TYPE_CHECKING:
    from triggers.context import Context

_REPLENISHES = "replenishes"


def refills(skus: list[str], ctx: "Context") -> Ranked:
    """What replenishes any of ``skus``, by weight; an edge seen twice counts once."""
    best: Ranked = []
    seen: set[str] = set()
    for ranked in sorted(r for sku in skus for r in ctx.catalog.related(sku, _REPLENISHES)):
        if ranked[1] not in seen:
            seen.add(ranked[1])
            best.append(ranked)
    return best


def _supply(ctx: "Context", sku: str) -> tuple[int, int] | None:
    """When the last order that filled up came, and how many units; None when there is none."""
    fills = {to for _, to, _ in ctx.catalog.related(sku, _REPLENISHES)}
    for order in reversed(ctx.customer.orders.values()):
        if order.void:
            continue
        lines = order.lines
        units = sum(line.quantity for line in lines if line.sku in fills)
        units = units or sum(line.quantity for line in lines if line.sku == sku)
        if units:
            return order.at, units
    return None


def span_fault(place: int, constant: object) -> str | None:
    """What is wrong with the second argument, how long a unit lasts; None when nothing is."""
    if place != 1:
        return None
    try:
        parse_duration(str(constant))
    except ValueError as error:
        return str(error)
    return None


def run_out_at(ctx: "Context", sku: str, lasts: str) -> str:
    """When the supply of ``sku`` ends if a unit lasts ``lasts``: RFC 3339, ``""`` for never."""
    supply = _supply(ctx, sku)
    if supply is None:
        return ""
    return to_text(supply[0] + supply[1] * parse_duration(lasts).ms)


def run_out_by_usage(ctx: "Context", sku: str, lasts: str, metric: str, yields: float) -> str:
    """Like :func:`run_out_at`, moved by what was used of ``yields`` a unit in ``metric``.

    From the second day on the pace is the customer's own: what was used since the order over the
    time since then. Whole seconds, rounded down.
    """
    supply = _supply(ctx, sku)
    if supply is None:
        return ""
    since, units = supply
    used = sum_since(ctx, metric, since)
    elapsed = ctx.at - since
    whole = yields * units
    if used <= 0 or elapsed < DAY_MS or whole <= 0:
        due = since + units * parse_duration(lasts).ms
    else:
        due = ctx.at + int(max(0.0, whole - used) * elapsed / used)
    return to_text(due // 1000 * 1000)
