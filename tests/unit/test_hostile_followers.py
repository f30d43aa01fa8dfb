"""Strangers' records in the topics that every worker reads whole: counted, logged, left out."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.catalog import CatalogReader
from streams.codec import Door
from streams.erasure import Entry, Ledger, LedgerReader
from streams.learning import LearnedReader
from streams.refusals import Unreadable
from tests.contract.door_samples import AT_MS
from tests.contract.test_door_paths import _mutated
from tests.unit.harness import make_book
from triggers.catalog import Catalog
from triggers.learned import KINDS, RULE, View
from triggers.rates import plan_abandonment, variant_counts

OPTIONS = {"bootstrap_servers": "127.0.0.1:1"}  # nobody connects: records are handed in
BOOK = make_book({"id": "r", "on": "cart.viewed"}, pause_over={"complaints": "5%"})


def record(key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
    return SimpleNamespace(key=key, value=value, headers=headers, timestamp=AT_MS, offset=7)


def told(**changes: Any) -> dict[str, Any]:
    known = {"kind": RULE, "key": "r", "partition": 3, "step": 5, "counts": [1 << 20, 0]}
    return {**known, **changes}


KEY = b"rule>r>3"
NUMBERS = st.sampled_from([0, 1, -1, 2**53, 2**63, 2**64, 2**70, 1.5, "1", None, True, 10**400])
KEYS = (
    KEY, b"rule>r>\xd9\xa1", b"", b"rule>r>" + b"9" * 5_000, b"\xff", b">>", b"odd>r>3",
)  # fmt: skip
ODD_LEARNT = st.one_of(
    st.tuples(
        st.sampled_from(KEYS),
        st.one_of(
            st.none(), st.binary(max_size=30),
            st.builds(
                lambda **changes: json.dumps(told(**changes)).encode(),
                step=NUMBERS, counts=st.lists(NUMBERS, max_size=3),
                partners=st.dictionaries(st.sampled_from(["a", "\ud800", ""]), NUMBERS),
                partition=st.sampled_from([3, 4, -1]), kind=st.sampled_from([*KINDS, "odd"]),
            ),
        ),
    ),
)  # fmt: skip


def follow(reader: Any, records: list[Any]) -> None:
    for one in records:
        reader.apply(one)
    reader.caught_up()


@given(st.lists(ODD_LEARNT, max_size=5))
@settings(max_examples=300, deadline=None)
def test_s20_odd_records_of_what_is_learnt_are_left_out(found: list[Any]) -> None:
    refused: Counter[tuple[str, str]] = Counter()

    async def work() -> None:
        view = View()
        reader = LearnedReader(
            OPTIONS, "", view, lambda topic, reason: refused.update([(topic, reason)]),
            lambda: (BOOK, AT_MS),
        )  # fmt: skip
        follow(reader, [record(key, value) for key, value in found])
        for kind in KINDS:
            view.counts(kind, "r", AT_MS)
            view.partners(kind, "r", AT_MS)
        assert 0 <= plan_abandonment(view, "r", AT_MS) <= 1
        assert min(variant_counts(view, "r", "a", AT_MS)) >= 0
        follow(reader, [record(KEY, json.dumps(told()).encode())])
        assert view.counts(RULE, "r", 5 * 7 * 86_400_000)[0] >= 1 << 20

    asyncio.run(work())
    assert set(refused) <= {("learned", "bad_data")}


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":' * 100_000,
        json.dumps(told(counts=[2**64, 0])).encode(),
        json.dumps(told()).encode().replace(b"1048576", b"9" * 5_000),
        Unreadable("too_large", "the batch of offsets 3 to 7"),
    ],
    ids=["deep", "64 bits", "digits", "unread"],
)
def test_s20_what_no_partition_can_have_told_is_counted_and_left_out(value: bytes) -> None:
    refused: list[tuple[str, str]] = []

    async def work() -> None:
        view = View()
        reader = LearnedReader(
            OPTIONS, "", view, lambda *why: refused.append(why), lambda: (BOOK, AT_MS)
        )
        follow(reader, [record(KEY, value)])
        assert len(view) == 0

    asyncio.run(work())
    assert refused == [("learned", "bad_data")]


DIGEST = b"0123456789abcdef" * 2
ENTRY = b'{"why":"erased","at":100,"offset":7}'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (DIGEST, None),
        (DIGEST, b""),
        (DIGEST, b"null"),
        (DIGEST, b'{"a":' * 100_000),
        (DIGEST, ENTRY.replace(b"erased", b"forgiven")),
        (DIGEST, ENTRY.replace(b"100", b"-1")),
        (DIGEST, ENTRY.replace(b"100", b"9" * 5_000)),
        (DIGEST, ENTRY.replace(b"7", b"true")),
        (DIGEST, Unreadable("too_large", "the batch of offsets 3 to 7")),
        (DIGEST.upper(), ENTRY),
        (DIGEST[1:], ENTRY),
        (b"\xff" * 32, ENTRY),
        (None, ENTRY),
    ],
)
def test_s24_a_record_that_is_no_entry_of_the_erased_changes_nothing_and_stops_nobody(
    key: bytes | None, value: Any
) -> None:
    refused: list[tuple[str, str]] = []

    async def work() -> None:
        ledger = Ledger(b"k")
        known = Entry("erased", 50, 3)
        ledger.take(DIGEST.decode(), known)
        reader = LedgerReader(OPTIONS, "", ledger, lambda *why: refused.append(why))
        follow(reader, [record(key, value)])
        ledger.digest = lambda customer_id: DIGEST.decode()  # type: ignore[method-assign]
        assert ledger.of("ann") == known
        assert len(ledger) == 1

    asyncio.run(work())
    assert refused == [("erased", "bad_data")]


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.none(), st.binary(max_size=20), st.sampled_from([b"sku-1", b"a>b>complement"])
            ),
            st.one_of(st.none(), st.binary(max_size=50), _mutated().map(lambda found: found[1])),
        ),
        max_size=5,
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_s20_odd_records_of_the_catalogue_are_left_out(found: list[Any]) -> None:
    async def work() -> None:
        catalog = Catalog()
        reader = CatalogReader(OPTIONS, "", catalog, Door(8), lambda *why: None)
        follow(reader, [record(key, value) for key, value in found])
        product = {"name": "Pen", "price": 300, "currency": "JPY"}
        event = {
            "specversion": "1.0", "id": "e", "source": "s", "type": "catalog.product_set",
            "time": "2024-05-01T00:00:00Z", "subject": "sku-9", "data": product,
        }  # fmt: skip
        follow(reader, [record(b"sku-9", json.dumps(event).encode())])
        known = catalog.product("sku-9")
        assert known is not None
        assert known.price == 300

    asyncio.run(work())
