"""Structured logs that hold no personal data.

A line has an event text written by us and named fields. What belongs to a person enters only
through the fields of `HASHED`, of which a prefix of a keyed hash is written: lines about one
customer can be matched with each other, and by whoever holds the key with the customer.
The text of a foreign exception may quote a payload, so it is left out; its type and frames stay.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from streams.lograte import RateLimit
from streams.settings import Settings
from triggers.errors import TsuideError

#: Fields whose value is somebody's; only a keyed hash of it is written.
HASHED = frozenset({"customer", "subject", "key", "event_id", "offer_id", "about", "order", "cart"})

#: Fields that would hold a payload; nothing of them is written, not even a hash.
WITHHELD = frozenset({"value", "payload", "data", "body", "document", "state", "headers", "record"})

#: A longer text is cut: a log line is no archive.
TEXT_CHARS_MAX = 300
FRAMES_MAX = 12
_HASH_CHARS = 12

#: Libraries that would log each record or each send below this level.
_QUIET = {"aiokafka": "WARNING", "kafka": "WARNING", "faust": "WARNING", "mode": "WARNING"}

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.?)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Set by `configure`; before that every process has a key of its own.
_key = secrets.token_bytes(32)
_rate = RateLimit()


def take_dropped() -> int:
    """How many repeated lines were not written since the last call."""
    return _rate.take_dropped()


def clean(text: str) -> str:
    """`text` on one line, without terminal codes, cut at `TEXT_CHARS_MAX`."""
    cleaned = _CONTROL.sub(" ", _ANSI.sub("", text[: TEXT_CHARS_MAX * 4]))
    return cleaned if len(cleaned) <= TEXT_CHARS_MAX else cleaned[: TEXT_CHARS_MAX - 1] + "…"


def pseudonym(identity: str) -> str:
    """The prefix of a keyed hash of an id; the same for one installation's key."""
    raw = identity.encode("utf-8", "surrogatepass")
    return hmac.new(_key, raw, hashlib.sha256).hexdigest()[:_HASH_CHARS]


def get(name: str) -> FilteringBoundLogger:
    """A logger; `name` is the module's."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name))


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs, those of libraries too, to `stream` (standard error).

    The key of `pseudonym` is kept in the data directory, so that it stays the same over restarts.
    """
    global _key
    level, fmt = settings.log_level, settings.log_format
    _key = _install_key(settings.data_dir)
    out = stream if stream is not None else sys.stderr
    as_text = fmt == "text" or (fmt == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _foreign_text,
        protect,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.addFilter(_rate)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library, quiet in _QUIET.items():
        logging.getLogger(library).setLevel(quiet)


def _foreign_text(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take a library's line as it is, without the arguments that it was made from."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["exc_info"] = record.exc_info
        # The stock formatter would append the traceback, with the exception's text, once more.
        record.exc_info = None
        record.exc_text = None
    event.pop("positional_args", None)
    return event


def protect(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The last look at a line: ids hashed, payloads withheld, texts on one line."""
    error = _exception(event.pop("exc_info", None))
    safe: dict[str, Any] = {}
    for name, value in event.items():
        if name in ("_record", "_from_structlog"):
            safe[name] = value
        elif name in HASHED and value is not None:
            safe[name] = pseudonym(str(value))
        elif name in WITHHELD:
            safe[name] = "(withheld)"
        else:
            safe[name] = _safe(value)
    if error is not None:
        safe["error"] = describe(error)
        safe["frames"] = _frames(error.__traceback__)
    return safe


def describe(error: BaseException) -> str:
    """An exception for a log: our own with its text, any other by its type alone."""
    name = type(error).__name__
    return clean(f"{name}: {error}") if isinstance(error, TsuideError) else name


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(item) for item in list(value)[:20]]
    # Bytes and mappings are never ours to write: they come from records.
    if isinstance(value, bytes | bytearray | memoryview | dict):
        return "(withheld)"
    return clean(str(value))


def _exception(info: object) -> BaseException | None:
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        return info[1] if isinstance(info[1], BaseException) else None
    return sys.exc_info()[1] if info else None


def _frames(trace: TracebackType | None) -> list[str]:
    stack = traceback.extract_tb(trace)[-FRAMES_MAX:]
    return [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in stack]


def _install_key(data_dir: Path) -> bytes:
    """The installation's key, made at the first start and readable by its owner alone."""
    path = data_dir / "log.key"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        # Another process may be between creating and writing it; a short key would be a weak one.
        return key if len(key) == 32 else secrets.token_bytes(32)
    with os.fdopen(handle, "wb") as file:
        key = secrets.token_bytes(32)
        file.write(key)
    return key
