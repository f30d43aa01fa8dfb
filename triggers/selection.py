"""Which items a rule offers: candidates, their ranking, and what is passed over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triggers.book import Pick, Price, Rule
from triggers.catalog import Catalog, Product
from triggers.context import Context

#: Picks that offer again what the customer has or wants: ownership does not matter to them.
_IGNORES_OWNERSHIP = frozenset({"same", "sku", "replenishes", "none"})


@dataclass(slots=True)
class Candidate:
    """A product that could be offered; ``weight`` ranks it."""

    product: Product
    weight: float
    quantity: int = 1


@dataclass(slots=True)
class Picked:
    """The items to offer, best first; ``blocked`` says what removed the best-ranked candidate
    when nothing is left; ``empty`` that there was no candidate at all."""

    items: list[Candidate]
    blocked: str | None = None
    empty: bool = False


@dataclass(slots=True)
class Holdings:
    """What a customer had before the event: owned skus and skus in the cart."""

    owned: Any
    cart: Any


def _skus(value: Any) -> list[str]:
    """Skus named by a pick's expression: one sku, several, or lines."""
    if isinstance(value, str):
        return [value] if value else []
    return [entry if isinstance(entry, str) else entry.sku for entry in value or ()]


def complements(catalog: Catalog, skus: list[str]) -> list[Candidate]:
    """Complements of all ``skus`` but themselves, by weight; an edge seen twice counts once."""
    given = set(skus)
    weights: dict[str, float] = {}
    for sku in skus:
        for edge in catalog.related(sku, "complement"):
            if edge.to not in given and edge.weight > weights.get(edge.to, -1.0):
                weights[edge.to] = edge.weight
    ranked = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    found = ((catalog.product(sku), weight) for sku, weight in ranked)
    return [Candidate(product, weight) for product, weight in found if product is not None]


def _complements_of(pick: Pick, ctx: Context) -> list[Candidate]:
    return complements(ctx.catalog, _skus(pick.value and pick.value.get(ctx)))


def _same(pick: Pick, ctx: Context) -> list[Candidate]:
    value = pick.value.get(ctx) if pick.value else None
    entries = [value] if isinstance(value, str) and value else value or []
    found = []
    for entry in sorted(entries, key=lambda e: e if isinstance(e, str) else e.sku):
        sku = entry if isinstance(entry, str) else entry.sku
        product = ctx.catalog.product(sku)
        if product is None and not isinstance(entry, str):
            currency = ctx.cart.currency or ctx.book.currency
            product = Product(sku, sku, entry.unit_price, currency, entry.category or "")
        if product is not None:
            quantity = 1 if isinstance(entry, str) else entry.quantity
            found.append(Candidate(product, 1.0, quantity))
    return found


def _sku(pick: Pick, ctx: Context) -> list[Candidate]:
    product = ctx.catalog.product(pick.sku)
    return [] if product is None else [Candidate(product, 1.0)]


def gap_to(amount: int, ctx: Context) -> int:
    """What is missing to ``amount`` in the event's total or, where it has none, the cart's."""
    for name in ("total", "subtotal"):
        value = getattr(ctx.event, name, None)
        if value is not None:
            return amount - int(value)
    return amount - ctx.cart.subtotal


def _closes_gap_to(pick: Pick, ctx: Context) -> list[Candidate]:
    gap = gap_to(pick.amount, ctx)
    if gap <= 0:
        return []
    items: list[Any] = getattr(ctx.event, "items", None) or list(ctx.cart.lines.values())
    found = [c for c in complements(ctx.catalog, _skus(items)) if c.product.price >= gap]
    # The cheapest that closes the gap; among equals the most relevant.
    found.sort(key=lambda c: (c.product.price, -c.weight, c.product.sku))
    return found


_PICKS: dict[str, Callable[[Pick, Context], list[Candidate]]] = {
    "complements_of": _complements_of,
    "same": _same,
    "sku": _sku,
    "closes_gap_to": _closes_gap_to,
}


def pick_items(rule: Rule, ctx: Context, had: Holdings) -> Picked:
    """The items that ``rule`` offers, passing over what is owned, in the cart or out of stock."""
    if rule.pick.kind == "none":
        return Picked([])
    candidates = _PICKS[rule.pick.kind](rule.pick, ctx)
    if not candidates:
        return Picked([], empty=True)
    ownership = rule.pick.kind not in _IGNORES_OWNERSHIP
    items: list[Candidate] = []
    blocked: str | None = None
    for candidate in candidates:
        code = _passed_over(candidate.product.sku, ownership, ctx, had)
        if code is None:
            if rule.pick.kind != "same":
                candidate.quantity = rule.quantity
            items.append(candidate)
            if len(items) == rule.pick.max:
                break
        elif blocked is None:
            blocked = code
    return Picked(items, None if items else blocked)


def _passed_over(sku: str, ownership: bool, ctx: Context, had: Holdings) -> str | None:
    if ownership and (sku in had.owned or sku in had.cart):
        return "already_owned"
    return None if ctx.catalog.in_stock(sku) else "out_of_stock"


def offer_price(price: Price, list_price: int) -> int:
    """The price to offer, in minor units; a percentage off is rounded half up, once."""
    if price.kind == "set":
        return price.set_minor
    if price.kind == "off":
        return (list_price * (1000 - price.off_permille) * 2 + 1000) // 2000
    return list_price


__all__ = [
    "Candidate",
    "Holdings",
    "Picked",
    "complements",
    "gap_to",
    "offer_price",
    "pick_items",
]
