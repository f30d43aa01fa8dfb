"""``tsuide check``: the whole rule book, every fault with its place."""

import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.rulefiles import load_folder
from triggers.book import Book


def run_check(directory: Path, as_json: bool = False, catalog: Path | None = None) -> int:
    """Check a rule book's folder; 0 when it has no fault, else 1.

    Faults go to standard error as ``file:line:column: message``, one a line, all at once.
    """
    found = load_folder(directory)
    if not isinstance(found, Book):
        for fault in found:
            print(fault, file=sys.stderr)
        if as_json:
            print(json.dumps({"faults": len(found)}))
        return 1
    if as_json:
        print(json.dumps({"faults": 0, "rules": len(found.rules), "digest": found.digest}))
    else:
        _show(found)
    return 0


def _show(book: Book) -> None:
    table = Table(title=f"{book.name} ({book.digest[:12]}): no faults", title_justify="left")
    for column in ("rule", "kind", "on", "moment", "channel"):
        table.add_column(column)
    for rule in book.rules.values():
        moment = rule.mode.value + (f" {rule.delay.text}" if rule.delay else "")
        table.add_row(rule.id, rule.kind, ", ".join(rule.on), moment, rule.channel)
    console = Console()
    console.print(table)
    kinds = Counter(rule.kind for rule in book.rules.values())
    console.print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
