"""What the program promises, how each promise is attacked, and which tests do it.

The tables of `docs/reliability.md` are made from here. A test shows a scenario when its name says
so: `test_s14_…`, or `test_s3_s6_…` for two; `also` names tests that show it under another name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
_NAMED: Final = re.compile(r"test((?:_s[0-9]{1,2})+)_[a-z]")
#: Marker -> the target that runs what carries it; everything else is run by `make test`.
TARGETS: Final = {"faults": "make test-faults", "kafka": "make test-kafka"}


@dataclass(frozen=True)
class Promise:
    """A promise, on which condition it holds, and what it does not say."""

    says: str
    condition: str
    gap: str


@dataclass(frozen=True)
class Scenario:
    """A fault: what is done, what must come of it, and the promises that it attacks."""

    done: str
    expected: str
    promises: tuple[int, ...]
    also: tuple[str, ...] = ()  # "unit/test_x.py::test_name", below tests/


@dataclass(frozen=True)
class Shown:
    """A test: its file below `tests/`, its name, and the target that runs it."""

    file: str
    name: str
    target: str


PROMISES: Final[dict[int, Promise]] = {
    1: Promise(
        "No event is lost: each record of the topics in is applied, or lies in the dead letters "
        "with a reason.",
        "The topics keep records longer than the worst outage and the age of the snapshot that "
        "one would restore; writers use `acks=all` on topics with 3 replicas and "
        "`min.insync.replicas=2`.",
        "What a broker acknowledged and lost is lost here too.",
    ),
    2: Promise(
        "An offer has one effect: one id, one body, and after a crash no second copy.",
        "Readers that must not see a copy keep the ids of the offers that are still valid. Repeats "
        "of an event are known for 72 hours of decision time and 256 events of a customer; a later "
        "one counts anew and makes no second offer under an id of the last 50.",
        "Where the answer to a produce request was lost, the same bytes may lie there twice; "
        "`tsuide_publish_unknown_total` counts it.",
    ),
    3: Promise(
        "No timer is lost, and none fires before it is due.",
        "The store's data survive, or a snapshot and the log after it are there.",
        "With the store lost and no snapshot, timers armed by records that the topics no longer "
        "hold are gone.",
    ),
    4: Promise(
        "A timer that was due while everything stood still fires late, or not at all, as its "
        "rule's `lateness` says; leaving it out is a decision with the reason `stale`.",
        "",
        "How late depends on how long the backlog is: timers share the worker with fresh events.",
    ),
    5: Promise(
        "A worker that was paused or cut off writes nothing after another one claimed its "
        "partition.",
        "The claim's token is compared in every write, that of the outbox's trim included.",
        "Records on their way to the broker within two seconds of the last look at whose the "
        "partition is may still arrive: same id, same bytes.",
    ),
    6: Promise(
        "A record that cannot be applied stops nothing: it goes to the dead letters with its "
        "place and reason, and can be replayed.",
        "The dead letter is acknowledged before the outbox forgets it.",
        "A record that kills the process is given up after a counted number of attempts. Of a "
        "batch that cannot be unpacked one letter stands for all records, with their offsets.",
    ),
    7: Promise(
        "Who was erased stays erased: through replay, restore and dead-letter replay.",
        "The topic of erasures is kept longer than any copy that could be restored.",
        "Records of the topics in end with their own retention; they are the operator's.",
    ),
    8: Promise(
        "Consent, objection, caps and quiet hours hold through restarts and rebalances, and are "
        "looked at when an offer is decided and when it leaves late.",
        "A withdrawal counts from when its record is acknowledged with `acks=all`.",
        "An offer that left a moment before the withdrawal is out; `offer.withdrawn` follows "
        "where the rule asks for it.",
    ),
    9: Promise(
        "Every structure that grows has a bound, a metric and a rule for what goes.",
        "The store runs with `noeviction`; with anything else the worker does not start.",
        "Topics grow as their retention says.",
    ),
    10: Promise(
        "Personal data end: every class has a term, and none is in logs, metrics or headers.",
        "Retention is set on the topics.",
        "A dead letter holds the refused value, and its topic is to be guarded like those in.",
    ),
    11: Promise(
        "Another rule book takes effect between two batches of a partition, at offsets that are "
        "stored with its digest; a replay decides with the book of each offset.",
        "The rule books are kept, by digest; a partition remembers its last 200 changes.",
        "Between two workers a change is not simultaneous.",
    ),
    12: Promise(
        "What is not promised: an order across partitions; exactly one record in the topic for a "
        "reader that does not look at ids; survival of a lost store beyond its last snapshot and "
        "the log; anything with a store that evicts.",
        "",
        "",
    ),
}

SCENARIOS: Final[dict[int, Scenario]] = {
    1: Scenario(
        "A worker is killed at each of the named places between decision, store and send.",
        "The next one reads on from the stored offsets; a second copy is possible only where the "
        "broker had records that the relay had not counted, and reading back the output leaves "
        "them out.",
        (1, 2, 6),
        also=(
            "integration/test_pipeline_kafka.py::test_killed_workers_lose_nothing_and_send_nothing_twice",
        ),
    ),
    2: Scenario(
        "A worker is stopped for longer than its session, another takes over, the first wakes.",
        "Its first write is refused (`FENCED`), and nothing more that waits is sent: it ends, or "
        "gives its partitions up where the group has taken them away already.",
        (2, 5),
        also=("integration/test_store.py::test_an_earlier_owner_is_fenced_and_writes_nothing",),
    ),
    3: Scenario(
        "The store is killed under load, and starts from its append-only file.",
        "What was lost at its end is read again from the log; offers decided twice have one id.",
        (1, 2, 3),
        also=(
            "integration/test_store_faults.py::test_a_crash_of_the_server_leaves_a_state_as_after_some_batch",
        ),
    ),
    4: Scenario(
        "The store starts empty, functions gone too.",
        "A partition that has lived in a store is not taken for a new one: the worker refuses, and "
        "a restored snapshot with the log after it is what helps.",
        (1, 3),
        also=("integration/test_store_faults.py::test_a_server_that_lost_everything_is_noticed",),
    ),
    5: Scenario(
        "The store is set back ten minutes while workers live, with a token that is still valid.",
        "The offsets do not fit: the partition is claimed again and ten minutes are replayed; "
        "erasures are in force before that.",
        (1, 2, 5, 7, 8),
        also=("integration/test_store.py::test_another_position_is_refused_and_nothing_written",),
    ),
    6: Scenario(
        "The append-only file is cut anywhere inside its last call.",
        "The server starts without that call, as a whole; then as in S3.",
        (1, 3),
    ),
    7: Scenario(
        "The store has no memory left.",
        "A call is refused before it writes; what frees memory still goes through; work goes on "
        "by itself when there is room.",
        (1, 9),
        also=(
            "integration/test_store_faults.py::test_without_memory_nothing_is_half_written_and_the_outbox_still_drains",
        ),
    ),
    8: Scenario(
        "The store evicts, from the start or by a change while workers run.",
        "The worker does not start; a running one becomes red and pauses within 10 s.",
        (9, 12),
        also=("unit/test_store_server.py::test_a_server_that_evicts_is_refused",),
    ),
    9: Scenario(
        "A replica is promoted while writes run, and the old server becomes read-only.",
        "The client connects again, claims again, and replays what the replica had not got.",
        (1, 2, 5),
    ),
    10: Scenario(
        "The net between worker and store, or worker and broker, is cut, one-way, or slow.",
        "No progress and no spinning; red, then it heals.",
        (1, 5),
        also=(
            "integration/test_store_faults.py::test_a_server_that_does_not_answer_is_unavailable_and_then_served_again",
        ),
    ),
    11: Scenario(
        "A task is cancelled in the middle of a call to the store.",
        "Its connection is never used again, so no answer reaches another call.",
        (1,),
    ),
    12: Scenario(
        "The broker is killed, is away for two minutes, or changes leaders in mid-send.",
        "The outbox fills up to its bound, then reading pauses; afterwards it drains in order.",
        (1, 2, 9),
        also=(
            "integration/test_transport_kafka.py::test_a_worker_goes_on_after_the_broker_was_killed",
        ),
    ),
    13: Scenario(
        "The answer to a produce request is lost although the records were written.",
        "At most one more copy, same id, same bytes, counted.",
        (2,),
    ),
    14: Scenario(
        "Each event comes up to five times, also three days later, also with another body under "
        "its id.",
        "The first counts; the same again within 72 hours is dropped, another body goes to the "
        "dead letters as `id_conflict`.",
        (1, 2),
    ),
    15: Scenario(
        "Events come in another order: within a hundred records, across partitions and topics, a "
        "purchase before its checkout, a refund before its purchase.",
        "Order across topics is that of the timestamps; an event that comes late counts when it "
        "comes; no count, sum or total becomes negative.",
        (1, 2),
    ),
    16: Scenario(
        "Events come an hour or eight days late.",
        "They count when they come and bring no offer that is older than its rule allows.",
        (4,),
    ),
    17: Scenario(
        "Clocks jump: ten minutes, a year, back to 1970; summer time; leap days.",
        "Nothing fires early, and a jump does not fire a year of timers at once.",
        (3, 4),
        also=("integration/test_pipeline_kafka.py::test_no_timer_fires_early",),
    ),
    18: Scenario(
        "Partitions change hands while timers fire; two, three and one worker; all restart.",
        "Each timer has one effect.",
        (2, 3, 5),
        also=(
            "integration/test_pipeline_kafka.py::test_two_three_and_one_worker_decide_what_the_backtest_decides",
            "integration/test_pipeline_kafka.py::test_timers_survive_a_stop_of_all_workers_and_of_the_store",
        ),
    ),
    19: Scenario(
        "A million timers are due at once.",
        "They fire in bounded batches beside fresh events; no call holds the store up.",
        (3, 9),
    ),
    20: Scenario(
        "Malformed records: broken JSON, nothing, tombstones, byte order marks, wrong types, "
        "unknown types, a megabyte, ten, 100,000 levels, duplicate keys, bombs.",
        "A dead letter with its reason, the value cut and the digest of the whole; the next event "
        "is applied at once.",
        (1, 6, 9),
        also=(
            "contract/test_door.py::test_what_is_no_json_in_utf_8_is_not_json",
            "contract/test_door.py::test_256_kib_come_in_and_one_byte_more_is_too_large",
            "integration/test_worker_embedded.py::test_every_hostile_record_is_refused_with_its_reason_and_the_next_event_is_applied",
        ),
    ),
    21: Scenario(
        "Ids of any text: emoji, right to left, NUL, half a surrogate pair, two normal forms, 10 "
        "kB, nothing, braces, quotes, Lua.",
        "Each is kept as it came, in its own partition's slot, or refused at the door.",
        (1, 6),
        also=("integration/test_store.py::test_any_id_comes_back_as_it_was_and_stays_in_its_slot",),
    ),
    22: Scenario(
        "Numbers: negative prices, -0, NaN, infinity, 1e308, thousands of digits, `19,99`, mixed "
        "currencies, quantities 0, -1 and 2^31.",
        "Whole minor units with a currency, or a dead letter; no digit is lost on the way.",
        (1, 6),
    ),
    23: Scenario(
        "Times: tomorrow, in ten years, year 9999 and 10000, before 1970, seconds for "
        "milliseconds, without a zone.",
        "`time_out_of_range` or `bad_envelope`; a due time lies within its bound.",
        (3, 6),
    ),
    24: Scenario(
        "A customer is erased; then the log is replayed, a snapshot restored, dead letters "
        "replayed, with timers pending and offers in the outbox; then consents again.",
        "Nothing of before comes back; only what follows the new consent counts.",
        (7, 10),
    ),
    25: Scenario(
        "A consent is withdrawn a millisecond before a timer is due; an objection comes while "
        "partitions change hands.",
        "No offer; the decision says why.",
        (8,),
    ),
    26: Scenario(
        "The rules file changes under way: to a good one, a broken one, half of one, none, an "
        "unreadable one, a huge one, a bomb; a rule with pending timers goes.",
        "A book with faults changes nothing; a good one takes effect between two batches, its "
        "digest stored with the offsets; timers of a removed rule are cancelled.",
        (11,),
    ),
    27: Scenario(
        "A million customers chosen for one partition; one customer with a million events; a "
        "cart with a million products.",
        "Bounds for each customer and partition; the other partitions go on.",
        (9,),
    ),
    28: Scenario(
        "The store's disk is full, file descriptors run out, memory runs out.",
        "Pause, alarm, heal; nothing is dropped in silence.",
        (1, 9),
    ),
    29: Scenario(
        "A topic is made anew, cut, or given more partitions.",
        "The worker refuses and says what to do.",
        (1, 5),
        also=(
            "integration/test_transport_kafka.py::test_a_stored_offset_that_the_broker_lacks_ends_the_worker",
            "integration/test_transport_kafka.py::test_topics_with_unequal_partition_counts_end_the_worker",
        ),
    ),
    30: Scenario(
        "Two releases side by side, up and down again.",
        "Each calls its own functions; documents of a later release are not touched by an "
        "earlier one.",
        (1, 11),
        also=(
            "integration/test_store.py::test_a_claim_keeps_the_position_and_refuses_what_it_cannot_read",
        ),
    ),
}


def _markers(node: ast.Module | ast.stmt) -> str:
    """The text in which markers of a module or a function stand."""
    if isinstance(node, ast.Module):
        return "\n".join(
            ast.unparse(line.value)
            for line in node.body
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "pytestmark"
        )
    return "\n".join(ast.unparse(one) for one in getattr(node, "decorator_list", ()))


def _tests(path: Path) -> Iterator[Shown]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    common = _markers(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("test_"):
                continue
            said = f"{common}\n{_markers(node)}"
            target = next(
                (target for mark, target in TARGETS.items() if f"mark.{mark}" in said), "make test"
            )
            yield Shown(path.relative_to(TESTS).as_posix(), node.name, target)


@cache
def all_tests() -> tuple[Shown, ...]:
    """Every test, in the order of files and lines."""
    return tuple(test for path in sorted(TESTS.rglob("test_*.py")) for test in _tests(path))


def numbers_in(name: str) -> tuple[int, ...]:
    """The scenarios that a test's name says it shows."""
    match = _NAMED.match(name)
    return tuple(int(part[1:]) for part in match[1].split("_")[1:]) if match else ()


def named_after(number: int) -> list[Shown]:
    """The tests whose names say that they show a scenario."""
    return [test for test in all_tests() if number in numbers_in(test.name)]


def others(number: int) -> list[Shown]:
    """Tests that show a scenario under another name; raises `LookupError` for one that is gone."""
    by_place = {f"{test.file}::{test.name}": test for test in all_tests()}
    return [by_place[place] for place in SCENARIOS[number].also]


def promises_table() -> str:
    """The promises, their conditions, and what they leave open."""
    rows = ["| # | promise | on condition that | left open |", "|---|---|---|---|"]
    rows += [
        f"| P{number} | {one.says} | {one.condition} | {one.gap} |"
        for number, one in PROMISES.items()
    ]
    return "\n".join(rows)


def scenarios_table() -> str:
    """Scenario, expectation, promises, and the tests with the target that runs them."""
    rows = [
        "| # | what is done | what must come of it | backs | shown by |",
        "|---|---|---|---|---|",
    ]
    for number, one in SCENARIOS.items():
        tests = dict.fromkeys([*named_after(number), *others(number)])
        backs = ", ".join(f"P{promise}" for promise in one.promises)
        shown = "<br>".join(_cell(test) for test in tests)
        rows.append(f"| S{number} | {one.done} | {one.expected} | {backs} | {shown} |")
    return "\n".join(rows)


def _cell(test: Shown) -> str:
    words = test.name.removeprefix("test_").replace("_", " ")
    return f"[{words}](../tests/{test.file}) (`{test.target}`)"
