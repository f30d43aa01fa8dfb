"""``tsuide report``: what became of offers, what they changed, and the named measures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from streams.reportentries import Reader
from triggers.book import Book
from triggers.ids import share_below
from triggers.measures import MEASURES
from triggers.reporting import Report

_CHARS = 160


class Source(Protocol):
    """Where records come from: files or topics."""

    def feed(self, reader: Reader) -> None:
        """Hand over everything, in the order of time."""
        ...


def run_report(
    source: Source, window_days: int, attribute: str | None = None, book: Book | None = None
) -> dict[str, Any]:
    """Read everything and answer the figures of ``--json``.

    ``window_days``: how long after a decision an order counts; ``attribute``: one of the
    customers' attributes by which some measures are shown in groups; ``book``: tells the book's
    holdout from that of a rule.
    """
    report = Report(window_days, None if book is None else _whole(book))
    reader = Reader(report)
    source.feed(reader)
    body = report.body(attribute)
    body["records"] = reader.counts
    if reader.first_refused:
        refused = reader.counts["refused"]
        body["alerts"].append(f"{refused} records cannot be read, first {reader.first_refused}")
    return body


def _whole(book: Book) -> Callable[[str], bool] | None:
    holdout = book.holdout
    if holdout is None:
        return None
    return lambda customer: share_below(holdout.share, holdout.salt, customer)


def print_report(body: dict[str, Any], as_json: bool) -> None:
    """The figures as tables, or as one line of JSON."""
    if as_json:
        print(json.dumps(body, ensure_ascii=False))
        return
    width = None if sys.stdout.isatty() else _CHARS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    days = body["window_days"]
    console.print(f"from {body['from']} until {body['until']}; effects within {days} days")
    for table in (_rules(body), _kept_back(body), _lift(body), _changes(body), _weeks(body)):
        if table.row_count:
            console.print(table)
    console.print(_measures(body))
    if body["groups"]:
        console.print(_groups(body))
    for alert in body["alerts"]:
        console.print(f"ALERT {alert}")
    references = _table("References from the literature: no results of this shop", "figure", "of")
    for one in body["references"]:
        references.add_row(one["figure"], one["of"])
    console.print(references)


def print_measures() -> None:
    """The table of measures."""
    table = _table("Measures", "name", "unit", "meaning")
    for one in MEASURES:
        table.add_row(one.name, one.unit, one.meaning.replace("`", ""))
    Console(width=None if sys.stdout.isatty() else _CHARS, highlight=False, markup=False).print(
        table
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    return table


def _percent(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['value']:.1f} % [{low:.1f}, {high:.1f}]"


def _points(figure: dict[str, float] | None, scale: float = 1.0) -> str:
    if figure is None:
        return "-"
    value, low, high = (scale * figure[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _times(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"x{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


_STEPS = ("made", "shown", "clicked", "accepted", "declined", "complained")
_ENDS = ("withdrawn", "expired", "open")


def _rules(body: dict[str, Any]) -> Table:
    table = _table("Offers by rule", "rule", *_STEPS, *_ENDS, "accept rate", "of", "status")
    for rule, one in body["rules"].items():
        counts = [str(one[name]) for name in _STEPS] + [str(one["ends"][name]) for name in _ENDS]
        rate = _percent(one["accept_rate"])
        table.add_row(rule, *counts, rate, one["base"], one["status"])
    return table


def _kept_back(body: dict[str, Any]) -> Table:
    table = _table("Not offered", "rule", "outcome", "gate", "decisions")
    for rule, one in body["rules"].items():
        for gate, count in one["suppressed"].items():
            table.add_row(rule, "suppressed", gate, str(count))
        for outcome in ("deferred", "held_out", "outranked"):
            if one["decisions"].get(outcome):
                table.add_row(rule, outcome, "", str(one["decisions"][outcome]))
    return table


def _lift(body: dict[str, Any]) -> Table:
    table = _table(
        "Lift, measured: customers who were offered something beside those held out",
        "rule", "customers", "held out", "bought, points", "bought, ratio",
        "revenue a customer", "revenue, ratio", "enough",
    )  # fmt: skip
    lifts = {"(all rules)": body["lift"]}
    lifts |= {rule: one["lift"] for rule, one in body["rules"].items()}
    for rule, lift in lifts.items():
        if lift is not None:
            bought, revenue = lift["conversion"], lift["revenue"]
            table.add_row(
                rule,
                str(lift["customers"]["treated"]),
                str(lift["customers"]["held_out"]),
                _points(bought["difference"], 100),
                _times(bought["ratio"]),
                _points(revenue["difference"]),
                _times(revenue["ratio"]),
                "yes" if lift["enough"] else "no",
            )
    return table


def _changes(body: dict[str, Any]) -> Table:
    table = _table(
        "Since the last version of the rule book",
        "rule", "from", "to", "made before", "now", "accept rate, points", "sure",
    )  # fmt: skip
    for rule, one in body["rules"].items():
        change = one["change"]
        if change is not None:
            table.add_row(
                rule,
                change["from"][:12],
                change["to"][:12],
                str(change["before"]["made"]),
                str(change["now"]["made"]),
                _points(change["accept_rate"], 100),
                "yes" if change["sure"] else "no",
            )
    return table


_WEEKS_SHOWN = 8


def _weeks(body: dict[str, Any]) -> Table:
    table = _table(
        f"The last {_WEEKS_SHOWN} weeks (UTC, by the week of the offer)",
        "rule", "week", *_STEPS, "accept rate", "bought by lift, points",
    )  # fmt: skip
    for rule, one in body["rules"].items():
        for week in one["weeks"][-_WEEKS_SHOWN:]:
            lift = week["lift"]
            points = _points(lift["conversion"]["difference"], 100) if lift else "-"
            counts = [str(week[name]) for name in _STEPS]
            table.add_row(rule, week["week"], *counts, _percent(week["accept_rate"]), points)
    return table


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{bucket}: {_number(one)}" for bucket, one in value.items())
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _measures(body: dict[str, Any]) -> Table:
    table = _table("Measures", "name", "value", "unit")
    for one in MEASURES:
        table.add_row(one.name, _number(body["measures"][one.name]), one.unit)
    return table


def _groups(body: dict[str, Any]) -> Table:
    names = list(next(iter(body["groups"].values())))
    table = _table("Groups of customers", "group", *names)
    for group, values in body["groups"].items():
        table.add_row(group, *(_number(values[name]) for name in names))
    return table
