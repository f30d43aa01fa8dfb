"""`tsuide explain` over the demo's recorded year: every rule answered, with its line and values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.errors import UsageError
from streams.explain import UnknownCustomerError

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail-year"
FILES = [str(path) for path in sorted((EXAMPLE / "data").glob("*.jsonl.gz"))]
CUSTOMER = "h1688"
RULES = ["abandoned-cart", "free-delivery", "goes-with-it", "one-week-after"]
JUNE = ("--until", "2017-06-01T12:00:00Z")


def call(customer: str, *more: str) -> str:
    command = ["explain", customer, "--rules", str(EXAMPLE / "rules"), *more, "--events", *FILES]
    found = CliRunner().invoke(app, command, catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


@pytest.fixture(scope="module")
def june() -> dict[str, Any]:
    told = json.loads(call(CUSTOMER, *JUNE, "--json"))
    assert isinstance(told, dict)
    return told


def test_every_rule_of_the_book_is_answered(june: dict[str, Any]) -> None:
    assert [answer["rule"] for answer in june["rules"]] == RULES
    assert june["at"] == "2017-06-01T12:00:00.000Z"


def test_what_failed_is_the_line_with_its_values(june: dict[str, Any]) -> None:
    answers = {answer["rule"]: answer for answer in june["rules"]}
    delivery = answers["free-delivery"]
    assert delivery["verdict"] == "false"
    assert delivery["event"]["time"] == "2017-05-16T20:23:59.500Z"
    assert delivery["lines"][-1] == {
        "text": "event.total >= 2000",
        "holds": False,
        "values": {"event.total": 298},
    }
    cart = answers["goes-with-it"]
    assert cart["lines"][-1]["values"] == {"event.item.unit_price": 199}
    abandoned = answers["abandoned-cart"]
    assert abandoned["why"] == "one of purchase.completed spoke about c50637 already"
    # Four weeks after the last order: a purchase now would have its timer in a week.
    assert answers["one-week-after"]["due"] == "2017-06-08T12:00:00.000Z"


def test_the_last_decisions_are_those_that_the_replay_made(june: dict[str, Any]) -> None:
    last = june["decisions"][0]
    assert (last["at"][:19], last["rule"], last["outcome"], last["reason"]) == (
        "2017-05-23T20:24:06",
        "one-week-after",
        "suppressed",
        "cooldown",
    )
    offered = [each for each in june["decisions"] if each["outcome"] == "offered"]
    assert [each["offer_id"] for each in offered] == [
        each["offer_id"] for each in june["offers"][: len(offered)]
    ]
    assert all(each["at"] <= june["at"] for each in june["decisions"])


def test_without_an_end_the_pending_timer_is_told_and_judged() -> None:
    told = json.loads(call(CUSTOMER, "--json"))
    (timer,) = told["timers"]
    assert (timer["rule"], timer["due"]) == ("one-week-after", "2018-01-05T00:47:16.592Z")
    answer = next(each for each in told["rules"] if each["rule"] == "one-week-after")
    assert (answer["pending"], answer["gate"]) == (True, "cooldown")
    assert answer["values"]["until"] == "2018-01-05T00:54:20.278Z"


def test_people_read_the_line_and_its_values() -> None:
    text = call(CUSTOMER, *JUNE)
    for word in (*RULES, "event.total >= 2000", "event.total = 298", "days_since_order", "c50637"):
        assert word in text


def test_an_unknown_customer_is_a_clear_line_and_status_1() -> None:
    with pytest.raises(UnknownCustomerError, match="unknown customer"):
        call("nobody", *JUNE)


def test_a_time_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="RFC 3339"):
        call(CUSTOMER, "--until", "yesterday")
