"""Every metric is fed by something, every note of the engine is counted, and series are bounded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from streams.metrics import OTHER, SERIES_MAX, TABLE, Metrics
from streams.observer import _NOTES

ROOT = Path(__file__).parents[2]
NAMES = {metric.name for metric in TABLE}
FEEDS = {"add", "set", "observe", "observe_many"}
#: Notes that stand beside another count of the same thing, or say that nothing happened.
UNCOUNTED = {
    "erased",  # the customer's events after an erasure
    "objected",
    "mark_dropped",  # counted as a bound, like the next
    "timer_dropped",
}


def calls(folder: str) -> Iterator[ast.Call]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield node


def texts(call: ast.Call) -> Iterator[str]:
    """The texts that a call's first argument can be."""
    first = call.args[0] if call.args else None
    for node in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def fed() -> set[str]:
    found = set(_NOTES.values())
    for call in calls("streams"):
        if isinstance(call.func, ast.Attribute) and call.func.attr in FEEDS:
            found.update(texts(call))
    return found


def test_every_metric_of_the_table_is_fed_by_something() -> None:
    assert NAMES - fed() == set()


def test_every_note_that_names_a_metric_names_one_of_the_table() -> None:
    assert set(_NOTES.values()) <= NAMES


def test_every_note_of_the_engine_is_counted() -> None:
    noted: set[str] = set()
    for call in calls("triggers"):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        name = call.func.id if isinstance(call.func, ast.Name) else name
        if name == "note":
            noted.update(texts(call))
    assert len(noted) > 8
    assert noted - set(_NOTES) - UNCOUNTED == set()


def test_p9_a_metric_keeps_no_more_series_than_its_bound() -> None:
    metrics = Metrics()
    for number in range(SERIES_MAX + 500):
        metrics.add("offers", f"rule-{number}", "email")
    by_rule = metrics.by("offers", "rule")
    assert len(by_rule) == SERIES_MAX + 1
    assert by_rule[OTHER] == 500
    assert metrics.total("offers") == SERIES_MAX + 500
