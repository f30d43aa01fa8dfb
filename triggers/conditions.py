"""Expressions of the rule book: checked by Google's CEL library, evaluated by closures.

:class:`Expressions` compiles sources against one table of typed names. What the translator does
not know is evaluated by the library, with only the names that the expression uses. An evaluation
error is not truth: the condition did not hold, and the error is counted.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from cel_expr_python import cel

from triggers.celast import Node, read_tree, walk
from triggers.context import Context
from triggers.errors import EvalError, RuleError
from triggers.factsused import FactUsed, Finder
from triggers.names import Function, Variable
from triggers.translate import PRESENT, Eval, Translator, Untranslated

SOURCE_BYTES_MAX = 2048
_TYPES: dict[str, Any] = {
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "timestamp": cel.Type.TIMESTAMP,
    "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "list(string)": cel.Type.List(cel.Type.STRING),
    "list(item)": cel.Type.List(cel.Type.Map(cel.Type.STRING, cel.Type.DYN)),
}
_HAS = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\bhas\(\s*([A-Za-z_][\w.]*)\s*\)""")
_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")


class ExpressionError(RuleError):
    """A source that is no valid expression; ``column`` counts from 1 inside the source."""

    def __init__(self, text: str, column: int = 1) -> None:
        super().__init__(text)
        self.column = column


class Expression:
    """A checked expression: ``evaluate`` gives its value or raises :class:`EvalError`.

    ``run`` is what it was translated to, without the library behind it: where that raises
    anything, ``evaluate`` has the last word.
    """

    __slots__ = ("evaluate", "facts", "run", "source", "translated", "type")

    def __init__(
        self,
        source: str,
        kind: str,
        evaluate: Callable[[Context], Any],
        translated: bool,
        facts: tuple[FactUsed, ...] = (),
        run: Eval | None = None,
    ) -> None:
        self.source = source
        self.type = kind
        self.evaluate = evaluate
        self.run: Eval = run or (lambda ctx, local: evaluate(ctx))
        self.translated = translated
        self.facts = facts


class Condition:
    """One line of ``when``. ``errors`` counts evaluations that had no value; ``facts`` are the
    names and calls that it looks at."""

    __slots__ = ("_evaluate", "_expression", "_run", "errors", "facts", "source")

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self.source = expression.source
        self.errors = 0
        self.facts = expression.facts
        self._run = expression.run
        self._evaluate = expression.evaluate

    def __copy__(self) -> "Condition":
        """The same condition with a count of errors of its own."""
        return Condition(self._expression)

    def holds(self, ctx: Context) -> bool:
        """Whether the expression is exactly true."""
        try:
            return self._run(ctx, None) is True
        except (EvalError, TypeError):
            return self._holds_after_all(ctx)

    def _holds_after_all(self, ctx: Context) -> bool:
        try:
            return self._evaluate(ctx) is True
        except EvalError:
            self.errors += 1
            return False


class Value:
    """The argument of a pick or a date."""

    __slots__ = ("_evaluate", "_run", "source", "type")

    def __init__(self, expression: Expression) -> None:
        self.source = expression.source
        self.type = expression.type
        self._run = expression.run
        self._evaluate = expression.evaluate

    def get(self, ctx: Context) -> Any:
        """The value, None when there is none."""
        try:
            return self._run(ctx, None)
        except (EvalError, TypeError):
            return self._get_after_all(ctx)

    def _get_after_all(self, ctx: Context) -> Any:
        try:
            return self._evaluate(ctx)
        except EvalError:
            return None


class Expressions:
    """Compiles expressions over one table of names and functions."""

    def __init__(
        self, variables: Mapping[str, Variable], functions: Mapping[str, Function]
    ) -> None:
        self._variables = variables
        self._functions = functions
        self._translator = Translator(variables, functions)
        self._finder = Finder(variables, functions, self._translator.translate)
        self._ctx: Context | None = None  # of the evaluation in hand, for our functions
        self._env = cel.NewEnv(
            variables={name: _TYPES[variable.type] for name, variable in variables.items()},
            functions=[self._declare(name, fn) for name, fn in functions.items()]
            + [self._declare_present()],
        )

    def compile(self, source: str) -> Expression:
        """Check and translate ``source``; raises :class:`ExpressionError`."""
        if len(source.encode()) > SOURCE_BYTES_MAX:
            raise ExpressionError(f"an expression of more than {SOURCE_BYTES_MAX} bytes")
        prepared = self._prepare(source)
        try:
            compiled = self._env.compile(prepared)
        except RuntimeError as error:
            raise self._fault(str(error), source) from None
        tree = read_tree(compiled.serialize())
        _refuse_growth(tree)
        self._refuse_present(tree)
        self._check_arguments(tree, source)
        kind = compiled.return_type().name().lower()
        library = self._by_library(compiled, tree)
        facts = self._finder.find(tree)
        try:
            run = self._translator.translate(tree)
        except Untranslated:
            return Expression(source, kind, library, translated=False, facts=facts)
        alone = _alone(run, library)
        return Expression(source, kind, alone, translated=True, facts=facts, run=run)

    def condition(self, source: str) -> Condition:
        """A line of ``when``: a source whose type is bool."""
        expression = self.compile(source)
        if expression.type not in ("bool", "dyn"):
            raise ExpressionError(f"must be true or false, but is of type {expression.type}")
        return Condition(expression)

    def value(self, source: str) -> Value:
        """A source of any type."""
        return Value(self.compile(source))

    def library(self, source: str) -> Expression:
        """``source`` evaluated by the library alone, for comparison."""
        compiled = self._env.compile(self._prepare(source))
        tree = read_tree(compiled.serialize())
        kind = compiled.return_type().name().lower()
        return Expression(source, kind, self._by_library(compiled, tree), translated=False)

    # -- before the checker ----------------------------------------------------------------

    def _prepare(self, source: str) -> str:
        """Dotted names are variables of their own, so ``has()`` on one becomes a function."""

        def swap(match: re.Match[str]) -> str:
            name = match[2]
            return f'{PRESENT}("{name}")' if name in self._variables else match[0]

        return _HAS.sub(swap, source)

    def _refuse_present(self, tree: Node) -> None:
        """The function behind ``has()`` is ours alone."""
        for node in walk(tree):
            if node.name == PRESENT and not (
                node.args[0].kind == "const" and node.args[0].value in self._variables
            ):
                raise ExpressionError(f"unknown name {PRESENT}; write has()")

    def _check_arguments(self, tree: Node, source: str) -> None:
        """What functions say about constants among their arguments."""
        for node in walk(tree):
            function = self._functions.get(node.name) if node.kind == "call" else None
            for place, arg in enumerate(node.args if function is not None else ()):
                fault = function.check(place, arg.value) if arg.kind == "const" else None  # type: ignore[union-attr]
                if fault is not None:
                    column = source.find(str(arg.value), max(0, source.find(node.name))) + 1
                    raise ExpressionError(f"{node.name}: {fault}", max(1, column))

    def _fault(self, text: str, source: str) -> ExpressionError:
        match = _PLACE.search(text)
        if match is None:
            return ExpressionError(text.splitlines()[0])
        column = self._column(source, int(match[1]), int(match[2]))
        message = match[3].removesuffix(" (in container '')")
        undeclared = _UNDECLARED.search(message)
        if undeclared is not None:
            known = [*self._variables, *self._functions]
            close = get_close_matches(undeclared[1], known, n=1)
            message = f"unknown name {undeclared[1]}" + (
                f"; did you mean {close[0]}?" if close else ""
            )
            # The checker points at the last dot of a dotted name: show where the name begins.
            begin = source.rfind(undeclared[1], 0, column + len(undeclared[1]))
            column = begin + 1 if begin >= 0 else column
        return ExpressionError(message, column)

    def _column(self, source: str, line: int, column: int) -> int:
        """The place in ``source`` of what the checker found in the prepared source."""
        before = self._prepare(source).splitlines(keepends=True)[: line - 1]
        place = sum(map(len, before)) + column - 1
        for match in _HAS.finditer(source):
            if match[2] in self._variables:
                longer = len(f'{PRESENT}("{match[2]}")') - len(match[0])
                if match.start() < place:
                    place -= min(longer, place - match.start())
        return place + 1

    # -- the library -----------------------------------------------------------------------

    def _declare(self, name: str, function: Function) -> Any:
        def run(*args: Any) -> Any:
            return function.call(self._ctx, *args)

        kinds = [_TYPES[kind] for kind in function.params]
        identity = name.replace(".", "_")
        overload = cel.Overload(identity, _TYPES[function.returns], kinds, False, run)
        return cel.FunctionDecl(name, [overload])

    def _declare_present(self) -> Any:
        def run(name: str) -> bool:
            assert self._ctx is not None
            return self._variables[name].has(self._ctx)

        kinds = [cel.Type.STRING]
        overload = cel.Overload(PRESENT, cel.Type.BOOL, kinds, False, run)
        return cel.FunctionDecl(PRESENT, [overload])

    def _by_library(self, compiled: Any, tree: Node) -> Callable[[Context], Any]:
        idents = {node.name for node in walk(tree) if node.kind == "ident"}
        used = {name: self._variables[name] for name in sorted(idents & self._variables.keys())}

        def evaluate(ctx: Context) -> Any:
            self._ctx = ctx
            try:
                data = {name: _plain(variable, ctx) for name, variable in used.items()}
                result = compiled.eval(data=data)
                if result.type() == cel.Type.ERROR:
                    raise EvalError("no value")
                return result.plain_value()
            except (RuntimeError, ValueError) as error:
                raise EvalError("no value") from error
            finally:
                self._ctx = None

        return evaluate


def _alone(run: Eval, library: Callable[[Context], Any]) -> Callable[[Context], Any]:
    def evaluate(ctx: Context) -> Any:
        try:
            return run(ctx, None)
        except TypeError:
            # A value of another type than the checker had inferred around `dyn`.
            return library(ctx)

    return evaluate


def _plain(variable: Variable, ctx: Context) -> Any:
    value = variable.get(ctx)
    if variable.type == "list(item)":
        return [
            {
                "sku": line.sku,
                "quantity": line.quantity,
                "unit_price": line.unit_price,
                "category": line.category or "",
            }
            for line in value
        ]
    return msgspec.to_builtins(value) if variable.type == "map" else value


def _refuse_growth(tree: Node) -> None:
    """Refuse concatenation inside macros: a short rule could fill the memory."""
    for loop in walk(tree):
        if loop.kind != "comprehension":
            continue
        accumulator = loop.variables[1]
        for node in walk(loop.args[3]):
            text = "add_string" in node.overloads
            grows = "add_list" in node.overloads and node.args[0].name != accumulator
            if text or grows:
                raise ExpressionError("concatenation inside a macro is not allowed")
