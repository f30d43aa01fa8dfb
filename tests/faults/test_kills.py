"""Workers, the store and the broker are killed and paused; the end is what the model says."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from streams.embedded import EmbeddedStore
from tests.faults.kit import SESSION_S, Rig, Shoppers, seeds, wait_for
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

PLACES = ["before_fcall", "after_fcall", "after_publish_before_ack", "after_dlq_before_offset"]


@pytest.mark.parametrize("place", PLACES)
def test_s1_killed_at_a_named_place_loses_nothing_and_sends_nothing_twice(
    rig: Rig, place: str
) -> None:
    rounds = seeds("FAULT_SEEDS", 1)
    rig.send_catalog([("sku0", "sku1")])
    shoppers = Shoppers(rig, seed=11)
    chance = random.Random(place)
    for _ in range(rounds):
        # The worker dies at its first, second ... time at that place, with records in flight.
        turn = chance.randint(1, 4)
        shoppers.many(300)
        slot = rig.add(failpoint=f"{place}:kill@{turn}")
        begun = time.monotonic()
        while not slot.exits:
            # Refused records make dead letters, which one of the places needs.
            rig.send("cart.item_added", "c1", {"cart_id": 5})
            shoppers.many(20)
            time.sleep(0.1)
            assert time.monotonic() - begun < 60, "the place was never reached"
        assert slot.exits[0] == -signal.SIGKILL
        wait_for("it is ready again", slot.is_ready)
        shoppers.many(100)
        assert slot.end() == 0
    rig.add()
    rig.settle()
    rig.end()
    print(place, dict(rig.check()))


@pytest.mark.alone
def test_s1_another_goes_on_15_s_after_the_session_of_a_killed_worker(rig: Rig) -> None:
    first, second = rig.begin(2)
    shoppers = Shoppers(rig, seed=12)
    shoppers.steady(2)
    with second.lock:
        second.wanted = False
        second.kill()
    killed = time.monotonic()
    before = rig.calls()
    while not all(now > then for now, then in zip(rig.calls(), before, strict=True)):
        shoppers.steady(0.2)
        assert time.monotonic() - killed < SESSION_S + 15
    took_s = time.monotonic() - killed
    print(f"all partitions went on {took_s:.1f} s after the kill, session {SESSION_S} s")
    assert first.exits == []
    rig.settle()
    rig.end()
    rig.check()


@pytest.mark.alone
def test_s1_a_worker_that_is_started_again_decides_within_10_s(rig: Rig) -> None:
    (slot,) = rig.begin(1, instance="the-one")
    shoppers = Shoppers(rig, seed=13)
    shoppers.steady(2)
    shoppers.until_in_flight()
    slot.kill()
    killed = time.monotonic()
    slot.worker.process.wait()
    before = rig.calls()
    took_s = wait_for("the next decision", lambda: max(rig.calls()) > max(before), 10)
    print(f"next decision {took_s:.1f} s after the kill")
    assert time.monotonic() - killed < 10
    rig.settle()
    rig.end()
    rig.check()


def test_s2_a_paused_worker_wakes_fenced_and_writes_nothing(rig: Rig) -> None:
    first, _ = rig.begin(2)
    shoppers = Shoppers(rig, seed=14)
    shoppers.steady(2)
    shoppers.until_in_flight()
    owned = first.owned()
    tokens = [rig.meta(number)["token"] for number in owned]
    first.send(signal.SIGSTOP)
    wait_for(
        "the other has all partitions",
        lambda: not set(tokens) & {rig.meta(number)["token"] for number in owned},
        SESSION_S + 15,
    )
    shoppers.steady(2)
    first.send(signal.SIGCONT)
    shoppers.steady(3)
    rig.settle()
    assert not set(tokens) & {rig.meta(number)["token"] for number in owned}
    rig.end()
    rig.check()


KINDS = ["kill worker", "pause worker", "kill store", "pause store", "kill broker", "pause broker"]


@pytest.mark.alone
def test_kills_and_pauses_at_random_moments_end_as_the_model_says(
    rig: Rig, store: EmbeddedStore, own_kafka: KafkaServer
) -> None:
    seed = seeds("SEED", random.SystemRandom().randrange(10**6))
    print(f"seed {seed} (TSUIDE_TEST_SEED)")
    chance = random.Random(seed)
    rig.begin(2)
    shoppers = Shoppers(rig, seed=seed)
    done: list[str] = []
    kinds: list[str] = []
    for _ in range(seeds("KILLS", 6)):
        kinds = kinds or chance.sample(KINDS, len(KINDS))  # each kind as often
        shoppers.steady(chance.uniform(0.2, 1.5))
        in_flight = shoppers.until_in_flight()
        kind = kinds.pop()
        print(f"{kind} with {in_flight} in flight", flush=True)
        _strike(kind, chance, rig, store, own_kafka)
        done.append(kind)
    shoppers.steady(1)
    rig.settle(240)
    rig.end()
    lost = sum(slot.lost_records() for slot in rig.slots)
    figures = rig.check(copies=lost)
    exits = [code for slot in rig.slots for code in slot.exits]
    print(f"{len(done)} strikes, exits {exits}, lost answers {lost}, {dict(figures)}")


def _strike(
    kind: str, chance: random.Random, rig: Rig, store: EmbeddedStore, kafka: KafkaServer
) -> None:
    what, target = kind.split()
    pause_s = chance.choice([0.5, 2, SESSION_S + 3])
    if target == "worker":
        slot = chance.choice(rig.slots)
        if what == "kill":
            slot.kill()
        else:
            with slot.lock:
                slot.send(signal.SIGSTOP)
                time.sleep(pause_s)
                slot.send(signal.SIGCONT)
    elif what == "kill" and target == "store":
        store.kill()
        time.sleep(chance.uniform(0, 3))
        store.start()
    elif what == "kill":
        kafka.kill()
        time.sleep(chance.uniform(0, 3))
        kafka.restart()
    else:
        pid = store.pid if target == "store" else kafka.pid
        assert pid is not None
        _pause(pid, pause_s)


def _pause(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
