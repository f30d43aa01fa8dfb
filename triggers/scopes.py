"""Names and expressions of a rule book: what each rule sees, by the events it listens to."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from triggers.conditions import Condition, ExpressionError, Expressions, Value
from triggers.context import FUNCTIONS, VARIABLES, event_variables
from triggers.events import CATALOG, EventType
from triggers.names import Variable
from triggers.offerfacts import offer_variables
from triggers.rules import TextModel
from triggers.segments import in_order
from triggers.shapes import AddFault, Path
from triggers.templates import TemplateError, compile_template


class Scopes:
    """Compiles the expressions and texts of rules; what is wrong goes to ``add_fault``."""

    def __init__(
        self, types: Mapping[str, EventType], segments: Mapping[str, str], add_fault: AddFault
    ) -> None:
        """``types`` are all event types, ``segments`` sources by name."""
        self._types = types
        self._add = add_fault
        self._scopes: dict[tuple[str, ...], Expressions] = {}
        self._names: dict[tuple[str, ...], dict[str, Variable]] = {}
        self.segments = self._compile_segments(segments)

    def _compile_segments(self, sources: Mapping[str, str]) -> dict[str, Variable]:
        """The segments, each after those that it names."""
        found: dict[str, Variable] = {}
        for name in in_order(sources, self._add):
            scope = Expressions({**VARIABLES, **found}, FUNCTIONS)
            try:
                condition = scope.condition(sources[name])
            except ExpressionError as error:
                self._add(("segments", name), str(error), error.column)
                condition = scope.condition("false")  # its name is known: no faults that follow
            found[f"segment.{name}"] = Variable("bool", condition.holds, lambda ctx: True)
        return found

    def scope(self, types: tuple[str, ...]) -> Expressions:
        """What rules that listen to ``types`` compile their expressions with."""
        if types not in self._scopes:
            names = {**VARIABLES, **self.segments, **offer_variables(types)}
            names |= event_variables(types, self._types)
            self._names[types] = names
            self._scopes[types] = Expressions(names, FUNCTIONS)
        return self._scopes[types]

    def names(self, types: tuple[str, ...]) -> dict[str, Variable]:
        """The names that rules that listen to ``types`` see."""
        self.scope(types)
        return self._names[types]

    def conditions(
        self, sources: list[str], scope: Expressions, path: Path
    ) -> tuple[Condition, ...]:
        """Lines of ``when``."""
        found = []
        for place, source in enumerate(sources):
            try:
                found.append(scope.condition(source))
            except ExpressionError as error:
                self._add((*path, place), str(error), error.column)
        return tuple(found)

    def value(
        self, scope: Expressions, source: str, path: Path, kinds: tuple[str, ...]
    ) -> Value | None:
        """An expression of one of ``kinds``."""
        try:
            value = scope.value(source)
        except ExpressionError as error:
            self._add(path, str(error), error.column)
            return None
        if value.type.partition("<")[0] not in kinds:
            self._add(path, f"must be of type {' or '.join(kinds)}, but is {value.type}")
        return value

    def texts(self, model: TextModel, names: Mapping[str, Variable], path: Path) -> dict[str, Any]:
        """A text in each language."""
        found = {}
        for language in ("ja", "en"):
            try:
                found[language] = compile_template(getattr(model, language), language, names)
            except TemplateError as error:
                self._add((*path, language), str(error), error.column)
        return found

    def known_types(self, types: list[str], path: Path) -> tuple[str, ...]:
        """Those of ``types`` that customers send."""
        known = [name for name, kind in self._types.items() if kind.topic != CATALOG]
        for place, name in enumerate(types):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self._add((*path, place), f"unknown event type {name}{hint}")
        return tuple(name for name in types if name in known)
