"""Logs for tests of the report: written as JSON lines, read by the report, recounted by SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streams.report import run_report
from streams.reportentries import Files
from triggers.durations import to_ms, to_text

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
#: A Monday, so that a week of seven days is one ISO week.
START = to_ms("2026-03-02T00:00:00+00:00")


Line = tuple[str, int, int]  # sku, quantity, unit price


class Logbook:
    """Events, offers and decisions in any order; files are written in the order of time."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.offers: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []

    def event(self, kind: str, subject: str, at: int, **data: Any) -> None:
        """An event of the shop."""
        self.events.append(_envelope(f"e{len(self.events)}", "shop", kind, subject, at, data))

    def product(self, sku: str, price: int = 1000, **fields: Any) -> None:
        """A product, before everything else."""
        data = {"name": sku, "price": price, "currency": "JPY", **fields}
        self.event("catalog.product_set", sku, START - DAY, **data)

    def buy(
        self, customer: str, order: str, at: int, *lines: tuple[str, int, int], **more: Any
    ) -> None:
        """An order of lines (sku, quantity, unit price)."""
        items = [{"sku": s, "quantity": q, "unit_price": p} for s, q, p in lines]
        total = more.pop("total", sum(q * p for _, q, p in lines))
        fields = {"order_id": order, "items": items, "total": total, "currency": "JPY", **more}
        self.event("purchase.completed", customer, at, **fields)

    def decide(
        self, customer: str, rule: str, at: int, outcome: str = "offered", **more: Any
    ) -> str:
        """A decision, with its offer when offered; answers the offer id."""
        offer_id: str = more.pop("offer_id", f"o{len(self.decisions)}")
        book, kind = more.pop("book", "v1"), more.pop("kind", "cross_sell")
        valid_ms = more.pop("valid_ms", DAY)
        shared = {"offer_id": offer_id, "rule": rule, "rule_book": book, "kind": kind}
        data = {**shared, "outcome": outcome, "reason": None, "priority": 50, **more}
        self.decisions.append(
            _envelope(f"{offer_id}.{outcome}", "tsuide", "decision.made", customer, at, data)
        )
        if outcome == "offered":
            data = {
                **shared,
                "channel": "email",
                "items": [],
                "valid_until": to_text(at + valid_ms),
            }
            self.offers.append(_envelope(offer_id, "tsuide", "offer.made", customer, at, data))
        return offer_id

    def say(self, customer: str, offer_id: str, at: int, *steps: str) -> None:
        """Feedback: ``shown``, ``accepted`` and so on, a second apart."""
        for place, step in enumerate(steps):
            self.event(f"offer.{step}", customer, at + place * SECOND, offer_id=offer_id)

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """Events, offers and decisions as files."""
        files = []
        for name in ("events", "offers", "decisions"):
            records = sorted(getattr(self, name), key=lambda record: to_ms(record["time"]))
            path = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
            files.append(path)
        return files[0], files[1], files[2]

    def report(self, folder: Path, days: int = 7, by: str | None = None) -> dict[str, Any]:
        """The figures of ``tsuide report --json``."""
        events, offers, decisions = self.write(folder)
        return run_report(Files([events], [offers], [decisions]), days, by)

    def sql(self, query: str, *values: Any) -> list[Any]:
        """Rows of a query over the table ``event(n, type, who, at, data)`` with JSON data."""
        ordered = sorted(self.events, key=lambda record: to_ms(record["time"]))
        with sqlite3.connect(":memory:") as base:
            base.execute("create table event(n, type, who, at, data)")
            rows = (
                (n, r["type"], r["subject"], to_ms(r["time"]), json.dumps(r["data"]))
                for n, r in enumerate(ordered)
            )
            base.executemany("insert into event values (?, ?, ?, ?, ?)", rows)
            for view in _VIEWS:
                base.execute(view)
            return base.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """The single figure of a query."""
        ((found,),) = self.sql(query, *values)
        return found


def _envelope(
    number: str, source: str, kind: str, subject: str, at: int, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": number,
        "source": source,
        "type": kind,
        "time": to_text(at),
        "subject": subject,
        "data": data,
    }


#: Tables of a usual warehouse: products, orders net of refunds, and their lines.
_VIEWS: Iterable[str] = (
    """create view product as select who sku, data->>'price' price, data->>'family' family,
       coalesce(data->>'margin', 1.0) margin,
       data->'ladder'->>'name' ladder, data->'ladder'->>'step' step
       from event where type = 'catalog.product_set'""",
    """create view refund as
       select data->>'order_id' id, sum(coalesce(data->>'total', 1 << 40)) paid
       from event where type in ('purchase.refunded', 'purchase.cancelled') group by 1""",
    """create view orders as select e.who, e.at, e.data->>'order_id' id, e.data->>'total' total,
       min(coalesce(r.paid, 0), e.data->>'total') refunded
       from event e left join refund r on r.id = e.data->>'order_id'
       where e.type = 'purchase.completed'""",
    "create view live as select * from orders where refunded < total",
    """create view line as select e.who, e.at, e.data->>'order_id' id, i.value->>'sku' sku,
       i.value->>'quantity' quantity, i.value->>'unit_price' price
       from event e, json_each(e.data, '$.items') i where e.type = 'purchase.completed'""",
)
