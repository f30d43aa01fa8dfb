"""What stands together in the catalogue: rungs of ladders, sets that hold a sku, what needs it.

Kept up with each record, so that a decision never walks through all products.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triggers.catalog import Bundle, Product


class Shelves:
    """Skus by ladder, by member of a bundle and by what a product requires."""

    __slots__ = ("_bundles", "_ladders", "_needing")

    def __init__(self) -> None:
        self._ladders: dict[str, set[str]] = {}
        self._bundles: dict[str, set[str]] = {}
        self._needing: dict[str, set[str]] = {}

    def put(self, product: "Product") -> None:
        """Take in a product."""
        if product.ladder is not None:
            self._ladders.setdefault(product.ladder[0], set()).add(product.sku)
        for needed in product.requires:
            self._needing.setdefault(needed, set()).add(product.sku)

    def drop(self, product: "Product | None") -> None:
        """Forget a product as it was; None is nothing."""
        if product is None:
            return
        if product.ladder is not None:
            _discard(self._ladders, product.ladder[0], product.sku)
        for needed in product.requires:
            _discard(self._needing, needed, product.sku)

    def put_bundle(self, bundle: "Bundle") -> None:
        """Take in a bundle."""
        for sku in bundle.items:
            self._bundles.setdefault(sku, set()).add(bundle.sku)

    def drop_bundle(self, bundle: "Bundle | None") -> None:
        """Forget a bundle as it was; None is nothing."""
        for sku in () if bundle is None else bundle.items:
            _discard(self._bundles, sku, bundle.sku)  # type: ignore[union-attr]

    def ladders(self) -> list[str]:
        """The names of all ladders, in order."""
        return sorted(self._ladders)

    def on_ladder(self, name: str) -> list[str]:
        """The skus of a ladder's rungs, in order."""
        return sorted(self._ladders.get(name, ()))

    def bundles_with(self, sku: str) -> list[str]:
        """The bundles that hold a sku, in order."""
        return sorted(self._bundles.get(sku, ()))

    def needing(self, sku: str) -> list[str]:
        """The products that require a sku, in order."""
        return sorted(self._needing.get(sku, ()))


def _discard(shelf: dict[str, set[str]], name: str, sku: str) -> None:
    there = shelf.get(name)
    if there is not None:
        there.discard(sku)
        if not there:
            del shelf[name]
