"""Conditions that can never hold together: `false`, and bounds of a name that leave nothing."""

import re
from dataclasses import dataclass, field

_PART = re.compile(
    r"""([a-z_]+(?:\.[a-z_0-9]+)+)\s*(==|!=|>=|<=|>|<)\s*"""
    r"""(-?[0-9]+(?:\.[0-9]+)?|"[^"\\]*"|'[^'\\]*')"""
)


@dataclass(slots=True)
class _Bounds:
    low: float = float("-inf")
    low_open: bool = False
    high: float = float("inf")
    high_open: bool = False
    equal: set[str] = field(default_factory=set)
    unequal: set[str] = field(default_factory=set)

    def possible(self) -> bool:
        if len(self.equal) > 1 or self.equal & self.unequal:
            return False
        return self.low < self.high or (
            self.low == self.high and not self.low_open and not self.high_open
        )


def impossible(lines: list[str]) -> tuple[int, str] | None:
    """The place of the first line that cannot hold beside those before it, and the name at fault.

    Only parts joined by ``&&`` that compare one name with a constant are looked at; what is not
    understood is taken to be possible.
    """
    known: dict[str, _Bounds] = {}
    for place, line in enumerate(lines):
        if "||" in line or "?" in line or "(" in line:
            continue
        for part in line.split("&&"):
            if part.strip() == "false":
                return place, "false"
            match = _PART.fullmatch(part.strip())
            if match is None:
                continue
            bounds = known.setdefault(match[1], _Bounds())
            _narrow(bounds, match[2], match[3])
            if not bounds.possible():
                return place, match[1]
    return None


def _narrow(bounds: _Bounds, operator: str, constant: str) -> None:
    if constant[0] in "\"'":
        if operator == "==":
            bounds.equal.add(constant[1:-1])
        elif operator == "!=":
            bounds.unequal.add(constant[1:-1])
        return
    value = float(constant)
    if operator in (">", ">=", "==") and (
        value > bounds.low or (value == bounds.low and operator == ">")
    ):
        bounds.low, bounds.low_open = value, operator == ">"
    if operator in ("<", "<=", "==") and (
        value < bounds.high or (value == bounds.high and operator == "<")
    ):
        bounds.high, bounds.high_open = value, operator == "<"
