"""A line of a cart, an order or an event, as conditions look into it."""

from typing import Any

from triggers.fields import Item
from triggers.state import Line

MISSING: Any = object()
LINES = (Line, Item)


def of_line(value: Any, name: str) -> Any:
    """A field of a line, ``MISSING`` where there is none; a missing category is empty."""
    found = getattr(value, name, MISSING) if isinstance(value, LINES) else MISSING
    return "" if found is None else found
