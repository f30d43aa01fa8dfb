"""The `data` of every record of the catalogue, as the wire contract has them."""

from __future__ import annotations

from triggers.fields import (
    Amount,
    Count,
    Currency,
    Label,
    Ladder,
    Payload,
    Relation,
    Share,
    Sku,
    Text,
)


class ProductSet(Payload, frozen=True, gc=False):
    """A product as it is now; `margin` is the share of its price that is earned (1 when absent)."""

    name: str
    price: Amount
    currency: Currency
    category: Label | None = None
    family: Label | None = None
    purposes: list[Label] | None = None
    stock: Count | None = None
    ladder: Ladder | None = None
    features: list[Label] | None = None
    benefit: Text | None = None
    requires: list[Sku] | None = None
    margin: Share | None = None


class RelationSet(Payload, frozen=True, gc=False):
    """From the subject's sku to another."""

    to: Sku
    relation: Relation
    weight: Share
    story: Text | None = None


class BundleSet(Payload, frozen=True, gc=False):
    """Skus that are sold together for one price."""

    items: list[Sku]
    price: Amount
    currency: Currency
    theme: Text | None = None


class StockSet(Payload, frozen=True, gc=False):
    """What is left of a product; nothing is left at 0 or below."""

    stock: Count


class ProductRemoved(Payload, frozen=True, gc=False):
    """Product, bundle and relations of the sku are hidden."""
