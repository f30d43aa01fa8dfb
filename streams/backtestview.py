"""How a backtest is shown: a bar while it runs, a table at its end, two books side by side."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.backtest import run_backtest
from streams.collector import calm_collector
from streams.history import open_lines
from triggers.book import Book
from triggers.durations import to_text

#: Shown first, in this order; further outcomes follow by name.
_OUTCOMES = ("offered", "suppressed", "deferred", "held_out", "outranked", "withdrawn", "expired")
Rules = Mapping[str, Mapping[str, int]]


def show_backtest(
    book: Book,
    files: list[Path],
    out: Path,
    until: str | None = None,
    before: Book | None = None,
    as_json: bool = False,
) -> dict[str, Any]:
    """Run a backtest and, given the book ``before``, another under it into ``out/before``.

    Progress goes to standard error where that is a terminal, the table to standard output unless
    ``as_json``. The figures of the run; with ``before`` they hold ``compare``, each rule's offers
    before and after.
    """
    calm_collector()
    total = sum(1 for file in files for _ in open_lines(file)) if sys.stderr.isatty() else 0
    with _bar("replaying", total) as progress:
        figures = run_backtest(book, files, out, until, progress)
    if before is not None:
        with _bar("the book before", total) as progress:
            old = run_backtest(before, files, out / "before", until, progress)
        figures["compare"] = compared(old["rules"], figures["rules"])
    if not as_json:
        console = Console()
        console.print(_table(book, figures["rules"]))
        if before is not None:
            console.print(_comparison(figures["compare"]))
    return figures


def compared(before: Rules, after: Rules) -> dict[str, dict[str, int]]:
    """Offers of each rule under both books, rules by name."""
    return {
        rule: {
            "before": before.get(rule, {}).get("offered", 0),
            "after": after.get(rule, {}).get("offered", 0),
        }
        for rule in sorted({*before, *after})
    }


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    if not total:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[instant]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, instant="")

        def show(count: int, at_ms: int) -> None:
            progress.update(task, completed=count, instant=to_text(at_ms)[:10])

        yield show


def _table(book: Book, rules: Rules) -> Table:
    seen = {outcome for counts in rules.values() for outcome in counts}
    outcomes = [o for o in _OUTCOMES if o in seen] + sorted(seen - set(_OUTCOMES))
    table = Table(title=f"{book.name}: decisions by rule", title_justify="left")
    table.add_column("rule")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    for rule in sorted({*book.rules, *rules}):
        counts = rules.get(rule, {})
        table.add_row(rule, *(f"{counts.get(outcome, 0):,}" for outcome in outcomes))
    return table


def _comparison(compare: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(title="offers, the book before and this one", title_justify="left")
    table.add_column("rule")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for rule, counts in compare.items():
        change = counts["after"] - counts["before"]
        shown = f"{change:+,}" if change else ""
        table.add_row(rule, f"{counts['before']:,}", f"{counts['after']:,}", shown)
    return table
