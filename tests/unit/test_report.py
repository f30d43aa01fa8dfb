"""What became of offers and what they changed, figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.backtest import run_backtest
from streams.cli import app
from streams.report import run_report
from streams.reportentries import Files
from tests.unit.harness import make_book
from tests.unit.logbook import DAY, HOUR, MINUTE, SECOND, START, Logbook
from triggers.ids import share_below
from triggers.intervals import Sample, Share, difference, mean_difference, wilson
from triggers.ledger import Ledger, OfferMade
from triggers.lift import Trials
from triggers.references import REFERENCES


@pytest.mark.covers("B10")
def test_each_offer_ends_in_exactly_one_outcome_and_counts_once_in_each_column(
    tmp_path: Path,
) -> None:
    log = Logbook()
    words = {
        "taken": ("shown", "shown", "clicked", "accepted", "accepted"),
        "refused": ("shown", "declined", "accepted"),
        "angry": ("shown", "complained"),
        "taken-then-angry": ("shown", "accepted", "complained"),
        "silent": ("shown",),
        "unseen": (),
    }
    for customer, steps in words.items():
        log.say(customer, log.decide(customer, "r", START), START + HOUR, *steps)
    back = log.decide("back", "r", START)
    log.decide("back", "r", START + HOUR, "withdrawn", offer_id=back)
    late = log.decide("late", "r", START)
    log.decide("late", "r", START + HOUR, "expired", offer_id=late, reason="stale")
    log.decide("open", "r", START + 10 * DAY, valid_ms=DAY)
    rule = log.report(tmp_path)["rules"]["r"]
    reached = {name: rule[name] for name in ("made", "shown", "clicked", "accepted", "declined")}
    assert reached == {"made": 9, "shown": 5, "clicked": 1, "accepted": 2, "declined": 1}
    assert rule["complained"] == 2
    assert rule["ends"] == {
        "accepted": 2, "declined": 1, "complained": 1, "withdrawn": 1, "expired": 3, "open": 1,
    }  # fmt: skip
    assert sum(rule["ends"].values()) == rule["made"]


def test_an_order_that_names_an_offer_takes_it_even_where_it_withdraws_it_too(
    tmp_path: Path,
) -> None:
    log = Logbook()
    log.product("p")
    named, other = log.decide("a", "r", START), log.decide("b", "r", START)
    log.buy("a", "k1", START + HOUR, ("p", 1, 1000), offer_ids=[named])
    log.buy("b", "k2", START + HOUR, ("p", 1, 1000))
    for customer, offer_id in (("a", named), ("b", other)):
        log.decide(customer, "r", START + HOUR, "withdrawn", offer_id=offer_id)
    rule = log.report(tmp_path)["rules"]["r"]
    assert (rule["ends"]["accepted"], rule["ends"]["withdrawn"]) == (1, 1)


def test_an_answer_counts_to_the_last_millisecond_of_an_offer_and_not_after(tmp_path: Path) -> None:
    log = Logbook()
    inside, outside = log.decide("a", "r", START), log.decide("b", "r", START)
    log.say("a", inside, START + DAY, "accepted")
    log.say("b", outside, START + DAY + 1, "accepted")
    rule = log.report(tmp_path)["rules"]["r"]
    assert (rule["ends"]["accepted"], rule["ends"]["expired"]) == (1, 1)
    assert rule["accepted"] == 1


def test_a_complaint_about_an_offer_that_was_taken_counts_days_later(tmp_path: Path) -> None:
    log = Logbook()
    taken, silent = log.decide("a", "r", START), log.decide("b", "r", START)
    log.say("a", taken, START + HOUR, "accepted")
    log.say("a", taken, START + 3 * DAY, "complained")
    log.say("b", silent, START + 3 * DAY, "complained")
    rule = log.report(tmp_path)["rules"]["r"]
    assert rule["complained"] == 1
    assert (rule["ends"]["accepted"], rule["ends"]["expired"]) == (1, 1)


def test_a_resend_and_a_second_copy_change_no_figure(tmp_path: Path) -> None:
    log = Logbook()
    log.product("p")
    for number in range(20):
        customer = f"c{number}"
        offer_id = log.decide(customer, "r", START + number * HOUR)
        log.say(customer, offer_id, START + (number + 1) * HOUR, "shown", "accepted")
        log.buy(customer, f"k{number}", START + (number + 1) * HOUR, ("p", 2, 700))
    once = log.report(tmp_path)
    log.events += [e for e in log.events if not e["type"].startswith("catalog.")]
    log.offers += log.offers
    log.decisions += log.decisions
    twice = log.report(tmp_path)
    assert twice.pop("records")["repeated"] == 20 * 3 + 20 + 20
    once.pop("records")
    assert twice == once


@pytest.mark.covers("B11")
def test_the_rate_of_acceptance_has_wilson_s_interval_and_its_status(tmp_path: Path) -> None:
    log = Logbook()
    for rule, accepted, shown in (("few", 9, 99), ("weak", 1, 150), ("good", 15, 150)):
        for number in range(shown):
            customer = f"{rule}{number}"
            offer_id = log.decide(customer, rule, START)
            words = ("shown", "accepted") if number < accepted else ("shown",)
            log.say(customer, offer_id, START + HOUR, *words)
    rules = log.report(tmp_path)["rules"]
    assert {rule: one["status"] for rule, one in rules.items()} == {
        "few": "INSUFFICIENT", "weak": "REVIEW", "good": "STRONG",
    }  # fmt: skip
    low, high = wilson(Share(15, 150))
    assert rules["good"]["accept_rate"] == {"value": 0.1, "low": low, "high": high}


def test_without_any_feedback_no_rule_is_judged(tmp_path: Path) -> None:
    log = Logbook()
    for number in range(150):
        log.decide(f"c{number}", "r", START)
    body = log.report(tmp_path)
    assert body["rules"]["r"]["status"] == "INSUFFICIENT"
    assert body["alerts"] == ["no feedback is in the log: rates and status say nothing"]


def test_suppressed_decisions_are_counted_by_rule_and_gate(tmp_path: Path) -> None:
    log = Logbook()
    for number, gate in enumerate(["cooldown", "cooldown", "no_consent"]):
        log.decide(f"c{number}", "r", START, "suppressed", reason=gate)
    log.decide("c9", "r", START, "outranked", reason="outranked")
    rule = log.report(tmp_path)["rules"]["r"]
    assert rule["suppressed"] == {"cooldown": 2, "no_consent": 1}
    assert rule["decisions"] == {"outranked": 1, "suppressed": 3}


def lifted(log: Logbook, treated: int, bought: int, held_out: int, bought_too: int) -> None:
    """Customers offered something at START, and others held out; buyers pay 1000 and more."""
    for arm, count, buyers in (("offered", treated, bought), ("held_out", held_out, bought_too)):
        for number in range(count):
            customer = f"{arm}{number}"
            log.decide(customer, "r", START, arm)
            if number < buyers:
                log.buy(customer, f"{customer}k", START + DAY, ("p", 1, 1000 + number))
    log.decide("last", "other", START + 8 * DAY, "suppressed", reason="cooldown")


def test_lift_is_the_difference_between_those_offered_and_those_held_out(tmp_path: Path) -> None:
    log = Logbook()
    lifted(log, 200, 60, 100, 20)
    body = log.report(tmp_path)
    lift = body["rules"]["r"]["lift"]
    assert lift["customers"] == {"treated": 200, "held_out": 100}
    assert lift["enough"]
    a, b = Share(60, 200), Share(20, 100)
    low, high = difference(a, b)
    bought = lift["conversion"]
    assert (bought["treated"], bought["held_out"]) == (0.3, 0.2)
    assert bought["difference"] == {"value": 0.3 - 0.2, "low": low, "high": high}
    assert bought["ratio"]["value"] == pytest.approx(1.5)
    paid, paid_too = Sample(), Sample()
    for number in range(200):
        paid.add(1000 + number if number < 60 else 0)
    for number in range(100):
        paid_too.add(1000 + number if number < 20 else 0)
    interval = mean_difference(paid, paid_too)
    assert interval is not None
    assert lift["revenue"]["difference"] == {
        "value": paid.mean - paid_too.mean, "low": interval.low, "high": interval.high,
    }  # fmt: skip
    assert body["lift"] == lift  # one rule: the whole book says the same


def test_an_order_counts_after_the_decision_and_to_the_last_millisecond_of_the_window(
    tmp_path: Path,
) -> None:
    log = Logbook()
    cases = {"same": 0, "after": 1, "last": 7 * DAY, "over": 7 * DAY + 1}
    for customer, later in cases.items():
        log.decide(customer, "r", START, "offered")
        log.buy(customer, f"{customer}k", START + later, ("p", 1, 100))
    log.decide("none", "r", START, "held_out")
    log.decide("x", "other", START + 9 * DAY)
    lift = log.report(tmp_path)["rules"]["r"]["lift"]
    assert lift["conversion"]["treated"] == 2 / 4


def test_what_was_given_back_within_the_window_was_not_bought(tmp_path: Path) -> None:
    log = Logbook()
    for customer in ("kept", "part", "whole", "too-late"):
        log.decide(customer, "r", START)
        log.buy(customer, f"{customer}k", START + DAY, ("p", 1, 1000))
    log.event("purchase.refunded", "part", START + 2 * DAY, order_id="partk", total=400)
    log.event("purchase.cancelled", "whole", START + 7 * DAY, order_id="wholek")
    log.event("purchase.refunded", "too-late", START + 7 * DAY + 1, order_id="too-latek")
    log.decide("none", "r", START, "held_out")
    log.decide("x", "other", START + 9 * DAY)
    lift = log.report(tmp_path)["rules"]["r"]["lift"]
    assert lift["conversion"]["treated"] == 3 / 4
    assert lift["revenue"]["treated"] == (1000 + 600 + 0 + 1000) / 4


def test_customers_whose_window_is_not_over_are_not_compared(tmp_path: Path) -> None:
    log = Logbook()
    log.decide("a", "r", START)
    log.decide("b", "r", START, "held_out")
    log.decide("x", "other", START + 7 * DAY)
    assert log.report(tmp_path)["rules"]["r"]["lift"] is None
    log.decide("y", "other", START + 7 * DAY + 1)
    lift = log.report(tmp_path)["rules"]["r"]["lift"]
    assert lift["customers"] == {"treated": 1, "held_out": 1}
    assert not lift["enough"]


def test_a_customer_takes_part_once_a_rule_from_the_first_decision_on(tmp_path: Path) -> None:
    log = Logbook()
    for day in (0, 10, 20):
        log.decide("a", "r", START + day * DAY)
        log.decide("b", "r", START + day * DAY, "held_out")
    log.buy("a", "k", START + 11 * DAY, ("p", 1, 100))
    log.decide("x", "other", START + 40 * DAY)
    lift = log.report(tmp_path)["rules"]["r"]["lift"]
    assert lift["customers"] == {"treated": 1, "held_out": 1}
    assert lift["conversion"]["treated"] == 0


@pytest.mark.covers("A27")
def test_the_weekly_report_lists_each_rule_s_figures_by_week(tmp_path: Path) -> None:
    log = Logbook()
    for week, accepted in ((0, 1), (1, 3)):
        for number in range(5):
            customer = f"c{week}{number}"
            at = START + week * 7 * DAY + 7 * DAY - SECOND
            offer_id = log.decide(customer, "r", at)
            words = ("shown", "accepted") if number < accepted else ("shown", "complained")
            log.say(customer, offer_id, at + HOUR, *words)  # said in the week after
    weeks = log.report(tmp_path)["rules"]["r"]["weeks"]
    names = ("week", "made", "shown", "accepted", "complained")
    assert [tuple(week[name] for name in names) for week in weeks] == [
        ("2026-W10", 5, 5, 1, 4),
        ("2026-W11", 5, 5, 3, 2),
    ]


@pytest.mark.covers("A27")
def test_the_report_says_what_changed_since_the_last_version_of_the_rule_book(
    tmp_path: Path,
) -> None:
    log = Logbook()
    for book, at, accepted in (("v9", 0, 50), ("v1", 10, 5), ("v5", 20, 30)):
        for number in range(200):
            customer = f"{book}{number}"
            offer_id = log.decide(customer, "r", START + at * DAY, book=book)
            words = ("shown", "accepted") if number < accepted else ("shown",)
            log.say(customer, offer_id, START + at * DAY + HOUR, *words)
    change = log.report(tmp_path)["rules"]["r"]["change"]
    assert (change["from"], change["to"]) == ("v1", "v5")  # by when they decided, not by name
    low, high = difference(Share(30, 200), Share(5, 200))
    assert change["accept_rate"] == {"value": 0.15 - 0.025, "low": low, "high": high}
    assert change["sure"]
    assert (change["before"]["accepted"], change["now"]["accepted"]) == (5, 30)


def test_open_offers_are_bounded_and_those_let_go_are_counted() -> None:
    ledger = Ledger(Trials(DAY), DAY, offers_max=3)
    for number in range(5):
        made = OfferMade(f"o{number}", "r", "v1", "cross_sell", "email", "")
        ledger.offer("c", made, START + number, START + DAY + number)
    assert ledger.dropped == 2
    ledger.feedback("c", "o0", "accepted", START + 9)  # forgotten
    ledger.feedback("c", "o4", "accepted", START + 9)
    ledger.finish(START + DAY)
    assert ledger.rules["r"].total.ends == {
        "accepted": 1, "declined": 0, "complained": 0, "withdrawn": 0, "expired": 2, "open": 2,
    }  # fmt: skip


def run(log: Logbook, folder: Path, *more: str) -> str:
    events, offers, decisions = log.write(folder)
    arguments = ["report", "--events", str(events), "--offers", str(offers)]
    done = CliRunner().invoke(app, [*arguments, "--decisions", str(decisions), *more])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.covers("A9")
def test_the_printed_lift_is_measured_and_benchmarks_stand_apart_as_references(
    tmp_path: Path,
) -> None:
    log = Logbook()
    lifted(log, 200, 60, 100, 20)
    results, title, references = run(log, tmp_path).partition("References from the literature")
    assert title
    assert "no results of this shop" in references
    low, high = difference(Share(60, 200), Share(20, 100))
    assert f"+10.00 [{100 * low:+.2f}, {100 * high:+.2f}]" in results
    for one in REFERENCES:
        assert one.figure in references
        assert one.figure not in results
    assert "EBITDA" not in results


def test_without_a_holdout_no_lift_is_printed_at_all(tmp_path: Path) -> None:
    log = Logbook()
    log.decide("a", "r", START)
    log.decide("x", "other", START + 9 * DAY)
    assert "Lift" not in run(log, tmp_path)
    body = json.loads(run(log, tmp_path, "--json").splitlines()[-1])
    assert body["lift"] is None
    assert all(one["is_result"] is False for one in body["references"])


def test_a_line_that_cannot_be_read_is_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    log = Logbook()
    log.decide("a", "r", START)
    events, offers, decisions = log.write(tmp_path)
    events.write_text("{}\n")
    offers.write_text(offers.read_text() + "no json\n")
    arguments = ["report", "--events", str(events), "--offers", str(offers)]
    done = CliRunner().invoke(app, [*arguments, "--decisions", str(decisions), "--json"])
    body = json.loads(done.stdout)
    assert body["records"]["refused"] == 2
    assert body["rules"]["r"]["made"] == 1
    assert any("2 records cannot be read, first" in alert for alert in body["alerts"])


def test_measures_are_listed_without_any_input() -> None:
    done = CliRunner().invoke(app, ["report", "--measures"])
    assert done.exit_code == 0
    assert "churn_by_families" in done.stdout


def test_with_the_rule_book_only_its_own_holdout_divides_the_whole(tmp_path: Path) -> None:
    book = make_book({"id": "r", "on": "cart.viewed"}, holdout={"share": "20%", "salt": "s"})
    log = Logbook()
    held = [share_below(0.2, "s", f"c{number}") for number in range(200)]
    for number, in_book in enumerate(held):
        outcome = "held_out" if in_book or number % 2 else "offered"  # half by the rule's own
        log.decide(f"c{number}", "r", START, outcome)
    log.decide("x", "other", START + 9 * DAY, "suppressed", reason="cooldown")
    events, offers, decisions = log.write(tmp_path)
    body = run_report(Files([events], [offers], [decisions]), 7, None, book)
    assert body["lift"]["customers"] == {"treated": 200 - sum(held), "held_out": sum(held)}
    own = sum(1 for number, in_book in enumerate(held) if in_book or number % 2)
    assert body["rules"]["r"]["lift"]["customers"] == {"treated": 200 - own, "held_out": own}


RULES = (
    {
        "id": "room-only",
        "kind": "down_sell",
        "on": "checkout.plan_left",
        "pick": {"sku": "single"},
        "holdout": {"share": "40%", "salt": "autumn"},
    },
    {"id": "welcome", "kind": "follow_up", "on": "stay.checked_in"},
)


def test_the_engine_s_own_holdout_gives_the_lift_and_guards_the_total_of_a_stay(
    tmp_path: Path,
) -> None:
    log = Logbook()
    log.product("suite", 30_000)
    log.product("single", 9_000)
    for number in range(120):
        who, at = f"g{number}", START + number * HOUR
        log.event("consent.granted", who, at, channel="*")
        fields = {"plan": "suite", "price": 30_000, "currency": "JPY", "reason": "price"}
        log.event("checkout.plan_left", who, at + 1, **fields)
    events, _, _ = log.write(tmp_path)
    book = make_book(*RULES)
    run_backtest(book, [events], tmp_path / "first")
    decisions = (tmp_path / "first" / "decisions.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in decisions]
    arms = {one["subject"]: one["data"]["outcome"] for one in found}
    assert set(arms.values()) == {"offered", "held_out"}
    for number in range(120):  # guests with the offer take it, one in two of the others the suite
        who, at = f"g{number}", START + number * HOUR + MINUTE
        plan = "single" if arms[who] == "offered" else "suite"
        if arms[who] == "offered" or number % 2:
            price = {"single": 9_000, "suite": 30_000}[plan]
            log.buy(who, f"{who}r", at, (plan, 1, price))
            log.event("stay.checked_in", who, at + DAY, stay_id=who, plan=plan)
            log.event("stay.checked_out", who, at + 2 * DAY, stay_id=who, plan=plan)
    log.event("product.viewed", "last", START + 30 * DAY, sku="suite")
    events, _, _ = log.write(tmp_path)
    run_backtest(book, [events], tmp_path / "out")
    results = (tmp_path / "out" / "offers.jsonl"), (tmp_path / "out" / "decisions.jsonl")
    body = run_report(Files([events], [results[0]], [results[1]], book.custom), 7, None, book)
    offered = [who for who, arm in arms.items() if arm == "offered"]
    kept = [who for who, arm in arms.items() if arm == "held_out"]
    bought = sum(int(who[1:]) % 2 for who in kept)
    lift = body["rules"]["room-only"]["lift"]
    assert lift["customers"] == {"treated": len(offered), "held_out": len(kept)}
    assert lift["conversion"]["treated"] == 1.0
    assert lift["conversion"]["held_out"] == bought / len(kept)
    assert lift["revenue"]["difference"]["value"] == 9_000 - 30_000 * bought / len(kept)
    (guard,) = body["guards"]
    assert (guard["stays"], guard["change"]) == ((len(offered), bought), -21_000)
    assert body["rules"]["welcome"]["made"] == len(offered) + bought
