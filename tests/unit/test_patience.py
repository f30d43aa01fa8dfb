"""A halt of the store holds up a batch that is already being tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.store.calls import Batch
from streams.store.connection import Address, Link
from streams.store.errors import StoreError, error_for
from streams.store.patience import PatientStore


class FakeLink(Link):
    """Answers each call with the next of ``answers``, and the number of the batch after them."""

    def __init__(self, answers: list[StoreError]) -> None:
        super().__init__(Address("redis://127.0.0.1:1", 1))
        self.answers = answers
        self.tries = 0
        self.second = asyncio.Event()

    async def packed(self, data: bytes, replies: int = 1, *, again: bool = False) -> list[Any]:
        self.tries += 1
        if self.tries == 2:
            self.second.set()
        if self.answers:
            raise self.answers.pop(0)
        return [b"1"]


class FakeStore(PatientStore):
    def __init__(self, link: FakeLink) -> None:
        self.link = link
        super().__init__("redis://127.0.0.1:1")

    def _new_link(self) -> Link:
        return self.link


def passing(code: str) -> list[StoreError]:
    return [error_for(code) for _ in range(1_000)]


@pytest.mark.parametrize("code", ["NOREPLICAS", "OOM", "LOADING", "READONLY"])
def test_a_halt_that_begins_during_the_tries_stops_further_tries(code: str) -> None:
    async def body() -> None:
        link = FakeLink(passing(code))
        store = FakeStore(link)
        applying = asyncio.create_task(store.apply(0, Batch("t", 1, {"cart": (None, 1)})))
        await asyncio.wait_for(link.second.wait(), 5)
        store.patience.halt("eviction")
        tries = link.tries
        await asyncio.sleep(0.6)  # time for several more
        assert link.tries == tries
        assert store.patience.trouble == "eviction"
        link.answers.clear()
        store.patience.resume()
        await asyncio.wait_for(applying, 5)
        assert link.tries == tries + 1
        assert store.patience.trouble == ""

    asyncio.run(body())
