"""What a payload's annotations ask for beyond msgspec's limits, compiled to one function a type.

Two functions, because they are needed at different times: `always` after every decoding
(currencies, times, zones, figures, integers without a limit of their own), `texts` only where a
text holds more bytes than characters or may hold a forbidden character.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import available_timezones

from msgspec import Struct, inspect

from triggers.durations import to_ms
from triggers.events import ID_BYTES_MAX, INT_MAX, kind_of
from triggers.rfc3339 import rfc3339_ms

#: Returns where the first flaw is (`.item.sku`, empty for the value itself), or None.
Check = Callable[[Any], str | None]

# No character takes more than 4 bytes, so shorter texts need no encoding to be measured.
_SURELY_SHORT: Final = ID_BYTES_MAX // 4

# 1970 and 9999: a week more or less, in any zone, has to be a date still.
_DATE_MIN_MS: Final = 0
_DATE_MAX_MS: Final = 253_370_764_800_000

# Bounded by its nature: there are 26³ of them.
_currencies: Final[set[str]] = set()


def fits(text: str) -> bool:
    """Whether `text`, which holds no half surrogate pair, is within `ID_BYTES_MAX` bytes."""
    return len(text) <= _SURELY_SHORT or len(text.encode()) <= ID_BYTES_MAX


def _id(value: str) -> str | None:
    return None if fits(value) else ""


def _sku(value: str) -> str | None:
    return None if is_sku(value) else ""


def is_sku(text: str) -> bool:
    """Whether `text` may name a product: the catalogue's keys use `>` and `#` themselves."""
    return text != "" and ">" not in text and "#" not in text and fits(text)


def _currency(value: str) -> str | None:
    if value in _currencies:
        return None
    if len(value) == 3 and value.isascii() and value.isalpha() and value.isupper():
        _currencies.add(value)
        return None
    return ""


def _timestamp(value: str) -> str | None:
    """The door's reading and the engine's must be one, or a timer would be due elsewhere."""
    at_ms = rfc3339_ms(value)
    if at_ms is None or not _DATE_MIN_MS <= at_ms < _DATE_MAX_MS:
        return ""
    try:
        return None if at_ms == to_ms(value) else ""
    except ValueError:
        return ""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(value: str) -> str | None:
    return None if value in _zones() else ""


def _number(value: object) -> str | None:
    """Numbers that are finite and, as far as they may be integers, exact."""
    if type(value) is int or type(value) is float:
        return None if -INT_MAX <= value <= INT_MAX else ""
    return None


def _finite(value: object) -> str | None:
    if type(value) is float:
        return None if math.isfinite(value) else ""
    return _number(value)


# `_number` sends a double beyond 2^53 to the slow path, which has seen its digits: written as an
# integer it was refused there already, so what is left is any finite double.
_ALWAYS: Final[Mapping[str, Check]] = MappingProxyType(
    {"currency": _currency, "timestamp": _timestamp, "zone": _zone, "figure": _number}
)
_TEXTS: Final[Mapping[str, Check]] = MappingProxyType({"id": _id, "sku": _sku, "label": _id})


def compile_always(data: type[Struct], digits_seen: bool = False) -> Check | None:
    """The check after every decoding of `data`, or None where there is nothing to look at.

    `digits_seen`: the digits of each number were looked at, so large doubles are in order.
    """
    number = _finite if digits_seen else _number
    return _compile(inspect.type_info(data), {**_ALWAYS, "figure": number}, number)


def compile_texts(data: type[Struct]) -> Check | None:
    """The check of the texts' bytes and characters, or None where `data` has none."""
    return _compile(inspect.type_info(data), _TEXTS, None)


def _compile(kind: inspect.Type, kinds: Mapping[str, Check], number: Check | None) -> Check | None:
    """One function for values of `kind`; `number` looks at numbers that have no limits."""
    match kind:
        case inspect.Metadata():
            named = kind_of(kind)
            if named is not None and named in kinds:
                return kinds[named]
            return _compile(kind.type, kinds, number)
        case inspect.StructType():
            return _fields(kind, kinds, number)
        case inspect.UnionType():
            return _union(kind, kinds, number)
        case inspect.ListType() | inspect.SetType() | inspect.VarTupleType():
            return _list(_compile(kind.item_type, kinds, number))
        case inspect.DictType():
            return _dict(
                _compile(kind.key_type, kinds, number), _compile(kind.value_type, kinds, number)
            )
        case inspect.IntType(ge=None) | inspect.IntType(le=None):
            return number
        case inspect.FloatType(ge=None) | inspect.FloatType(le=None):
            return number
        case _:
            return None


def _fields(
    kind: inspect.StructType, kinds: Mapping[str, Check], number: Check | None
) -> Check | None:
    parts: list[tuple[str, Callable[[Any], Any], Check]] = []
    for field in kind.fields:
        check = _compile(field.type, kinds, number)
        if check is not None:
            parts.append((field.encode_name, attrgetter(field.name), check))
    if not parts:
        return None
    if len(parts) == 1:
        return _single(*parts[0])
    fixed = tuple(parts)

    def check_fields(value: Any) -> str | None:
        for name, get, check in fixed:
            found = get(value)
            if found is not None:
                flaw = check(found)
                if flaw is not None:
                    return f".{name}{flaw}"
        return None

    return check_fields


def _single(name: str, get: Callable[[Any], Any], check: Check) -> Check:
    """The usual case, as the hot path meets it; a currency above all."""
    if check is _currency:

        def check_currency(value: Any) -> str | None:
            found = get(value)
            if found in _currencies or found is None:
                return None
            return None if _currency(found) is None else f".{name}"

        return check_currency

    def check_field(value: Any) -> str | None:
        found = get(value)
        if found is None:
            return None
        flaw = check(found)
        return None if flaw is None else f".{name}{flaw}"

    return check_field


def _union(
    kind: inspect.UnionType, kinds: Mapping[str, Check], number: Check | None
) -> Check | None:
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return _compile(members[0], kinds, number)
    return number


def _list(item: Check | None) -> Check | None:
    if item is None:
        return None

    def check_list(value: Any) -> str | None:
        for index, one in enumerate(value):
            flaw = item(one)
            if flaw is not None:
                return f"[{index}]{flaw}"
        return None

    return check_list


def _dict(key: Check | None, item: Check | None) -> Check | None:
    if key is None and item is None:
        return None

    def check_dict(value: Any) -> str | None:
        for name, one in value.items():
            # The key is the sender's own word, perhaps about a person: it is not repeated.
            if key is not None and key(name) is not None:
                return "{key}"
            if item is not None and item(one) is not None:
                return "{value}"
        return None

    return check_dict


def surrogate_in(value: object) -> str | None:
    """Where a decoded payload holds half a surrogate pair, which no UTF-8 can write, or None."""
    if isinstance(value, str):
        return "" if not _encodes(value) else None
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            flaw = surrogate_in(getattr(value, name))
            if flaw is not None:
                return f".{name}{flaw}"
    elif isinstance(value, dict):
        for name, one in value.items():
            if surrogate_in(name) is not None:
                return "{key}"
            if surrogate_in(one) is not None:
                return "{value}"
    elif isinstance(value, list):
        for index, one in enumerate(value):
            flaw = surrogate_in(one)
            if flaw is not None:
                return f"[{index}]{flaw}"
    return None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
