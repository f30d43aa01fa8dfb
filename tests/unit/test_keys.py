"""Keys: the tag stands first, so that nobody's id can choose the slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.store.keys import BUCKETS, bucket_of, check_prefix, key_slot, partition_keys


def test_the_key_table() -> None:
    keys = partition_keys(17)
    assert keys.meta == b"{p17}:meta"
    assert keys.customers[0] == b"{p17}:c:0"
    assert keys.customers[15] == b"{p17}:c:f"
    assert keys.due == b"{p17}:due"
    assert keys.outbox == b"{p17}:outbox"
    assert keys.all == (keys.meta, *keys.customers, keys.due, keys.outbox)
    assert len(set(keys.all)) == 19


def test_a_prefix_goes_inside_the_tag() -> None:
    assert partition_keys(3, "shopA").meta == b"{shopA-p3}:meta"
    assert partition_keys(3, "shopA").all != partition_keys(3, "shopB").all


@pytest.mark.parametrize("prefix", ["{", "a}", "a b", "ä", "a\n", "x" * 65, "a:b"])
def test_a_prefix_that_could_break_the_tag_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        check_prefix(prefix)


def test_a_negative_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="partition"):
        partition_keys(-1)


def test_slots_are_those_of_the_cluster_specification() -> None:
    assert key_slot(b"123456789") == 0x31C3
    assert key_slot(b"{user1000}.following") == key_slot(b"{user1000}.followers")
    assert key_slot(b"foo{}{bar}") == key_slot(b"foo{}{bar}")
    assert key_slot(b"foo{{bar}}zap") == key_slot(b"{bar")
    assert key_slot(b"foo{bar}{zap}") == key_slot(b"bar")


@given(st.integers(0, 4096), st.sampled_from(["", "shop", "a.b_c-d"]))
def test_all_keys_of_a_partition_share_one_slot(partition: int, prefix: str) -> None:
    assert len({key_slot(key) for key in partition_keys(partition, prefix).all}) == 1


def test_partitions_spread_over_the_slots() -> None:
    assert len({key_slot(partition_keys(number).meta) for number in range(256)}) > 250


@pytest.mark.parametrize(
    ("customer", "bucket"), [(b"", 0), (b"c-1", 14), (b"c-2", 4), ("顧客".encode(), 11)]
)
def test_a_bucket_is_part_of_the_stored_format(customer: bytes, bucket: int) -> None:
    assert bucket_of(customer) == bucket


def test_buckets_take_their_share() -> None:
    counts = [0] * BUCKETS
    for number in range(16_000):
        counts[bucket_of(b"customer-%d" % number)] += 1
    assert min(counts) > 900
    assert max(counts) < 1100
