"""CEL's arithmetic, equality and indexing over plain values, with its errors as exceptions."""

from collections.abc import Mapping
from typing import Any

from triggers.errors import EvalError

_INT_MAX, _INT_MIN = 2**63 - 1, -(2**63)


def checked(value: int) -> int:
    """A 64-bit integer; CEL has no larger ones."""
    if value > _INT_MAX or value < _INT_MIN:
        raise EvalError("integer overflow")
    return value


def div(left: int, right: int) -> int:
    """Integer division, toward zero."""
    if right == 0:
        raise EvalError("division by zero")
    quotient = abs(left) // abs(right)
    return checked(quotient if (left < 0) == (right < 0) else -quotient)


def mod(left: int, right: int) -> int:
    """What integer division leaves, with the sign of the dividend."""
    if right == 0:
        raise EvalError("modulus by zero")
    return left - right * div(left, right)  # an error, as CEL has it, where the division is one


def float_div(left: float, right: float) -> float:
    """Division of doubles, by zero too."""
    if right == 0:
        if left == 0 or left != left:
            return float("nan")
        negative = (left < 0) != (str(right)[0] == "-")
        return float("-inf") if negative else float("inf")
    return left / right


def equal(left: Any, right: Any) -> bool:
    """CEL's equality: a bool equals no number, lists compare element by element."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if {type(left), type(right)} == {int, float}:
        return float(left) == float(right)  # as the library does, not exactly as Python would
    return bool(left == right)


def index_list(values: list[Any], index: int) -> Any:
    """An element of a list."""
    if not 0 <= index < len(values):
        raise EvalError("index out of bounds")
    return values[index]


def index_map(values: Mapping[Any, Any], key: Any) -> Any:
    """The value of a key."""
    if key not in values:
        raise EvalError("no such key")
    return values[key]


def to_int(value: float) -> int:
    """A double without its fraction."""
    if value != value or not -(2.0**63) < value < 2.0**63:
        raise EvalError("double is out of the range of int")
    return int(value)
