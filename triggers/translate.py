"""From CEL's checked tree to plain closures, for what rules use on the hot path.

A closure takes the context and the local variables of surrounding macros, and raises
:class:`EvalError` where CEL's evaluation has an error. Whatever is not in the tables below raises
:class:`Untranslated`, and the expression is left to the library. Where the checker knows only at
run time what types meet (``dyn``), only equality is taken over.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triggers.celast import Node
from triggers.celvalues import (
    checked,
    div,
    equal,
    float_div,
    index_list,
    index_map,
    mod,
    to_int,
)
from triggers.context import Context
from triggers.errors import EvalError
from triggers.lines import LINES, MISSING, of_line
from triggers.names import Function, Variable
from triggers.quantifiers import over_any, over_lines, quantifier_of

Locals = dict[str, Any] | None
Eval = Callable[[Context, Locals], Any]

PRESENT = "present"


class Untranslated(Exception):  # noqa: N818 - no error: the library takes over
    """This expression holds something that is left to the library."""


#: Overload of the checker -> what it does. Operands have the overload's types.
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add_int64": lambda a, b: checked(a + b),
    "subtract_int64": lambda a, b: checked(a - b),
    "multiply_int64": lambda a, b: checked(a * b),
    "divide_int64": div,
    "modulo_int64": mod,
    "add_double": operator.add,
    "subtract_double": operator.sub,
    "multiply_double": operator.mul,
    "divide_double": float_div,
    "add_string": operator.add,
    "add_list": lambda a, b: [*a, *b],
    "starts_with_string": lambda a, b: a.startswith(b),
    "ends_with_string": lambda a, b: a.endswith(b),
    "contains_string": operator.contains,
    "index_list": index_list,
    "index_map": index_map,
}
for _kind in ("int64", "double", "string"):
    _BINARY[f"less_{_kind}"] = operator.lt
    _BINARY[f"less_equals_{_kind}"] = operator.le
    _BINARY[f"greater_{_kind}"] = operator.gt
    _BINARY[f"greater_equals_{_kind}"] = operator.ge


def _at_run_time(work: Callable[[Any, Any], Any], overload: str) -> Callable[[Any, Any], Any]:
    """The same for operands whose types only run time tells: CEL has no overload for a mixture,
    but compares numbers of either kind."""
    compares = overload.startswith(("less", "greater"))

    def run(left: Any, right: Any) -> Any:
        kinds = {type(left), type(right)}
        numbers = compares and kinds == {int, float}
        if bool in kinds or not (len(kinds) == 1 or numbers):
            raise EvalError("no such overload")
        if numbers:
            return work(float(left), float(right))  # the library compares them as doubles
        return work(left, right)

    return run


_UNARY: dict[str, Callable[[Any], Any]] = {
    "negate_int64": lambda a: checked(-a),
    "negate_double": lambda a: -a,
    "size_string": len,
    "string_size": len,
    "size_list": len,
    "list_size": len,
    "size_map": len,
    "map_size": len,
    "int64_to_double": float,
    "double_to_int64": to_int,
    "int64_to_string": str,
}
_PLAIN = frozenset({"int", "string", "bool", "double"})


class Translator:
    """Translates trees over one table of names."""

    def __init__(
        self, variables: Mapping[str, Variable], functions: Mapping[str, Function]
    ) -> None:
        self._variables = variables
        self._functions = functions

    def translate(self, node: Node) -> Eval:
        """The closure of a node; raises :class:`Untranslated`."""
        return _KINDS[node.kind](self, node)

    def const(self, node: Node) -> Eval:
        """A constant."""
        value = node.value
        return lambda ctx, local: value

    def ident(self, node: Node) -> Eval:
        """A variable of the table, or of a surrounding macro."""
        variable = self._variables.get(node.name)
        if variable is not None:
            if variable.type in ("timestamp", "map"):
                raise Untranslated(f"{node.name} as a whole")
            get = variable.get
            return lambda ctx, local: get(ctx)
        name = node.name

        def of_macro(ctx: Context, local: Locals) -> Any:
            assert local is not None
            value = local[name]
            if isinstance(value, EvalError):
                raise value
            return value

        return of_macro

    def select(self, node: Node) -> Eval:
        """A field of a map or of a line; ``has()`` on it."""
        get = self._getter(node.args[0])
        if get is not None and not node.test_only and node.args[0].type == "map":
            return _entry(get, node.name)
        operand = self._operand(node.args[0])
        name, missing = node.name, MISSING

        def field(ctx: Context, local: Locals) -> Any:
            value = operand(ctx, local)
            found = value.get(name, missing) if isinstance(value, dict) else of_line(value, name)
            if found is missing:
                raise EvalError(f"no such key: {name}")
            return found

        def has(ctx: Context, local: Locals) -> bool:
            value = operand(ctx, local)
            if isinstance(value, dict):
                return name in value
            if not isinstance(value, LINES):
                raise EvalError("no fields here")
            return of_line(value, name) is not missing

        return has if node.test_only else field

    def _operand(self, node: Node) -> Eval:
        get = self._getter(node)
        return self.translate(node) if get is None else (lambda ctx, local: get(ctx))

    def _getter(self, node: Node) -> Callable[[Context], Any] | None:
        """The getter of a variable of the table, to be called without a closure around it."""
        known = node.kind == "ident" and node.name in self._variables
        return self._variables[node.name].get if known else None

    def call(self, node: Node) -> Eval:
        """An operator or a function."""
        special = _SPECIAL.get(node.name)
        if special is not None:
            return special(self, node)
        if node.name == PRESENT:
            has = self._variables[node.args[0].value].has
            return lambda ctx, local: has(ctx)
        if node.name in self._functions:
            return self._function(node)
        if len(node.overloads) != 1:
            raise Untranslated(node.name)
        overload = node.overloads[0]
        if overload in _UNARY and len(node.args) == 1:
            return self._unary(_UNARY[overload], node.args[0])
        if overload in _BINARY and len(node.args) == 2:
            work = _BINARY[overload]
            if any(arg.type == "dyn" for arg in node.args):
                if overload.startswith("index"):
                    # An index may be 1.0 at run time, and what it looks into anything at all.
                    raise Untranslated(overload)
                work = _at_run_time(work, overload)
            return self._binary(work, *node.args)
        raise Untranslated(overload)

    def _function(self, node: Node) -> Eval:
        call = self._functions[node.name].call
        if all(arg.kind == "const" for arg in node.args):
            values = [arg.value for arg in node.args]

            def fixed(ctx: Context, local: Locals) -> Any:
                try:  # as _called() says, written out for the usual case
                    return call(ctx, *values)
                except ValueError as error:
                    raise EvalError(str(error)) from error

            return fixed
        args = [self.translate(arg) for arg in node.args]

        def run(ctx: Context, local: Locals) -> Any:
            return _called(call, ctx, [arg(ctx, local) for arg in args])

        return run

    def _unary(self, work: Callable[[Any], Any], arg: Node) -> Eval:
        inner = self._operand(arg) if arg.type in ("list", "map") else self.translate(arg)
        return lambda ctx, local: work(inner(ctx, local))

    def _binary(self, work: Callable[[Any, Any], Any], left: Node, right: Node) -> Eval:
        one = self._operand(left)
        if right.kind == "const":
            value, get = right.value, self._getter(left)
            if get is not None:  # most conditions are a name beside a constant
                return lambda ctx, local: work(get(ctx), value)
            return lambda ctx, local: work(one(ctx, local), value)
        two = self.translate(right)
        return lambda ctx, local: work(one(ctx, local), two(ctx, local))

    def equals(self, node: Node) -> Eval:
        """``==``; plain types compare as Python does, others carefully."""
        left, right = node.args
        one, two = self.translate(left), self.translate(right)
        if left.type == right.type and left.type in _PLAIN:
            if right.kind == "const":
                value, get = right.value, self._getter(left)
                if get is not None:
                    return lambda ctx, local: get(ctx) == value
                return lambda ctx, local: one(ctx, local) == value
            return lambda ctx, local: one(ctx, local) == two(ctx, local)
        if right.kind == "const" and isinstance(right.value, str):
            text = right.value  # equals nothing but a text, whatever run time brings
            return lambda ctx, local: bool(one(ctx, local) == text)
        return lambda ctx, local: equal(one(ctx, local), two(ctx, local))

    def not_equals(self, node: Node) -> Eval:
        """``!=``."""
        same = self.equals(node)
        return lambda ctx, local: not same(ctx, local)

    def both(self, node: Node) -> Eval:
        """``&&``: false wins over an error on either side."""
        one, two = self._bools(node)

        def run(ctx: Context, local: Locals) -> Any:
            try:
                first = one(ctx, local)
            except EvalError:
                if two(ctx, local) is False:
                    return False
                raise
            return first and two(ctx, local)

        return run

    def either(self, node: Node) -> Eval:
        """``||``: true wins over an error on either side."""
        one, two = self._bools(node)

        def run(ctx: Context, local: Locals) -> Any:
            try:
                first = one(ctx, local)
            except EvalError:
                if two(ctx, local) is True:
                    return True
                raise
            return first or two(ctx, local)

        return run

    def negated(self, node: Node) -> Eval:
        """``!``."""
        (inner,) = self._bools(node)
        return lambda ctx, local: not inner(ctx, local)

    def _bools(self, node: Node) -> list[Eval]:
        # Where only run time tells whether it is a bool, the library tells it.
        if any(arg.type == "dyn" for arg in node.args):
            raise Untranslated(node.name)
        return [self.translate(arg) for arg in node.args]

    def choice(self, node: Node) -> Eval:
        """``c ? a : b``."""
        if node.args[0].type == "dyn":
            raise Untranslated(node.name)
        _refuse_mixture(node.args[1:])
        test, one, two = (self.translate(arg) for arg in node.args)
        return lambda ctx, local: one(ctx, local) if test(ctx, local) else two(ctx, local)

    def member(self, node: Node) -> Eval:
        """``in``."""
        value, inside = node.args
        one, many = self.translate(value), self._operand(inside)
        if value.type == "string" and inside.type in ("list", "map"):
            get, constant = self._getter(inside), value.value
            if value.kind == "const" and get is not None:
                return lambda ctx, local: constant in get(ctx)
            return lambda ctx, local: one(ctx, local) in many(ctx, local)
        if inside.type != "list":
            raise Untranslated("in what only run time knows")

        def run(ctx: Context, local: Locals) -> bool:
            wanted = one(ctx, local)  # once, and also where there is nothing to compare it with
            return any(equal(wanted, other) for other in many(ctx, local))

        return run

    def lenient(self, node: Node) -> Eval:
        """``@not_strictly_false``, which macros wrap around their loop condition."""
        inner = self.translate(node.args[0])

        def run(ctx: Context, local: Locals) -> bool:
            try:
                return inner(ctx, local) is not False
            except EvalError:
                return True

        return run

    def list_(self, node: Node) -> Eval:
        """A list literal."""
        _refuse_mixture(node.args)
        items = [self.translate(item) for item in node.args]
        return lambda ctx, local: [item(ctx, local) for item in items]

    def struct_(self, node: Node) -> Eval:
        """Map literals are rare in rules."""
        raise Untranslated("struct")

    def comprehension(self, node: Node) -> Eval:
        """A macro such as ``exists``: an error in a step is a value that later steps may absorb."""
        source = self._operand(node.args[0])
        initial, condition, step, result = (self.translate(part) for part in node.args[1:])
        element, total = node.variables
        wanted = quantifier_of(node)
        if wanted is not None:
            test = node.args[3].args[1]
            inside = node.args[0]
            variable = self._variables.get(inside.name) if inside.kind == "ident" else None
            simple = over_lines(variable, test, element, wanted)
            return simple or over_any(source, element, self.translate(test), wanted)

        def run(ctx: Context, local: Locals) -> Any:
            inner: dict[str, Any] = dict(local or ())
            inner[total] = initial(ctx, local)
            for value in list(source(ctx, local)):
                inner[element] = value
                if not condition(ctx, inner):
                    break
                try:
                    inner[total] = step(ctx, inner)
                except EvalError as error:
                    inner[total] = error
            return result(ctx, inner)

        return run


def _entry(get: Callable[[Context], Any], name: str) -> Eval:
    """The value of a key in a map of the table."""

    def entry(ctx: Context, local: Locals) -> Any:
        try:
            return get(ctx)[name]
        except KeyError:
            raise EvalError(f"no such key: {name}") from None

    return entry


def _called(call: Callable[..., Any], ctx: Context, values: list[Any]) -> Any:
    try:
        return call(ctx, *values)
    except ValueError as error:  # such as a text that is no duration
        raise EvalError(str(error)) from error


def _refuse_mixture(nodes: Sequence[Node]) -> None:
    """Beside a value of a known type the checker takes ``dyn`` for the same type; it may not be."""
    kinds = {node.type for node in nodes}
    if "dyn" in kinds and len(kinds) > 1:
        raise Untranslated("a mixture with dyn")


_SPECIAL: dict[str, Callable[[Translator, Node], Eval]] = {
    "_==_": Translator.equals,
    "_!=_": Translator.not_equals,
    "_&&_": Translator.both,
    "_||_": Translator.either,
    "!_": Translator.negated,
    "_?_:_": Translator.choice,
    "@in": Translator.member,
    "@not_strictly_false": Translator.lenient,
}
_KINDS: dict[str, Callable[[Translator, Node], Eval]] = {
    "const": Translator.const,
    "ident": Translator.ident,
    "select": Translator.select,
    "call": Translator.call,
    "list": Translator.list_,
    "struct": Translator.struct_,
    "comprehension": Translator.comprehension,
}
