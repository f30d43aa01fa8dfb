from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.murmur2 import Places, murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        # From the Java client's own UtilsTest.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=300))
def test_murmur2_is_that_of_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.lists(st.binary(max_size=8), max_size=60), st.integers(1, 5))
def test_places_forget_and_still_agree(keys: list[bytes], half_max: int) -> None:
    places = Places(8, half_max)
    for key in keys + keys:
        assert places.of(key) == partition_of(key, 8)
