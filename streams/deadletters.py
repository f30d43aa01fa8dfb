"""Dead letters: what becomes of a record that was refused."""

from __future__ import annotations

import hashlib
import json
from typing import Final

#: More of a refused value is not kept; its digest is of the whole.
VALUE_KEPT_BYTES: Final = 64 * 1024
#: Stands as the topic of a letter that tells of a timer, which lies on no topic.
TIMERS: Final = "timers"


def dead_letter(
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the dead letter for a record; a null value becomes an empty one.

    The headers hold no part of the payload.
    """
    whole = value or b""
    headers = [
        ("reason", reason.encode()),
        ("detail", detail.encode("utf-8", "backslashreplace")),
        ("topic", topic.encode()),
        ("partition", b"%d" % partition),
        ("offset", b"%d" % offset),
        ("sha256", hashlib.sha256(whole).hexdigest().encode()),
    ]
    return key, whole[:VALUE_KEPT_BYTES], headers


def dead_letter_line(reason: str, detail: str, file: str, line: int, value: bytes) -> bytes:
    """The line of a backtest's `dead-letters.jsonl`, without its end; `line` counts from 1.

    Bytes that are no UTF-8 are shown as U+FFFD, as JSON can hold no others.
    """
    letter = {
        "reason": reason,
        "detail": detail,
        "file": file,
        "line": line,
        "value": value[:VALUE_KEPT_BYTES].decode(errors="replace"),
    }
    return json.dumps(letter, ensure_ascii=False).encode("utf-8", "backslashreplace")
