"""What the consumer thread asks of brokers, and when: over a fetcher that answers as told."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition

from streams.fetching import ConsumerThread
from streams.fetchpace import FEW_RECORDS, LOOK_MS, TURN_MS, FetchPace

TP = TopicPartition("cart", 0)


class Fetcher:
    """Counts requests and answers whether they brought records."""

    def __init__(self, brings: Sequence[bool]) -> None:
        self._fetch_waiters: set[asyncio.Future[None]] = set()
        self.asked = 0
        self._brings = iter(brings)
        self.state = SimpleNamespace(timestamp=None)
        self.assignment = SimpleNamespace(active=True, state_value=lambda _: self.state)

    def _notify(self, waiter: "asyncio.Future[None]") -> None:
        if not waiter.done():
            waiter.set_result(None)

    async def _proc_fetch_request(self, assignment: Any, node: int, request: Any) -> bool:
        self.asked += 1
        self.state.timestamp = 1
        return next(self._brings)


def thread_over(fetcher: Fetcher) -> ConsumerThread:
    thread = ConsumerThread.__new__(ConsumerThread)
    thread._sent_ms, thread._pace = {}, FetchPace()
    thread._note_send_times(fetcher)
    return thread


async def ask(fetcher: Fetcher) -> bool:
    request = SimpleNamespace(topics=[("cart", [(0, 0, 1)])])
    return await fetcher._proc_fetch_request(fetcher.assignment, 1, request)


def test_a_look_that_finds_nothing_is_told_at_once() -> None:
    async def run() -> None:
        fetcher = Fetcher([False])
        thread = thread_over(fetcher)
        thread._pace.handed_over(1)
        waiter = asyncio.get_running_loop().create_future()
        fetcher._fetch_waiters.add(waiter)
        await ask(fetcher)
        assert waiter.done()
        assert thread._news
        assert thread._sent_ms.keys() == {TP}

    asyncio.run(run())


def test_a_fetch_that_waits_for_its_turn_ends_with_an_answer_when_it_is_called_off() -> None:
    async def run() -> None:
        fetcher = Fetcher([False] * 2)
        thread_over(fetcher)
        await ask(fetcher)
        waiting = asyncio.create_task(ask(fetcher))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await waiting is False
        assert fetcher.asked == 1

    asyncio.run(run())


LOOK_S, TURN_S = LOOK_MS / 1000, TURN_MS / 1000


def asked(pace: FetchPace, broker: int, now_s: float = 0.0) -> tuple[float, bool]:
    """How long the broker's fetch rests, and whether it is a look."""
    rest_s = pace.rest_s(broker, now_s)
    return round(rest_s, 9), pace.ask(broker, now_s + rest_s)


def test_each_broker_is_looked_at_once_between_two_of_its_turns() -> None:
    pace = FetchPace()
    assert [asked(pace, broker) for broker in (1, 2)] == [(0, False)] * 2
    pace.handed_over(1)
    assert [asked(pace, broker) for broker in (1, 2)] == [(LOOK_S, True)] * 2
    # The look brought records, too: they are looked after in the broker's turn.
    pace.handed_over(1)
    assert asked(pace, 1) == (TURN_S, True)
    # That fetch was sent at the turn; from then on a look is free again.
    pace.handed_over(1)
    assert asked(pace, 1, TURN_S) == (LOOK_S, True)
    assert asked(pace, 1, TURN_S) == (TURN_S, False)


def test_what_another_broker_brought_during_the_rest_is_looked_after_by_the_same_fetch() -> None:
    pace = FetchPace()
    pace.ask(1, 0.0)
    pace.found_nothing()
    assert pace.rest_s(1, 0.0) == TURN_S
    pace.handed_over(1)
    assert pace.ask(1, TURN_S)


def test_a_broker_that_has_much_never_rests_and_one_that_had_nothing_for_long_neither() -> None:
    pace = FetchPace()
    asked(pace, 1)
    for _ in range(3):
        pace.handed_over(FEW_RECORDS)
        assert asked(pace, 1) == (0, True)
    pace.found_nothing()
    assert asked(pace, 1, 0.05) == (0, False)
    assert asked(pace, 1, 0.05) == (TURN_S, False)
