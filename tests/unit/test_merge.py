"""Records of several topics are applied in the order of their timestamps, and nothing else."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.merge import FetchState, Merge

TOPICS = ("customer", "cart", "purchase")


class Record(NamedTuple):
    timestamp: int
    offset: int


def caught_up(position: int, sent_ms: int) -> FetchState:
    return FetchState(position, position, sent_ms)


def make_merge(bound: int = 100) -> Merge:
    return Merge(TOPICS, bound)


def taken(merge: Merge, most: int = 1000) -> list[tuple[str, int]]:
    return [(topic, record.timestamp) for topic, record in merge.take(most)]


def test_records_of_all_topics_come_out_by_timestamp() -> None:
    merge = make_merge()
    merge.add("customer", [Record(5, 0), Record(9, 1)], 1000)
    merge.add("cart", [Record(1, 0), Record(7, 1)], 1000)
    merge.add("purchase", [Record(6, 0), Record(8, 1)], 1000)
    for topic in TOPICS:
        merge.learn(topic, caught_up(2, 1001))
    assert [at for _, at in taken(merge)] == [1, 5, 6, 7, 8, 9]
    assert merge.size == 0


def test_equal_timestamps_come_out_in_the_rank_of_their_topics() -> None:
    merge = make_merge()
    for topic in reversed(TOPICS):
        merge.add(topic, [Record(4, 0), Record(4, 1)], 1000)
        merge.learn(topic, caught_up(2, 1001))
    assert [topic for topic, _ in taken(merge)] == [t for t in TOPICS for _ in range(2)]


def test_a_topic_that_was_never_fetched_holds_everything_back() -> None:
    merge = make_merge()
    merge.add("cart", [Record(1, 0)], 1000)
    merge.learn("cart", caught_up(1, 1001))
    merge.learn("purchase", caught_up(0, 1001))
    assert taken(merge) == []
    assert merge.blockers() == ["customer"]
    merge.learn("customer", caught_up(0, 1001))
    assert taken(merge) == [("cart", 1)]


def test_a_topic_with_more_to_read_holds_everything_back() -> None:
    merge = make_merge()
    merge.add("cart", [Record(1, 0)], 1000)
    merge.learn("cart", caught_up(1, 1001))
    merge.learn("purchase", caught_up(0, 1001))
    merge.learn("customer", FetchState(3, 4, 1001))
    assert taken(merge) == []
    merge.learn("customer", FetchState(4, 4, 1001))
    assert taken(merge) == [("cart", 1)]


def test_an_answer_to_a_fetch_sent_before_the_record_came_in_does_not_free_it() -> None:
    merge = make_merge()
    merge.add("cart", [Record(1, 0)], 1000)
    for topic in TOPICS:
        merge.learn(topic, caught_up(1, 1000))
    assert taken(merge) == []
    for topic in ("customer", "purchase"):
        merge.learn(topic, caught_up(1, 1001))
    assert taken(merge) == [("cart", 1)]


def test_inside_a_topic_the_offsets_order_is_kept_where_timestamps_go_back() -> None:
    merge = make_merge()
    merge.add("cart", [Record(9, 0), Record(3, 1)], 1000)
    merge.add("purchase", [Record(5, 0)], 1000)
    for topic in TOPICS:
        merge.learn(topic, caught_up(2, 1001))
    assert taken(merge) == [("purchase", 5), ("cart", 9), ("cart", 3)]


def test_a_full_topic_is_paused_but_never_the_one_with_the_smallest_head() -> None:
    merge = make_merge(bound=2)
    merge.add("cart", [Record(1, 0), Record(2, 1)], 1000)
    merge.add("purchase", [Record(3, 0), Record(4, 1)], 1000)
    assert merge.full() == ["purchase"]


def test_timers_may_fire_up_to_just_before_the_next_waiting_record() -> None:
    merge = make_merge()
    merge.add("cart", [Record(500, 0)], 1000)
    for topic in TOPICS:
        merge.learn(topic, caught_up(1, 10_000))
    assert merge.read_up_to(lambda wall: wall, 250) == 499


def test_timers_may_fire_up_to_the_margin_before_the_oldest_fetch_that_found_nothing() -> None:
    merge = make_merge()
    for topic, sent_ms in zip(TOPICS, (10_000, 9_000, 9_500), strict=True):
        merge.learn(topic, caught_up(0, sent_ms))
    assert merge.read_up_to(lambda wall: wall, 250) == 8_750


def test_no_timer_may_fire_before_every_topic_has_answered() -> None:
    merge = make_merge()
    merge.learn("cart", caught_up(0, 10_000))
    assert merge.read_up_to(lambda wall: wall, 250) == 0


@given(
    logs=st.tuples(*(st.lists(st.integers(0, 50), max_size=30).map(sorted) for _ in TOPICS)),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=20),
    most=st.integers(1, 9),
)
def test_however_records_are_cut_into_fetches_the_order_is_that_of_one_sort(
    logs: tuple[list[int], ...], cuts: list[int], most: int
) -> None:
    merge = make_merge(bound=10_000)
    read = dict.fromkeys(TOPICS, 0)
    out: list[tuple[str, int]] = []
    wall = 1_000
    turn = 0
    while any(read[topic] < len(log) for topic, log in zip(TOPICS, logs, strict=True)):
        for topic, log in zip(TOPICS, logs, strict=True):
            size = cuts[turn % len(cuts)]
            turn += 1
            start = read[topic]
            fetched = [Record(at, start + i) for i, at in enumerate(log[start : start + size])]
            read[topic] += len(fetched)
            merge.add(topic, fetched, wall)
            merge.learn(topic, FetchState(read[topic], len(log), wall - 1))
        out += taken(merge, most)
        wall += 10
    for topic, log in zip(TOPICS, logs, strict=True):
        merge.learn(topic, FetchState(len(log), len(log), wall))
    while more := taken(merge, most):
        out += more
    ranked = [
        (at, rank, topic)
        for rank, (topic, log) in enumerate(zip(TOPICS, logs, strict=True))
        for at in log
    ]
    assert out == [(topic, at) for at, _, topic in sorted(ranked)]
    assert merge.size == 0


def test_p9_a_topic_is_full_by_bytes_too_and_the_first_in_line_never_is() -> None:
    merge = Merge(TOPICS, 1_000, 500)
    merge.add("customer", [Record(1, 0)], 1000, 900)
    merge.add("cart", [Record(2, 0)], 1000, 500)
    merge.add("purchase", [Record(3, 0)], 1000, 499)
    assert merge.full() == ["cart"]
    assert merge.sizes_bytes() == {"customer": 900, "cart": 500, "purchase": 499}


def test_p9_a_batch_begins_no_further_piece_beyond_its_bytes() -> None:
    merge = make_merge()
    for number in range(5):
        merge.add("cart", [Record(2 * number, 0), Record(2 * number + 1, 0)], 1000, 400)
    for topic in ("customer", "purchase"):
        merge.learn(topic, caught_up(0, 1001))
    assert len(merge.take(1_000, 1_000)) == 6
    assert len(merge.take(1_000, 1)) == 2
    assert len(merge.take(1_000)) == 2
    assert merge.sizes_bytes()["cart"] == 0
