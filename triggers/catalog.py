"""The catalogue: products, relations and stock, as the compacted topic tells them.

One writer applies records in offset order; readers see a consistent catalogue between two of
their batches. ``version`` counts the records that were applied.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triggers.errors import Refused
from triggers.events import Tombstone
from triggers.learned import View
from triggers.shelves import Shelves


@dataclass(slots=True)
class Product:
    """A product as ``catalog.product_set`` describes it; prices in minor units."""

    sku: str
    name: str = ""
    price: int = 0
    currency: str = ""
    category: str = ""
    family: str = ""
    purposes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    margin: float = 1.0
    benefit: dict[str, str] = field(default_factory=dict)
    ladder: tuple[str, float] | None = None  # its name, and the step on it


@dataclass(frozen=True, slots=True)
class Relation:
    """An edge to another sku: ``complement``, ``alternative`` or ``replenishes``."""

    to: str
    relation: str
    weight: float
    story: dict[str, str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A set of skus sold together at ``price``."""

    sku: str
    items: tuple[str, ...]
    price: int
    currency: str
    theme: dict[str, str]


UNKNOWN = Product("")
#: (minus weight, sku, product): in their plain order the best come first, equal ones by sku.
Entry = tuple[float, str, Product]
Ranked = list[Entry]
#: What a catalogue holds at most: a worker has all of it in memory.
PRODUCTS_MAX = 1_000_000
RELATIONS_MAX = 5_000_000
RELATIONS_OF_ONE_MAX = 1_000
BUNDLES_MAX = 200_000
#: Answers of one kind remembered until the next change of the catalogue.
_KNOWN_MAX = 100_000


class Catalog:
    """Products by sku with their relations, bundles and stock.

    ``learned`` is what all customers taught, beside what the shop says.
    """

    __slots__ = (
        "_bundles",
        "_edges",
        "_known",
        "_products",
        "_relations",
        "_removed",
        "_shelves",
        "_stock",
        "learned",
        "version",
    )

    def __init__(self) -> None:
        self.version = 0
        self.learned = View()
        self._known: defaultdict[str, dict[str, Ranked]] = defaultdict(dict)  # what, then sku
        self._products: dict[str, Product] = {}
        self._edges = 0
        self._relations: dict[str, dict[tuple[str, str], Relation]] = {}
        self._bundles: dict[str, Bundle] = {}
        self._shelves = Shelves()
        self._stock: dict[str, int] = {}
        self._removed: set[str] = set()

    def product(self, sku: str) -> Product | None:
        """The product of a sku, or None when unknown or removed."""
        removed = self._removed  # mostly empty, which is seen without a look at the sku
        return None if removed and sku in removed else self._products.get(sku)

    def removed(self, sku: str) -> bool:
        """Whether ``catalog.removed`` took the sku out of sale."""
        return sku in self._removed

    def related(self, sku: str, relation: str) -> Ranked:
        """Other products that ``sku`` relates to in one way; the list is not to be changed."""
        found = self._known[relation].get(sku)
        return self.remembered(sku, relation, self._related) if found is None else found

    def _related(self, sku: str, relation: str) -> Ranked:
        edges = {} if sku in self._removed else self._relations.get(sku, {})
        chosen = [e for e in edges.values() if e.relation == relation and e.to != sku]
        pairs = ((self.product(edge.to), edge.weight) for edge in chosen)
        return sorted((-w, product.sku, product) for product, w in pairs if product)

    def remembered(self, sku: str, what: str, find: Callable[[str, str], Ranked]) -> Ranked:
        """What ``find`` answers of a sku, computed once until the catalogue changes."""
        known = self._known[what]
        found = known.get(sku)
        if found is None:
            if len(known) >= _KNOWN_MAX:
                known.clear()
            found = known[sku] = find(sku, what)
        return found

    def related_skus(self) -> list[str]:
        """The skus that relations leave, in order."""
        return sorted(sku for sku, edges in self._relations.items() if edges)

    def relations(self, sku: str) -> list[Relation]:
        """The edges of a sku as the catalogue set them, whatever became of their ends."""
        return list(self._relations.get(sku, {}).values())

    def story(self, sku: str, to: str, relation: str) -> dict[str, str]:
        """What the shop tells of an edge, by language."""
        edge = self._relations.get(sku, {}).get((to, relation))
        return {} if edge is None else edge.story

    def bundle(self, sku: str) -> Bundle | None:
        """The bundle sold under ``sku``."""
        return None if sku in self._removed else self._bundles.get(sku)

    def bundles(self) -> list[Bundle]:
        """All bundles that are on sale, by sku."""
        return [self._bundles[sku] for sku in sorted(self._bundles) if sku not in self._removed]

    def bundles_with(self, sku: str) -> list[Bundle]:
        """The bundles that hold a sku, and the one sold under it, by their skus."""
        found = sorted({*self._shelves.bundles_with(sku), sku})
        return [bundle for each in found if (bundle := self.bundle(each)) is not None]

    def ladders(self) -> list[str]:
        """The names of all ladders, in order."""
        return self._shelves.ladders()

    def levels(self, name: str) -> list[list[Product]]:
        """The tiers of a ladder from the lowest step up, the products of each step by sku."""
        steps: dict[float, list[Product]] = {}
        for sku in self._shelves.on_ladder(name):
            product = self.product(sku)
            if product is not None and product.ladder is not None:
                steps.setdefault(product.ladder[1], []).append(product)
        return [steps[step] for step in sorted(steps)]

    def needing(self, sku: str) -> list[Product]:
        """The products that require a sku, by their skus."""
        found = map(self.product, self._shelves.needing(sku))
        return [product for product in found if product is not None]

    def in_stock(self, sku: str) -> bool:
        """Whether the sku can be sold; a sku whose stock nobody told is in stock."""
        return self._stock.get(sku, 1) > 0

    def skus(self) -> list[str]:
        """All skus that products exist for, in no order that carries meaning."""
        return [sku for sku in self._products if sku not in self._removed]

    def sizes(self) -> dict[str, int]:
        """How much it holds, by kind."""
        return {
            "products": len(self._products),
            "relations": self._edges,
            "bundles": len(self._bundles),
            "stocks": len(self._stock),
            "removed": len(self._removed),
        }

    def _room(self, known: bool, size: int, most: int, what: str) -> None:
        if not known and size >= most:
            raise Refused("catalog_full", f"the catalogue holds {most} {what}")

    def apply(self, event_type: str, sku: str, data: Any) -> None:
        """Apply one ``catalog.*`` event with its decoded ``data``.

        Raises:
            Refused: it would hold more than its bounds; nothing changed.
        """
        _APPLY[event_type](self, sku, data)
        self.version += 1
        self._known.clear()

    def forget(self, gone: Tombstone) -> None:
        """Apply a null value: remove what its compaction key had set."""
        self.version += 1
        self._known.clear()
        if gone.what == "relation":
            edges = self._relations.get(gone.sku, {})
            if edges.pop((gone.to, gone.relation), None) is not None:
                self._edges -= 1
            if not edges:
                self._relations.pop(gone.sku, None)
        elif gone.what == "stock":
            self._stock.pop(gone.sku, None)
        elif gone.what == "bundle":
            self._shelves.drop_bundle(self._bundles.pop(gone.sku, None))
        else:  # the product's key also carries its removal
            self._shelves.drop(self._products.pop(gone.sku, None))
            self._removed.discard(gone.sku)

    def _product_set(self, sku: str, data: Any) -> None:
        self._room(sku in self._products, len(self._products), PRODUCTS_MAX, "products")
        self._removed.discard(sku)
        ladder = data.ladder
        self._shelves.drop(self._products.get(sku))
        product = self._products[sku] = Product(
            sku,
            data.name,
            data.price,
            data.currency,
            data.category or "",
            data.family or "",
            tuple(data.purposes or ()),
            tuple(data.features or ()),
            tuple(data.requires or ()),
            1.0 if data.margin is None else data.margin,
            _texts(data.benefit),
            None if ladder is None else (ladder.name, ladder.step),
        )
        self._shelves.put(product)
        if data.stock is not None:
            self._stock[sku] = data.stock

    def _relation_set(self, sku: str, data: Any) -> None:
        edge = Relation(data.to, data.relation, data.weight, _texts(data.story))
        edges = self._relations.get(sku, {})
        known = (data.to, data.relation) in edges
        self._room(known, self._edges, RELATIONS_MAX, "relations")
        self._room(known, len(edges), RELATIONS_OF_ONE_MAX, "relations of one product")
        self._relations.setdefault(sku, {})[(data.to, data.relation)] = edge
        self._edges += not known

    def _bundle_set(self, sku: str, data: Any) -> None:
        self._room(sku in self._bundles, len(self._bundles), BUNDLES_MAX, "bundles")
        theme = _texts(data.theme)
        self._shelves.drop_bundle(self._bundles.get(sku))
        bundle = Bundle(sku, tuple(data.items), data.price, data.currency, theme)
        self._bundles[sku] = bundle
        self._shelves.put_bundle(bundle)

    def _stock_set(self, sku: str, data: Any) -> None:
        self._room(sku in self._stock, len(self._stock), PRODUCTS_MAX, "stocks")
        self._stock[sku] = data.stock

    def _remove(self, sku: str, data: Any) -> None:
        self._room(sku in self._removed, len(self._removed), PRODUCTS_MAX, "removed products")
        self._removed.add(sku)


def _texts(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    return {lang: text for lang in ("ja", "en") if (text := getattr(value, lang))}


_APPLY = {
    "catalog.product_set": Catalog._product_set,
    "catalog.relation_set": Catalog._relation_set,
    "catalog.bundle_set": Catalog._bundle_set,
    "catalog.stock_set": Catalog._stock_set,
    "catalog.removed": Catalog._remove,
}
