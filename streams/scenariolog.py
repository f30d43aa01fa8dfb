"""The events of a scenario, with what it leaves out filled in from the catalogue and the book."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from streams.history import Line
from streams.scenarios import STEP_KEYS, Scenario
from streams.strictyaml import Fault
from triggers.catalog import Catalog
from triggers.durations import to_text
from triggers.events import CATALOG, EventType
from triggers.shapes import Path

#: Ids that are the same in every event that does not name its own. Orders are counted.
_IDS = {
    "cart_id": "cart-1",
    "checkout_id": "checkout-1",
    "contract_id": "contract-1",
    "ticket_id": "ticket-1",
    "stay_id": "stay-1",
}
_ITEM = ("sku", "quantity", "unit_price", "category")
_encode = msgspec.json.Encoder().encode


class ScenarioFault(Exception):  # noqa: N818 - a fault of the author's, with its place
    """A scenario that cannot be run as it is written."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class EventWriter:
    """Turns steps into lines of a log, one after another."""

    def __init__(
        self,
        scenario: Scenario,
        types: Mapping[str, EventType],
        currency: str,
        catalog: Catalog,
        offers: Mapping[tuple[str, str], str],
    ) -> None:
        """``catalog`` and ``offers`` ((customer, rule) -> offer id) change while the log runs."""
        self._scenario = scenario
        self._types = types
        self._currency = currency
        self._catalog = catalog
        self._offers = offers
        self._count = 0
        self._orders: dict[str, int] = {}
        self._carts: dict[tuple[str, str], int] = {}

    def line(self, step: Mapping[str, Any], at_ms: int, customer: str, path: Path) -> Line:
        """The line of one step, which happens to ``customer`` at ``at_ms``."""
        kind = self._type(step, path)
        self._check_keys(step, kind, path)
        data = {key: value for key, value in step.items() if key not in STEP_KEYS}
        subject = customer
        if kind.topic == CATALOG:
            subject = str(data.pop("sku", ""))
            self._fill_catalog(kind, subject, data)
        else:
            self._fill(kind, data, customer, path)
            self._fill_offers(step, kind, data, customer, path)
        self._count += 1
        envelope = {
            "specversion": "1.0",
            "id": str(step.get("id", f"event-{self._count}")),
            "source": str(step.get("source", "scenario")),
            "type": kind.name,
            "time": to_text(at_ms),
            "subject": subject,
            "data": data,
        }
        rank = 0 if kind.topic == CATALOG else 1
        return Line(at_ms, rank, 0, self._count, self._scenario.id, _encode(envelope))

    def _type(self, step: Mapping[str, Any], path: Path) -> EventType:
        name = step.get("event")
        known = self._types.get(name) if isinstance(name, str) else None
        if known is not None:
            return known
        close = get_close_matches(str(name), list(self._types), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise self._fault((*path, "event"), f"unknown event type {name}{hint}")

    def _check_keys(self, step: Mapping[str, Any], kind: EventType, path: Path) -> None:
        fields = list(kind.data.__struct_fields__)
        if kind.topic == CATALOG:
            fields.append("sku")
        for key in step:
            if key not in fields and key not in STEP_KEYS:
                close = get_close_matches(key, [*fields, *STEP_KEYS], n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(fields)}"
                raise self._fault((*path, key), f"{kind.name} has no field {key}{hint}")

    def _fill_catalog(self, kind: EventType, sku: str, data: dict[str, Any]) -> None:
        """Give what a product or bundle of the catalogue leaves out."""
        fields = kind.data.__struct_fields__
        if "currency" in fields:
            data.setdefault("currency", self._currency)
        if "name" in fields:
            data.setdefault("name", sku)

    def _fill(self, kind: EventType, data: dict[str, Any], customer: str, path: Path) -> None:
        fields = kind.data.__struct_fields__
        optional = dict(
            zip(reversed(fields), reversed(kind.data.__struct_defaults__), strict=False)
        )
        for name, value in _IDS.items():
            if name in fields and name not in optional:
                data.setdefault(name, value)
        if "currency" in fields:
            data.setdefault("currency", self._currency)
        if "order_id" in fields and "order_id" not in optional:
            self._fill_order(kind.name, data, customer)
        if "item" in data and "item" in fields:
            data["item"] = self._item(data["item"], (*path, "item"))
        if isinstance(data.get("items"), list) and "items" in fields:
            data["items"] = [
                self._item(item, (*path, "items", place))
                for place, item in enumerate(data["items"])
            ]
        self._fill_sums(kind.name, data, customer, fields)

    def _fill_order(self, name: str, data: dict[str, Any], customer: str) -> None:
        if name == "purchase.completed":
            self._orders[customer] = self._orders.get(customer, 0) + 1
        data.setdefault("order_id", f"order-{self._orders.get(customer, 1)}")

    def _item(self, item: Any, path: Path) -> Any:
        """A line: a sku alone is one piece at the catalogue's price."""
        if isinstance(item, str):
            item = {"sku": item}
        if not isinstance(item, dict):
            raise self._fault(path, "is a sku, or {sku, quantity, unit_price, category}")
        for key in item:
            if key not in _ITEM:
                raise self._fault(
                    (*path, key), f"an item has no field {key}; it has {', '.join(_ITEM)}"
                )
        product = self._catalog.product(str(item.get("sku", "")))
        if product is None:
            return {"quantity": 1, **item}
        category = {"category": product.category} if product.category else {}
        return {"quantity": 1, "unit_price": product.price, **category, **item}

    def _fill_sums(
        self, name: str, data: dict[str, Any], customer: str, fields: tuple[str, ...]
    ) -> None:
        """Amounts that follow from lines: the cart's after the event, a total, a plan's price."""
        cart = (customer, str(data.get("cart_id", "")))
        if "subtotal" in fields:
            sign = {"cart.item_added": 1, "cart.item_removed": -1}.get(name, 0)
            change = sign * _sum([data["item"]]) if sign and "item" in data else 0
            data.setdefault("subtotal", max(0, self._carts.get(cart, 0) + change))
            self._carts[cart] = data["subtotal"] if isinstance(data["subtotal"], int) else 0
        if "total" in fields and name in _WITH_TOTAL:
            lines = data.get("items")
            known = _sum(lines) if isinstance(lines, list) else self._carts.get(cart, 0)
            data.setdefault("total", known)
        if "plan" in fields and "price" in fields:
            product = self._catalog.product(str(data.get("plan", "")))
            if product is not None:
                data.setdefault("price", product.price)

    def _fill_offers(
        self,
        step: Mapping[str, Any],
        kind: EventType,
        data: dict[str, Any],
        customer: str,
        path: Path,
    ) -> None:
        """``offer: RULE`` and ``offers: [RULE]`` stand for the customer's latest offers."""

        def latest(rule: Any, key: Path) -> str:
            found = self._offers.get((customer, str(rule)))
            if found is None:
                raise self._fault((*path, *key), f"{rule} has offered {customer} nothing so far")
            return found

        if "offer" in step:
            data["offer_id"] = latest(step["offer"], ("offer",))
        if isinstance(step.get("offers"), list):
            data["offer_ids"] = [
                latest(rule, ("offers", place)) for place, rule in enumerate(step["offers"])
            ]

    def _fault(self, path: Path, message: str) -> ScenarioFault:
        return ScenarioFault(self._scenario.fault(path, message))


_WITH_TOTAL = ("purchase.completed", "checkout.started", "checkout.payment_reached")


def _sum(lines: list[Any]) -> int:
    total = 0
    for line in lines:
        price, quantity = line.get("unit_price"), line.get("quantity")
        if isinstance(price, int) and isinstance(quantity, int):
            total += price * quantity
    return total
