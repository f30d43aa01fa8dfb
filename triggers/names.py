"""What a name and a function of expressions are; the tables of them stand in ``context``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers.context import Context


@dataclass(frozen=True, slots=True)
class Variable:
    """A name in expressions: ``type`` is int, double, string, bool, timestamp, list(string),
    list(item) or map."""

    type: str
    get: Callable[["Context"], Any]
    has: Callable[["Context"], bool]


@dataclass(frozen=True, slots=True)
class Function:
    """A function in expressions; ``call`` gets the context and then the arguments.

    ``check`` says at load what is wrong with a constant that stands at a place among them.
    """

    params: tuple[str, ...]
    returns: str
    call: Callable[..., Any]
    check: Callable[[int, Any], str | None] = lambda place, constant: None
