"""What a fetch answer's records are taken as: many at a time, as one by one and as in aiokafka."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.refusals import Unreadable
from streams.unpacking import as_read, bound_unpacking

TP = TopicPartition("cart", 3)
CONTROL, TRANSACTIONAL = 0x20, 0x10
ABORT = b"\x00\x00\x00\x00"
ATTRIBUTES_AT, LAST_DELTA_AT, PRODUCER_AT = 21, 23, 43


def as_shipped() -> Any:
    """aiokafka's own reader, of a copy of its module in which nothing was replaced."""
    spec = importlib.util.find_spec("aiokafka.consumer.fetcher")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy.PartitionRecords._unpack_records


@pytest.fixture(autouse=True)
def _bounded() -> None:
    bound_unpacking()


def batch(
    deltas: list[int], base: int, last: int | None = None, producer: int = -1, control: bool = False
) -> bytes:
    """A batch of records at these offsets from ``base``; ``last``: the offset it ends with."""
    builder = default_records.DefaultRecordBatchBuilder(
        2, 0, int(producer >= 0), producer, 0, 0, 1_000_000
    )
    for delta in deltas:
        assert builder.append(delta, 1_000 + delta, ABORT if control else b"k", b"v%d" % delta, [])
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    if last is not None:
        built[LAST_DELTA_AT : LAST_DELTA_AT + 4] = (last - base).to_bytes(4, "big")
    if control:
        built[ATTRIBUTES_AT + 1] |= CONTROL
    return bytes(built)


def broken(base: int, good: int, lost: int) -> bytes:
    """A batch whose records after the first ``good`` cannot be read."""
    built = bytearray(batch(list(range(good + lost)), base))
    # Each record has the same length here, so the end of the last good one is known.
    length = (len(built) - 61) // (good + lost)
    built[61 + good * length] = 0xFF
    return bytes(built)


class Place:
    """What the subscription knows of the topic partition."""

    def __init__(self, position: int) -> None:
        self.position, self.paused = position, False

    def consumed_to(self, position: int) -> None:
        self.position = position


class Fetched:
    """One answer, drained as the consumer thread does."""

    def __init__(self, data: bytes, begin: int = 0, aborted: Any = (), crcs: bool = False) -> None:
        self.place = Place(begin)
        assignment = SimpleNamespace(active=True, state_value=lambda tp: self.place)
        self.unread = fetcher.PartitionRecords(
            TP, MemoryRecords(data), aborted, begin, None, None, crcs, fetcher.READ_COMMITTED
        )
        self.unread._consumer_record = as_read
        self.result = fetcher.FetchResult(
            TP, assignment=assignment, partition_records=self.unread, backoff=0
        )

    def take(self, most: int | None = None) -> list[int]:
        return [record.offset for record in self.result.getall(most)]


def test_a_round_ends_within_a_batch_and_the_next_goes_on_there() -> None:
    fetched = Fetched(batch([0, 1, 2, 3, 4], 10) + batch([0, 1], 15), 10)
    seen = [
        (fetched.take(most), fetched.place.position, fetched.result.has_more())
        for most in (2, 2, 2, 1, 9)
    ]
    assert seen == [
        ([10, 11], 12, True), ([12, 13], 14, True), ([14, 15], 16, True), ([16], 17, True),
        ([], 17, False),
    ]  # fmt: skip


def test_no_more_of_a_batch_is_read_than_was_asked_for() -> None:
    """A batch may hold millions of records; what is read of it is what the round has room for."""
    fetched = Fetched(batch(list(range(1_000)), 0))
    assert len(fetched.take(10)) == 10
    rest = fetched.unread._records_iterator._rest
    assert next(rest).offset == 10


def test_a_batch_read_in_part_before_gives_its_rest() -> None:
    fetched = Fetched(batch([0, 1, 2], 4), 5)
    assert (fetched.take(), fetched.place.position) == ([5, 6], 7)
    fetched = Fetched(batch([0, 1, 2], 4), 5)
    assert (fetched.take(1), fetched.place.position) == ([5], 6)


@pytest.mark.parametrize("most", [1, 2, 3, 4, None])
def test_records_before_a_fault_are_handed_over_and_one_stands_for_the_rest(
    most: int | None,
) -> None:
    fetched = Fetched(batch([0], 3) + broken(4, 2, 3) + batch([0], 9), 3)
    found: list[Any] = []
    while fetched.result.has_more():
        found += fetched.result.getall(most)
    assert [record.offset for record in found] == [3, 4, 5, 8, 9]
    assert isinstance(found[3].value, Unreadable)
    assert "offsets 6 to 8" in found[3].value.detail
    assert fetched.place.position == 10


def test_what_stands_for_a_fault_is_not_read_again_after_a_pause() -> None:
    fetched = Fetched(broken(4, 0, 3) + batch([0], 7), 4)
    assert (fetched.take(1), fetched.place.position) == ([6], 7)


def test_of_a_compacted_batch_the_position_is_behind_its_last_offset() -> None:
    fetched = Fetched(batch([1, 4], 10, last=19) + batch([], 20, last=24) + batch([0], 25), 10)
    assert (fetched.take(1), fetched.place.position) == ([11], 12)
    assert (fetched.take(1), fetched.place.position) == ([14], 15)
    assert (fetched.take(), fetched.place.position) == ([25], 26)
    assert Fetched(batch([], 20, last=24), 20).take() == []


def test_an_aborted_transaction_and_control_batches_are_left_out() -> None:
    log = (
        batch([0, 1], 0, producer=7) + batch([0], 2, producer=8) + batch([0, 1], 3)
        + batch([0], 5, producer=7, control=True) + batch([0], 6, producer=7)
        + batch([0], 7, producer=8, control=True)
    )  # fmt: skip
    fetched = Fetched(log, 0, [(7, 0)])
    assert (fetched.take(), fetched.place.position) == ([2, 3, 4, 6], 8)
    only = Fetched(batch([0, 1], 0, producer=7), 0, [(7, 0)])
    assert (only.take(), only.place.position, only.result.has_more()) == ([], 2, False)


def test_records_out_of_order_are_dropped() -> None:
    fetched = Fetched(batch([0, 2, 1, 2, 3], 10, last=13), 10)
    assert (fetched.take(), fetched.place.position) == ([10, 12, 13], 14)


def test_a_paused_one_is_dropped_and_its_position_stays() -> None:
    fetched = Fetched(batch([0, 1], 0))
    assert fetched.take(1) == [0]
    fetched.place.paused = True
    assert (fetched.take(1), fetched.place.position, fetched.result.has_more()) == ([], 1, False)


def test_a_damaged_batch_ends_the_answer_and_leaves_the_position() -> None:
    damaged = bytearray(batch([0], 2))
    damaged[-1] ^= 1
    fetched = Fetched(batch([0, 1], 0) + bytes(damaged), 0, crcs=True)
    with pytest.raises(Exception, match="Invalid CRC"):
        fetched.take()
    assert fetched.place.position == 0
    assert (fetched.take(), fetched.result.has_more()) == ([], False)


def test_others_get_whole_records_and_may_read_one_at_a_time() -> None:
    fetched = Fetched(batch([0, 1, 2], 0))
    del fetched.unread._consumer_record
    one = fetched.result.getone()
    assert (one.topic, one.partition, one.offset, fetched.place.position) == ("cart", 3, 0, 1)
    assert [(r.topic, r.offset, r.headers) for r in fetched.result.getall(None)] == [
        ("cart", 1, ()), ("cart", 2, ()),
    ]  # fmt: skip


READER = as_shipped()
LOGS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 6), unique=True, max_size=5).map(sorted),
        st.integers(0, 3),  # how far the batch ends behind its last record
        st.sampled_from([-1, -1, 7, 8]),
        st.booleans(),
    ),
    max_size=6,
)


@given(LOGS, st.integers(0, 12), st.lists(st.integers(1, 5), min_size=1), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_answer_gives_what_aiokafkas_own_reader_gives(
    log: Any, begin: int, rounds: list[int], aborts: bool
) -> None:
    data, base = b"", 0
    for deltas, behind, producer, control in log:
        control = control and producer >= 0 and bool(deltas)
        last = base + max(deltas, default=0) + behind
        data += batch(deltas, base, last, producer, control)
        base = last + 1
    aborted = [(7, 0), (8, 9)] if aborts else []
    fetched, plain = Fetched(data, begin, aborted), Fetched(data, begin, aborted)
    plain.unread._records_iterator = READER(plain.unread)
    for most in [*rounds, None]:
        assert fetched.take(most) == plain.take(most)
        assert fetched.place.position == plain.place.position
        assert fetched.result.has_more() == plain.result.has_more()
        if not plain.result.has_more():
            break
