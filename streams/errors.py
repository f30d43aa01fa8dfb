"""What the shell raises on purpose, beside `triggers.errors`.

    TsuideError (triggers.errors)
    └── StreamsError
        ├── SettingsError      wrong settings: the operator's fault
        ├── PreconditionError  something outside is missing or unfit (Kafka, Redis, a topic)
        └── UsageError         a command was given what it cannot work with

A text names places (setting, topic, partition, offset, file), never a customer or a payload, so
it may be logged as it is.
"""

from __future__ import annotations

from triggers.errors import TsuideError


class StreamsError(TsuideError):
    """The root of the shell's errors."""


class SettingsError(StreamsError):
    """Wrong settings; `lines` has one text for each, with the setting's name and no value."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class PreconditionError(StreamsError):
    """Something outside is missing or unfit; `remedy` says what to do, in one line."""

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(f"{text}: {remedy}" if remedy else text)
        self.remedy = remedy


class UsageError(StreamsError):
    """A command was given what it cannot work with; the exit status is 2."""
