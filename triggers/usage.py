"""What a customer used: readings of metrics in daily buckets, and the facts drawn from them.

A day is a calendar day in the customer's zone (else the book's) at the reading, since "on five
of seven days" means the customer's days; in Tokyo a day of UTC would end at nine in the morning.
A later change of zone moves no bucket, and days never run backwards.

A reading has a share when it has a quota above zero: its own, else the last one told for its
metric. A metric's days are packed, 34 bytes each, oldest first: the day since 1970 (2 bytes), the
sum of all values, the sums of the values and of the quotas of readings with a share, and the
highest share of the day (doubles, big-endian).
"""

from collections.abc import Iterator
from datetime import date
from struct import Struct
from typing import TYPE_CHECKING, Any

from triggers.customer import Customer
from triggers.durations import DAY_MS, parse_duration, to_local
from triggers.state import MAX_METRICS, MAX_USAGE_DAYS, Meter

if TYPE_CHECKING:
    from triggers.context import Context

#: Stands for every metric that has a quota, in the functions about shares.
ANY = "any"
_DAY = Struct(">Hdddd")
_WIDTH = _DAY.size
_BYTES_MAX = MAX_USAGE_DAYS * _WIDTH
_FIRST_DAY = 719_163  # 1970-01-01 as a proleptic Gregorian ordinal
_NO_SHARE = -1.0  # a day without a reading that has a share

_Day = tuple[int, float, float, float, float]


def _day_of(at: int, zone: str) -> int:
    return to_local(at, zone).toordinal() - _FIRST_DAY


def record(customer: Customer, data: Any, at: int, zone: str) -> None:
    """Add a ``usage.recorded`` event to its metric's bucket of the day; ``zone`` is the book's.

    Of more than ``MAX_METRICS`` the one that was not told for longest is forgotten.
    """
    meters = customer.usage
    meter = meters.pop(data.metric, None) or Meter()
    meters[data.metric] = meter  # at the end: told last
    if len(meters) > MAX_METRICS:
        del meters[next(iter(meters))]
        customer.lose("metrics")
    value = float(data.value)
    if data.quota is not None:
        meter.quota = float(data.quota)
    meter.value = value
    packed = meter.days
    day = _day_of(at, customer.now.timezone or zone)
    total = shared = quotas = 0.0
    highest = _NO_SHARE
    if packed:
        last, *rest = _DAY.unpack_from(packed, len(packed) - _WIDTH)
        if last >= day:
            day = last
            total, shared, quotas, highest = rest
            packed = packed[:-_WIDTH]
    if meter.quota > 0:
        shared += value
        quotas += meter.quota
        highest = max(highest, value / meter.quota)
    packed += _DAY.pack(day, total + value, shared, quotas, highest)
    meter.days = packed[-_BYTES_MAX:]
    customer.touch("usage")


def window_fault(text: str) -> str | None:
    """What is wrong with the span of a function about usage; None when nothing is."""
    try:
        days = parse_duration(text).days
    except ValueError as error:
        return str(error)
    if not 1 <= days <= MAX_USAGE_DAYS:
        return f"{text} is not whole days from 1d to {MAX_USAGE_DAYS}d: usage is kept by the day"
    return None


def _within(ctx: "Context", meter: Meter, window: str) -> Iterator[_Day]:
    """The days of a window: ``7d`` is today and the six days before."""
    fault = window_fault(window)
    if fault is not None:
        raise ValueError(fault)
    today = _day_of(ctx.at, ctx.customer.now.timezone or ctx.book.timezone)
    since = today - parse_duration(window).ms // DAY_MS
    for day in _DAY.iter_unpack(meter.days):
        if day[0] > since:
            yield day


def _meters(ctx: "Context", metric: str) -> list[Meter]:
    meters = ctx.customer.usage
    if metric == ANY:
        return list(meters.values())
    meter = meters.get(metric)
    return [] if meter is None else [meter]


def usage_sum(ctx: "Context", metric: str, window: str) -> float:
    """The sum of a metric's values within the window."""
    meter = ctx.customer.usage.get(metric)
    return 0.0 if meter is None else sum((day[1] for day in _within(ctx, meter, window)), 0.0)


def sum_since(ctx: "Context", metric: str, since_ms: int) -> float:
    """The sum of a metric's values from the day of ``since_ms`` on."""
    meter = ctx.customer.usage.get(metric)
    if meter is None:
        return 0.0
    first = _day_of(since_ms, ctx.customer.now.timezone or ctx.book.timezone)
    return sum((day[1] for day in _DAY.iter_unpack(meter.days) if day[0] >= first), 0.0)


def series(ctx: "Context", metric: str, window: str) -> list[tuple[str, float]]:
    """The days of a window on which a metric was told, oldest first: date and sum of the day."""
    meter = ctx.customer.usage.get(metric)
    if meter is None:
        return []
    days = _within(ctx, meter, window)
    return [(date.fromordinal(day[0] + _FIRST_DAY).isoformat(), day[1]) for day in days]


def usage_share(ctx: "Context", metric: str, window: str) -> float:
    """Values over quotas of the readings within the window; 0.0 where none has a quota.

    With ``any``: that of the metric whose share is highest.
    """
    highest = 0.0
    for meter in _meters(ctx, metric):
        values = quotas = 0.0
        for _, _, shared, allowed, _ in _within(ctx, meter, window):
            values += shared
            quotas += allowed
        if quotas:
            highest = max(highest, values / quotas)
    return highest


def days_over(ctx: "Context", metric: str, share: float, window: str) -> int:
    """The days within the window on which a reading was at ``share`` of its quota or above.

    With ``any``: the days on which one of the metrics was.
    """
    found = set()
    for meter in _meters(ctx, metric):
        for day in _within(ctx, meter, window):
            if day[4] >= share and day[4] != _NO_SHARE:
                found.add(day[0])
    return len(found)
