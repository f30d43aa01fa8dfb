"""What a catalogue says against a rule book: sets and ladders out of bounds, plans, and circles."""

import json
from collections.abc import Iterator
from pathlib import Path

from streams.codec import LineDoor
from streams.history import read_lines, topics_of
from triggers.book import Book
from triggers.bounds import out_of_bounds
from triggers.catalog import Catalog
from triggers.catalogpayloads import RelationSet
from triggers.errors import Refused
from triggers.events import CatalogEvent
from triggers.relationgraph import ONE_WAY, circles, edges


def check_catalog(file: Path, book: Book, graph: Path | None = None) -> list[str]:
    """The faults of a JSONL file of catalogue events (``.gz`` too) under ``book``, one line each.

    Each names the line that set the price or the relation last. Other events in the file are
    passed by. ``graph`` is a file into which the relations are written, one JSON object a line.
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
            elif isinstance(event.data, RelationSet):
                lines[f"{event.subject}>{event.data.to}"] = line.number
    for sku, message in out_of_bounds(catalog, book.allowed):
        faults.append(f"{file}:{lines.get(sku, 1)}:1: {message}")
    for kind, way in circles(catalog):
        place = f"{way[0]}>{way[1]}" if kind == ONE_WAY else way[0]
        message = f"{kind} leads in a circle: {' > '.join(way)}; take one of them out"
        faults.append(f"{file}:{lines.get(place, 1)}:1: {message}")
    if graph is not None:
        graph.write_text("".join(_edge_lines(catalog)), encoding="utf-8")
    for rule in book.rules.values():
        sku = rule.extras.default_selection
        product = catalog.product(sku) if sku else None
        if product is not None and product.ladder is None:
            faults.append(
                f"{file}:{lines.get(sku, 1)}:1: {sku} is no plan of a ladder, and the rule "
                f"{rule.id} preselects it: a paid extra is never ticked for the customer"
            )
    return faults


def _edge_lines(catalog: Catalog) -> Iterator[str]:
    for sku, edge in edges(catalog):
        told = {"story": edge.story} if edge.story else {}
        line = {"sku": sku, "to": edge.to, "relation": edge.relation, "weight": edge.weight, **told}
        yield json.dumps(line, ensure_ascii=False) + "\n"


_PRICED = frozenset({"catalog.product_set", "catalog.bundle_set"})
