"""What a catalogue says against a rule book: sets and ladders out of bounds, and plans."""

from pathlib import Path

from streams.codec import LineDoor
from streams.history import read_lines, topics_of
from triggers.book import Book
from triggers.bounds import out_of_bounds
from triggers.catalog import Catalog
from triggers.errors import Refused
from triggers.events import CatalogEvent


def check_catalog(file: Path, book: Book) -> list[str]:
    """The faults of a JSONL file of catalogue events (``.gz`` too) under ``book``, one line each.

    Each names the line that set the price last. Other events in the file are passed by.
    """
    catalog, lines = Catalog(), dict[str, int]()
    door = LineDoor(book.custom)
    faults = []
    for line in read_lines([file], topics_of(book.custom)):
        try:
            event = door.decode(line.value)
        except Refused as refused:
            faults.append(f"{file}:{line.number}:1: {refused.reason}: {refused.detail}")
            continue
        if isinstance(event, CatalogEvent):
            catalog.apply(event.type, event.subject, event.data)
            if event.type in _PRICED:
                lines[event.subject] = line.number
    for sku, message in out_of_bounds(catalog, book.allowed):
        faults.append(f"{file}:{lines.get(sku, 1)}:1: {message}")
    for rule in book.rules.values():
        sku = rule.extras.default_selection
        product = catalog.product(sku) if sku else None
        if product is not None and product.ladder is None:
            faults.append(
                f"{file}:{lines.get(sku, 1)}:1: {sku} is no plan of a ladder, and the rule "
                f"{rule.id} preselects it: a paid extra is never ticked for the customer"
            )
    return faults


_PRICED = frozenset({"catalog.product_set", "catalog.bundle_set"})
