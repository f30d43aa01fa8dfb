"""The catalogue's shelves and the bounds of prices, against plain models."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from triggers.bounds import bundle_fits, step_fits
from triggers.bundles import shared_price
from triggers.catalog import Catalog
from triggers.events import EVENT_TYPES, Tombstone

PRICES = st.integers(0, 10**9)
SKU = st.sampled_from("abcde")
SKUS = st.lists(SKU, max_size=3, unique=True)


def product(ladder: int, requires: list[str]) -> dict[str, Any]:
    step = {"ladder": {"name": f"l{ladder % 2}", "step": ladder}} if ladder else {}
    return {"name": "n", "price": 1, "currency": "JPY", "requires": requires, **step}


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("product"), SKU, st.builds(product, st.integers(0, 3), SKUS)),
        st.tuples(
            st.just("bundle"),
            SKU,
            SKUS.map(lambda items: {"items": items, "price": 1, "currency": "JPY"}),
        ),
        st.tuples(st.sampled_from(["forget", "removed", "unbundle"]), SKU, st.just({})),
    ),
    max_size=30,
)


def told(changes: list[tuple[str, str, dict[str, Any]]]) -> Catalog:
    catalog = Catalog()
    for what, sku, data in changes:
        if what in ("forget", "unbundle"):
            catalog.forget(Tombstone("product" if what == "forget" else "bundle", sku))
        else:
            kind = f"catalog.{what}" + ("" if what == "removed" else "_set")
            catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))
    return catalog


@given(CHANGES)
def test_shelves_hold_what_a_walk_through_all_products_finds(changes: list[Any]) -> None:
    catalog = told(changes)
    products = [p for sku in "abcde" if (p := catalog.product(sku)) is not None]
    for name in ("l0", "l1"):
        rungs = sorted(
            (p.ladder[1], p.sku) for p in products if p.ladder is not None and p.ladder[0] == name
        )
        assert [p.sku for level in catalog.levels(name) for p in level] == [s for _, s in rungs]
    for sku in "abcde":
        assert [p.sku for p in catalog.needing(sku)] == [
            p.sku for p in products if sku in p.requires
        ]
        holding = [b.sku for b in catalog.bundles() if sku in b.items or b.sku == sku]
        assert [b.sku for b in catalog.bundles_with(sku)] == holding


@given(PRICES, PRICES)
def test_bounds_are_exact_fractions(price: int, base: int) -> None:
    assert bundle_fits(price, base) == (
        Fraction(95, 100) * base <= price <= Fraction(97, 100) * base
    )
    assert step_fits(base, price) == (Fraction(12, 10) * base <= price <= Fraction(13, 10) * base)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.integers(95, 97))
def test_a_shared_price_adds_up_to_the_minor_unit(list_prices: list[int], percent: int) -> None:
    total = sum(list_prices)
    price = total * percent // 100
    shares = shared_price(price, list_prices)
    assert sum(shares) == price
    assert shares[1:] == [price * each // total for each in list_prices[1:]]
    assert 0 <= shares[0] - price * list_prices[0] // total < len(list_prices)
