"""Picks along a ladder: the tiers above or below a plan, the nearest first."""

from triggers.bounds import Allowed, step_fits
from triggers.catalog import Catalog, Product, Ranked

UP, DOWN = "tier_up_from", "tier_down_from"


def tiers(kind: str, sku: str, catalog: Catalog, allowed: Allowed, notes: list[str]) -> Ranked:
    """The tiers above (``tier_up_from``) or below the plan ``sku``, the nearest first.

    A tier beyond a step that is not 20 to 30 % is no candidate, since the way to it leads over
    that step; it is noted once. The weight is one over the distance in steps.
    """
    plan = catalog.product(sku)
    if plan is None or plan.ladder is None:
        return []
    name, step = plan.ladder
    free = name in allowed.ladders
    levels = [level for level in catalog.levels(name) if _beyond(kind, _step(level[0]), step)]
    if kind == DOWN:
        levels.reverse()
    found: Ranked = []
    beside = plan
    for distance, level in enumerate(levels, 1):
        reached = [tier for tier in level if free or _fits(kind, beside, tier)]
        if not reached:
            notes.append("ladder_out_of_bounds")
            break
        found += [(-1.0 / distance, tier.sku, tier) for tier in reached]
        beside = reached[0]
    return found


def _step(product: Product) -> float:
    return product.ladder[1] if product.ladder is not None else 0.0


def _beyond(kind: str, step: float, own: float) -> bool:
    return step > own if kind == UP else step < own


def _fits(kind: str, beside: Product, tier: Product) -> bool:
    lower, upper = (beside, tier) if kind == UP else (tier, beside)
    return lower.currency == upper.currency and step_fits(lower.price, upper.price)
