"""The order in which segments are compiled: each after those that it names."""

import re
from collections.abc import Callable, Mapping

from triggers.shapes import Path

_NAME = re.compile(r"\bsegment\.([a-z][a-z0-9_]*)")


def in_order(sources: Mapping[str, str], add_fault: Callable[[Path, str], None]) -> list[str]:
    """Names of ``sources``, used ones first; a circle is told where it closes, and left out."""
    done: dict[str, bool] = {}  # False while what it names is looked at
    order: list[str] = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        done[name] = False
        for used in _NAME.findall(sources[name]):
            if used not in sources:
                continue  # the compiler tells of unknown names
            if done.get(used) is False:
                circle = " -> ".join([*way[way.index(used) :], used])
                add_fault(("segments", name), f"segments that name each other: {circle}")
                return
            if used not in done:
                visit(used, (*way, used))
        done[name] = True
        order.append(name)

    for name in sorted(sources):
        if name not in done:
            visit(name, (name,))
    return order
