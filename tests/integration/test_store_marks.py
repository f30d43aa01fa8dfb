"""What a claim compares with the topic ``control``: the partitions' store, and the topics in."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from streams.embedded import EmbeddedStore
from streams.storemarks import StoreLostError, StoreMarks, mark_key, mark_value
from streams.topicids import KEY, TopicMadeAnewError, ids_record
from tests.integration.stores import claimed, opened, run

pytestmark = pytest.mark.usefixtures("raw")


class Sent(NamedTuple):
    next_offset: int = 0


class Control:
    """The topic ``control``: what was sent to it is what is read from it."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None]] = []
        self.ids = {"cart": "a"}

    async def send_batch(
        self, topic: str, partition: int, records: Any, ownership: Any = None
    ) -> Sent:
        assert (topic, partition) == ("x-control", 0)
        self.records += [(key, value) for key, value, _, _ in records]
        return Sent()

    async def read(self) -> list[tuple[bytes | None, bytes | None]]:
        return self.records


def test_a_claim_refuses_topics_that_were_made_anew_and_remembers_those_that_are_new(
    server: EmbeddedStore,
) -> None:
    control = Control()

    async def body() -> None:
        async with opened(server, "x-") as store:
            await claimed(store, 0)
            marks = StoreMarks({}, "x-", store, lambda: control.ids, control.read)
            await marks.check([0], control)
            assert (KEY, ids_record({"cart": "a"})) in control.records
            known = list(control.records)
            await marks.check([0], control)
            assert control.records == known, "nothing was new"
            control.ids = {"cart": "b"}
            with pytest.raises(TopicMadeAnewError, match="cart"):
                await marks.check([0, 1], control)
            assert control.records == known, "and nothing was marked"

    run(body())


def test_a_claim_refuses_a_store_that_is_not_the_marked_one(server: EmbeddedStore) -> None:
    control = Control()

    async def body() -> None:
        async with opened(server, "x-") as store:
            await claimed(store, 0)
            marks = StoreMarks({}, "x-", store, None, control.read)
            await marks.check([0], control)
            assert control.records == [(mark_key(0), mark_value(await store.identity(0) or ""))]
            control.records.append((mark_key(0), mark_value("another")))
            with pytest.raises(StoreLostError, match="another store"):
                await marks.check([0], control)

    run(body())
