"""Topics that were made anew are told from those that the stored offsets belong to."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streams import topicids
from streams.storemarks import mark_key, mark_value, read_marks
from streams.topicids import (
    ACCEPTED_KEY,
    KEY,
    TopicMadeAnewError,
    accepted_record,
    ask_aside,
    check_ids,
    ids_record,
    made_anew,
    read_accepted,
    read_ids,
    watch_topic_ids,
)


def test_the_last_record_counts_and_others_are_none_of_its_business() -> None:
    records = [
        (KEY, ids_record({"cart": "a"})),
        (b"p0", b'{"store":"x"}'),
        (ACCEPTED_KEY, accepted_record({"cart": 5})),
        (None, b"?"),
        (KEY, ids_record({"cart": "b"})),
    ]
    assert read_ids(records) == {"cart": "b"}
    assert read_accepted(records) == {"cart": 5}
    assert read_ids([*records, (KEY, None)]) == {}


ODD = [b"{", b"[]", b"\xff", b'{"cart":[]}', b'{"a":' * 100_000, b"7"]


@pytest.mark.parametrize("odd", ODD)
def test_a_record_that_is_none_of_ours_takes_nothing_back(odd: bytes) -> None:
    records = [
        (KEY, ids_record({"cart": "a"})),
        (ACCEPTED_KEY, accepted_record({"cart": 5})),
        (mark_key(0), mark_value("x")),
    ]
    strangers = [(key, odd) for key, _ in records]
    assert read_ids([*records, *strangers]) == {"cart": "a"}
    assert read_accepted([*records, *strangers]) == {"cart": 5}
    assert read_marks([*records, *strangers]) == {mark_key(0): "x"}


def test_another_id_is_refused_and_a_new_topic_is_remembered() -> None:
    records = [(KEY, ids_record({"cart": "a"}))]
    assert check_ids({"cart": "a"}, records) is None
    assert check_ids({}, records) is None  # a broker that gives no ids is believed
    assert check_ids({"cart": "a", "usage": "u"}, records) == ids_record(
        {"cart": "a", "usage": "u"}
    )
    assert made_anew({"cart": "b", "usage": "u"}, {"cart": "a"}) == ["cart"]
    with pytest.raises(TopicMadeAnewError, match=r"cart.*made anew.*topics accept"):
        check_ids({"cart": "b", "usage": "u"}, records)


def test_a_topic_made_anew_between_two_claims_is_found_by_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topicids, "LOOK_S", 0.01)
    answers: list[dict[str, str] | Exception] = [
        OSError("away"),
        {"cart": "a"},
        {},
        {"cart": "a", "usage": "u"},
        OSError("away"),
        {"cart": "b", "usage": "u"},
    ]

    def ask() -> dict[str, str]:
        assert threading.current_thread() is not threading.main_thread()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(TopicMadeAnewError, match="cart"):
        asyncio.run(asyncio.wait_for(watch_topic_ids(ask), 5))
    assert answers == []


def test_nobody_waits_for_a_kafka_that_is_silent() -> None:
    go = threading.Event()
    asked = threading.Event()

    def ask() -> dict[str, str]:
        asked.set()
        go.wait(30)
        return {}

    async def body() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask_aside(ask), 0.1)

    asyncio.run(body())  # it would wait here for a thread of asyncio's
    assert asked.is_set()
    go.set()
