"""Whose a record is: its key tells, and of a refused one, whose key may be wrong, the value too."""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from streams.topics import DEAD_LETTERS, SHARED

# In a value that was cut or is broken the name may still be there to read.
_NAMED: Final = re.compile(rb'"subject"\s*+:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")')


class _Subject(msgspec.Struct, gc=False):
    subject: str


_decode = msgspec.json.Decoder(_Subject).decode


def key_text(key: bytes | None) -> str | None:
    """The customer id that a key holds; None where it holds none."""
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def subject_of(value: bytes | None) -> str | None:
    """The customer that an event's value names, whole or not; None where that cannot be told."""
    try:
        return _decode(value or b"").subject
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        pass
    found = _NAMED.search(value) if isinstance(value, bytes) else None
    try:
        return None if found is None else str(json.loads(found[1]))
    except ValueError:
        return None


def whose(topic: str, key: bytes | None, value: bytes | None) -> set[str]:
    """The customers that a record of one of our topics (without prefix) may be about."""
    named = {None if topic in SHARED else key_text(key)}
    if topic == DEAD_LETTERS:
        named.add(subject_of(value))
    return {name for name in named if name is not None}
