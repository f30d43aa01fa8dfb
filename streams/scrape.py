"""A worker's figures as the demo and other onlookers read them from ``/metrics``."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families


@dataclass(slots=True)
class Figures:
    """Counts since the worker's start; times in ms."""

    applied: int = 0
    offers_by_rule: dict[str, int] = field(default_factory=dict)
    offers_by_channel: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    timers_fired: int = 0
    timers_pending: int = 0
    lateness_p50_ms: float = 0.0
    lateness_p99_ms: float = 0.0
    dead_letters: int = 0
    lag: int = 0
    waiting: int = 0  # records decided and not yet acknowledged
    log_time: str = ""


def read_figures(exposition: str) -> Figures:
    """Read Prometheus's text format."""
    sums: dict[str, Counter[tuple[str, ...]]] = {}
    buckets: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "tsuide_timer_lateness_seconds_bucket":
                buckets.append((float(sample.labels["le"]), sample.value))
            series = sums.setdefault(sample.name, Counter())
            for label, value in [*sample.labels.items(), ("", "")]:
                series[label, value] += int(sample.value)

    def total(name: str) -> int:
        return sums.get(f"tsuide_{name}", Counter())["", ""]

    def by(name: str, label: str) -> dict[str, int]:
        series = sums.get(f"tsuide_{name}", Counter())
        return {key[1]: n for key, n in sorted(series.items()) if key[0] == label and key[1]}

    clock = total("log_time_seconds")
    return Figures(
        applied=total("events_applied_total"),
        offers_by_rule=by("offers_total", "rule"),
        offers_by_channel=by("offers_total", "channel"),
        decisions=by("decisions_total", "outcome"),
        reasons=by("decisions_total", "reason"),
        timers_fired=total("timers_fired_total"),
        timers_pending=total("timers_pending"),
        lateness_p50_ms=quantile(buckets, 0.50) * 1000,
        lateness_p99_ms=quantile(buckets, 0.99) * 1000,
        dead_letters=total("dead_letters_total"),
        lag=total("lag_records"),
        waiting=total("outbox_records"),
        log_time=datetime.fromtimestamp(clock, UTC).strftime("%Y-%m-%d %H:%M") if clock else "",
    )


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """A quantile of cumulative (upper bound, count) pairs, linear inside a bucket.

    The way of Prometheus's ``histogram_quantile``; 0 for an empty histogram.
    """
    ordered = sorted(buckets)
    if not ordered or not ordered[-1][1]:
        return 0.0
    rank = share * ordered[-1][1]
    lower = below = 0.0
    for bound, count in ordered:
        if count >= rank:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
