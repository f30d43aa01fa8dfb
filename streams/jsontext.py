"""JSON as the contract means it: strict syntax, the depth of nesting, and values out of range.

The fast decoder (msgspec) recurses and says little; what it refuses comes here for the reason.
Everything here takes time in proportion to the text, whatever the text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

from triggers.events import INT_MAX

DEPTH_MAX: Final = 32

# An unclosed string runs to the end: a pattern that failed there would be tried again at every
# quote after it, which takes the square of the length.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND: Final = bytes.maketrans(b"[]", b"{}")
_BACKSLASH: Final = ord("\\")

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_STRICT_STRING: Final = re.compile(
    r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"|("[\s\S]*)'
)
_SCALAR: Final = re.compile(
    r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null"
)
_SPACE: Final = re.compile(r"[ \t\n\r]+")
# Symbols of the shortened text: control characters, which no JSON text holds outside of strings.
_S, _V, _K = "\x01", "\x02", "\x03"
_RUNS: Final = re.compile(r"\[+|\{+|\]+|\}+|,+|;+")
_OPENED_BY: Final = {"]": "[", ",": "[", "}": "{", ";": "{"}
_BAD_PAIR: Final = re.compile(
    rf"[^{_S}{_V}{_K}\[\]{{}},]"
    rf"|[{_S}{_V}\]}}][^,\]}}]"
    rf"|{_K}[^{_S}{_V}\[{{]"
    rf"|\{{[^{_K}}}]"
    rf"|\[[^{_S}{_V}\[{{\]]"
    rf"|,[^{_K}{_S}{_V}\[{{]"
)


class NotJsonError(ValueError):
    """The text is no JSON."""


class OutOfRange:
    """Stands for a number that JSON can write and this program cannot hold exactly.

    It is of no type that a field may have, so it is refused where it matters and ignored
    elsewhere.
    """


def too_deep(value: bytes, depth_max: int = DEPTH_MAX) -> bool:
    """Whether a JSON text nests deeper; of a text that is no JSON it says nothing.

    Without strings and all else the brackets are a tree; each replacement takes its leaves away.
    """
    bare = _STRING.sub(b"", value) if _BACKSLASH in value else b"".join(value.split(b'"')[::2])
    brackets = bare.translate(_ONE_KIND, _NOT_BRACKETS)
    surely = b"{" * (depth_max + 1)
    for _ in range(depth_max):
        if not brackets:
            return False
        # Where each pass would take one leaf of a long chain, this sees the chain.
        if surely in brackets:
            return True
        brackets = brackets.replace(b"{}", b"")
    return brackets != b""


def is_json(text: str) -> bool:
    """Whether `text` is one JSON value, without recursion, so at any depth.

    Strings, keys and scalars shrink to one symbol each; then neighbours tell most faults, and a
    stack of brackets the rest.
    """
    if _CONTROL.search(text):
        return False
    # The rest from a broken string on is kept, quote and all, and is found as a bad neighbour.
    short = _SPACE.sub("", _SCALAR.sub(_V, _STRICT_STRING.sub(rf"{_S}\1", text)))
    short = short.replace(f"{_S}:", _K)
    if not short or short[0] not in f"{_S}{_V}[{{" or short[-1] not in f"{_S}{_V}]}}":
        return False
    return not _BAD_PAIR.search(short) and _brackets_fit(short)


def _brackets_fit(short: str) -> bool:
    """Brackets pair up, and keys stand in objects only; neighbours were looked at before."""
    for symbol, instead in ((f",{_K}", ";"), (_K, ""), (_S, ""), (_V, "")):
        short = short.replace(symbol, instead)
    kinds, depths = ["?"], [0]  # what is open, outermost first, equal ones beside each other as one
    for run in _RUNS.findall(short):
        symbol = run[0]
        if symbol in "[{":
            if symbol == kinds[-1]:
                depths[-1] += len(run)
            else:
                kinds.append(symbol)
                depths.append(len(run))
        elif kinds[-1] != _OPENED_BY[symbol]:
            return False
        elif symbol in "]}":
            left = depths[-1] - len(run)
            if left > 0:
                depths[-1] = left
            elif left < 0:
                return False  # equal ones lie together: the next is of the other kind
            else:
                kinds.pop()
                depths.pop()
    return len(kinds) == 1


def loads(text: str) -> object:
    """The value of a JSON text that nests no deeper than `DEPTH_MAX`; raises `NotJsonError`.

    Of equal keys the last counts. A number that cannot be held is an `OutOfRange`.
    """
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=_double, parse_constant=_no_constant
        )
    except ValueError as error:
        raise NotJsonError(str(error)) from None


def _integer(digits: str) -> int | OutOfRange:
    # The length is looked at first: converting digits takes the square of their number.
    value = int(digits) if len(digits) <= 17 else INT_MAX + 1
    return value if -INT_MAX <= value <= INT_MAX else OutOfRange()


def _double(digits: str) -> float | OutOfRange:
    value = float(digits)
    return value if math.isfinite(value) else OutOfRange()


def _no_constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} is not JSON")
