"""Two versions of an example's book, one log, one report: figures equal to a recount by hand."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from streams.backtest import run_backtest
from streams.report import run_report
from streams.reportentries import Files
from streams.rulefiles import read_folder
from tests.unit.logbook import DAY, HOUR, MINUTE, START, Logbook
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.durations import to_ms, to_text
from triggers.ids import share_below

RULES = Path(__file__).parents[2] / "examples" / "saas" / "rules"
SALT = "measured"
CHANGED_AT = START + 7 * DAY
PEOPLE = 100  # in each of the two weeks
RULE = "next-module"


def version(reason: str) -> Book:
    """The SaaS book with half of all customers held out, and these words for the next module."""
    content: dict[str, Any] = deepcopy(dict(read_folder(RULES).content))
    content["book"]["holdout"] = {"share": "50%", "salt": SALT}
    (rule,) = [each for each in content["rules"] if each["id"] == RULE]
    rule["reason"] = {"ja": "お役に立ちます。", "en": reason}
    book = compile_content(content)
    assert isinstance(book, Book), book
    return book


def moment(number: int) -> int:
    """When a customer tells the problem: the third day of the first or of the second week."""
    return START + (number // PEOPLE) * 7 * DAY + 3 * DAY + number * MINUTE


def told() -> Logbook:
    log = Logbook()
    log.product("crm", 30_000, category="base")
    log.product("ma", 20_000, category="module", requires=["crm"], features=["leads"])
    for number in range(2 * PEOPLE):
        customer, before = f"c{number}", START - 2 * DAY + number * MINUTE
        log.event("consent.granted", customer, before - HOUR, channel="*")
        log.buy(customer, f"crm{number}", before, ("crm", 1, 30_000))
        log.event("deployment.completed", customer, before + HOUR, product="crm")
        log.event("problem.reported", customer, moment(number), tag="leads")
    # The log goes on until everybody was watched for seven days after the decision.
    log.event("cart.viewed", "somebody", START + 29 * DAY, cart_id="c", subtotal=0, currency="JPY")
    return log


def held_out(number: int) -> bool:
    return share_below(0.5, SALT, f"c{number}")


def takes(number: int) -> bool:
    """Every fourth takes the offer in the first week, every second in the second."""
    return number % (4 if number < PEOPLE else 2) == 0


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.covers("A27")
def test_the_report_of_two_versions_equals_a_recount(tmp_path: Path) -> None:
    books = {"old": version("It helps."), "new": version("It helps you with your leads.")}
    log, until = told(), to_text(START + 30 * DAY)
    events, _, _ = log.write(tmp_path)
    run_backtest(books["old"], [events], tmp_path / "first", until)
    ids = {
        offer["subject"]: offer["id"]
        for offer in records(tmp_path / "first" / "offers.jsonl")
        if offer["data"]["rule"] == RULE
    }
    people = range(2 * PEOPLE)
    assert set(ids) == {f"c{number}" for number in people if not held_out(number)}
    for number in people:
        customer, at = f"c{number}", moment(number)
        if held_out(number):
            if number % 10 == 0:
                log.buy(customer, f"ma{number}", at + 2 * HOUR, ("ma", 1, 20_000))
            continue
        log.event("offer.shown", customer, at + HOUR, offer_id=ids[customer])
        if takes(number):
            line = ("ma", 1, 20_000)
            log.buy(customer, f"ma{number}", at + 2 * HOUR, line, offer_ids=[ids[customer]])
        elif number % 5 == 3:
            log.event("offer.complained", customer, at + 2 * HOUR, offer_id=ids[customer])
    events, _, _ = log.write(tmp_path)
    found: dict[str, list[str]] = {"offers": [], "decisions": []}
    for name, book in books.items():
        run_backtest(book, [events], tmp_path / name, until)
        for kind, lines in found.items():
            for record in records(tmp_path / name / f"{kind}.jsonl"):
                if (to_ms(record["time"]) < CHANGED_AT) is (name == "old"):
                    lines.append(json.dumps(record))
    for kind, lines in found.items():
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = Files([events], [tmp_path / "offers.jsonl"], [tmp_path / "decisions.jsonl"])
    figures = run_report(source, 7, book=books["new"])["rules"][RULE]

    offered = [number for number in people if not held_out(number)]
    taken = [number for number in offered if takes(number)]
    complained = [number for number in offered if not takes(number) and number % 5 == 3]
    assert [figures[key] for key in ("made", "shown", "accepted", "complained")] == [
        len(offered),
        len(offered),
        len(taken),
        len(complained),
    ]
    weeks = {week["week"]: week for week in figures["weeks"]}
    for name, first in (("2026-W10", 0), ("2026-W11", PEOPLE)):
        of_week = range(first, first + PEOPLE)
        assert weeks[name]["made"] == sum(number in of_week for number in offered)
        assert weeks[name]["accepted"] == sum(number in of_week for number in taken)
        assert weeks[name]["complained"] == sum(number in of_week for number in complained)
    lift = figures["lift"]
    held = [number for number in people if held_out(number)]
    assert lift["customers"] == {"treated": len(offered), "held_out": len(held)}
    bought_anyway = sum(number % 10 == 0 for number in held)
    expected = len(taken) / len(offered) - bought_anyway / len(held)
    assert lift["conversion"]["difference"]["value"] == pytest.approx(expected)
    change = figures["change"]
    assert (change["from"], change["to"]) == (books["old"].digest, books["new"].digest)
    rates = [
        sum(number in week for number in taken) / sum(number in week for number in offered)
        for week in (range(PEOPLE), range(PEOPLE, 2 * PEOPLE))
    ]
    assert change["accept_rate"]["value"] == pytest.approx(rates[1] - rates[0])
