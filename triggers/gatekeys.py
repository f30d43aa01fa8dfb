"""What `gate:` and `holdout:` of a rule or of the book say, compiled.

Plain data, so that the book needs nothing of the gates; :mod:`triggers.salesgates` acts on it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triggers.book import Condition, Value

MINUTE_MS = 60_000
#: A session ends when its customer sent no event for so long.
SESSION_MS = 30 * MINUTE_MS
#: How long a cheaper offer waits after a dearer one.
DOWNSELL_WAIT_MS = 24 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Ceiling:
    """An offer costs at most ``permille`` of the basket until so many offers were accepted."""

    permille: int
    acceptances: int = 1


@dataclass(frozen=True, slots=True)
class Fatigue:
    """At most ``budget`` sales offers, of all rules, in ``(at - window_ms, at]``.

    0 for ``window_ms``: in a session.
    """

    budget: int
    window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """The gates that bind a rule by its own key or by the book's.

    ``deployed`` names products that must be in use, ``()`` for any one; ``purpose`` yields the
    purposes that an item must share.
    """

    value: "Condition | None" = None
    deployed: tuple[str, ...] | None = None
    purpose: "Value | None" = None
    ceiling: Ceiling | None = None
    fatigue: tuple[Fatigue, ...] = ()
    framing_fit: bool = False


@dataclass(frozen=True, slots=True)
class Holdout:
    """The share of customers (0 to 1) who are offered nothing, drawn by a digest with ``salt``."""

    share: float
    salt: str = ""
