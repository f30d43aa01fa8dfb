"""Several customers under one book, whose partition learns from all of them at once."""

from __future__ import annotations

from typing import Any

from tests.unit.harness import World
from triggers.book import Book
from triggers.customer import Customer
from triggers.judgement import Step
from triggers.learned import Tally


class Crowd(World):
    """A world whose events name their customer with ``by``; the first one is ``c1``."""

    def __init__(self, book: Book, **fields: Any) -> None:
        self.tally = Tally()
        self.customers: dict[str, Customer] = {}
        super().__init__(book, **fields)
        self.customers["c1"] = self.customer

    def become(self, customer_id: str) -> Crowd:
        """Let what follows come from that customer, who consents to everything when new."""
        known = self.customers.get(customer_id)
        self.customer = known or Customer(customer_id)
        self.customers[customer_id] = self.customer
        if known is None:
            self.send("consent.granted", channel="*")
        return self

    def _gather(self, out: Step) -> None:
        super()._gather(out)
        if out.learnt:
            self.tally.share(self.catalog.learned, 0, out.learnt)
