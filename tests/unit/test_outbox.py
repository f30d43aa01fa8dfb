"""The relay sends in order, waits for acknowledgements, and knows what was sent before."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from streams.outbox import BYTES_MAX, ENTRIES_MAX, Outgoing, Relay, known_as, pack, unpack
from streams.ownership import SURE_MS, Ownership


class Acked(NamedTuple):
    next_offset: int


class Log:
    """An output log, as the producer's seam shows it; ``open`` lets acknowledgements out."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes]] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def send_batch(
        self, topic: str, partition: int, records: Sequence[Any], ownership: Any = None
    ) -> Acked:
        await self.open.wait()
        log = self.records.setdefault(topic, [])
        log += [value for _, value, _, _ in records]
        return Acked(len(log))


class Reports:
    def __init__(self, sent: list[str]) -> None:
        self._sent = sent

    def sent(self, records: list[Outgoing], took_s: float) -> None:
        self._sent += [record.id for record in records]

    def known_already(self, topic: str) -> None:
        pass


def outgoing(topic: str, name: str) -> Outgoing:
    return Outgoing(topic, b"c1", name.encode(), name)


def make_relay(log: Log, known: set[str] | None = None) -> tuple[Relay, list[str]]:
    sent: list[str] = []
    return Relay(3, log, known or set(), Reports(sent), "x-"), sent


def run_relay(log: Log, relay: Relay, entries: list[tuple[int, list[Outgoing]]]) -> None:
    async def run() -> None:
        task = asyncio.create_task(relay.run())
        for number, records in entries:
            relay.put(number, records)
        await asyncio.wait_for(relay.flush(), 5)
        task.cancel()

    asyncio.run(run())


def test_entries_are_sent_in_order_to_their_topics_and_counted_when_acknowledged() -> None:
    log = Log()
    relay, sent = make_relay(log)
    run_relay(
        log,
        relay,
        [
            (4, [outgoing("decisions", "a"), outgoing("offers.email", "b")]),
            (7, [outgoing("decisions", "c")]),
        ],
    )
    assert log.records == {"x-decisions": [b"a", b"c"], "x-offers.email": [b"b"]}
    assert relay.done == 7
    assert relay.offsets == {"decisions": 2, "offers.email": 1}
    assert sorted(sent) == ["a", "b", "c"]


def test_what_the_output_holds_already_is_not_sent_again() -> None:
    log = Log()
    relay, _ = make_relay(log, {known_as("decisions", "a")})
    run_relay(log, relay, [(1, [outgoing("decisions", "a"), outgoing("decisions", "b")])])
    assert log.records == {"x-decisions": [b"b"]}
    assert relay.done == 1


def test_a_full_queue_makes_the_partition_wait_until_something_is_acknowledged() -> None:
    async def run() -> None:
        log = Log()
        log.open.clear()
        relay, _ = make_relay(log)
        task = asyncio.create_task(relay.run())
        for number in range(1, ENTRIES_MAX + 1):
            relay.put(number, [outgoing("decisions", str(number))])
        waiting = asyncio.create_task(relay.room())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert relay.done == 0
        log.open.set()
        await asyncio.wait_for(waiting, 5)
        task.cancel()

    asyncio.run(run())


def test_an_entry_survives_packing() -> None:
    records = [
        Outgoing("dead-letters", None, b"\x00\xff", "cart/1/2", [("reason", b"not_json")]),
        Outgoing("offers.push", b"c", b"{}", "id", None, 1, 2, 3, 4),
    ]
    assert unpack(pack(records)) == records


def test_what_is_learnt_goes_to_the_one_partition_of_its_topic() -> None:
    class Places(Log):
        def __init__(self) -> None:
            super().__init__()
            self.places: dict[str, int] = {}

        async def send_batch(
            self, topic: str, partition: int, records: Sequence[Any], ownership: Any = None
        ) -> Acked:
            self.places[topic] = partition
            return await super().send_batch(topic, partition, records)

    log = Places()
    relay, _ = make_relay(log)
    run_relay(log, relay, [(1, [outgoing("decisions", "a"), outgoing("learned", "b")])])
    assert log.places == {"x-decisions": 3, "x-learned": 0}


def test_a_withdrawal_and_the_decision_about_it_are_told_apart_though_they_share_their_id() -> None:
    log = Log()
    relay, _ = make_relay(log, {known_as("decisions", "a.withdrawn")})
    records = [outgoing("offers.email", "a.withdrawn"), outgoing("decisions", "a.withdrawn")]
    run_relay(log, relay, [(1, records)])
    assert log.records == {"x-offers.email": [b"a.withdrawn"]}


def offer(name: str) -> Outgoing:
    return Outgoing("offers.email", b"c1", name.encode(), name, at=1)


def letter(key: bytes | None, value: bytes) -> Outgoing:
    return Outgoing("dead-letters", key, value, "cart/3/7")


@pytest.mark.parametrize(
    ("named", "goes"),
    [
        (b'{"subject":"ann","data":{}}', False),
        (b'{"data":{}, "subject" : "\\u0061nn", "data', False),
        (b'{"subject":"ann', True),
        (b'{"data":"ann","subject":"bob"}', True),
        (b"\xff", True),
    ],
    ids=["whole", "cut", "cut within the name", "of another", "no text"],
)
def test_s24_a_letter_that_waits_under_a_wrong_key_is_called_back_by_whom_it_names(
    named: bytes, goes: bool
) -> None:
    log, later = Log(), letter(b"bob", b'{"subject":"ann"}')
    relay, _ = make_relay(log)
    relay.put(1, [letter(b"bob", named)])
    assert relay.forget("ann", 2) == (not goes)
    run_relay(log, relay, [(2, [later])])
    assert log.records == {"x-dead-letters": [*([named] if goes else []), later.value]}


def test_s24_who_is_erased_while_another_offer_is_looked_at_again_is_still_called_back() -> None:
    log = Log()
    relay, _ = make_relay(log)
    anns = Outgoing("offers.email", b"ann", b"ann", "a", at=1)
    proof = Outgoing("consent-evidence", b"d" * 32, b'{"proof":"form 7"}', "e")

    async def look(record: Outgoing) -> list[Outgoing]:
        if record.key != b"ann":
            assert relay.forget("ann", 2) == 1
            relay.recalls.proof(b"d" * 32, 2)
        return [record]

    relay.recheck = look
    run_relay(log, relay, [(1, [anns, proof, offer("c")])])
    assert log.records.keys() == {"x-offers.email", "x-consent-evidence"}
    assert log.records["x-offers.email"] == [b"c"]
    assert b"form" not in log.records["x-consent-evidence"][0]


def test_s2_after_standing_still_it_asks_whether_the_partition_is_still_ours() -> None:
    class Taken(Exception):  # noqa: N818
        """Another worker has it."""

    async def run() -> None:
        log, asked = Log(), []
        relay, _ = make_relay(log)
        now = 1_000_000

        async def own() -> None:
            asked.append(now)
            if len(asked) > 1:
                raise Taken

        relay.ownership = Ownership(own, lambda: now)
        task = asyncio.create_task(relay.run())
        relay.ownership.sure(now)
        relay.put(1, [outgoing("decisions", "a")])
        await relay.flush()
        assert asked == [], "what was just applied is ours"
        for number, still_ms in ((2, SURE_MS + 1), (3, 8_000)):
            begun_ms = now
            now += still_ms  # the answer lay there all the time
            relay.ownership.sure(begun_ms)
            relay.put(number, [outgoing("decisions", str(number))])
            await asyncio.wait([task, asyncio.create_task(relay.flush())], timeout=1)
        assert len(asked) == 2
        assert log.records == {"x-decisions": [b"a", b"2"]}
        assert isinstance(task.exception(), Taken)

    asyncio.run(run())


def test_an_entry_may_be_put_while_an_offer_is_looked_at_again() -> None:
    async def run() -> None:
        log = Log()
        relay, _ = make_relay(log)

        async def recheck(record: Outgoing) -> list[Outgoing]:
            if relay.waiting == 1:
                relay.put(2, [outgoing("decisions", "b")])
            await asyncio.sleep(0)
            return [record]

        relay.recheck = recheck
        task = asyncio.create_task(relay.run())
        relay.put(1, [offer("a")])
        await asyncio.wait_for(
            asyncio.wait(
                [task, asyncio.create_task(relay.flush())], return_when=asyncio.FIRST_COMPLETED
            ),
            5,
        )
        assert not task.done()
        assert log.records == {"x-offers.email": [b"a"], "x-decisions": [b"b"]}
        assert (relay.done, relay.waiting) == (2, 0)
        task.cancel()

    asyncio.run(run())


def test_an_offer_that_was_noted_as_expired_before_a_crash_is_not_sent_after_it() -> None:
    async def still_good(record: Outgoing) -> list[Outgoing]:
        return [record]

    log = Log()
    relay, _ = make_relay(log, {known_as("decisions", "a.expired")})
    relay.recheck = still_good
    run_relay(log, relay, [(1, [offer("a"), offer("b")])])
    assert log.records == {"x-offers.email": [b"b"]}


def test_p9_entries_of_many_bytes_make_the_partition_wait_though_they_are_few() -> None:
    async def run() -> None:
        log = Log()
        log.open.clear()
        relay, _ = make_relay(log)
        task = asyncio.create_task(relay.run())
        relay.put(1, [outgoing("decisions", "a")], BYTES_MAX - 1)
        fulls = [relay.full]
        relay.put(2, [outgoing("decisions", "b")], 1)
        assert [*fulls, relay.full] == [False, True]
        assert relay.size == BYTES_MAX
        log.open.set()
        await asyncio.wait_for(relay.room(), 5)
        await asyncio.wait_for(relay.flush(), 5)
        assert relay.size == 0
        task.cancel()

    asyncio.run(run())


def test_of_an_offer_that_was_held_only_the_copy_that_was_taken_out_is_sent() -> None:
    log = Log()
    relay, _ = make_relay(log)

    async def recheck(record: Outgoing) -> list[Outgoing]:
        if record.value == b"old":
            relay.recalls.offer("a", 3)  # meanwhile the partition takes the held copy out
        return [record]

    relay.recheck = recheck
    old, fresh = (Outgoing("offers.email", b"c1", v, "a", at=1) for v in (b"old", b"held"))
    run_relay(log, relay, [(1, [old]), (2, [offer("b")]), (3, [fresh]), (4, [offer("a")])])
    assert log.records == {"x-offers.email": [b"b", b"held", b"a"]}


def test_what_the_next_claim_reads_back_begins_before_all_that_is_not_decided_again_yet() -> None:
    async def run() -> None:
        log = Log()
        relay, _ = make_relay(log, {known_as("decisions", "later")})
        relay.offsets["decisions"] = 0
        task = asyncio.create_task(relay.run())
        relay.put(1, [outgoing("decisions", "a")])
        await asyncio.wait_for(relay.flush(), 5)
        assert (relay.knows, relay.offsets) == (True, {"decisions": 0})
        relay.put(2, [outgoing("decisions", "later"), outgoing("decisions", "b")])
        await asyncio.wait_for(relay.flush(), 5)
        assert (relay.knows, relay.offsets) == (False, {"decisions": 2})
        task.cancel()

    asyncio.run(run())


def test_what_nothing_led_to_again_is_forgotten_when_all_is_decided() -> None:
    log = Log()
    relay, _ = make_relay(log, {known_as("decisions", "never")})
    relay.forget_known()
    run_relay(log, relay, [(1, [outgoing("decisions", "a")])])
    assert relay.offsets == {"decisions": 1}
