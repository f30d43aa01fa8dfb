"""What a pick has to choose from, and what it chose."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from triggers.catalog import UNKNOWN, Catalog, Entry, Product, Ranked


class Candidate:
    """A product that is offered, and the weight that ranked it.

    ``price`` is what it costs in minor units where the rule's own price does not say: as a part
    of a set.
    """

    __slots__ = ("price", "product", "quantity", "weight")

    def __init__(
        self, product: Product, weight: float, quantity: int, price: int | None = None
    ) -> None:
        self.product = product
        self.weight = weight
        self.quantity = quantity
        self.price = price


class Picked:
    """The items to offer, best first; ``blocked`` says what removed the best-ranked candidate
    when nothing is left; ``empty`` that there was no candidate at all.

    ``title`` is what the offer as a whole is called where that is not its first item, ``story``
    what holds a set together; ``notes`` counts what was passed over without a gate's code.
    """

    __slots__ = ("blocked", "empty", "items", "notes", "story", "title")

    def __init__(
        self, items: list[Candidate], blocked: str | None = None, empty: bool = False
    ) -> None:
        self.items = items
        self.blocked = blocked
        self.empty = empty
        self.title: Product | None = None
        self.story: Mapping[str, str] = {}
        self.notes: tuple[str, ...] = ()

    @property
    def first(self) -> Product:
        """What texts call the item."""
        if self.title is not None:
            return self.title
        return self.items[0].product if self.items else UNKNOWN


def skus_of(value: Any) -> list[str]:
    """Skus named by a pick's expression: one sku, several, or lines."""
    if isinstance(value, str):
        return [value] if value else []
    return [entry if isinstance(entry, str) else entry.sku for entry in value or ()]


def kinds_of(value: Any, catalog: Catalog) -> list[Product]:
    """The products that an expression names; of one that the catalogue lacks what its line says."""
    found = []
    for entry in [value] if isinstance(value, str) else value or ():
        sku = entry if isinstance(entry, str) else entry.sku
        product = catalog.product(sku)
        if product is None and not isinstance(entry, str) and entry.category:
            product = Product(sku, category=entry.category)
        if product is not None:
            found.append(product)
    return found


def alike(one: Product, other: Product) -> bool:
    """Whether two products are of one kind: same family and category, as far as both are told."""
    families = bool(one.family and other.family)
    categories = bool(one.category and other.category)
    if families and one.family != other.family:
        return False
    if categories and one.category != other.category:
        return False
    return families or categories


class Kinds:
    """The kinds of several products: whether another one is :func:`alike` one of them, by a few
    looks into sets however many they are."""

    __slots__ = ("_categories", "_families", "_told")

    def __init__(self, products: Iterable[Product]) -> None:
        self._told = {(each.family, each.category) for each in products}
        self._told.discard(("", ""))
        self._families: set[str] | None = None  # made when a product without a category asks
        self._categories: set[str] | None = None  # or one without a family

    def __bool__(self) -> bool:
        return bool(self._told)

    def hold(self, product: Product) -> bool:
        """Whether ``product`` is of the same kind as one of them."""
        family, category, told = product.family, product.category, self._told
        if family and category:
            return (family, category) in told or (family, "") in told or ("", category) in told
        if family:
            if self._families is None:
                self._families = {each for each, _ in told}
            return family in self._families
        if self._categories is None:
            self._categories = {each for _, each in told}
        return category != "" and category in self._categories


def partners(sku: str, catalog: Catalog) -> Ranked:
    """The complements of one product, by weight, without those of its own kind."""

    def find(sku: str, _: str) -> Ranked:
        return list(unlike(catalog.related(sku, "complement"), sku, catalog))

    return catalog.remembered(sku, "partner", find)


def unlike(ranked: Iterable[Entry], value: Any, catalog: Catalog) -> Iterable[Entry]:
    """Without what is of the same kind as one of the products that ``value`` names: nobody who
    takes a chair wants another one with it."""
    kinds = Kinds(kinds_of(value, catalog))
    return _beside(ranked, kinds) if kinds else ranked


def _beside(ranked: Iterable[Entry], kinds: Kinds) -> Iterator[Entry]:
    """One by one, for a pick looks at a few of hundreds; a generator expression would be a whole
    list where this is compiled."""
    for found in ranked:
        if not kinds.hold(found[2]):
            yield found
