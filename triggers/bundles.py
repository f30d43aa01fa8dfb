"""Sets sold at one price: which set goes with a product, and what each part of it costs."""

from collections.abc import Iterable

from triggers.before import Before
from triggers.book import Rule
from triggers.bounds import bundle_fits, members
from triggers.candidates import Candidate, Picked, alike, skus_of
from triggers.catalog import Bundle, Catalog, Product
from triggers.context import Context
from triggers.modules import held_beyond_orders

_Set = tuple[float, Bundle, list[Product]]


def pick_bundle(rule: Rule, ctx: Context, before: Before) -> Picked:
    """The set that goes with what the rule names: the one that holds most of it, equal ones by sku.

    What is named may be in the cart or owned: the set is built around it. Another part that the
    customer has passes the set over or, with ``leave_out_owned``, is left out, and the rest is
    offered at its list prices.
    """
    notes: list[str] = []
    picked = _pick(rule, ctx, before, notes)
    picked.notes = tuple(notes)
    return picked


def _pick(rule: Rule, ctx: Context, before: Before, notes: list[str]) -> Picked:
    value = rule.pick.value
    named = skus_of(value.get(ctx) if value is not None else None)
    sets = _sets(named, ctx, notes)
    if not sets:
        return Picked([], empty=True)
    has = [before.owned, before.cart(ctx), held_beyond_orders(ctx)]
    blocked: str | None = None
    for weight, bundle, parts in sets:
        there = {p.sku for p in parts if p.sku not in named and any(p.sku in skus for skus in has)}
        if rule.pick.leave_out_owned:
            there |= _served(parts, named, (*before.owned, *has[2]), ctx.catalog)
            gone = there.union(named) if there else there
            rest = [part for part in parts if part.sku not in gone]
        else:
            rest = [] if there else parts
        if not rest:
            blocked = blocked or "already_owned"
        elif not _in_stock(bundle, rest, ctx.catalog):
            blocked = blocked or "out_of_stock"
        else:
            lines = _lines(bundle, parts, rest, weight, rule.quantity)
            title = None if there else ctx.catalog.product(bundle.sku)
            picked = Picked(lines)
            picked.title, picked.story = title, bundle.theme
            return picked
    return Picked([], blocked)


def _sets(named: list[str], ctx: Context, notes: list[str]) -> list[_Set]:
    catalog = ctx.catalog
    known = {bundle.sku: bundle for sku in named for bundle in catalog.bundles_with(sku)}
    found: list[_Set] = []
    for bundle in known.values():
        parts = members(bundle, catalog)
        total = sum(part.price for part in parts or ())
        free = bundle.sku in ctx.book.allowed.bundles
        if parts is None or not (free or bundle_fits(bundle.price, total)):
            notes.append("bundle_out_of_bounds")
            continue
        shared = 1.0 if bundle.sku in named else sum(p.sku in named for p in parts) / len(parts)
        found.append((shared, bundle, parts))
    return sorted(found, key=lambda entry: (-entry[0], entry[1].sku))


def _served(
    parts: list[Product], named: list[str], held: Iterable[str], catalog: Catalog
) -> set[str]:
    """Parts whose family the customer holds already, whatever the sku: power is power."""
    there = [product for sku in held if (product := catalog.product(sku)) and product.family]
    return {
        part.sku
        for part in parts
        if part.sku not in named and part.family and any(alike(part, one) for one in there)
    }


def _in_stock(bundle: Bundle, rest: list[Product], catalog: Catalog) -> bool:
    return catalog.in_stock(bundle.sku) and all(catalog.in_stock(part.sku) for part in rest)


def _lines(
    bundle: Bundle, parts: list[Product], rest: list[Product], weight: float, quantity: int
) -> list[Candidate]:
    if len(rest) < len(parts):
        return [Candidate(part, weight, quantity, part.price) for part in rest]
    prices = shared_price(bundle.price, [part.price for part in parts])
    return [
        Candidate(part, weight, quantity, price) for part, price in zip(parts, prices, strict=True)
    ]


def shared_price(price: int, list_prices: list[int]) -> list[int]:
    """``price`` shared in proportion to the list prices, rounded down, the rest on the first."""
    total = sum(list_prices)
    shares = [price * each // total if total else 0 for each in list_prices]
    shares[0] += price - sum(shares)
    return shares
