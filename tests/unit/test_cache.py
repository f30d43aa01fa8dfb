"""What a worker keeps of its customers is bounded by number and by size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.cache import DocumentCache
from triggers.customer import Customer


def filled(*sizes: int) -> DocumentCache:
    cache = DocumentCache()
    for number, size in enumerate(sizes):
        cache[f"c{number}"] = Customer(f"c{number}")
        cache.weigh(f"c{number}", size)
    return cache


def test_p9_documents_leave_memory_by_size_too_the_longest_kept_first() -> None:
    cache = filled(40, 30, 20, 10)
    cache.make_room(10, 60)
    assert (list(cache), cache.bytes) == (["c1", "c2", "c3"], 60)
    cache.make_room(2, 60)
    assert (list(cache), cache.bytes) == (["c2", "c3"], 30)
    cache.make_room(10, 0)
    assert (list(cache), cache.bytes) == ([], 0)


def test_a_document_that_grows_weighs_more_and_one_that_is_not_here_nothing() -> None:
    cache = filled(40)
    cache.weigh_written({(b"c0", "n"): b"x" * 30, (b"c0", "o"): b"x" * 25, (b"other", "n"): b"x"})
    assert cache.bytes == 55
    cache.weigh_written({(b"c0", "n"): b"x"})
    assert cache.bytes == 55
    cache.clear()
    assert cache.bytes == 0


@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(0, 20), st.integers(0, 5_000))
def test_p9_what_is_left_fits_and_is_the_newest(sizes: list[int], most: int, room: int) -> None:
    cache = filled(*sizes)
    cache.make_room(most, room)
    left = [int(name[1:]) for name in cache]
    assert left == list(range(len(sizes)))[len(sizes) - len(left) :]
    assert len(left) <= most
    assert cache.bytes == sum(sizes[number] for number in left) <= room
