"""The dates between which a rule holds, as one more condition."""

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfoNotFoundError

from triggers.durations import from_local, instant_of
from triggers.errors import RuleError
from triggers.rules import RetireModel
from triggers.shapes import AddFault, Path

if TYPE_CHECKING:
    from triggers.context import Context

_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
_EVER_MS = 2**62


class Dates:
    """True from ``from_ms`` on and before ``to_ms``."""

    __slots__ = ("from_ms", "source", "to_ms")

    def __init__(self, source: str, from_ms: int = -_EVER_MS, to_ms: int = _EVER_MS) -> None:
        self.source = source
        self.from_ms = from_ms
        self.to_ms = to_ms

    def holds(self, ctx: "Context") -> bool:
        """Whether the decision's instant lies between the dates."""
        return self.from_ms <= ctx.at < self.to_ms


def instant(text: str, zone: str) -> int:
    """A date, or local time, of ``zone``, or RFC 3339, in ms; raises :class:`RuleError`."""
    for form in _FORMS:
        try:
            return from_local(datetime.strptime(text, form), zone)  # noqa: DTZ007 - zone follows
        except ValueError:
            continue
    found = instant_of(text)
    if found is None:
        raise RuleError(
            f"{text!r} is no date such as 2026-12-24, 2026-12-24 18:00 or 2026-12-24T18:00:00+09:00"
        )
    return found


def dates_of(
    retire: RetireModel | None, zone: str, path: Path, add_fault: AddFault
) -> tuple[Dates, ...]:
    """The condition that stands for ``retire``; none without it."""
    if retire is None:
        return ()
    found = Dates(f"retire: {retire.from_ or ''} to {retire.to or ''}")
    for key, text in (("from", retire.from_), ("to", retire.to)):
        try:
            if text is not None:
                setattr(found, f"{key}_ms", instant(text, zone))
        except RuleError as error:
            add_fault((*path, key), str(error))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # the book's zone has its own fault
    if found.from_ms >= found.to_ms:
        add_fault((*path, "to"), "lies before `from`")
    return (found,)
