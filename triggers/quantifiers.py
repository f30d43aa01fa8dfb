"""``exists`` and ``all`` as plain loops: the macros that rules use most.

Each function answers a closure of the context and of the surrounding macros' variables, as
:mod:`triggers.translate` makes them.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triggers.celast import Node, walk
from triggers.context import Context
from triggers.errors import EvalError
from triggers.names import Variable

if TYPE_CHECKING:
    from triggers.translate import Eval, Locals

Get = Callable[[Context], Any]
Column = Callable[[Any], list[Any]]

#: The step of a macro -> the truth of one element that settles it: of ``exists`` and of ``all``.
_WANTED = {"_||_": True, "_&&_": False}
#: Field of a line that expressions see -> its type, and the values of all lines.
_COLUMNS: dict[str, tuple[type, Callable[[Any], list[Any]]]] = {
    "sku": (str, lambda lines: [line.sku for line in lines]),
    "quantity": (int, lambda lines: [line.quantity for line in lines]),
    "unit_price": (int, lambda lines: [line.unit_price for line in lines]),
    "category": (str, lambda lines: [line.category or "" for line in lines]),
}
#: Comparison -> how, and which end of all values decides for ``exists`` and which for ``all``.
_ORDERED: dict[str, tuple[Callable[[Any, Any], bool], Callable[..., Any], Callable[..., Any]]] = {
    "_<_": (operator.lt, min, max),
    "_<=_": (operator.le, min, max),
    "_>_": (operator.gt, max, min),
    "_>=_": (operator.ge, max, min),
}


def quantifier_of(node: Node) -> bool | None:
    """True for ``exists``, false for ``all``, None for another comprehension.

    The parser writes both as what was found so far, joined with the test of one element.
    """
    total = node.variables[1]
    initial, condition, step, result = node.args[1:]
    wanted = _WANTED.get(step.name) if step.kind == "call" else None
    if wanted is None:
        return None
    so_far = [step.args[0], result]
    same = (
        initial.kind == "const"
        and initial.value is not wanted
        and condition.name == "@not_strictly_false"
        and all(part.kind == "ident" and part.name == total for part in so_far)
        and not any(part.kind == "ident" and part.name == total for part in walk(step.args[1]))
    )
    return wanted if same else None


def over_any(source: "Eval", element: str, test: "Eval", wanted: bool) -> "Eval":
    """An element whose test is ``wanted`` settles it; without one an error stays an error."""

    def run(ctx: Context, local: "Locals") -> bool:
        inner: dict[str, Any] = dict(local or ())
        failed: EvalError | None = None
        for value in source(ctx, local):
            inner[element] = value
            try:
                if (test(ctx, inner) is True) is wanted:
                    return wanted
            except EvalError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not wanted

    return run


def over_lines(variable: Variable | None, test: Node, element: str, wanted: bool) -> "Eval | None":
    """``cart.items.exists(i, i.quantity >= 2)`` and its like, the most common macro by far:
    a field of each line beside a constant."""
    if variable is None or variable.type != "list(item)" or test.kind != "call":
        return None
    if len(test.args) != 2 or test.args[1].kind != "const":
        return None
    left, value = test.args[0], test.args[1].value
    of_element = left.kind == "select" and not left.test_only and left.args[0].kind == "ident"
    if not of_element or left.args[0].name != element or left.name not in _COLUMNS:
        return None
    kind, column = _COLUMNS[left.name]
    if type(value) is not kind:
        return None
    if test.name in _ORDERED:
        return _over_ordered(variable.get, column, test.name, value, wanted)
    if test.name in ("_==_", "_!=_"):
        return _over_equal(variable.get, column, (test.name == "_==_") is wanted, value, wanted)
    return None


def _over_ordered(get: Get, column: Column, name: str, value: Any, wanted: bool) -> "Eval":
    """Some value lies beyond ``value`` where the outermost does, all where the innermost does."""
    compare, some, every = _ORDERED[name]
    end = some if wanted else every

    def run(ctx: Context, local: "Locals") -> bool:
        values = column(get(ctx))
        return compare(end(values), value) if values else not wanted

    return run


def _over_equal(get: Get, column: Column, sought: bool, value: Any, wanted: bool) -> "Eval":
    """``sought``: one equal value settles it; otherwise one that differs does."""

    def found(ctx: Context, local: "Locals") -> bool:
        return (value in column(get(ctx))) is wanted

    def differs(ctx: Context, local: "Locals") -> bool:
        values = column(get(ctx))
        return (values.count(value) < len(values)) is wanted

    return found if sought else differs
