"""Which items a rule offers: candidates, their ranking, and what is passed over."""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Any

from triggers.before import Before
from triggers.book import IGNORES_OWNERSHIP, Pick, Price, Rule
from triggers.bundles import pick_bundle
from triggers.candidates import Candidate, Picked, partners, skus_of, unlike
from triggers.catalog import Catalog, Entry, Product, Ranked
from triggers.context import Context
from triggers.extras import both, shown
from triggers.ladders import tiers
from triggers.modules import held_beyond_orders, next_modules, pains
from triggers.replenish import refills
from triggers.together import together


def complements(catalog: Catalog, skus: list[str]) -> Ranked:
    """Complements of all ``skus`` but themselves, by weight; an edge seen twice counts once."""
    if len(skus) == 1:
        return catalog.related(skus[0], "complement")
    return sorted(_best(catalog, skus))


def _best(catalog: Catalog, skus: Iterable[str]) -> Collection[Entry]:
    """What :func:`complements` ranks, in no order."""
    best: dict[str, Entry] = {}
    for sku in skus:
        for entry in catalog.related(sku, "complement"):
            known = best.get(entry[1])
            if known is None or entry[0] < known[0]:
                best[entry[1]] = entry
    for sku in skus:
        best.pop(sku, None)
    return best.values()


def best_complements(catalog: Catalog, skus: Iterable[str]) -> Iterator[Entry]:
    """What :func:`complements` ranks, one by one: a pick looks at a few of hundreds."""
    passed = dict.fromkeys(skus)
    related = [catalog.related(sku, "complement") for sku in passed]
    # The best of each list that is left, the list and its place there: as heapq.merge does, which
    # takes longer to begin than most picks take.
    heads = [(entries[0], number, 0) for number, entries in enumerate(related) if entries]
    heapify(heads)
    while heads:
        entry, number, place = heads[0]
        entries, place = related[number], place + 1
        if place < len(entries):
            heapreplace(heads, (entries[place], number, place))
        else:
            heappop(heads)
        if entry[1] not in passed:
            passed[entry[1]] = None
            yield entry


def _named(rule: Rule, ctx: Context) -> Any:
    """What the pick's expression names: a sku, skus or lines."""
    return rule.pick.value.get(ctx) if rule.pick.value is not None else None


def _complements_of(rule: Rule, ctx: Context, notes: list[str]) -> Iterable[Entry]:
    named = _named(rule, ctx)
    skus = skus_of(named)
    if len(skus) == 1 and ctx.catalog.product(skus[0]) is not None:
        return partners(skus[0], ctx.catalog)
    return unlike(best_complements(ctx.catalog, skus), named, ctx.catalog)


def _entries(pick: Pick, ctx: Context) -> list[Any]:
    """What ``same`` names, as skus or lines, in sku order."""
    value = pick.value.get(ctx) if pick.value else None
    entries = [value] if isinstance(value, str) and value else value or []
    return sorted(entries, key=lambda entry: entry if isinstance(entry, str) else entry.sku)


def _same(rule: Rule, ctx: Context, notes: list[str]) -> Ranked:
    found = []
    for entry in _entries(rule.pick, ctx):
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


def _sku(rule: Rule, ctx: Context, notes: list[str]) -> Ranked:
    product = ctx.catalog.product(rule.pick.sku)
    return [] if product is None else [(-1.0, rule.pick.sku, product)]


def gap_to(amount: int, ctx: Context) -> int:
    """What is missing to ``amount`` in the event's total or, where it has none, the cart's."""
    for name in ("total", "subtotal"):
        value = getattr(ctx.event, name, None)
        if value is not None:
            return amount - int(value)
    return amount - ctx.cart.subtotal


def _closes_gap_to(rule: Rule, ctx: Context, notes: list[str]) -> Iterable[Entry]:
    gap = gap_to(rule.pick.amount, ctx)
    if gap <= 0:
        return []
    lines: list[Any] = getattr(ctx.event, "items", None) or list(ctx.cart.lines.values())
    learnt = rule.pick.source != "complements"
    ranked: Collection[Entry]
    if learnt:
        ranked = together(rule.pick.source, skus_of(lines), rule.pick.min_support, ctx)
    else:
        ranked = _best(ctx.catalog, skus_of(lines))
    pays = {found[1]: offer_price(rule.price, found[2].price) * rule.quantity for found in ranked}
    closing = [found for found in ranked if pays[found[1]] >= gap]
    if not learnt:
        closing.sort()
    # The cheapest that closes the gap; equal ones stay as relevance ranked them.
    closing.sort(key=lambda found: pays[found[1]])
    return unlike(closing, lines, ctx.catalog) if closing else closing


def _together(rule: Rule, ctx: Context, notes: list[str]) -> Iterable[Entry]:
    pick, named = rule.pick, _named(rule, ctx)
    found = together(pick.kind, skus_of(named), pick.min_support, ctx)
    # Who looks at a chair compares it with others; with one bought, nobody wants another.
    return found if pick.kind == "viewed_together_with" else unlike(found, named, ctx.catalog)


def _tiers(rule: Rule, ctx: Context, notes: list[str]) -> Ranked:
    skus, allowed = skus_of(_named(rule, ctx)), ctx.book.allowed
    return tiers(rule.pick.kind, skus[0], ctx.catalog, allowed, notes) if skus else []


def _replenishes(rule: Rule, ctx: Context, notes: list[str]) -> Ranked:
    return refills(skus_of(_named(rule, ctx)), ctx)


def _next_module_after(rule: Rule, ctx: Context, notes: list[str]) -> Ranked:
    features = rule.pick.features
    tags = pains(ctx) if features is None else skus_of(features.get(ctx))
    return next_modules(skus_of(_named(rule, ctx)), tags, ctx)


_PICKS: dict[str, Callable[[Rule, Context, list[str]], Iterable[Entry]]] = {
    "complements_of": _complements_of,
    "same": _same,
    "sku": _sku,
    "closes_gap_to": _closes_gap_to,
    "bought_together_with": _together,
    "viewed_together_with": _together,
    "tier_up_from": _tiers,
    "tier_down_from": _tiers,
    "replenishes": _replenishes,
    "next_module_after": _next_module_after,
}
#: Picks of plans and modules: a running contract or a deployment holds them like an order.
_BY_CONTRACT = frozenset({"tier_up_from", "tier_down_from", "next_module_after"})


def _fitting(rule: Rule, candidates: Iterable[Entry], ctx: Context) -> Iterable[Entry]:
    """Without what the rule's own words leave out: these are no candidates at all.

    ``filter`` is lazy, compiled too; a generator expression is not.
    """
    pick = rule.pick
    if pick.features is not None and pick.kind != "next_module_after":
        wanted = set(skus_of(pick.features.get(ctx)))
        candidates = filter(lambda found: not wanted.isdisjoint(found[2].features), candidates)
    if pick.exclude:
        candidates = filter(
            lambda found: pick.exclude.isdisjoint((found[2].category, found[2].family)), candidates
        )
    if "benefit" in rule.extras.from_catalog:
        candidates = filter(lambda found: both(found[2].benefit), candidates)
    device = getattr(ctx.event, "device_category", None)
    if device:  # the new device is chosen already
        candidates = filter(
            lambda found: device not in (found[2].category, found[2].family), candidates
        )
    return candidates


def pick_items(rule: Rule, ctx: Context, before: Before) -> Picked:
    """The items that ``rule`` offers, passing over what is owned, in the cart or out of stock."""
    kind = rule.pick.kind
    if rule.extras.series and shown(rule.extras, ctx) is None:
        return Picked([], empty=True)
    if kind in ("none", "perk"):
        return Picked([])
    if kind == "bundle_with":
        return pick_bundle(rule, ctx, before)
    notes: list[str] = []
    candidates = _fitting(rule, _PICKS[kind](rule, ctx, notes), ctx)
    picked = _choose(rule, candidates, ctx, before)
    picked.notes = tuple(notes)
    if "story" in rule.extras.from_catalog and picked.items:
        picked.story = _story(rule, picked.items[0].product.sku, ctx)
    return picked


def _story(rule: Rule, to: str, ctx: Context) -> dict[str, str]:
    """What the catalogue tells of the relation that led to ``to``; empty where it tells nothing."""
    named = skus_of(_named(rule, ctx)) or list(ctx.cart.lines)
    relation = "replenishes" if rule.pick.kind == "replenishes" else "complement"
    stories = [ctx.catalog.story(sku, to, relation) for sku in named]
    return next((story for story in stories if both(story)), {})


def _choose(rule: Rule, candidates: Iterable[Entry], ctx: Context, before: Before) -> Picked:
    kind = rule.pick.kind
    held: tuple[Container[str], ...] = ()
    if kind not in IGNORES_OWNERSHIP:
        held = (before.owned, before.cart(ctx))
        if kind in _BY_CONTRACT:
            held = (*held, held_beyond_orders(ctx))
    quantities = _quantities(rule.pick, ctx) if kind == "same" else {}
    wanted = _wanted(rule, ctx)
    items: list[Candidate] = []
    blocked: str | None = None
    empty = True
    for minus_weight, sku, product in candidates:
        empty = False
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
    return Picked(items, None if items else blocked, empty)


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


def price_of(candidate: Candidate, price: Price) -> int:
    """What one of a candidate costs: its own price as a part of a set, else the rule's."""
    own = candidate.price
    return offer_price(price, candidate.product.price) if own is None else own


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
    "price_of",
]
