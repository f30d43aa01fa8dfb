"""Writes the tables of the documentation from the code, between their markers.

python docs/generate.py          # rewrite
python docs/generate.py --check  # exit status 1 when a page is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from streams import metrics
from streams.settings import Settings
from tests import limits, matrix
from triggers.context import FUNCTIONS, VARIABLES, event_variables
from triggers.events import CATALOG, EVENT_TYPES
from triggers.gates import GATES
from triggers.intervals import BANDS
from triggers.measures import table_markdown
from triggers.offerfacts import OFFER_VARIABLES
from triggers.references import REFERENCES


def names() -> str:
    """The names of expressions with their types."""
    rows = ["| name | type |", "|---|---|"]
    rows += [f"| `{name}` | {variable.type} |" for name, variable in sorted(VARIABLES.items())]
    return "\n".join(rows)


def offers() -> str:
    """The names of the offer that an event is about."""
    return ", ".join(f"`{name}` {variable.type}" for name, variable in OFFER_VARIABLES.items())


def functions() -> str:
    """The functions of expressions."""
    rows = ["| function | gives |", "|---|---|"]
    rows += [
        f"| `{name}({', '.join(function.params)})` | {function.returns} |"
        for name, function in sorted(FUNCTIONS.items())
    ]
    return "\n".join(rows)


def events() -> str:
    """What ``event.*`` holds, by event type."""
    rows = ["| event type | fields and types |", "|---|---|"]
    for name, kind in EVENT_TYPES.items():
        if kind.topic != CATALOG:
            fields = event_variables([name]).items()
            shown = ", ".join(f"`{field}` {variable.type}" for field, variable in fields)
            rows.append(f"| `{name}` | {shown} |")
    return "\n".join(rows)


def gates() -> str:
    """The codes of suppressed decisions, in the order in which they are looked at."""
    return ", ".join(f"`{code}`" for code in GATES)


def settings() -> str:
    """Every setting with its default."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = f"`{default}`" if default not in (None, "", ()) else ""
        rows.append(f"| `TSUIDE_{name.upper()}` | {shown} | {field.description or ''} |")
    return "\n".join(rows)


def bands() -> str:
    """The statuses of a rule, in the order in which they are looked at."""
    rows = ["| status | when | what to do |", "|---|---|---|"]
    rows += [f"| `{band.status}` | {band.holds_when} | {band.remedy} |" for band in BANDS]
    return "\n".join(rows)


def references() -> str:
    """Published figures, which are no results."""
    rows = ["| figure | of | use |", "|---|---|---|"]
    rows += [f"| {one.figure} | {one.of} | {one.use} |" for one in REFERENCES]
    return "\n".join(rows)


TABLES = {
    "rules.md": {
        "names": names,
        "offers": offers,
        "functions": functions,
        "events": events,
        "gates": gates,
    },
    "measures.md": {"measures": table_markdown, "bands": bands, "references": references},
    "operations.md": {"settings": settings, "metrics": metrics.table_markdown},
    "limits.md": {"limits": limits.limits_table, "document": limits.document_table},
    "reliability.md": {
        "promises": matrix.promises_table,
        "scenarios": matrix.scenarios_table,
    },
}


def generated(page: str) -> str:
    """The text of a page with its tables as the code has them; raises on a missing marker."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, table in TABLES[page].items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{page} has no markers {begin} and {end}")
        text = f"{before}{begin}\n{table().strip()}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or name those that differ."""
    stale = [
        page for page in TABLES if generated(page) != (DOCS / page).read_text(encoding="utf-8")
    ]
    for page in stale:
        if "--check" in arguments:
            sys.stderr.write(f"docs/{page} is out of date: python docs/generate.py\n")
        else:
            (DOCS / page).write_text(generated(page), encoding="utf-8")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
