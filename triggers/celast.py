"""CEL's checked syntax tree, read from the wire format in which the checker hands it out.

Field numbers are those of ``cel.expr.CheckedExpr`` and its kin in the CEL specification
(``checked.proto``, ``syntax.proto``), wrapped in ``google.protobuf.Any``. Only what the translator
needs is kept.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Fields = dict[int, list[Any]]


class MalformedTreeError(ValueError):
    """Bytes that are no checked expression."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise MalformedTreeError("a varint is too long")


def _fields(data: bytes) -> Fields:
    """A message as field number -> values: ints, 8-byte doubles, or bytes."""
    found: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 1:
            (value,) = struct.unpack_from("<d", data, at)
            at += 8
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise MalformedTreeError(f"unexpected wire type {kind}")
        found.setdefault(number, []).append(value)
    return found


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@dataclass(frozen=True, slots=True)
class Node:
    """One expression. ``kind`` is const, ident, select, call, list, struct or comprehension.

    ``value`` is the constant; ``name`` the identifier, field or function; ``args`` operands (a
    method's target first); ``overloads`` what the checker chose; ``type`` its type, such as
    ``int`` or ``list``, ``dyn`` when only run time tells.
    """

    kind: str
    type: str = "dyn"
    name: str = ""
    value: Any = None
    args: tuple["Node", ...] = ()
    overloads: tuple[str, ...] = ()
    test_only: bool = False
    variables: tuple[str, str] = ("", "")  # of a comprehension: element, accumulator


_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_TYPE_KINDS = {1: "dyn", 2: "null", 5: "wellknown", 6: "list", 7: "map"}


def _type_name(data: bytes) -> str:
    fields = _fields(data)
    if 3 in fields:
        return _PRIMITIVES.get(fields[3][0], "dyn")
    return next((name for number, name in _TYPE_KINDS.items() if number in fields), "dyn")


class _Reader:
    def __init__(self, checked: Fields) -> None:
        self._references: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._types: dict[int, str] = {}
        for raw in checked.get(2, ()):
            entry = _fields(raw)
            reference = _fields(entry[2][0])
            overloads = tuple(item.decode() for item in reference.get(3, ()))
            name = reference[1][0].decode() if 1 in reference else ""
            self._references[entry[1][0]] = (name, overloads)
        for raw in checked.get(3, ()):
            entry = _fields(raw)
            self._types[entry[1][0]] = _type_name(entry[2][0])

    def node(self, data: bytes) -> Node:
        """One ``Expr`` message and all below it."""
        fields = _fields(data)
        number = fields.get(2, [0])[0]
        kind = self._types.get(number, "dyn")
        for field, read in _READERS.items():
            if field in fields:
                return read(self, number, kind, _fields(fields[field][0]))
        raise MalformedTreeError("an expression of unknown kind")

    def const(self, number: int, kind: str, fields: Fields) -> Node:
        """``Constant``; an empty message is one of a default value that was left out."""
        for field, convert in _CONSTANTS.items():
            if field in fields:
                return Node("const", kind, value=convert(fields[field][0]))
        return Node("const", kind)

    def ident(self, number: int, kind: str, fields: Fields) -> Node:
        """``Ident``; the checker may have resolved it to a longer, dotted name."""
        resolved, _ = self._references.get(number, ("", ()))
        return Node("ident", kind, resolved or fields[1][0].decode())

    def select(self, number: int, kind: str, fields: Fields) -> Node:
        """``Select``; resolved to a dotted variable it is an identifier."""
        resolved, _ = self._references.get(number, ("", ()))
        if resolved:
            return Node("ident", kind, resolved)
        operand = self.node(fields[1][0])
        only = bool(fields.get(3, [0])[0])
        return Node("select", kind, fields[2][0].decode(), args=(operand,), test_only=only)

    def call(self, number: int, kind: str, fields: Fields) -> Node:
        """``Call``, its target as the first argument."""
        raw = [*fields.get(1, ()), *fields.get(3, ())]
        _, overloads = self._references.get(number, ("", ()))
        args = tuple(self.node(item) for item in raw)
        return Node("call", kind, fields[2][0].decode(), args=args, overloads=overloads)

    def list_(self, number: int, kind: str, fields: Fields) -> Node:
        """``CreateList``."""
        return Node("list", kind, args=tuple(self.node(item) for item in fields.get(1, ())))

    def struct_(self, number: int, kind: str, fields: Fields) -> Node:
        """``CreateStruct``: kept as a marker, since it is left to the library."""
        return Node("struct", kind)

    def comprehension(self, number: int, kind: str, fields: Fields) -> Node:
        """``Comprehension``: range, initial value, condition, step, result."""
        names = (fields[1][0].decode(), fields[3][0].decode())
        parts = tuple(self.node(fields[part][0]) for part in (2, 4, 5, 6, 7))
        return Node("comprehension", kind, args=parts, variables=names)


_READERS = {
    3: _Reader.const,
    4: _Reader.ident,
    5: _Reader.select,
    6: _Reader.call,
    7: _Reader.list_,
    8: _Reader.struct_,
    9: _Reader.comprehension,
}
_CONSTANTS: dict[int, Callable[[Any], Any]] = {
    1: lambda raw: None,
    2: bool,
    3: _signed,
    4: int,
    5: float,
    6: lambda raw: raw.decode(),
    7: bytes,
}


def read_tree(serialized: bytes) -> Node:
    """The tree of ``Expression.serialize()``; raises :class:`MalformedTreeError`."""
    try:
        checked = _fields(_fields(serialized)[2][0])
        return _Reader(checked).node(checked[4][0])
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise MalformedTreeError("not a checked expression") from error


def walk(node: Node) -> list[Node]:
    """The node and all below it."""
    found = [node]
    for place in found:
        found.extend(place.args)
    return found
