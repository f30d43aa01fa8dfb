"""The page of what grows names bounds, metrics and tests that exist."""

from __future__ import annotations

import ast
import asyncio
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from streams.activations import ACTIVATIONS_MAX, Activations, read_activations
from streams.erasure import Entry as LedgerEntry
from streams.erasure import Ledger
from streams.fetching import PARTITION_FETCH_BYTES_MAX
from streams.metrics import TABLE
from streams.readback import note_ids
from streams.settings import load_settings
from tests.limits import DOCUMENT, LIMITS
from tests.matrix import all_tests
from tests.unit.harness import NOON
from triggers import state
from triggers.events import TOPICS
from triggers.learned import (
    BOUGHT,
    PARTNERS_MAX,
    STEP_MS,
    TELL_MS,
    Entry,
    Fact,
    Tally,
    add_fact,
    step_of,
)

ROOT = Path(__file__).parents[2]
#: A worker's memory that the default settings are made for.
MEMORY_BYTES = 1 << 30


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: str(limit.what))
def test_a_limit_names_metrics_and_tests_that_exist(limit: object) -> None:
    names = {test.name for test in all_tests()}
    metrics = {metric.name for metric in TABLE}
    assert set(limit.metrics) <= metrics  # type: ignore[attr-defined]
    assert limit.tests  # type: ignore[attr-defined]
    assert set(limit.tests) <= names  # type: ignore[attr-defined]


def lost_names() -> Iterator[str]:
    """The names under which lists of the document say that they forgot something."""
    paths = [*(ROOT / "triggers").glob("*.py"), ROOT / "streams" / "sending.py"]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                first = node.args[0] if node.args else None
                if node.func.attr in ("lose", "newest") and isinstance(first, ast.Constant):
                    yield str(first.value)


def test_every_list_of_the_document_is_in_the_table() -> None:
    assert set(lost_names()) == set(DOCUMENT)


def test_every_bound_of_the_document_is_in_the_table() -> None:
    source = (ROOT / "tests" / "limits.py").read_text()
    named = set(re.findall(r"state\.(MAX_[A-Z_]+)", source))
    assert named == {name for name in vars(state) if name.startswith("MAX_")}


def test_p9_all_buffers_of_a_worker_fit_a_quarter_of_its_memory() -> None:
    settings = load_settings()
    each = settings.buffer_bytes + PARTITION_FETCH_BYTES_MAX
    assert each * len(TOPICS) * settings.partitions <= MEMORY_BYTES // 4


def test_p9_a_product_keeps_its_commonest_partners_and_counts_age_away() -> None:
    entry = Entry(0, [0])
    for number in range(1_000):
        partners = ("always", f"once-{number}")
        add_fact(entry, Fact(BOUGHT, "a", number * 1_000, (1,), partners))
        assert len(entry.partners) <= PARTNERS_MAX
    assert "always" in entry.partners
    add_fact(entry, Fact(BOUGHT, "a", 104 * STEP_MS, (1,), ("now",)))
    assert list(entry.partners) == ["now"]
    assert entry.step == step_of(104 * STEP_MS)


def test_p9_what_is_learnt_leaves_memory_when_it_is_told_and_stored() -> None:
    tally = Tally()
    tally.add([Fact(BOUGHT, f"sku-{number}", 1, (1,)) for number in range(500)])
    tally.make_room(100)
    assert len(tally.entries) == 500  # nothing of it is stored yet
    tally.take_news(10 * TELL_MS)
    tally.take_changes()
    tally.make_room(100)
    assert len(tally.entries) == 100


def test_p9_an_erased_customer_takes_some_hundred_bytes_of_a_worker_once() -> None:
    many = 20_000
    tracemalloc.start()
    ledger = Ledger(b"k" * 32)
    for turn in range(2):  # whoever is erased twice is there once
        for number in range(many):
            entry = LedgerEntry("erased", NOON + number, turn * many + number)
            ledger.take(ledger.digest(f"customer-{number}"), entry)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(ledger) == many
    assert taken / many < 400


class Sent(NamedTuple):
    offset: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def test_p9_reading_back_keeps_no_more_ids_than_its_bound_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.readback.IDS_MAX", 10)
    ids: set[str] = set()
    records = [Sent(number, b'{"id": "x%d"}' % number) for number in range(30)]
    with capture_logs() as lines:
        note_ids(ids, "decisions", records, 8)
        assert (len(ids), lines) == (8, [])
        note_ids(ids, "decisions", records[8:], 30)
    assert len(ids) == 10
    assert [line["log_level"] for line in lines] == ["error"]


def test_p9_a_partition_remembers_its_last_rule_books_and_no_more() -> None:
    class Empty:
        async def load(self, number: int, ids: list[bytes], letters: str) -> dict[bytes, object]:
            return {ids[0]: {}}

    async def change() -> list[str]:
        memory = Activations(0, Empty())  # type: ignore[arg-type] # the store's one method of it
        packed: dict[tuple[bytes, str], bytes] = {}
        for number in range(ACTIVATIONS_MAX + 50):
            packed = await memory.changes(f"d{number}", {"cart": number}, number)
        (document,) = packed.values()
        return [one.digest for one in read_activations(document)]

    assert asyncio.run(change()) == [f"d{number}" for number in range(50, ACTIVATIONS_MAX + 50)]
