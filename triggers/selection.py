"""Which items a rule offers: candidates, their ranking, and what is passed over."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from triggers.before import Before
from triggers.book import Pick, Price, Rule
from triggers.catalog import Catalog, Product, Ranked
from triggers.context import Context
from triggers.together import together

#: Picks that offer again what the customer has or wants: ownership does not matter to them.
_IGNORES_OWNERSHIP = frozenset({"same", "sku", "replenishes", "none"})


@dataclass(slots=True)
class Candidate:
    """A product that is offered, and the weight that ranked it."""

    product: Product
    weight: float
    quantity: int


@dataclass(slots=True)
class Picked:
    """The items to offer, best first; ``blocked`` says what removed the best-ranked candidate
    when nothing is left; ``empty`` that there was no candidate at all."""

    items: list[Candidate]
    blocked: str | None = None
    empty: bool = False


def _skus(value: Any) -> list[str]:
    """Skus named by a pick's expression: one sku, several, or lines."""
    if isinstance(value, str):
        return [value] if value else []
    return [entry if isinstance(entry, str) else entry.sku for entry in value or ()]


def complements(catalog: Catalog, skus: list[str]) -> Ranked:
    """Complements of all ``skus`` but themselves, by weight; an edge seen twice counts once."""
    if len(skus) == 1:
        return catalog.related(skus[0], "complement")
    best: dict[str, tuple[float, str, Product]] = {}
    for sku in skus:
        for ranked in catalog.related(sku, "complement"):
            to = ranked[1]
            if to not in best or ranked[0] < best[to][0]:
                best[to] = ranked
    for sku in skus:
        best.pop(sku, None)
    return sorted(best.values())


def _complements_of(pick: Pick, ctx: Context) -> Ranked:
    return complements(ctx.catalog, _skus(pick.value and pick.value.get(ctx)))


def _entries(pick: Pick, ctx: Context) -> list[Any]:
    """What ``same`` names, as skus or lines, in sku order."""
    value = pick.value.get(ctx) if pick.value else None
    entries = [value] if isinstance(value, str) and value else value or []
    return sorted(entries, key=lambda entry: entry if isinstance(entry, str) else entry.sku)


def _same(pick: Pick, ctx: Context) -> Ranked:
    found = []
    for entry in _entries(pick, ctx):
        sku = entry if isinstance(entry, str) else entry.sku
        product = ctx.catalog.product(sku)
        if product is None and not isinstance(entry, str) and not ctx.catalog.removed(sku):
            # Unknown to the catalogue, but the customer's own line knows its price.
            currency = ctx.cart.currency or ctx.book.currency
            product = Product(sku, sku, entry.unit_price, currency, entry.category or "")
        if product is not None:
            found.append((-1.0, sku, product))
    return found


def _quantities(pick: Pick, ctx: Context) -> dict[str, int]:
    """How many of each sku ``same`` offers again."""
    return {e.sku: e.quantity for e in _entries(pick, ctx) if not isinstance(e, str)}


def _sku(pick: Pick, ctx: Context) -> Ranked:
    product = ctx.catalog.product(pick.sku)
    return [] if product is None else [(-1.0, pick.sku, product)]


def gap_to(amount: int, ctx: Context) -> int:
    """What is missing to ``amount`` in the event's total or, where it has none, the cart's."""
    for name in ("total", "subtotal"):
        value = getattr(ctx.event, name, None)
        if value is not None:
            return amount - int(value)
    return amount - ctx.cart.subtotal


def _closes_gap_to(pick: Pick, ctx: Context) -> Ranked:
    gap = gap_to(pick.amount, ctx)
    if gap <= 0:
        return []
    items: list[Any] = getattr(ctx.event, "items", None) or list(ctx.cart.lines.values())
    ranked = complements(ctx.catalog, _skus(items))
    # The cheapest that closes the gap; equal ones stay as relevance ranked them.
    return sorted((r for r in ranked if r[2].price >= gap), key=lambda r: r[2].price)


def _together(pick: Pick, ctx: Context) -> Ranked:
    skus = _skus(pick.value and pick.value.get(ctx))
    return together(pick.kind, skus, pick.min_support, ctx)


_PICKS: dict[str, Callable[[Pick, Context], Ranked]] = {
    "complements_of": _complements_of,
    "same": _same,
    "sku": _sku,
    "closes_gap_to": _closes_gap_to,
    "bought_together_with": _together,
    "viewed_together_with": _together,
}


def pick_items(rule: Rule, ctx: Context, before: Before) -> Picked:
    """The items that ``rule`` offers, passing over what is owned, in the cart or out of stock."""
    if rule.pick.kind == "none":
        return Picked([])
    candidates = _PICKS[rule.pick.kind](rule.pick, ctx)
    if not candidates:
        return Picked([], empty=True)
    held = () if rule.pick.kind in _IGNORES_OWNERSHIP else (before.owned, before.cart(ctx))
    quantities = _quantities(rule.pick, ctx) if rule.pick.kind == "same" else {}
    wanted = _wanted(rule, ctx)
    items: list[Candidate] = []
    blocked: str | None = None
    for minus_weight, sku, product in candidates:
        code = _passed_over(sku, held, ctx.catalog)
        if code is None and wanted is not None and not wanted & set(product.purposes):
            code = "irrelevant"
        if code is None:
            quantity = quantities.get(sku, rule.quantity)
            items.append(Candidate(product, -minus_weight, quantity))
            if len(items) == rule.pick.max:
                break
        elif blocked is None:
            blocked = code
    return Picked(items, None if items else blocked)


def _wanted(rule: Rule, ctx: Context) -> frozenset[str] | None:
    """The purposes of which an item must share one; None where the rule does not ask."""
    purpose = rule.gate.purpose
    if purpose is None or rule.pick.kind == "same":  # what is in the cart fits by being there
        return None
    value = purpose.get(ctx)
    found = [value] if isinstance(value, str) else value or ()
    return frozenset(word for word in found if isinstance(word, str) and word)


def _passed_over(sku: str, held: tuple[Container[str], ...], catalog: Catalog) -> str | None:
    for skus in held:
        if sku in skus:
            return "already_owned"
    return None if catalog.in_stock(sku) else "out_of_stock"


def offer_price(price: Price, list_price: int) -> int:
    """The price to offer, in minor units; a percentage off is rounded half up, once."""
    if price.kind == "set":
        return price.set_minor
    if price.kind == "off":
        return (list_price * (1000 - price.off_permille) * 2 + 1000) // 2000
    return list_price


__all__ = [
    "Candidate",
    "Picked",
    "complements",
    "gap_to",
    "offer_price",
    "pick_items",
]
