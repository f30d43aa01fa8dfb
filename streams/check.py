"""``tsuide check``: the whole rule book, every fault with its place."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.catalogcheck import check_catalog
from streams.clock import wall_ms
from streams.rulefiles import Source, read_folder
from streams.scenariorun import run_scenario
from streams.scenarios import Scenario, read_scenarios
from streams.scenariotest import report
from triggers.book import Book
from triggers.retire import instant
from triggers.shapes import Fault as ContentFault


def run_check(
    directory: Path,
    as_json: bool = False,
    catalog: Path | None = None,
    graph: Path | None = None,
) -> int:
    """Check a rule book's folder; 0 when it has no fault, else 1.

    Faults go to standard error as ``file:line:column: message``, one a line, all at once;
    warnings, which fail nothing, as ``file:line:column: warning: message``. ``catalog`` is a JSONL
    file whose sets, ladders, circles and preselected plans are checked too; its relations are
    written to ``graph``.
    """
    source = read_folder(directory)
    found = source.book()
    faults = [str(fault) for fault in found] if not isinstance(found, Book) else []
    examples = 0
    if isinstance(found, Book):
        examples, faults = _run_examples(directory, source, found)
        faults += [] if catalog is None else check_catalog(catalog, found, graph)
    warnings = _warnings(source, found) if isinstance(found, Book) else []
    for line in warnings:
        print(line, file=sys.stderr)
    if not isinstance(found, Book) or faults:
        for line in faults:
            print(line, file=sys.stderr)
        if as_json:
            print(json.dumps({"faults": len([line for line in faults if line[:1] != " "])}))
        return 1
    if as_json:
        figures = {"faults": 0, "rules": len(found.rules), "examples": examples}
        figures["warnings"] = len(warnings)
        print(json.dumps({**figures, "digest": found.digest}))
    else:
        _show(found)
    return 0


def _warnings(source: Source, book: Book) -> list[str]:
    found = sorted({source.at(warning) for warning in [*book.warnings, *_retired(source, book)]})
    return [f"{f.file}:{f.line}:{f.column}: warning: {f.message}" for f in found]


def _retired(source: Source, book: Book) -> Iterator[ContentFault]:
    """Rules whose last date has passed: nobody needs them any more."""
    now = wall_ms()
    for place, rule in enumerate(source.content.get("rules", ())):
        to = (rule.get("retire") or {}).get("to")
        if to is not None and instant(to, book.timezone) <= now:
            message = "this date has passed: the rule does nothing any more; take it out"
            yield ContentFault(("rules", place, "retire", "to"), message)


def _run_examples(directory: Path, source: Source, book: Book) -> tuple[int, list[str]]:
    """How many examples the rules carry, and the lines about those that do not hold.

    Scenario files are checked for their shape only; ``tsuide test`` runs them.
    """
    found = read_scenarios(directory, source)
    lines = [str(each) for each in found if not isinstance(each, Scenario)]
    examples = [each for each in found if isinstance(each, Scenario) and each.path[0] == "rules"]
    for each in examples:
        lines += report(run_scenario(book, each))
    return len(examples), lines


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
