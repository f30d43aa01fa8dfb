"""An explanation for people: what is known, what is pending, and each rule's answer."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_SHOWN_CHARS = 300
#: What tables show of the rows, and which of it are times (UTC there).
_COLUMNS = {
    "timers": ("due", "rule", "about", "armed_by", "put_off"),
    "offers": ("at", "rule", "skus", "price", "seen", "outcome", "reason"),
    "decisions": ("at", "rule", "outcome", "reason"),
}
_TIMES = frozenset({"at", "due", "until"})
_ORDER = ("offers", "arms", "held_out", "held_back", "false", "rests", "stopped", "waits")


def show(found: dict[str, Any], console: Console | None = None) -> None:
    """Print an explanation."""
    console = console or Console()
    console.print(f"[bold]{escape(found['customer'])}[/bold] at {found['at']}")
    for remark in found["remarks"]:
        console.print(f"[yellow]{escape(remark)}[/yellow]")
    if "gone" in found:
        console.print(f"{found['gone']}: nothing is kept, and no rule answers")
        return
    console.print(_pairs("facts", _told(found["facts"])))
    console.print(_pairs("state", _told(found["state"])))
    for name, columns in _COLUMNS.items():
        if found[name]:
            console.print(_rows(name, columns, found[name]))
    console.print(_answers(found["rules"]))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_text(inner)}" for key, inner in value.items() if _is_told(inner))
    elif isinstance(value, list):
        text = "; ".join(map(_text, value)) or "none"
    elif value is None:
        text = "none"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _is_told(value: Any) -> bool:
    return value not in (None, "", [], {}) and value is not False


def _told(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if _is_told(value)}


def _pairs(title: str, values: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in values.items():
        table.add_row(escape(name), escape(_text(value)))
    return table


def _rows(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, no_wrap=name in _TIMES)
    for row in rows:
        table.add_row(*(escape(_cell(name, row[name])) for name in columns))
    return table


def _cell(name: str, value: Any) -> str:
    if not _is_told(value):
        return ""
    return _second(value) if name in _TIMES else _text(value)


def _second(instant: str) -> str:
    """RFC 3339 in UTC without its milliseconds, for tables."""
    return instant[:19].replace("T", " ")


def _answers(rules: list[dict[str, Any]]) -> Table:
    table = Table(title="rules", title_justify="left", show_lines=True)
    for name in ("rule", "now", "because"):
        table.add_column(name)
    ordered = sorted(rules, key=lambda one: (_ORDER.index(one["verdict"]), one["rule"]))
    for answer in ordered:
        table.add_row(escape(answer["rule"]), verdict(answer), escape(because(answer)))
    return table


def verdict(answer: dict[str, Any]) -> str:
    """The answer in a few words."""
    words = {
        "offers": "would offer",
        "arms": f"would set a timer due {answer['due']}",
        "false": "a condition does not hold",
        "held_back": f"held back: {answer['gate']}",
        "rests": "rests because of complaints",
        "held_out": "held out",
        "stopped": "sets no timer",
        "waits": "waits for an event",
    }[answer["verdict"]]
    return f"timer due {answer['due']}; judged now: {words}" if answer["pending"] else words


def because(answer: dict[str, Any]) -> str:
    """What the answer rests on, line by line."""
    said = []
    last = answer["lines"][-1] if answer["lines"] else None
    if answer["verdict"] == "false" and last is not None:
        said += [last["text"], *(f"  {fact} = {_text(v)}" for fact, v in last["values"].items())]
    said += [f"{name} = {_text(value)}" for name, value in answer["values"].items()]
    if answer["why"]:
        said.append(answer["why"])
    if answer["items"] and answer["verdict"] in ("offers", "held_out"):
        items = (f"{e['quantity']} {e['sku']} at {e['price']}" for e in answer["items"])
        said.append("items: " + ", ".join(items))
    if answer["waits_for"]:
        said.append("none known yet of " + ", ".join(answer["waits_for"]))
    event = answer["event"]
    if event is not None:
        when = f" of {event['time']}" if "time" in event else ""
        kept = ", as far as the document tells" if event.get("rebuilt") else ""
        said.append(f"with {event['type']}{when}{kept}")
    return "\n".join(said)
