"""The catalogue's relations as a graph: its edges in order, and circles where there must be none.

Complements and alternatives may go both ways. What a product requires and what refills what may
not lead back to where they began.
"""

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from triggers.catalog import Catalog, Relation

#: The relation whose edges form no circle; the other one is what products require.
ONE_WAY = "replenishes"
REQUIRES = "requires"


def edges(catalog: Catalog) -> Iterator[tuple[str, Relation]]:
    """Every relation with the sku that it leaves, by sku, target and kind."""
    for sku in catalog.related_skus():
        for relation in sorted(catalog.relations(sku), key=lambda one: (one.to, one.relation)):
            yield sku, relation


def circles(catalog: Catalog) -> Iterator[tuple[str, list[str]]]:
    """The kind of relation and the way, its first sku again at the end; one circle a kind."""
    refills = ((sku, one.to) for sku, one in edges(catalog) if one.relation == ONE_WAY)
    needs = (
        (sku, needed)
        for sku in sorted(catalog.skus())
        if (product := catalog.product(sku)) is not None
        for needed in product.requires
    )
    for kind, pairs in ((ONE_WAY, refills), (REQUIRES, needs)):
        way = _circle(pairs)
        if way:
            yield kind, way


def _circle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    graph: TopologicalSorter[str] = TopologicalSorter()
    for sku, to in pairs:
        graph.add(to, sku)
    try:
        graph.prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        start = found.index(min(found))  # told the same way wherever the search began
        around = found[:-1]
        return [*around[start:], *around[:start], around[start]]
    return []
