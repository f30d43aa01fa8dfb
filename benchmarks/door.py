"""What the door costs an event: microseconds, by kind of record.

python -m benchmarks.door [--count N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from streams.codec import Door, LineDoor
from streams.murmur2 import partition_of
from triggers.errors import Refused

_PARTITIONS = 8
_AT_MS = 1_714_566_896_789


def _envelope(kind: str, subject: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1234567890",
        "source": "shop",
        "type": kind,
        "time": "2024-05-01T12:34:56.789Z",
        "subject": subject,
        "data": data,
    }


def _item(number: int, category: str) -> dict[str, Any]:
    return {
        "sku": f"sku-{number}", "quantity": 1, "unit_price": 4980, "category": category,
    }  # fmt: skip


def _cart(subject: str, category: str) -> dict[str, Any]:
    data = {
        "cart_id": "c-123456",
        "item": _item(7, category),
        "subtotal": 4980,
        "currency": "JPY",
        "session_id": "s-1234",
    }
    return _envelope("cart.item_added", subject, data)


def _order(subject: str, lines: int) -> dict[str, Any]:
    items = [_item(number, "stationery") for number in range(lines)]
    data = {"order_id": "o-1", "items": items, "total": 4980 * lines, "currency": "JPY"}
    return _envelope("purchase.completed", subject, data)


def _records(customers: int) -> dict[str, list[tuple[str, int, bytes, bytes]]]:
    """Topic, partition, key and value of records, by kind."""
    shapes: dict[str, Any] = {
        "cart, ASCII": lambda s: ("cart", _cart(s, "stationery")),
        "cart, Japanese": lambda s: ("cart", _cart(s, "文房具")),
        "cart, an unknown field": lambda s: ("cart", {**_cart(s, "x"), "extra": {"a": [1]}}),
        "order of 10 lines": lambda s: ("purchase", _order(s, 10)),
        "order of 60 lines": lambda s: ("purchase", _order(s, 60)),
        "refused: no cart_id": lambda s: ("cart", _envelope("cart.viewed", s, {"subtotal": 1})),
    }
    records = {}
    for name, shape in shapes.items():
        rows = []
        for number in range(customers):
            subject = f"customer-{number:06d}"
            topic, event = shape(subject)
            value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
            key = subject.encode()
            rows.append((topic, partition_of(key, _PARTITIONS), key, value))
        records[name] = rows
    return records


def _us(rows: Sequence[tuple[str, int, bytes, bytes]], rounds: int) -> float:
    door = Door(_PARTITIONS)
    decode = door.decode
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for topic, partition, key, value in rows:
            with suppress(Refused):
                decode(topic, partition, key, value, (), _AT_MS, _AT_MS)
        best = min(best, time.perf_counter() - started)
    return best / len(rows) * 1e6


def _line_us(rows: Sequence[tuple[str, int, bytes, bytes]], rounds: int) -> float:
    decode = LineDoor().decode
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _, _, _, value in rows:
            decode(value)
        best = min(best, time.perf_counter() - started)
    return best / len(rows) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="records a round")
    count = parser.parse_args().count
    for name, rows in _records(count).items():
        _show(name, rows, _us(rows, 5))
        if name == "cart, ASCII":
            _show("  as a line of a file", rows, _line_us(rows, 5))
            _show("  keys never seen before", rows, _us(rows, 1))


def _show(name: str, rows: Sequence[tuple[str, int, bytes, bytes]], us: float) -> None:
    print(f"{name:24} {len(rows[0][3]):6} bytes  {us:7.2f} us")


if __name__ == "__main__":
    main()
