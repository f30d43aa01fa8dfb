"""What an event teaches: one table, kind of knowledge to the events that it is counted from.

Teachers see the customer before the event is applied, and note what must not count twice. They
answer for products that the catalogue knows, so what is counted is bounded by the catalogue. A
rule book that uses a kind of knowledge nowhere has none of its teachers, and its events cost
nothing more.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from triggers.learned import BASKET_MAX, BOUGHT, PLAN, RULE, VARIANT, VIEWED, Fact
from triggers.rates import variant_accepted

if TYPE_CHECKING:
    from triggers.catalog import Catalog
    from triggers.customer import Customer

#: A sitting: a product counts once in it, and products viewed in one belong together.
SITTING_MS = 30 * 60_000
#: From so many stars on a review speaks for what was bought with the product.
GLAD_STARS = 4

Teacher = Callable[["Customer", Any, int, "Catalog"], list[Fact]]


def _order(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
    if data.order_id in customer.orders:
        return []  # a second event about a known order
    skus = _known([item.sku for item in data.items], catalog)
    return _together(BOUGHT, skus, at)


def _together(kind: str, skus: list[str], at: int) -> list[Fact]:
    facts = [Fact(kind, "", at, (1,))] if skus else []
    for sku in skus:
        others = tuple(other for other in skus if other != sku)
        facts.append(Fact(kind, sku, at, (1,), others))
    return facts


def _review(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
    """A glad review counts like one more basket with the pair, without making either commoner."""
    if data.stars < GLAD_STARS or not data.bought_with:
        return []
    skus = _known([data.sku, *data.bought_with], catalog)
    if not skus or skus[0] != data.sku:
        return []
    facts = [Fact(BOUGHT, data.sku, at, (0,), tuple(skus[1:]))] if skus[1:] else []
    return facts + [Fact(BOUGHT, sku, at, (0,), (data.sku,)) for sku in skus[1:]]


def _view(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
    sku = data.sku
    if catalog.product(sku) is None:
        return []
    recent = [seen for seen, then in customer.history.views if then > at - SITTING_MS]
    if sku in recent:
        return []
    others = [other for other in _known(recent, catalog) if other != sku]
    facts = [Fact(VIEWED, "", at, (1,))] if not recent else []
    facts.append(Fact(VIEWED, sku, at, (1,), tuple(others)))
    return facts + [Fact(VIEWED, other, at, (0,), (sku,)) for other in others]


def _known(skus: Iterable[str], catalog: "Catalog") -> list[str]:
    """Each sku once, as it came, at most as many as are paired."""
    found = [sku for sku in dict.fromkeys(skus) if catalog.product(sku) is not None]
    return found[:BASKET_MAX]


def _plan(add: tuple[int, int]) -> Teacher:
    def teach(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
        known = catalog.product(data.plan) is not None
        return [Fact(PLAN, data.plan, at, add)] if known else []

    return teach


def _complaint(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
    for made in customer.offers.made:
        if made.offer_id == data.offer_id and not made.ghost and not made.complained:
            made.complain()  # however often they say it
            customer.touch("offers")
            return [Fact(RULE, made.rule, at, (0, 1))]
    return []


def _acceptance(customer: "Customer", data: Any, at: int, catalog: "Catalog") -> list[Fact]:
    """Of an answer, or of an order that names the offers it came from."""
    ids = [data.offer_id] if hasattr(data, "offer_id") else data.offer_ids or ()
    return [
        variant_accepted(made.rule, made.variant, at)
        for made in customer.offers.made
        if made.variant and made.open and made.offer_id in ids
    ]


_TEACHERS: dict[str, dict[str, Teacher]] = {
    BOUGHT: {"purchase.completed": _order, "product.reviewed": _review},
    VIEWED: {"product.viewed": _view},
    PLAN: {"checkout.plan_selected": _plan((1, 0)), "checkout.plan_left": _plan((0, 1))},
    RULE: {"offer.complained": _complaint},
    VARIANT: {"offer.accepted": _acceptance, "purchase.completed": _acceptance},
}


def teachers(kinds: Iterable[str]) -> Mapping[str, tuple[Teacher, ...]]:
    """Event type -> teachers of the ``kinds`` of knowledge that a book uses."""
    found: dict[str, tuple[Teacher, ...]] = {}
    for kind in sorted(kinds):
        for event_type, teacher in _TEACHERS.get(kind, {}).items():
            found[event_type] = (*found.get(event_type, ()), teacher)
    return found
