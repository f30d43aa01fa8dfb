"""Dead letters: what becomes of a record that was refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Final

#: More of a refused value is not kept; its digest is of the whole.
VALUE_KEPT_BYTES: Final = 64 * 1024
#: Stands as the topic of a letter that tells of a timer, which lies on no topic.
TIMERS: Final = "timers"


#: Stands on a record that was sent once more: ``topic/partition/offset`` of the first time.
REPLAYED_FROM: Final = "replayed_from"


def is_replayed(headers: Iterable[tuple[str, bytes | None]] | None) -> bool:
    """Whether a record with these headers was sent once more."""
    return any(name == REPLAYED_FROM for name, _ in headers or ())


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


#: A summary tells of at most so many runs of offsets, so that it stays under `VALUE_KEPT_BYTES`.
RUNS_MAX: Final = 1_500


def summary_letter(
    reason: str, topic: str, partition: int, offsets: list[int]
) -> Iterator[tuple[None, bytes, list[tuple[str, bytes]], str]]:
    """Letters that stand for many refused records: their places, none of their bytes.

    ``offsets`` ascend. Each letter's value is a JSON list of runs, ``[first, last]``; the header
    ``count`` says for how many records it stands. The last of the four is the letter's name.
    """
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset - 1:
            runs[-1][1] = offset
        else:
            runs.append([offset, offset])
    for start in range(0, len(runs), RUNS_MAX):
        told = runs[start : start + RUNS_MAX]
        count = sum(last - first + 1 for first, last in told)
        detail = f"{count} records, more than have letters of their own in a second"
        value = json.dumps(told, separators=(",", ":")).encode()
        _, value, headers = dead_letter(reason, detail, topic, partition, told[0][0], None, value)
        headers.append(("count", b"%d" % count))
        yield None, value, headers, summary_name(topic, partition, told[0][0], count)


def summary_name(topic: str, partition: int, first: int, count: int) -> str:
    """The name under which the relay knows a summary."""
    return f"{topic}/{partition}/{first}+{count}"


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
