"""Whether the key of the ledger of the erased is the one that it was begun with.

A digest under another key finds nobody: everybody who was erased would come back with the next
replay. So the compacted topic ``control`` keeps a code of a fixed text under the key (HMAC-SHA256),
which tells keys apart and gives none away. The first worker writes it; workers and commands that
read the ledger compare theirs with it and refuse to start when it is another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from streams.control import teller, told
from streams.errors import PreconditionError
from streams.settings import Settings
from streams.topics import CONTROL

KEY: Final = b"erasure-key"
#: Without the NUL that stands in the text of every customer's digest, so none can be equal to it.
_TEXT: Final = b"the key of the ledger of the erased"


class ErasureKeyError(PreconditionError):
    """The key is not the one under which the ledger of the erased was begun."""


class _Mark(msgspec.Struct, frozen=True, gc=False):
    """A record's value: the code of the key."""

    code: str


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(_Mark).decode


def code_of(key: bytes) -> str:
    """What tells one key from another: 64 hex digits of HMAC-SHA256 (RFC 2104)."""
    return hmac.new(key, _TEXT, hashlib.sha256).hexdigest()


def read_code(records: Iterable[tuple[bytes | None, bytes | None]]) -> str | None:
    """The code that holds, from the keys and values of the topic in their order.

    The first since the last time that it was taken back: of two workers with different keys that
    start at once, one must lose. Raises `ErasureKeyError` for a record that is no mark: what the
    key was is not known then, and to go on could bring the erased back.
    """
    found: str | None = None
    for key, value in records:
        if key != KEY:
            continue
        if not value:
            found = None
        elif found is None:
            try:
                found = _from_json(value).code
                if not found.isascii():  # two texts of which one is not are never compared
                    raise ValueError("no code")
            except (ValueError, RecursionError) as error:
                raise ErasureKeyError(
                    f"the record {KEY.decode()} of the topic {CONTROL} is none of ours",
                    "see the runbook on another erasure key",
                ) from error
    return found


def check_erasure_key(settings: Settings, *, begin: bool = False) -> bool:
    """Compare the key with the one of before; whether there was one.

    ``begin`` notes the key where there was none: for workers, which write under it. Raises
    `ErasureKeyError` when it is another one, or none where there was one.
    """
    ours = code_of(settings.erasure_key_bytes())
    known = read_code(told(settings))
    if known is None and begin:
        _note(settings, _to_json(_Mark(ours)))
        known = read_code(told(settings))
        if known not in (None, ours):
            # Somebody with another key was quicker. Compaction keeps the last record: his again.
            _note(settings, _to_json(_Mark(known)))
    if known is None or hmac.compare_digest(known, ours):
        return known is not None
    what = "is another one than before"
    if settings.erasure_key is None:
        what = "is not set, and the ledger of the erased was begun with a key"
    elif hmac.compare_digest(known, code_of(b"")):
        what = "is set, and the ledger of the erased was begun without a key"
    raise ErasureKeyError(
        f"TSUIDE_ERASURE_KEY {what}: whoever was erased would come back",
        "see the runbook on another erasure key",
    )


def forget_erasure_key(settings: Settings) -> None:
    """Take the code back: the next worker begins with the key that it has."""
    _note(settings, None)


def _note(settings: Settings, value: bytes | None) -> None:
    with teller(settings) as tell:
        tell(KEY, value)
