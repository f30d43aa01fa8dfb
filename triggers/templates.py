"""Texts with ``{names}`` in them, such as "{item.name} goes with your {trigger.name}"."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from triggers.context import Context
from triggers.errors import RuleError
from triggers.names import Variable

_NAME = re.compile(r"\{([^{}]*)\}")
_BRACE = re.compile(r"[{}]")
_ITEM = ("sku", "name", "price", "currency", "category", "family")
_JOINT = {"ja": "、", "en": ", "}
TEXT_CHARS_MAX = 2000


class TemplateError(RuleError):
    """A text that names what there is not; ``column`` counts from 1 inside the text."""

    def __init__(self, text: str, column: int) -> None:
        super().__init__(text)
        self.column = column


class Template:
    """A compiled text."""

    __slots__ = ("_parts", "source")

    def __init__(self, source: str, parts: list[Callable[[Context], str]]) -> None:
        self.source = source
        self._parts = parts

    def render(self, ctx: Context) -> str:
        """The text for one decision; what is unknown is empty."""
        return "".join([part(ctx) for part in self._parts])


def _literal(text: str) -> Callable[[Context], str]:
    return lambda ctx: text


def _plain(text: str, start: int, end: int) -> Callable[[Context], str]:
    """What stands between two names; a brace in it has lost its partner."""
    stray = _BRACE.search(text, start, end)
    if stray is not None:
        raise TemplateError("a brace without its partner", stray.start() + 1)
    return _literal(text[start:end])


def _item(field: str) -> Callable[[Context], Any]:
    return lambda ctx: getattr(ctx.item, field)


def _shown(get: Callable[[Context], Any], joint: str) -> Callable[[Context], str]:
    def show(ctx: Context) -> str:
        value = get(ctx)
        if isinstance(value, list):
            return joint.join(str(getattr(entry, "sku", entry)) for entry in value)
        return "" if value is None else str(value)

    return show


def compile_template(text: str, language: str, variables: Mapping[str, Variable]) -> Template:
    """Compile ``text`` in ``language`` (ja or en); raises :class:`TemplateError`.

    Names are those of expressions, and ``item.*`` for the first item offered.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise TemplateError(f"a text of more than {TEXT_CHARS_MAX} characters", 1)
    parts: list[Callable[[Context], str]] = []
    at = 0
    for match in _NAME.finditer(text):
        name = match[1].strip()
        parts.append(_plain(text, at, match.start()))
        parts.append(_shown(_getter(name, variables, match.start() + 1), _JOINT[language]))
        at = match.end()
    parts.append(_plain(text, at, len(text)))
    return Template(text, parts)


def _getter(name: str, variables: Mapping[str, Variable], column: int) -> Callable[[Context], Any]:
    root, _, field = name.partition(".")
    if root == "item" and field in _ITEM:
        return _item(field)
    variable = variables.get(name)
    if variable is not None and variable.type != "map":
        return variable.get
    if variable is not None:
        raise TemplateError(f"{name} as a whole cannot stand in a text", column)
    known = [*variables, *(f"item.{each}" for each in _ITEM)]
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise TemplateError(f"unknown name {name}{hint}", column)
