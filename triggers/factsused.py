"""What a condition looked at: the names and calls of its expression, each with its value.

They are found once, when the expression is compiled; their values are taken when somebody asks,
for the evidence of an offer and for explanations.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from triggers.celast import Node
from triggers.errors import EvalError
from triggers.names import Function, Variable
from triggers.translate import PRESENT, Eval, Untranslated

if TYPE_CHECKING:
    from triggers.context import Context

#: Bounds of what is shown of one condition, of one list and of one text.
FACTS_MAX, LIST_MAX, TEXT_MAX = 20, 10, 200
_INDEX = "_[_]"
_NO_VALUE = "(no value)"


@dataclass(frozen=True, slots=True)
class FactUsed:
    """A name, or a call with its arguments, as it reads in the expression."""

    fact: str
    get: Eval

    def value(self, ctx: "Context") -> Any:
        """The value as JSON can say it, cut short; ``(no value)`` where it has none."""
        try:
            return plain(self.get(ctx, None))
        except (EvalError, TypeError):
            return _NO_VALUE


def plain(value: Any) -> Any:
    """A value of an expression for JSON: long texts and lists are cut, lines become their skus."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 1] + "…"
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        shown = [plain(entry) for entry in value[:LIST_MAX]]
        return [*shown, f"… {len(value)} in all"] if len(value) > LIST_MAX else shown
    if isinstance(value, Mapping):
        return sorted(map(str, value))[:LIST_MAX]
    return plain(str(getattr(value, "sku", value)))


class Finder:
    """Finds the facts of checked trees over one table of names."""

    def __init__(
        self,
        variables: Mapping[str, Variable],
        functions: Mapping[str, Function],
        translate: Callable[[Node], Eval],
    ) -> None:
        self._variables = variables
        self._functions = functions
        self._translate = translate

    def find(self, tree: Node) -> tuple[FactUsed, ...]:
        """The facts of an expression in the order in which they stand there, each once."""
        found: dict[str, FactUsed] = {}
        self._visit(tree, frozenset(), found)
        return tuple(found.values())[:FACTS_MAX]

    def _visit(self, node: Node, bound: frozenset[str], found: dict[str, FactUsed]) -> None:
        text = self._text(node, bound)
        if text is not None and text not in found:
            with suppress(Untranslated):
                found[text] = FactUsed(text, self._eval(node))
        if text is not None and (node.kind == "select" or node.name in (_INDEX, PRESENT)):
            return  # what it is a part of says less
        if node.kind == "comprehension":
            bound = bound | set(node.variables)
        for arg in node.args:
            self._visit(arg, bound, found)

    def _eval(self, node: Node) -> Eval:
        variable = self._variables.get(node.name) if node.kind == "ident" else None
        if variable is None:
            return self._translate(node)
        get = variable.get
        return lambda ctx, local: get(ctx)

    def _text(self, node: Node, bound: frozenset[str]) -> str | None:
        """How a fact reads; None for what is none, or hangs on the variable of a macro."""
        if node.kind == "ident":
            known = node.name in self._variables and node.name not in bound
            return node.name if known else None
        if node.kind == "select":
            inner = self._text(node.args[0], bound)
            name = f"{inner}.{node.name}"
            return None if inner is None else f"has({name})" if node.test_only else name
        if node.kind != "call":
            return None
        if node.name == PRESENT:
            return f"has({node.args[0].value})"
        if node.name == _INDEX:
            inner, key = (self._argument(arg, bound) for arg in node.args)
            return None if inner is None or key is None else f"{inner}[{key}]"
        if node.name in self._functions:
            args = [self._argument(arg, bound) for arg in node.args]
            shown = [arg for arg in args if arg is not None]
            return f"{node.name}({', '.join(shown)})" if len(shown) == len(args) else None
        return None

    def _argument(self, node: Node, bound: frozenset[str]) -> str | None:
        if node.kind == "const":
            return msgspec.json.encode(node.value).decode()
        return self._text(node, bound)


def facts_of(conditions: Iterable[Any], ctx: "Context") -> dict[str, Any]:
    """Fact -> value, of all conditions together, in their order and at most ``FACTS_MAX``."""
    found: dict[str, Any] = {}
    for condition in conditions:
        used: tuple[FactUsed, ...] = getattr(condition, "facts", ())
        for each in used:
            if each.fact not in found:
                if len(found) >= FACTS_MAX:
                    return found
                found[each.fact] = each.value(ctx)
    return found
