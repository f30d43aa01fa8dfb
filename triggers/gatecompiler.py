"""`gate:` and `holdout:` of a rule book, from their models to what the engine reads."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from triggers.book import SALES, Condition, Value
from triggers.conditions import ExpressionError, Expressions
from triggers.durations import parse_duration
from triggers.gatekeys import Ceiling, Fatigue, Gate, Holdout
from triggers.rules import CeilingModel, FatigueModel, GateModel, HoldoutModel
from triggers.salesgates import VALUE_DEFAULT, Goal
from triggers.shapes import Path

_PURPOSE_TYPES = ("string", "list", "dyn")


@dataclass(frozen=True, slots=True)
class GateCompiler:
    """Compiles one `gate:` over ``scope``; ``add(path, text, column)`` takes the faults."""

    scope: Expressions
    path: Path
    add: Callable[[Path, str, int], None]

    def gate(self, model: GateModel) -> Gate:
        """The gate alone, without what a book adds."""
        deployed = model.deployed
        return Gate(
            value=None if model.value_realised is None else self._value(model.value_realised),
            deployed=None if deployed is None else tuple(deployed),
            purpose=None if model.purpose is None else self._purpose(model.purpose),
            ceiling=None if model.price_ceiling is None else _ceiling(model.price_ceiling),
            fatigue=() if model.fatigue is None else (_fatigue(model.fatigue),),
            framing_fit=model.framing == "fit",
        )

    def _value(self, source: str) -> Condition | None:
        try:
            return self.scope.condition(source or VALUE_DEFAULT)
        except ExpressionError as error:
            self.add((*self.path, "value_realised"), str(error), error.column)
            return None

    def _purpose(self, source: str) -> Value | None:
        if not source:
            return Goal()
        path = (*self.path, "purpose")
        try:
            value = self.scope.value(source)
        except ExpressionError as error:
            self.add(path, str(error), error.column)
            return None
        if value.type.partition("<")[0] not in _PURPOSE_TYPES:
            self.add(path, f"must be a text or a list of texts, but is {value.type}", 1)
        return value


def _ceiling(model: CeilingModel) -> Ceiling:
    return Ceiling(permille_of(model.share), model.until_accepted)


def _fatigue(model: FatigueModel) -> Fatigue:
    return Fatigue(model.budget, 0 if model.per == "session" else parse_duration(model.per).ms)


def permille_of(percent: str) -> int:
    """``4%`` as 40, ``2.5%`` as 25."""
    whole, _, tenth = percent.removesuffix("%").partition(".")
    return int(whole) * 10 + int(tenth or 0)


def holdout_of(model: HoldoutModel | None, salt: str = "") -> Holdout | None:
    """A holdout; ``salt`` is the book's, for a rule that names none."""
    if model is None:
        return None
    return Holdout(permille_of(model.share) / 1000, salt if model.salt is None else model.salt)


def merged(own: Gate, book: Gate | None, kind: str) -> Gate:
    """A rule's gates with those that the book sets for all who sell.

    A rule's own word comes first; budgets of fatigue add up, since a rule may be stricter, never
    looser. What asks for realised value asks it of an ``up_sell`` alone.
    """
    if book is None or kind not in SALES:
        return own
    changes: dict[str, Any] = {"fatigue": (*book.fatigue, *own.fatigue)}
    asks = ("value", "deployed") if kind == "up_sell" else ()
    for name in (*asks, "purpose", "ceiling"):
        if getattr(own, name) is None:
            changes[name] = getattr(book, name)
    if changes.get("value") is not None:
        # A copy: each rule counts its own evaluations that had no value.
        changes["value"] = copy(changes["value"])
    return replace(own, **changes)
