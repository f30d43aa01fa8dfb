"""All metrics, in one table; `docs` are drawn from it and a test checks that they agree.

Labels come from the rule book, the contract and the partition numbers, never from a record: no
metric can name a customer. A metric keeps at most `SERIES_MAX` series; what comes after is
counted under `other`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SERIES_MAX = 2000
OTHER = "other"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENESS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. Names carry their unit last, as Prometheus wants it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


TABLE: tuple[Metric, ...] = (
    Metric("events_applied", "counter", "events applied", ("topic", "type")),
    Metric("events_repeated", "counter", "resends dropped: same source, id and body"),
    Metric("erased_known", "gauge", "customers of whom only a digest is known"),
    Metric("erased_dropped", "counter", "records dropped because their customer was erased"),
    Metric("customers_forgotten", "counter", "customers dropped: nothing happened for too long"),
    Metric("events_late", "counter", "events applied so long after they happened", ("by",)),
    Metric(
        "bounds_reached", "counter", "oldest entries forgotten: a list was at its bound", ("list",)
    ),
    Metric("hot_keys", "counter", "windows in which one customer made over 20 % of the events"),
    Metric("hot_key_share", "gauge", "the largest customer's share of the events", ("partition",)),
    Metric("dead_letters", "counter", "records refused", ("reason", "topic")),
    Metric("dead_letters_summed", "counter", "refused records whose letter stands for many"),
    Metric("decisions", "counter", "decisions made", ("rule", "outcome", "reason")),
    Metric("offers", "counter", "offers made", ("rule", "channel")),
    Metric("offers_withdrawn", "counter", "offers withdrawn", ("rule", "channel")),
    Metric("offers_expired", "counter", "offers decided and not sent in time", ("rule", "reason")),
    Metric("conditions_false", "counter", "triggers whose `when` did not hold"),
    Metric("rules_paused", "counter", "triggers of rules that rest because of complaints"),
    Metric("rule_rests", "gauge", "1: this rule rests because of complaints", ("rule",)),
    Metric("learned_entries", "gauge", "products, plans and rules that were learnt about"),
    Metric("candidates_out_of_bounds", "counter", "sets and tiers passed over for their price"),
    Metric("offers_run_out", "counter", "offers that ran out without an answer, as it is noticed"),
    Metric("feedback_unknown", "counter", "feedback on offers that the customer's document lacks"),
    Metric("feedback_repeated", "counter", "feedback that says again what was said"),
    Metric("feedback_contradicting", "counter", "feedback on an offer with another outcome"),
    Metric("feedback_late", "counter", "feedback on an offer that had run out"),
    Metric("condition_errors", "counter", "conditions without a value for the facts", ("rule",)),
    Metric("log_time_seconds", "gauge", "where the worker's clock stands, seconds since 1970"),
    Metric("clock_jumped", "gauge", "1: the machine's clock is not believed and timers wait"),
    Metric("clock_jumps", "counter", "leaps of the machine's clock that were not followed"),
    Metric("timers_armed", "counter", "timers set or set anew"),
    Metric("timers_fired", "counter", "timers fired"),
    Metric("timers_cancelled", "counter", "timers cancelled"),
    Metric("timers_pending", "gauge", "customers with a pending timer", ("partition",)),
    Metric("timer_lateness_seconds", "histogram", "from due to fired, real time", (), _LATENESS),
    Metric("store_seconds", "histogram", "one atomic call to Redis", (), _SECONDS),
    Metric("store_waiting", "gauge", "1: Redis is away, full or unfit, and partitions wait"),
    Metric("store_waits", "counter", "pauses before a call to Redis was tried again", ("code",)),
    Metric("publish_unknown", "counter", "records sent again, for the answer was lost"),
    Metric("batch_records", "histogram", "records of one batch", (), _SIZES),
    Metric("batch_customers", "histogram", "changed customers of one batch", (), _SIZES),
    Metric("publish_seconds", "histogram", "from handed over to acknowledged", (), _SECONDS),
    Metric("published", "counter", "records acknowledged by Kafka", ("topic",)),
    Metric("published_already", "counter", "outbox entries found sent after a crash", ("topic",)),
    Metric("outbox_records", "gauge", "decided and not yet trimmed", ("partition",)),
    Metric("outbox_bytes", "gauge", "bytes decided and not yet acknowledged", ("partition",)),
    Metric("outbox_known", "gauge", "ids found in the output and not met again", ("partition",)),
    Metric("latency_seconds", "histogram", "from record timestamp to sent offer", (), _SECONDS),
    Metric("lag_records", "gauge", "records not yet applied", ("topic", "partition")),
    Metric("buffered_records", "gauge", "records read and waiting for the merge", ("topic",)),
    Metric("buffered_bytes", "gauge", "bytes read and waiting for the merge"),
    Metric("catalog_entries", "gauge", "what the catalogue in memory holds", ("what",)),
    Metric("log_lines_dropped", "counter", "repeated lines that were not written"),
    Metric(
        "merge_blocked", "gauge", "1: this topic cannot be fetched and holds others", ("topic",)
    ),
    Metric("partitions_owned", "gauge", "partitions claimed by this worker"),
    Metric("claims", "counter", "partitions claimed"),
    Metric("fenced", "counter", "batches refused because another worker owns the partition"),
    Metric("cache_customers", "gauge", "customers kept in memory"),
    Metric("cache_bytes", "gauge", "bytes of the customers kept in memory, packed"),
    Metric("cache_hits", "counter", "customers found in memory"),
    Metric("cache_misses", "counter", "customers fetched from Redis"),
    Metric("catalog_version", "gauge", "catalogue records read"),
    Metric("rule_book", "gauge", "1 for the digest of the book in force", ("digest",)),
    Metric("rule_book_rules", "gauge", "rules of the book in force"),
    Metric("rule_books_differ", "gauge", "partitions that others apply under another book"),
    Metric("rule_book_faults", "gauge", "faults of a changed book that was not taken"),
)


class Metrics:
    """The table's metrics on a registry of their own, under `tsuide_…`.

    The hot path adds whole batches: `add` takes an amount, `observe_many` a run of values.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._labels = {metric.name: metric.labels for metric in TABLE}
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._children: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        self._series = dict.fromkeys(self._labels, 0)
        for metric in TABLE:
            self._made[metric.name] = self._make(metric)

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        name = f"tsuide_{metric.name}"
        if metric.kind == "counter":
            return Counter(name, metric.help, metric.labels, registry=self.registry)
        if metric.kind == "gauge":
            return Gauge(name, metric.help, metric.labels, registry=self.registry)
        return Histogram(
            name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry
        )

    def _child(self, name: str, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        key = (name, *labels)
        child = self._children.get(key)
        if child is not None:
            return child
        parent = self._made[name]
        if not self._labels[name]:
            child = parent
        else:
            if self._series[name] >= SERIES_MAX:
                # Not remembered under `key`: that table must stay bounded too.
                return parent.labels(*(OTHER for _ in self._labels[name]))
            self._series[name] += 1
            child = parent.labels(*labels)
        self._children[key] = child
        return child

    def add(self, name: str, *labels: str, amount: float = 1) -> None:
        """Count `amount` more of a counter (or gauge); labels in the table's order."""
        child = self._child(name, labels)
        assert not isinstance(child, Histogram), name
        child.inc(amount)

    def set(self, name: str, *labels: str, value: float) -> None:
        """Let a gauge stand at `value`."""
        child = self._child(name, labels)
        assert isinstance(child, Gauge), name
        child.set(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put one value into a histogram."""
        child = self._child(name, labels)
        assert isinstance(child, Histogram), name
        child.observe(value)

    def observe_many(self, name: str, values: Iterable[float]) -> None:
        """Put values into a histogram without labels."""
        child = self._child(name, ())
        assert isinstance(child, Histogram), name
        for value in values:
            child.observe(value)

    def forget(self, name: str) -> None:
        """Drop a gauge's series, for instance after partitions went to another worker."""
        if self._labels[name]:
            self._made[name].clear()
            for key in [key for key in self._children if key[0] == name]:
                del self._children[key]
            self._series[name] = 0

    def total(self, name: str, **labels: str) -> float:
        """The sum over the series that match `labels`; a histogram's count."""
        wanted = {f"tsuide_{name}", f"tsuide_{name}_total", f"tsuide_{name}_count"}
        return sum(
            sample.value
            for family in self._made[name].collect()
            for sample in family.samples
            if sample.name in wanted and labels.items() <= sample.labels.items()
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """A counter's or gauge's values by one label, summed over the others."""
        wanted = {f"tsuide_{name}", f"tsuide_{name}_total"}
        sums: dict[str, float] = {}
        for family in self._made[name].collect():
            for sample in family.samples:
                if sample.name in wanted:
                    key = sample.labels[label]
                    sums[key] = sums.get(key, 0) + sample.value
        return sums

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


PROCESS = Metrics()
"""This process's metrics; tests make their own."""


def table_markdown() -> str:
    """The table for the documentation."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in TABLE:
        suffix = "_total" if metric.kind == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(
            f"| `tsuide_{metric.name}{suffix}` | {metric.kind} | {labels} | {metric.help} |"
        )
    return "\n".join(rows) + "\n"
