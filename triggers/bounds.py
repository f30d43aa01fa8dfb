"""What sets and tiers may cost: exact fractions of what stands beside or below them.

A set lies 3 to 5 % under the sum of its parts, a tier 20 to 30 % over the one below. Compared in
integers, so that no rounding decides: a set of 4,000 may cost 3,800 to 3,880.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from triggers.catalog import Bundle, Catalog, Product

#: Percent of the sum of its parts that a set's price lies between.
BUNDLE_PERCENT = (95, 97)
#: Percent of the tier below that a tier's price lies between.
STEP_PERCENT = (120, 130)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Sets and ladders by name that the book lets lie outside, with its reasons."""

    bundles: frozenset[str] = frozenset()
    ladders: frozenset[str] = frozenset()


def bundle_fits(price: int, total: int) -> bool:
    """Whether a set's price suits the sum of its parts, both in minor units."""
    low, high = BUNDLE_PERCENT
    return low * total <= 100 * price <= high * total


def step_fits(lower: int, upper: int) -> bool:
    """Whether a tier's price suits that of the tier below, both in minor units."""
    low, high = STEP_PERCENT
    return low * lower <= 100 * upper <= high * lower


def members(bundle: Bundle, catalog: Catalog) -> list[Product] | None:
    """The products of a bundle, one for each that it holds; None when one of them is unknown or
    sold in another currency."""
    found = [catalog.product(sku) for sku in bundle.items]
    products = [p for p in found if p is not None and p.currency == bundle.currency]
    return products if len(products) == len(found) and found else None


def out_of_bounds(catalog: Catalog, allowed: Allowed) -> Iterator[tuple[str, str]]:
    """What is wrong with the sets and ladders of a catalogue: the sku, and the words for it."""
    for bundle in catalog.bundles():
        if bundle.sku in allowed.bundles:
            continue
        parts = members(bundle, catalog)
        if parts is None:
            yield bundle.sku, f"bundle {bundle.sku}: a part is unknown, or in another currency"
            continue
        total = sum(product.price for product in parts)
        if not bundle_fits(bundle.price, total):
            low, high = -(-95 * total // 100), 97 * total // 100
            message = (
                f"bundle {bundle.sku}: {bundle.price} is not 3 to 5 % under the sum of its parts, "
                f"{total}: give it a price from {low} to {high}, or allow it with a reason"
            )
            yield bundle.sku, message
    for name in catalog.ladders():
        if name not in allowed.ladders:
            yield from _broken_steps(name, catalog)


def _broken_steps(name: str, catalog: Catalog) -> Iterator[tuple[str, str]]:
    levels = catalog.levels(name)
    for below, level in pairwise(levels):
        for product in level:
            if any(step_fits(lower.price, product.price) for lower in below):
                continue
            lower = below[0].price
            low, high = -(-120 * lower // 100), 130 * lower // 100
            message = (
                f"ladder {name}: {product.sku} at {product.price} is not 20 to 30 % over "
                f"{below[0].sku} at {lower}: give it a price from {low} to {high}, or allow it "
                "with a reason"
            )
            yield product.sku, message
