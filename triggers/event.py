"""An event of a customer, as the engine gets it."""

from typing import Any


class Event:
    """An event that came through the door. ``subject`` is the customer's id, ``time_ms`` what the
    emitter says; ``data`` is the payload's struct. Never changed."""

    __slots__ = ("data", "id", "source", "subject", "time_ms", "type")

    def __init__(
        self,
        event_id: str,
        source: str,
        kind: str,
        subject: str,
        time_ms: int,
        data: Any,
    ) -> None:
        self.id = event_id
        self.source = source
        self.type = kind
        self.subject = subject
        self.time_ms = time_ms
        self.data = data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.fields() == other.fields()

    def __hash__(self) -> int:
        return self.time_ms  # equal events happened at one time

    def __repr__(self) -> str:
        return f"Event{self.fields()!r}"

    def fields(self) -> tuple[Any, ...]:
        """Its values, as the constructor takes them."""
        return (self.id, self.source, self.type, self.subject, self.time_ms, self.data)
