from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.rfc3339 import rfc3339_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T09:00:00+09:00", 0),
        ("1969-12-31T23:30:00.001-00:30", 1),
        ("2024-02-29T12:34:56.789Z", 1_709_210_096_789),
        ("2024-02-29T12:34:56.7899999999Z", 1_709_210_096_789),
        ("2024-02-29T12:34:56.7Z", 1_709_210_096_700),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2017-01-01T08:59:60.5+09:00", 1_483_228_800_500),
    ],
)
def test_a_time_is_read_to_the_millisecond(text: str, at_ms: int) -> None:
    assert rfc3339_ms(text) == at_ms
    assert rfc3339_ms(text) == at_ms, "the tables say the same"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-01",
        "2024-05-01T12:34:56",
        "2024-05-01 12:34:56Z",
        "2024-05-01T12:34Z",
        "2024-05-01T12:34:56+0900",
        "2024-05-01T12:34:56+09",
        "2024-05-01T12:34:56+24:00",
        "2024-05-01T12:34:56+09:60",
        "2024-05-01T12:34:56,5Z",
        "2024-05-01T12:34:56.Z",
        "2024-05-01T24:00:00Z",
        "2024-05-01T12:60:00Z",
        "2024-05-01T12:34:60Z",
        "2024-05-01T12:34:61Z",
        "2024-02-30T12:34:56Z",
        "2023-02-29T12:34:56Z",
        "2024-13-01T12:34:56Z",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "20240501T123456Z",
        "2024-W18-3T12:34:56Z",
        "2024-05-01T12:34:56Z ",
        "2024-05-01T12:34:56Z\n",
        "２０２４-05-01T12:34:56Z",
        "2024-05-01T12:34:５６Z",
        "1714566896",
        "2024-05-01T12:34:56." + "1" * 100 + "Z",
    ],
)
def test_what_is_no_rfc_3339_is_refused(text: str) -> None:
    rfc3339_ms("2024-05-01T12:34:56Z")
    assert rfc3339_ms(text) is None


def test_parts_of_known_texts_do_not_make_a_time() -> None:
    assert rfc3339_ms("2024-05-01T12:34:56.789123Z") is not None
    assert rfc3339_ms("2024-05-01T12:34:56.789Z") is not None
    for text in ("2024-05-01T12:34:56.789", "2024-05-01T12:34:56.78912٣Z", "2024-05-01T12:34:56ZZ"):
        assert rfc3339_ms(text) is None


# Bounds of naive times have to be naive.
_FIRST = datetime(1, 1, 2)  # noqa: DTZ001
_LAST = datetime(9999, 12, 30)  # noqa: DTZ001


@given(
    moment=st.datetimes(min_value=_FIRST, max_value=_LAST),
    offset_minutes=st.integers(-23 * 60 - 59, 23 * 60 + 59),
    digits=st.sampled_from([0, 3, 6]),
)
def test_every_time_that_datetime_writes_is_read(
    moment: datetime, offset_minutes: int, digits: int
) -> None:
    spec = {0: "seconds", 3: "milliseconds", 6: "microseconds"}[digits]
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    text = aware.isoformat(timespec=spec)
    cut = datetime.fromisoformat(text)
    assert rfc3339_ms(text) == (cut - _EPOCH) // timedelta(milliseconds=1)
    if offset_minutes == 0:
        assert rfc3339_ms(text.replace("+00:00", "Z")) == rfc3339_ms(text)
