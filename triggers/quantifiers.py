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

#: The step of a macro -> the truth of one element that settles it: of ``exists`` and of ``all``.
_WANTED = {"_||_": True, "_&&_": False}
#: Fields of a line that expressions see, and their types.
_FIELDS: dict[str, type] = {"sku": str, "quantity": int, "unit_price": int, "category": str}
_LINE_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "_==_": operator.eq,
    "_!=_": operator.ne,
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
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
    if not of_element or left.args[0].name != element or left.name not in _FIELDS:
        return None
    compare = _LINE_COMPARE.get(test.name)
    if compare is None or type(value) is not _FIELDS[left.name]:
        return None
    get, field = variable.get, operator.attrgetter(left.name)

    def run(ctx: Context, local: "Locals") -> bool:
        for line in get(ctx):
            found = field(line)
            if compare("" if found is None else found, value) is wanted:
                return wanted
        return not wanted

    return run
