"""Scenarios of the fault matrix, forced upon runs of several seeds; the model must be met."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.machine import Machine, Setup
from tests.simulation.oracle import make_model, summary
from tests.simulation.plan import JUMPS_MS, Fault
from tests.simulation.seeds import simulate

SEEDS = range(4)
SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86_400


def force(seed: int, *faults: Fault, workers: int = 2, scale: int = MINUTE, **more: int) -> Machine:
    """Run to rest and to what the model says; the run's machine."""
    setup = Setup(seed, workers, sorted(faults), scale, more.pop("events", 60), **more)  # type: ignore[arg-type]
    run = simulate(setup)
    assert run.failures == [], setup
    return run.machine


@pytest.mark.parametrize(
    "name", ["before_fcall", "after_fcall", "after_publish_before_ack", "after_dlq_before_offset"]
)
def test_s01_a_worker_that_dies_at_a_failpoint_loses_nothing_and_sends_nothing_twice(
    name: str,
) -> None:
    for seed in SEEDS:
        machine = force(seed, *(Fault(0, "kill_at", turn, 0.3, name) for turn in (2, 5, 9)))
        assert machine.lives > 2
        assert not [write for write in machine.log.writes if write.unknown]
        assert summary(machine)["copies"] <= sum(write.stray for write in machine.log.writes)


def test_s02_a_paused_worker_writes_nothing_after_another_has_claimed() -> None:
    refused: Counter[str] = Counter()
    for seed in SEEDS:
        machine = force(seed, Fault(1.5, "stop", 0, 2.5), Fault(2.6, "stop", 1, 2.2), workers=3)
        refused += machine.refusals
    assert refused["FENCED"] >= len(SEEDS) // 2


def test_s03_a_store_that_lost_its_last_calls_is_brought_up_again_from_the_log() -> None:
    for seed in SEEDS:
        machine = force(seed, *(Fault(at, "store_crash", 9, 0.2) for at in (1.5, 3, 4.5)))
        assert machine.lives > 2


def test_s03_lost_timers_and_records_are_missed_even_while_nothing_comes() -> None:
    for seed in SEEDS:
        # The store is set back when the last event has long been applied.
        machine = force(seed, Fault(5.4, "store_old", 6), events=4)
        assert machine.lives > 2


def test_s05_store_replaced_by_an_old_snapshot_while_workers_live() -> None:
    refused: Counter[str] = Counter()
    for seed in SEEDS:
        refused += force(seed, Fault(2.5, "store_old", 60), Fault(4, "store_old", 200)).refusals
    assert refused["OFFSET_MISMATCH"] > 0


def test_s05_an_old_snapshot_in_which_a_paused_workers_token_is_valid_again() -> None:
    resurrected = 0
    for seed in range(12):
        machine = force(
            seed, Fault(1.5, "stop", 0, 2.9), Fault(3.9, "store_old", 40), Fault(4.1, "churn")
        )
        resurrected += machine.resurrected
    assert resurrected > 0


def test_s05_a_rebalance_in_the_middle_of_the_replay_sends_nothing_twice() -> None:
    for seed in range(8):
        back = [Fault(2.5, "store_old", 200), Fault(4.2, "store_old", 200)]
        churn = [Fault(2.6 + 0.15 * n, "churn") for n in range(16)]
        machine = force(seed, *back, *churn, Fault(2.4, "clock", 0, JUMPS_MS[-1]), scale=HOUR)
        assert summary(machine)["copies"] <= sum(write.excused for write in machine.log.writes)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("OOM", id="s07-memory"),
        pytest.param("READONLY", id="s09-replica"),
        pytest.param("MISCONF", id="s28-disk"),
    ],
)
def test_s07_s09_s28_a_store_that_refuses_for_a_while_costs_nothing(code: str) -> None:
    for seed in SEEDS:
        machine = force(
            seed, Fault(1.2, "refuse", 0, 1.0, code), Fault(3.5, "refuse", 0, 0.4, code)
        )
        assert machine.lives > 2


def test_s12_brokers_away_for_long_and_the_outbox_drains_in_order() -> None:
    for seed in SEEDS:
        force(seed, Fault(1, "broker", 0, 2.5), Fault(2, "broker", 1, 2.5), events=90)


def test_s12_a_long_outbox_is_drained_after_a_restart_in_quiet_hours() -> None:
    held = 0
    for seed in range(12):
        # Whoever claims finds an outbox that is full already.
        faults = [Fault(1, "mute", 0, 4), Fault(3.3, "kill", 0, 0.1)]
        machine = force(seed, *faults, workers=1, scale=HOUR, events=150)
        late = [write for write in machine.log.writes if write.topic == "offers.email"]
        held += sum(b'"type":"offer.made"' in write.record.value for write in late)
    assert held > 0


def test_s13_an_answer_that_was_lost_brings_at_most_one_more_copy_which_is_counted() -> None:
    copies = 0
    for seed in range(12):
        ways = ("error_before_write", "error_after_write", "partly", "late")
        machine = force(
            seed, *(Fault(1 + n, "produce", 90, 0.9, way) for n, way in enumerate(ways))
        )
        writes = machine.log.writes
        assert summary(machine)["copies"] <= sum(write.excused for write in writes)
        copies += summary(machine)["copies"]
    assert copies > 0


@pytest.mark.parametrize("scale", [SECOND, HOUR])
def test_s14_each_event_up_to_five_times_counts_once(scale: int) -> None:
    for seed in SEEDS:
        machine = force(seed, Fault(2, "kill", 0, 0.3), scale=scale, events=40, repeats=True)
        values = Counter(
            (topic, record.value)
            for (topic, _), records in machine.log.records.items()
            if not topic.startswith(("offers", "decisions", "dead"))
            for record in records
        )
        assert max(values.values()) == 5


def test_s15_topics_out_of_order_leave_no_negative_count_and_send_nothing_twice() -> None:
    for seed in SEEDS:
        jitter_ms = 500 * MINUTE
        machine = force(
            seed, Fault(2, "kill", 0, 0.3), Fault(3, "churn"), jitter_ms=jitter_ms, events=90
        )
        stamps = [
            [record.timestamp for record in records] for records in machine.log.records.values()
        ]
        assert any(found != sorted(found) for found in stamps)


@pytest.mark.parametrize("jump_ms", JUMPS_MS, ids=["+10m", "-10m", "+400d", "1970"])
def test_s17_a_workers_clock_leaps_and_nothing_fires_early_or_never(jump_ms: int) -> None:
    for seed in SEEDS:
        force(
            seed,
            Fault(1.5, "clock", 0, jump_ms),
            Fault(2.5, "kill", 0, 0.2),  # it begins again under the wrong clock
            Fault(3.5, "clock", 1, jump_ms),
        )


def test_s18_workers_come_and_go_while_timers_fire() -> None:
    for seed in SEEDS:
        churn = [Fault(0.5 + 0.4 * n, "churn") for n in range(12)]
        leave = [Fault(1 + 0.7 * n, "restart", n % 3, 0.2) for n in range(6)]
        kills = [Fault(0, "kill_at", turn, 0.4, "after_fcall") for turn in (7, 15)]
        machine = force(seed, *churn, *leave, *kills, workers=3, events=90)
        assert machine.lives > 5


@pytest.mark.parametrize("scale", [SECOND, HOUR])
def test_s25_consent_withdrawn_just_before_a_timer_is_due(scale: int) -> None:
    refused = 0
    for seed in SEEDS:
        faults = [Fault(1 + n, "churn") for n in range(4)]
        machine = force(seed, *faults, Fault(2.2, "stop", 0, 1.0), scale=scale, events=90)
        model = make_model(machine)
        assert not model.without_consent
        refused += sum(
            b'"timer":' in value and b'"reason":"no_consent"' in value
            for versions in model.records.values()
            for value in versions
        )
    assert refused > 0


def test_ten_days_pass_in_a_moment() -> None:
    for seed in range(3):
        machine = force(
            seed, Fault(1, "kill", 0, 0.5), Fault(3, "store_crash", 9, 0.3), scale=DAY, events=90
        )
        assert machine.loop.time() > 9
