"""One customer as the measures see it, and the sums over all customers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from triggers.intervals import Sample

Rung = tuple[str, float]  # a ladder's name and the step


@dataclass(slots=True)
class OrderNote:
    """An order as far as it may still change; money in minor units."""

    order_id: str
    at_ms: int
    total: int
    margin_micro: int
    families: tuple[str, ...]
    rungs: tuple[Rung, ...]
    lines: tuple[tuple[str, int], ...]  # sku, amount
    refunded: int = 0
    void: bool = False


@dataclass(slots=True)
class ContractNote:
    """A contract; ``started_ms`` is 0 where the log does not hold its beginning."""

    contract_id: str
    started_ms: int
    ended_ms: int = 0


@dataclass(slots=True)
class Stay:
    """A guest in the house."""

    stay_id: str
    plan: str
    from_ms: int
    room: int | None  # what was paid for it, None where no order tells
    added: int = 0  # orders in the house
    added_orders: int = 0


@dataclass(slots=True)
class Shopper:
    """One customer."""

    orders: int = 0
    spend: int = 0
    margin_micro: int = 0
    first_order_ms: int = 0
    last_ms: int = 0
    visits: int = 0
    last_visit_ms: int = 0
    left_plan_ms: int = 0
    recent: list[OrderNote] = field(default_factory=list)
    contracts: list[ContractNote] = field(default_factory=list)
    families: Counter[str] = field(default_factory=Counter)
    rungs: Counter[Rung] = field(default_factory=Counter)
    attributes: dict[str, Any] = field(default_factory=dict)
    passed: bool | None = None
    stay: Stay | None = None
    downsell: tuple[str, int, int] | None = None  # rule, arm, ms


@dataclass(slots=True)
class Sums:
    """What was added up; money in minor units. Orders as they were completed, before refunds."""

    orders: int = 0
    ordered: int = 0
    units: int = 0
    units_value: int = 0
    set_orders: int = 0
    rung_units: Counter[Rung] = field(default_factory=Counter)
    csat: Sample = field(default_factory=Sample)
    stars: Sample = field(default_factory=Sample)
    referrals: int = 0
    plans_left: int = 0
    plans_filled: int = 0
    stays: int = 0
    stays_added: int = 0
    nights: int = 0
    room_revenue: int = 0
    currencies: dict[str, None] = field(default_factory=dict)
