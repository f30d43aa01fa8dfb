"""Which idea is shown where: writes examples/COVERAGE.md from the scenarios and the tests.

python examples/coverage.py          # rewrite
python examples/coverage.py --check  # exit status 1 when the page is out of date

A scenario or an example of a rule names the ideas that it shows in `covers`, a test in its marker
`@pytest.mark.covers("A5")`. Nothing else has to be written down: every rule book below `examples/`
and `tests/golden/` is read, and every test below `tests/`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "examples" / "COVERAGE.md"
sys.path.insert(0, str(ROOT))

from streams.rulefiles import read_folder
from streams.scenarios import Scenario, read_scenarios
from streams.scenariotest import book_folders

#: Every idea, in the order of the page.
ROWS = {
    "A1": "The complement of what lies in the cart",
    "A2": "Lifetime value: order value, orders, tenure",
    "A3": "Bought together, by others",
    "A4": "The gap to free shipping",
    "A5": "A higher tier states its benefit",
    "A6": "No higher tier before the first is of use",
    "A7": "A lower tier for who hesitates",
    "A8": "From the lower tier onwards, after a pause",
    "A9": "The lift is measured, never quoted",
    "A10": "More kinds held, fewer customers lost",
    "A11": "One of three answers to one moment",
    "A12a": "A set around a subscription",
    "A12b": "A set costs 3 to 5 % less than its parts",
    "A12c": "A set has a theme",
    "A12d": "Free shipping on the first set alone",
    "A12e": "Glad reviews strengthen a pair",
    "A12f": "Measures of the tea shop",
    "A13a": "Three tiers, 20 to 30 % apart",
    "A13b": "The middle tier is preselected",
    "A13c": "Counselling leads to the higher menu",
    "A13d": "Measures of the salon",
    "A14a": "The pack before an exam",
    "A14b": "An early application has a perk with an end",
    "A14c": "A curve as evidence",
    "A14d": "No play on fear",
    "A14e": "Measures of the school",
    "A15a": "Many leave the suite: a room for today",
    "A15b": "Extras at check-in",
    "A15c": "Measures of the hotel; lower price, same total",
    "A16": "Offers name what they rest on",
    "A17": "Now, later or never",
    "A18": "Reason, benefit and evidence are concrete",
    "A19": "Small first",
    "A20": "One step after a refusal",
    "A21": "Service before the next sale",
    "A22": "Who minds the price is not showered",
    "A23": "What fits the purpose of the purchase",
    "A24": "No cheap plan straight after a dear one",
    "A25": "Shared templates, bounded cost",
    "A26": "For whom an offer is good",
    "A27": "A report for everyone",
    "B1": "Supplies before they run out",
    "B2": "Need and usage decide between more and higher",
    "B3a": "Much usage: the higher plan",
    "B3b": "Little usage and a problem: an add-on",
    "B4": "With the product under consideration",
    "B5": "One customer, one document",
    "B6": "Relations with weight and story",
    "B7": "How-to content goes along",
    "B8a": "When something enters the cart",
    "B8b": "Just before payment",
    "B8c": "After support that satisfied",
    "B9": "A budget for attention",
    "B10": "Every offer ends in one outcome",
    "B11": "Bands of the accept rate",
    "B12a": "No need known, no offer",
    "B12b": "Price, effort and payback are stated",
    "B12c": "Heavy users are no newcomers",
    "B12d": "After the rollout",
    "B12e": "The renewal is not missed",
    "B13": "Segments; a perk with an end",
    "B14a": "Live and replayed alike",
    "B14b": "One week after the purchase",
    "B15": "Stories in variants",
    "B16": "Viewed together; a place that fits",
    "B16k": "Measures of the shop",
    "B17a": "At a change of device: other services",
    "B17b": "A set contract, less what is held",
    "B18a": "Modules step by step",
    "B18b": "One module at a time",
    "X1": "The six facts before a final confirmation",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows an idea: the rules of a scenario, or a test."""

    row: str
    shown_by: str
    rules: tuple[str, ...]


def scenario_proofs() -> Iterator[Proof]:
    """What the scenarios and examples of all rule books show."""
    for root in (ROOT / "examples", ROOT / "tests" / "golden"):
        for folder in book_folders(root):
            yield from _of_book(folder)


def _of_book(folder: Path) -> Iterator[Proof]:
    trade = folder.parent.name if folder.name == "rules" else folder.name
    for found in read_scenarios(folder, read_folder(folder)):
        if not isinstance(found, Scenario):
            raise SystemExit(str(found))
        model = found.model
        names = [each.rule for each in model.expect or () if each.outcome == "offered"]
        names += [*model.never, *(each.rule for each in model.expect or ())]
        rules = tuple(dict.fromkeys(found.rules or names))
        for row in model.covers:
            yield Proof(row, f"{trade}: {found.id}", rules)


def test_proofs() -> Iterator[Proof]:
    """What the tests with the marker `covers` show."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for row in _marked(node):
                    name = f"{file.relative_to(ROOT).as_posix()}::{node.name}"
                    yield Proof(row, name, ())


def _marked(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "pytest.mark.covers":
            yield from (str(ast.literal_eval(argument)) for argument in each.args)


def coverage() -> dict[str, list[Proof]]:
    """Proofs by idea, in the order of ``ROWS``; ideas that nobody knows come last."""
    found: dict[str, list[Proof]] = {row: [] for row in ROWS}
    for proof in [*scenario_proofs(), *test_proofs()]:
        found.setdefault(proof.row, []).append(proof)
    return found


def page(found: dict[str, list[Proof]]) -> str:
    """The text of COVERAGE.md."""
    lines = [
        "# What is shown where",
        "",
        "Written by `python examples/coverage.py`. `tsuide test examples --covers A1` runs the",
        "scenarios of one idea.",
        "",
        "| | idea | rules | scenarios and tests |",
        "|---|---|---|---|",
    ]
    for row, title in ROWS.items():
        rules = dict.fromkeys(rule for proof in found[row] for rule in proof.rules)
        shown = dict.fromkeys(proof.shown_by for proof in found[row])
        cells = [", ".join(f"`{name}`" for name in names) or "–" for names in (rules, shown)]
        lines.append(f"| {row} | {title} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    found = coverage()
    text = page(found)
    unknown = [row for row in found if row not in ROWS]
    for row in unknown:
        print(f"{found[row][0].shown_by}: covers {row}, which is no idea of ours", file=sys.stderr)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 1 if unknown else 0
    stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
    if stale:
        print("examples/COVERAGE.md: out of date; run python examples/coverage.py", file=sys.stderr)
    return 1 if stale or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
