"""Which complements are offered, and in which order."""

from __future__ import annotations

from itertools import islice

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from triggers.catalog import Catalog
from triggers.events import EVENT_TYPES
from triggers.selection import best_complements, complements

SKUS = ["a", "b", "c", "d", "e", "f"]
EDGES = st.dictionaries(
    st.tuples(st.sampled_from(SKUS), st.sampled_from(SKUS)).filter(lambda edge: edge[0] != edge[1]),
    st.sampled_from([0.1, 0.2, 0.2, 0.3]),
)


def catalog_of(edges: dict[tuple[str, str], float]) -> Catalog:
    catalog = Catalog()
    for sku in SKUS:
        put(catalog, "catalog.product_set", sku, {"name": sku, "price": 100, "currency": "JPY"})
    for (sku, to), weight in edges.items():
        edge = {"to": to, "relation": "complement", "weight": weight}
        put(catalog, "catalog.relation_set", sku, edge)
    return catalog


def put(catalog: Catalog, kind: str, sku: str, data: dict[str, object]) -> None:
    catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))


@given(edges=EDGES, skus=st.lists(st.sampled_from([*SKUS, "unknown"]), max_size=8))
def test_complements_one_by_one_are_those_ranked_as_a_whole(
    edges: dict[tuple[str, str], float], skus: list[str]
) -> None:
    catalog = catalog_of(edges)
    one_by_one = list(best_complements(catalog, skus))
    assert one_by_one == complements(catalog, skus)
    # By hand: of each sku that is not asked for, its heaviest edge; heavier first, then by sku.
    heaviest: dict[str, float] = {}
    for (sku, to), weight in edges.items():
        if sku in skus and to not in skus:
            heaviest[to] = max(weight, heaviest.get(to, 0.0))
    ranked = sorted(heaviest, key=lambda to: (-heaviest[to], to))
    assert [entry[1] for entry in one_by_one] == ranked
    assert [entry[1] for entry in islice(best_complements(catalog, skus), 2)] == ranked[:2]
