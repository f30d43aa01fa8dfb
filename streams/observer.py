"""What a worker tells about itself: every batch, send and refusal goes into the metrics here."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from streams import log as logs
from streams.metrics import PROCESS, Metrics
from triggers.book import Book
from triggers.decisions import Decision, Offer, Withdrawal
from triggers.judgement import Step
from triggers.rates import resting

if TYPE_CHECKING:
    from streams.intake import Intake
    from streams.outbox import Outgoing
    from streams.partition import Partition
    from streams.store.patience import Patience
    from streams.world import World

_NOTES = {
    "timer_armed": "timers_armed",
    "timer_cancelled": "timers_cancelled",
    "when_false": "conditions_false",
    "repeated": "events_repeated",
    "hot_key": "hot_keys",
    "erased_dropped": "erased_dropped",
    "customer_forgotten": "customers_forgotten",
    "offer_repeated": "events_repeated",
    "rule_paused": "rules_paused",
    "bundle_out_of_bounds": "candidates_out_of_bounds",
    "ladder_out_of_bounds": "candidates_out_of_bounds",
    "offer_expired": "offers_run_out",
    "feedback_unknown": "feedback_unknown",
    "feedback_repeated": "feedback_repeated",
    "feedback_contradicts": "feedback_contradicting",
    "feedback_late": "feedback_late",
    "letters_summed": "dead_letters_summed",
}

#: Gauges whose series come and go.
_COME_AND_GO = (
    "lag_records",
    "outbox_records",
    "outbox_bytes",
    "outbox_known",
    "hot_key_share",
    "timers_pending",
    "merge_blocked",
    "rule_rests",
)


class WorkerObserver:
    """Feeds the metrics table; implements what partitions and relays report to."""

    def __init__(self, book: Book, metrics: Metrics = PROCESS) -> None:
        self._metrics = metrics
        self._world: World | None = None
        self._intake: Intake | None = None
        self._patience: Patience | None = None
        self._waits: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._jumps = 0
        self.book_changed(book)

    def watch(self, world: "World", intake: "Intake", patience: "Patience | None" = None) -> None:
        """Look at these when somebody asks for the gauges."""
        self._world = world
        self._patience = patience
        self._intake = intake

    # -- what partitions and relays report -------------------------------------------------

    def applied(
        self, types: Counter[tuple[str, str]], customers: int, out: Step, took_s: float
    ) -> None:
        """A batch was applied: its events by (topic, type), and what came of them."""
        metrics = self._metrics
        for (topic, event_type), count in types.items():
            metrics.add("events_applied", topic, event_type, amount=count)
        metrics.observe("batch_records", types.total())
        metrics.observe("batch_customers", customers)
        metrics.observe("store_seconds", took_s)
        for note, count in out.notes.items():
            name = _NOTES.get(note)
            if name is not None:
                metrics.add(name, amount=count)
            elif note.startswith("bound_"):
                metrics.add("bounds_reached", note.removeprefix("bound_"), amount=count)
            elif note.startswith("late_"):
                metrics.add("events_late", note.removeprefix("late_"), amount=count)
        if out.fired:
            self._fired(out.fired)
        if out.decisions:
            self._decided(out.decisions)
        for (rule, channel), count in _made(out, Offer).items():
            metrics.add("offers", rule, channel, amount=count)
        for (rule, channel), count in _made(out, Withdrawal).items():
            metrics.add("offers_withdrawn", rule, channel, amount=count)

    def _fired(self, fired: list[int]) -> None:
        assert self._world is not None
        reached, now = self._world.clock.reached, self._world.clock.wall_ms()
        self._metrics.add("timers_fired", amount=len(fired))
        late_s = (max(0, now - reached(due_ms)) / 1000 for due_ms in fired)
        self._metrics.observe_many("timer_lateness_seconds", late_s)

    def _decided(self, decisions: list[Decision]) -> None:
        counts = Counter((d.rule, d.outcome, d.reason or "") for d in decisions)
        for labels, count in counts.items():
            self._metrics.add("decisions", *labels, amount=count)

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record was refused."""
        self._metrics.add("dead_letters", reason, topic)

    def sent(self, records: "list[Outgoing]", took_s: float) -> None:
        """Records of one topic were acknowledged."""
        metrics = self._metrics
        if not records:
            return
        metrics.add("published", records[0].topic, amount=len(records))
        metrics.observe("publish_seconds", took_s)
        world = self._world
        if world is not None and not world.clock.follows_log:
            now = world.clock.now_ms()
            late_s = [(now - record.at) / 1000 for record in records if record.at]
            metrics.observe_many("latency_seconds", late_s)

    def known_already(self, topic: str) -> None:
        """A record of the outbox lay in its topic already."""
        self._metrics.add("published_already", topic)

    def expired(self, rule: str, reason: str) -> None:
        """An offer was decided and not sent in time."""
        self._metrics.add("offers_expired", rule, reason)

    def loaded(self, asked: int, missing: int) -> None:
        """So many customers were asked for, and so many had to come from the store."""
        self._metrics.add("cache_hits", amount=asked - missing)
        self._metrics.add("cache_misses", amount=missing)

    def claimed(self, count: int) -> None:
        """Partitions were claimed."""
        self._metrics.add("claims", amount=count)

    def failed(self, code: str) -> None:
        """A call to the store failed with that code, which ends the worker."""
        if code == "FENCED":
            self._metrics.add("fenced")

    # -- the rule book ---------------------------------------------------------------------

    def book_changed(self, book: Book) -> None:
        """Another book is in force."""
        self._metrics.forget("rule_book")
        self._metrics.set("rule_book", book.digest, value=1)
        self._metrics.set("rule_book_rules", value=len(book.rules))

    def book_faults(self, count: int) -> None:
        """The folder holds a book with so many faults, which was not taken."""
        self._metrics.set("rule_book_faults", value=count)

    def books_differ(self, count: int) -> None:
        """So many partitions are applied by others under another book."""
        self._metrics.set("rule_books_differ", value=count)

    # -- gauges, when somebody asks --------------------------------------------------------

    def exposition(self) -> bytes:
        """The text for Prometheus, gauges brought up to date."""
        if self._world is not None and self._intake is not None:
            self._gauges(self._world, list(self._intake.partitions.values()))
        return self._metrics.exposition()

    def _gauges(self, world: "World", partitions: "list[Partition]") -> None:
        metrics = self._metrics
        now_ms = world.clock.now_ms()
        metrics.set("log_time_seconds", value=now_ms / 1000 if now_ms else time.time())
        metrics.set("clock_jumped", value=int(world.clock.jumped))
        metrics.add("clock_jumps", amount=world.clock.jumps - self._jumps)
        self._jumps = world.clock.jumps
        metrics.set("partitions_owned", value=len(partitions))
        metrics.set("catalog_version", value=world.catalog.version)
        metrics.set("erased_known", value=len(world.ledger))
        metrics.set("cache_bytes", value=sum(p.cached_bytes for p in partitions))
        metrics.set("cache_customers", value=sum(p.cached for p in partitions))
        metrics.set("learned_entries", value=len(world.catalog.learned))
        metrics.set("buffered_bytes", value=sum(p.buffered_bytes() for p in partitions))
        for what, size in world.catalog.sizes().items():
            metrics.set("catalog_entries", what, value=size)
        metrics.add("log_lines_dropped", amount=logs.take_dropped())
        if self._patience is not None:
            self._store_gauges(self._patience)
        for name in _COME_AND_GO:
            metrics.forget(name)
        blocked: Counter[str] = Counter()
        buffered: Counter[str] = Counter()
        for partition in partitions:
            number = str(partition.number)
            blocked.update(partition.blockers())
            buffered.update(partition.buffered())
            metrics.set("hot_key_share", number, value=partition.traffic.share)
            metrics.set("outbox_bytes", number, value=partition.relay.size)
            metrics.set("outbox_known", number, value=partition.relay.known)
            metrics.set("outbox_records", number, value=partition.relay.waiting)
            metrics.set("timers_pending", number, value=partition.pending_timers)
            for topic, lag in partition.lag().items():
                metrics.set("lag_records", topic, number, value=lag)
        for topic, count in blocked.items():
            metrics.set("merge_blocked", topic, value=min(1, count))
        for topic, count in buffered.items():
            metrics.set("buffered_records", topic, value=count)
        for rule in resting(world.book.rules.values(), world.catalog.learned, now_ms):
            metrics.set("rule_rests", rule, value=1)
        self._condition_errors(world.book)

    def _store_gauges(self, patience: "Patience") -> None:
        self._metrics.set("store_waiting", value=int(bool(patience.trouble)))
        waits = Counter(patience.waits)
        for code, count in (waits - self._waits).items():
            self._metrics.add("store_waits", code, amount=count)
        self._waits = waits

    def _condition_errors(self, book: Book) -> None:
        for rule in book.rules.values():
            total = sum(_errors((*rule.when, *rule.arm_when, rule.gate.value)))
            key = f"{book.digest}/{rule.id}"
            if total > self._errors[key]:
                self._metrics.add("condition_errors", rule.id, amount=total - self._errors[key])
                self._errors[key] = total


def _errors(conditions: Iterable[object]) -> Iterable[int]:
    return (getattr(condition, "errors", 0) for condition in conditions)


def _made(out: Step, kind: type[Offer] | type[Withdrawal]) -> Counter[tuple[str, str]]:
    return Counter((offer.rule, offer.channel) for offer in out.offers if isinstance(offer, kind))
