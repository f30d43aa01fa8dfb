"""From the limits and quiet hours of a book and its rules to what the engine needs of them."""

from triggers.book import SALES, Limit, QuietHours
from triggers.durations import DailyWindow, parse_duration
from triggers.rules import LimitModel, QuietModel


def limit_of(model: LimitModel) -> Limit:
    """A limit as gates look at it."""
    kinds = SALES if model.kinds is None else frozenset(model.kinds)
    window_ms = parse_duration(model.in_).ms
    return Limit(model.max, window_ms, kinds, model.channel, model.placement)


def quiet_of(model: QuietModel) -> QuietHours:
    """Quiet hours as gates look at them."""

    def minutes(text: str) -> int:
        hours, _, rest = text.partition(":")
        return int(hours) * 60 + int(rest)

    window = DailyWindow(minutes(model.from_), minutes(model.to))
    return QuietHours(window, frozenset(model.channels), model.then)
