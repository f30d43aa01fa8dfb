"""Picks that rest on what is learnt across customers: bought or viewed together."""

from triggers.catalog import Product, Ranked
from triggers.context import Context
from triggers.learned import BOUGHT, UNIT, VIEWED

#: Pick -> the knowledge that it rests on.
LEARNT_PICKS = {"bought_together_with": BOUGHT, "viewed_together_with": VIEWED}
#: Baskets (or sittings) with both skus, lately, below which a pair says nothing.
MIN_SUPPORT = 3


def together(kind: str, skus: list[str], min_support: int, ctx: Context) -> Ranked:
    """What goes together with any of ``skus``, best lift first, equal ones by sku.

    ``kind`` is a key of ``LEARNT_PICKS``. A partner of several skus counts with its best lift.
    The weight in the answer is minus the lift.
    """
    view, at, catalog = ctx.catalog.learned, ctx.at, ctx.catalog
    best: dict[str, int] = {}
    for sku in skus:
        for partner in view.partners(LEARNT_PICKS[kind], sku, at):
            enough = partner.pairs >= min_support * UNIT
            if enough and partner.lift > best.get(partner.sku, -1):
                best[partner.sku] = partner.lift
    for sku in skus:
        best.pop(sku, None)
    found: list[tuple[int, str, Product]] = []
    for sku, lift in best.items():
        product = catalog.product(sku)
        if product is not None:
            found.append((-lift, sku, product))
    found.sort(key=lambda entry: entry[:2])
    # Sorted by the exact number; what is shown is rounded.
    return [(-round(-minus / 10**18, 3), sku, product) for minus, sku, product in found]
