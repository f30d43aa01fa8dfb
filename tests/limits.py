"""Everything that grows: by what, up to which bound, what happens then, and what shows it.

The tables of ``docs/limits.md`` are made from here; the figures are those of the code, the metrics
those of its table, and each test is looked up by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streams import (
    activations,
    fetching,
    inflate,
    learning,
    lograte,
    offersieve,
    outbox,
    partition,
    readback,
    retention,
    topics,
    traffic,
)
from streams.clockguard import JUMP_MS_MAX
from streams.deadletters import VALUE_KEPT_BYTES
from streams.metrics import SERIES_MAX
from streams.refusals import VALUE_BYTES_MAX
from streams.rulefiles import FILES_MAX, FOLDER_BYTES_MAX
from streams.settings import Settings
from triggers import catalog, learned, state
from triggers.events import TOPICS
from triggers.forgetting import MARGIN_MS
from triggers.rules import FORGET_DAYS, HORIZON_DAYS_MAX
from triggers.sizes import TEXT_CHARS_MAX
from triggers.timers import HORIZON_MS_MAX

_KIB, _MIB, _DAY_MS = 1024, 1024 * 1024, 86_400_000


def _default(name: str) -> str:
    return f"{Settings.model_fields[name].default:,} (`TSUIDE_{name.upper()}`)"


def _buffers() -> str:
    """What all buffers of one worker take at most, with the default settings."""
    count = len(TOPICS) * int(Settings.model_fields["partitions"].default)
    each = int(Settings.model_fields["buffer_bytes"].default) + fetching.PARTITION_FETCH_BYTES_MAX
    return f"{count * each // _MIB} MiB for {count} topic partitions"


#: Lists of a customer's document: name in `tsuide_bounds_reached_total` -> bound, and of what.
DOCUMENT: Final[dict[str, tuple[int, str]]] = {
    "carts": (state.MAX_CARTS, "carts"),
    "cart_lines": (state.MAX_CART_LINES, "lines of a cart; a further one is not taken"),
    "checkouts": (state.MAX_CHECKOUTS, "checkouts"),
    "consents": (state.MAX_CONSENTS, "words on channels; what is forgotten never becomes a yes"),
    "timers": (state.MAX_TIMERS, "pending timers; those due last are dropped"),
    "orders": (state.MAX_ORDERS, "orders"),
    "order_lines": (state.MAX_ORDER_LINES, "lines of an order; further ones are not kept"),
    "owned": (state.MAX_OWNED, "skus owned"),
    "offers": (state.MAX_OFFERS, "offers made"),
    "refusals": (state.MAX_REFUSED, "what was refused for which reason"),
    "marks": (state.MAX_MARKS, "uses of `once_per`"),
    "bars": (state.MAX_BARS, "things that an `unless` event was about"),
    "views": (state.MAX_VIEWS, "products viewed"),
    "problems": (state.MAX_PROBLEMS, "problems"),
    "tickets": (state.MAX_TICKETS, "open tickets"),
    "contracts": (state.MAX_CONTRACTS, "contracts"),
    "deployed": (state.MAX_DEPLOYED, "products in use"),
    "repeats": (state.MAX_SEEN, f"events of the last {state.SEEN_MS // 3_600_000} h, for repeats"),
    "held": (state.MAX_HELD, "offers that wait for the end of quiet hours"),
    "metrics": (state.MAX_METRICS, f"metrics, each of {state.MAX_USAGE_DAYS} days"),
    "attributes": (state.MAX_ATTRIBUTES, f"attributes, texts of {TEXT_CHARS_MAX:,} characters"),
    "payload_entries": (
        state.MAX_PAYLOAD_ENTRIES,
        "entries of each list in the event behind a pending timer",
    ),
    "horizon": (
        HORIZON_MS_MAX // _DAY_MS,
        "days that a timer of a `before` rule lies ahead; a later one is not set",
    ),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One structure: what makes it grow, where it ends and how, its metrics and its tests."""

    what: str
    grows: str
    bound: str
    then: str
    metrics: tuple[str, ...]
    tests: tuple[str, ...]


LIMITS: Final = (
    Limit(
        "a customer's document",
        "each event",
        f"{len(DOCUMENT)} lists, see below",
        "the oldest is forgotten",
        ("bounds_reached",),
        (
            "test_s27_one_customers_events_leave_a_document_of_bounded_size_and_equal_speed",
            "test_p9_a_list_at_its_bound_forgets_and_counts",
            "test_p9_thirty_days_of_constant_traffic_end_flat",
        ),
    ),
    Limit(
        "customers",
        "whoever comes by once",
        f"idle for {FORGET_DAYS} days by default (`forget_after`, `forget_visitors_after`), "
        f"and {MARGIN_MS // _DAY_MS} more for events that are late",
        f"{retention.PAGE} a second and partition are looked at; who is idle is dropped",
        ("customers_forgotten",),
        (
            "test_p10_whoever_was_idle_for_the_span_is_dropped_and_all_others_stay",
            "test_p7_answers_do_not_depend_on_when_the_store_drops_whom",
        ),
    ),
    Limit(
        "timers",
        "events and rules",
        f"one for a rule and a thing, {state.MAX_TIMERS} a customer; "
        f"{HORIZON_DAYS_MAX} days after an event, {HORIZON_MS_MAX // _DAY_MS} before a date",
        "set anew: replaces; too many: the last due go",
        ("timers_pending", "bounds_reached"),
        (
            "test_p9_a_timer_that_is_set_anew_replaces_the_one_before",
            "test_p9_a_customer_has_at_most_so_many_timers_and_those_due_last_are_dropped",
            "test_s23_a_date_beyond_the_horizon_sets_no_timer_and_a_nearer_one_does",
        ),
    ),
    Limit(
        "timers due at once",
        "an outage, a campaign",
        f"{partition.TIMERS_PER_BATCH} customers a batch, {_default('timers_per_second')} a second",
        "the rest waits, events go on",
        ("timers_fired", "timer_lateness_seconds"),
        (
            "test_s19_timers_due_at_once_fire_in_bounded_batches_and_events_go_on",
            "test_s19_a_second_fires_no_more_timers_than_its_budget",
        ),
    ),
    Limit(
        "the outbox of a partition",
        "Kafka is away",
        f"{outbox.ENTRIES_MAX} entries, {outbox.BYTES_MAX // _MIB} MiB",
        "the partition takes no more records: the log is the buffer",
        ("outbox_records", "outbox_bytes"),
        (
            "test_a_full_queue_makes_the_partition_wait_until_something_is_acknowledged",
            "test_p9_entries_of_many_bytes_make_the_partition_wait_though_they_are_few",
        ),
    ),
    Limit(
        "records that wait in memory",
        "one topic is behind the others",
        f"{_default('buffer_records')} and {_default('buffer_bytes')} bytes a topic partition, "
        f"fetched by {fetching.PARTITION_FETCH_BYTES_MAX // _KIB} KiB: {_buffers()}",
        "the topic is paused; the one that is next in line never",
        ("buffered_records", "buffered_bytes"),
        (
            "test_p9_a_topic_is_full_by_bytes_too_and_the_first_in_line_never_is",
            "test_p9_all_buffers_of_a_worker_fit_a_quarter_of_its_memory",
        ),
    ),
    Limit(
        "a batch",
        "a backlog",
        f"{_default('batch_records')} records, {partition.BATCH_BYTES_MAX // _MIB} MiB",
        "the rest waits for the next",
        ("batch_records",),
        ("test_p9_a_batch_begins_no_further_piece_beyond_its_bytes",),
    ),
    Limit(
        "documents in a worker's memory",
        "customers that come by",
        f"{_default('cache_customers')}, {_default('cache_bytes')} bytes packed",
        "those that came in longest ago are read from the store again",
        ("cache_customers", "cache_bytes", "cache_misses"),
        (
            "test_s27_ids_chosen_for_one_partition_leave_the_others_their_pace",
            "test_p9_documents_leave_memory_by_size_too_the_longest_kept_first",
        ),
    ),
    Limit(
        "ids found in the output at a claim",
        "what was sent and not trimmed",
        f"{readback.IDS_MAX:,} a partition",
        "further ones are not known, and an error is logged",
        ("outbox_known",),
        ("test_p9_reading_back_keeps_no_more_ids_than_its_bound_and_says_so",),
    ),
    Limit(
        "one record",
        "its sender",
        f"{VALUE_BYTES_MAX // _KIB} KiB; of a refused one {VALUE_KEPT_BYTES // _KIB} KiB are kept",
        "a dead letter, with the digest of the whole",
        ("dead_letters",),
        ("test_every_hostile_record_is_refused_with_its_reason_and_the_next_event_is_applied",),
    ),
    Limit(
        "dead letters",
        "a flood of rubbish",
        f"{_default('dead_letters_per_second')} a second for each reason and partition",
        "one letter stands for many and tells every place",
        ("dead_letters", "dead_letters_summed"),
        ("test_s20_a_flood_of_rubbish_is_summed_up_and_every_place_is_told",),
    ),
    Limit(
        "a fetched batch, unpacked",
        "a bomb",
        f"{inflate.UNPACKED_BYTES_MAX // _MIB} MiB",
        "one refused record in its place",
        ("dead_letters",),
        ("test_s20_a_bomb_becomes_one_refused_record_and_the_next_batch_is_read",),
    ),
    Limit(
        "what a reader of offers remembers",
        "offers",
        f"{offersieve.IDS_MAX:,} ids that are still valid, {offersieve.OPEN_MAX:,} in hand",
        "the oldest id is forgotten; too many in hand are an error",
        (),
        (
            "test_a_memory_holds_what_is_valid_within_its_bound",
            "test_the_memory_of_a_year_at_constant_traffic_stays_flat",
            "test_offers_that_are_never_done_end_in_an_error_and_not_in_memory",
        ),
    ),
    Limit(
        "one customer's share of a partition",
        "a hot key",
        f"{traffic.COUNTERS} counters over {traffic.WINDOW_EVENTS:,} events; "
        f"hot: over {traffic.HOT_SHARE:.0%}",
        "a warning with a keyed hash of the id",
        ("hot_keys", "hot_key_share"),
        (
            "test_s27_one_customer_with_all_the_events_is_noticed_and_stays_small",
            "test_s27_a_million_ids_on_one_partition_make_nobody_hot_and_take_no_memory",
        ),
    ),
    Limit(
        "the catalogue in memory",
        "products and relations",
        f"{catalog.PRODUCTS_MAX:,} products, {catalog.RELATIONS_MAX:,} relations "
        f"({catalog.RELATIONS_OF_ONE_MAX:,} of a product), {catalog.BUNDLES_MAX:,} bundles",
        "refused as `catalog_full`; what is known can change",
        ("catalog_entries", "dead_letters"),
        ("test_p9_a_catalogue_takes_no_more_than_its_bounds_and_what_it_has_can_change",),
    ),
    Limit(
        "what customers teach",
        "pairs of products",
        f"products of the catalogue, {learned.PARTNERS_MAX} partners each; "
        f"{learning.ENTRIES_MAX:,} in memory a partition",
        "the rarest partners go, counts age by the week, entries are read again",
        ("learned_entries",),
        (
            "test_p9_a_product_keeps_its_commonest_partners_and_counts_age_away",
            "test_p9_what_is_learnt_leaves_memory_when_it_is_told_and_stored",
        ),
    ),
    Limit(
        "the ledger of the erased",
        "each erasure and objection",
        "one record in a compacted topic and about 300 bytes of a worker a person",
        "nothing goes: whoever is forgotten here could come back",
        ("erased_known",),
        ("test_p9_an_erased_customer_takes_some_hundred_bytes_of_a_worker_once",),
    ),
    Limit(
        "the topic `consent-evidence`",
        "each word about consent",
        f"{topics.EVIDENCE_DAYS:,} days of them, a record each; of no worker's memory",
        "the oldest go; a topic made by hand must say so, too",
        (),
        ("test_p9_the_evidence_of_consent_is_kept_three_years_and_a_month",),
    ),
    Limit(
        "the topic `replays`",
        "each refused record that somebody sends once more",
        "one note of about 100 bytes a record, in a compacted topic and in the memory of the "
        "`dead-letters` commands",
        "nothing goes: what is forgotten here would be sent twice",
        (),
        ("test_s1_a_letter_is_replayed_once_and_again_only_when_told",),
    ),
    Limit(
        "rule books that a partition remembers",
        "each change",
        f"{activations.ACTIVATIONS_MAX} changes",
        "the oldest is forgotten",
        ("rule_book",),
        ("test_p9_a_partition_remembers_its_last_rule_books_and_no_more",),
    ),
    Limit(
        "a rule book",
        "its author",
        f"{FILES_MAX} files, {FOLDER_BYTES_MAX // _MIB} MiB",
        "refused; the one in force stays",
        ("rule_book_faults",),
        ("test_the_folder_takes_at_most_two_megabytes",),
    ),
    Limit(
        "metrics",
        "rules, topics, partitions",
        f"{SERIES_MAX:,} series a metric",
        "further ones are counted under `other`; no label comes from a record",
        (),
        ("test_p9_a_metric_keeps_no_more_series_than_its_bound",),
    ),
    Limit(
        "log lines",
        "a flood of faults",
        f"{lograte.LINES_MAX} a minute of a kind; {lograte.KINDS_MAX:,} kinds",
        "left out and counted; a critical line never",
        ("log_lines_dropped",),
        (
            "test_p9_a_repeated_line_is_written_a_few_times_a_minute_and_the_rest_is_counted",
            "test_p9_the_kinds_of_lines_that_are_remembered_are_bounded",
        ),
    ),
    Limit(
        "a leap of the machine's clock",
        "whoever sets it",
        f"{JUMP_MS_MAX // 1000} s (`TSUIDE_CLOCK_JUMP_SECONDS`)",
        "not followed: timers wait",
        ("clock_jumped", "clock_jumps"),
        ("test_s17_a_jump_is_not_followed_and_alarms_once",),
    ),
    Limit(
        "a request over HTTP",
        "whoever asks",
        "no body is read",
        "answered without it",
        (),
        ("test_p9_a_large_body_harms_nobody",),
    ),
)


def limits_table() -> str:
    """The structures."""
    rows = [
        "| what | grows by | bound | then | metrics | shown by |",
        "|---|---|---|---|---|---|",
    ]
    for one in LIMITS:
        metrics = ", ".join(f"`tsuide_{name}`" for name in one.metrics)
        tests = ", ".join(f"`{name}`" for name in one.tests)
        rows.append(
            f"| {one.what} | {one.grows} | {one.bound} | {one.then} | {metrics} | {tests} |"
        )
    return "\n".join(rows)


def document_table() -> str:
    """The lists of a customer's document."""
    rows = ["| `list` | at most | of |", "|---|---|---|"]
    rows += [f"| `{name}` | {most} | {words} |" for name, (most, words) in DOCUMENT.items()]
    return "\n".join(rows)
