"""Batches of hostile producers, built byte by byte: bounded, and accounted for."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import inspect
import tracemalloc
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.consumer import fetcher
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record import default_records as tools_reader

from streams.codec import Door
from streams.inflate import DECODERS, UNPACKED_BYTES_MAX, TooLargeError
from streams.readback import record_id
from streams.refusals import Unreadable
from streams.unpacking import BATCH_FAULTS, bound_unpacking
from triggers.errors import Refused

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip_encode, "snappy": snappy_encode, "lz4": lz4_encode, "zstd": zstd_encode,
}  # fmt: skip
TP = TopicPartition("cart", 3)


@pytest.fixture(autouse=True)
def _bounded() -> None:
    bound_unpacking()


def batch(
    values: list[bytes], base: int = 0, codec: str = "", header: bytes | None = None
) -> bytes:
    """A batch as it lies in the log, its first offset put to ``base``."""
    builder = default_records.DefaultRecordBatchBuilder(
        2, CODECS.get(codec, 0), 0, -1, -1, 0, 100_000_000_000
    )
    for place, value in enumerate(values):
        headers = [] if header is None else [("x" * len(header), b"v")]
        assert builder.append(place, 1_000 + place, b"k", value, headers) is not None
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    if header is not None:
        at = built.index(b"x" * len(header))
        built[at : at + len(header)] = header
    return bytes(built)


def read(*batches: bytes, begin: int = 0) -> list[Any]:
    """What a fetch of these batches hands over, by our reader."""
    fetched = fetcher.PartitionRecords(
        TP, MemoryRecords(b"".join(batches)), [], begin, None, None, False, 1
    )
    found = list(fetched)
    assert fetched.next_fetch_offset == found[-1].offset + 1
    return found


def refusal(record: Any) -> Refused:
    with pytest.raises(Refused) as found:
        Door(8).decode("cart", 3, record.key, record.value, record.headers, 1_000, 1_000)
    return found.value


@pytest.mark.parametrize("codec", CODECS)
def test_our_tools_read_every_codec_too(codec: str) -> None:
    packed = batch([b"one", b"two" * 50_000], 5, codec)
    found = list(tools_reader.DefaultRecordBatch(packed))
    assert [(one.offset, one.value) for one in found] == [(5, b"one"), (6, b"two" * 50_000)]


@pytest.mark.parametrize("codec", ["", *CODECS])
def test_batches_of_every_codec_are_read(codec: str) -> None:
    found = read(batch([b"one", b"two" * 50_000], 5, codec), batch([b"three"], 7, codec), begin=5)
    assert [(one.offset, one.value) for one in found] == [
        (5, b"one"), (6, b"two" * 50_000), (7, b"three"),
    ]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
def test_s20_a_bomb_becomes_one_refused_record_and_the_next_batch_is_read(codec: str) -> None:
    bomb = batch([b"\x00" * (UNPACKED_BYTES_MAX // 2)] * 3, 4, codec)
    tracemalloc.start()
    try:
        found = read(batch([b"a"], 3), bomb, batch([b"b"], 7), begin=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one.offset for one in found] == [3, 6, 7]
    refused = refusal(found[1])
    assert (refused.reason, "offsets 4 to 6" in refused.detail) == ("too_large", True)
    assert (found[0].value, found[2].value) == (b"a", b"b")
    assert peak < 3 * UNPACKED_BYTES_MAX


@pytest.mark.parametrize("codec", CODECS)
def test_what_unpacks_to_just_the_bound_is_read(codec: str) -> None:
    decode = DECODERS[f"{codec}_decode"]
    packed = ENCODERS[codec](b"\x00" * 1_000_000)
    assert len(decode(packed, 1_000_000)) == 1_000_000
    with pytest.raises(TooLargeError):
        decode(packed, 999_999)


def test_a_bomb_of_many_small_gzip_members_is_bounded_too() -> None:
    member = gzip.compress(b"\x00" * 100_000)
    assert len(DECODERS["gzip_decode"](member * 9, 900_000)) == 900_000
    with pytest.raises(TooLargeError):
        DECODERS["gzip_decode"](member * 10, 900_000)


def test_s20_a_header_whose_name_is_no_utf_8_stops_nobody() -> None:
    odd = batch([b"x", b"y"], 4, header=b"\xff\xfe\xff\xfe")
    found = read(batch([b"a"], 3), odd, batch([b"b"], 6), begin=3)
    assert [one.offset for one in found] == [3, 5, 6]
    refused = refusal(found[1])
    assert (refused.reason, "offsets 4 to 5" in refused.detail) == ("not_json", True)


@pytest.mark.parametrize("codec", CODECS)
def test_s20_broken_packing_stops_nobody(codec: str) -> None:
    whole = batch([b"x" * 10_000], 4, codec)
    broken = whole[:64] + bytes(255 - byte for byte in whole[64:])
    found = read(batch([b"a"], 3), broken, batch([b"b"], 5), begin=3)
    assert [one.offset for one in found] == [3, 4, 5]
    assert refusal(found[1]).reason == "not_json"


def test_a_batch_that_is_read_again_from_its_middle_gives_its_rest() -> None:
    assert [one.offset for one in read(batch([b"x", b"y", b"z"], 4), begin=5)] == [5, 6]
    bomb = batch([b"\x00" * (UNPACKED_BYTES_MAX // 2)] * 3, 4, "gzip")
    (one,) = read(bomb, begin=5)
    assert (one.offset, "offsets 5 to 6" in one.value.detail) == (6, True)


def test_a_batch_damaged_on_its_way_is_fetched_again_and_not_given_up() -> None:
    whole = bytearray(batch([b"x"], 4))
    whole[-1] ^= 1
    damaged = fetcher.PartitionRecords(TP, MemoryRecords(bytes(whole)), [], 4, None, None, True, 1)
    with pytest.raises(Exception, match="Invalid CRC"):
        next(damaged)
    assert damaged.next_fetch_offset == 4


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_s20_any_bytes_are_unpacked_or_found_at_fault(codec: str, data: st.DataObject) -> None:
    whole = ENCODERS[codec](b"abc" * 100)
    at = data.draw(st.integers(0, len(whole)))
    rest = whole[at + data.draw(st.integers(0, 9)) :]
    odd = whole[:at] + data.draw(st.binary(max_size=20)) + rest
    decode = DECODERS[f"{codec}_decode"]
    with contextlib.suppress(*BATCH_FAULTS):
        assert len(decode(odd, 10_000)) <= 10_000


def test_the_reader_that_ours_stands_for_is_the_one_that_we_know() -> None:
    """An upgrade that changes it has to be looked at."""
    source = inspect.getsource(fetcher).split("def _unpack_records")[1].split("\n    def ")[0]
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == "c1610bfd13b6420c"
    for name in DECODERS:
        assert hasattr(default_records, name)


def test_a_value_that_could_not_be_read_is_an_empty_one_that_tells_why() -> None:
    value = Unreadable("too_large", "why")
    assert (value, value.reason, value.detail) == (b"", "too_large", "why")
    assert issubclass(cramjam.DecompressionError, BATCH_FAULTS)


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ((), None), ((), b""), ((), b"junk"), ((), b"{}"), ((), b'{"id":7}'), ((), b"\xff"),
        ((), b"[" * 100_000), ((("offset", b"1"),), b"x"), ((("offset", None),), b"x"),
        ((("topic", b"\xff"), ("partition", b"1"), ("offset", b"1")), b"x"),
        ((("topic", None), ("partition", b"1"), ("offset", b"1")), b"x"),
    ],
)  # fmt: skip
def test_s20_what_somebody_else_put_into_our_output_is_nothing_that_we_know(
    headers: Any, value: bytes | None
) -> None:
    assert record_id(headers, value) == ""
