"""The measures of the examples: a log through their own rule books, recounted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streams.backtest import run_backtest
from streams.report import run_report
from streams.reportentries import Files
from streams.rulefiles import read_folder
from tests.unit.logbook import DAY, HOUR, MINUTE, SECOND, START, Logbook
from triggers.book import Book

EXAMPLES = Path(__file__).parents[2] / "examples"
GUESTS = 400


class Trade(NamedTuple):
    """A rule book of the examples, and a log that begins with its catalogue."""

    book: Book
    log: Logbook

    def decided(self, folder: Path) -> list[dict[str, Any]]:
        """What the engine decides over the log."""
        folder.mkdir()
        events, _, _ = self.log.write(folder)
        run_backtest(self.book, [events], folder / "out")
        text = (folder / "out" / "decisions.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def reported(self, folder: Path) -> dict[str, Any]:
        """The report over the log and what the engine makes of it."""
        self.decided(folder)
        out = folder / "out"
        results = [out / "offers.jsonl"], [out / "decisions.jsonl"]
        files = Files([folder / "events.jsonl"], *results, self.book.custom)
        return run_report(files, 7, None, self.book)


def trade(name: str) -> Trade:
    book = read_folder(EXAMPLES / name / "rules").book()
    assert isinstance(book, Book), book
    log = Logbook()
    text = (EXAMPLES / name / "catalog.jsonl").read_text(encoding="utf-8")
    log.events += [json.loads(line) for line in text.splitlines()]
    return Trade(book, log)


class Night(NamedTuple):
    """A hotel's guests by what the engine made of their leaving the suite."""

    body: dict[str, Any]
    offered: int
    held_out: int


def night(folder: Path, added: int) -> Night:
    """Guests leave the suite one after another. Who is offered the room for tonight takes it at
    18,000 and spends ``added`` in the house; who is held out books the deluxe room at 30,000."""
    hotel = trade("hotel")
    log = hotel.log
    for number in range(GUESTS):
        who, at = f"g{number}", START + number * MINUTE
        suite = {"plan": "suite", "price": 38_000, "currency": "JPY"}
        log.event("consent.granted", who, at - HOUR, channel="*")
        log.event("checkout.plan_selected", who, at, **suite)
        log.event("checkout.plan_left", who, at + SECOND, **suite, reason="price")
    first = [
        one for one in hotel.decided(folder / "first") if one["data"]["rule"] == "same-day-room"
    ]
    offers = {one["subject"]: one["data"]["offer_id"] for one in first}
    arms = {one["subject"]: one["data"]["outcome"] for one in first}
    for who, arm in arms.items():
        at = START + GUESTS * MINUTE  # all have left; the offers hold for 15 minutes
        plan = "room-only" if arm == "offered" else "deluxe"
        price = {"room-only": 18_000, "deluxe": 30_000}[plan]
        left = START + int(who[1:]) * MINUTE + SECOND
        taken = {"offer_ids": [offers[who]]} if arm == "offered" else {}
        log.buy(who, f"{who}r", left + MINUTE, (plan, 1, price), **taken)
        stay = {"stay_id": who, "plan": plan}
        log.event("stay.checked_in", who, at + 5 * HOUR, **stay)
        if arm == "offered" and added:
            log.buy(who, f"{who}x", at + 6 * HOUR, ("breakfast", 1, added))
        log.event("stay.checked_out", who, at + DAY, **stay)
    log.event("product.viewed", "last", START + 30 * DAY, sku="suite")
    counts = [list(arms.values()).count(arm) for arm in ("offered", "held_out")]
    return Night(hotel.reported(folder / "second"), counts[0], counts[1])


@pytest.mark.covers("A15c")
def test_a_room_for_tonight_that_lowers_the_total_of_a_stay_raises_an_alert(
    tmp_path: Path,
) -> None:
    body, offered, held_out = night(tmp_path, 2_200)
    assert offered + held_out == GUESTS - 9  # the first nine left before a rate was known
    assert held_out >= 30
    (guard,) = body["guards"]
    assert (guard["rule"], guard["state"]) == ("same-day-room", "alert")
    assert guard["change"] == 18_000 + 2_200 - 30_000
    assert any(
        alert.startswith("same-day-room: a stay brings 9800 less") for alert in body["alerts"]
    )
    measures = body["measures"]
    assert measures["adr"] == (18_000 * offered + 30_000 * held_out) / (offered + held_out)
    assert measures["vacancy_fill"] == (offered + held_out) / GUESTS
    assert measures["onsite_add_rate"] == offered / (offered + held_out)


@pytest.mark.covers("A15c")
def test_a_room_for_tonight_that_keeps_the_total_raises_none(tmp_path: Path) -> None:
    body, _, _ = night(tmp_path, 12_000)
    (guard,) = body["guards"]
    assert (guard["state"], guard["change"]) == ("ok", 0)
    assert not any("same-day-room" in alert for alert in body["alerts"])


def arrivals(folder: Path, guests: int, accepted: int) -> dict[str, Any]:
    """What becomes of the credit offered to so many guests at the front desk: after those who
    accept it one declines, one complains, one stays on, and the others leave without a word."""
    hotel = trade("hotel")
    log = hotel.log
    for number in range(guests):
        who, at = f"g{number}", START + number * MINUTE
        log.event("consent.granted", who, at - HOUR, channel="*")
        log.event("stay.checked_in", who, at, stay_id=who, plan="standard")
        if number != accepted + 2:
            log.event("stay.checked_out", who, at + 20 * HOUR, stay_id=who, plan="standard")
    decided = hotel.decided(folder / "first")
    offers = {
        one["subject"]: one["data"]["offer_id"]
        for one in decided
        if (one["data"]["rule"], one["data"]["outcome"]) == ("house-credit", "offered")
    }
    words = ["accepted"] * accepted + ["declined", "complained"]
    for number, word in enumerate(words):
        at = START + number * MINUTE + HOUR
        log.say(f"g{number}", offers[f"g{number}"], at, "shown", "clicked", word)
    for number in range(len(words), guests):
        log.say(f"g{number}", offers[f"g{number}"], START + number * MINUTE + HOUR, "shown")
    log.event("product.viewed", "last", START + 30 * DAY, sku="suite")
    found = hotel.reported(folder / "second")["rules"]["house-credit"]
    assert isinstance(found, dict)
    return found


@pytest.mark.covers("B10")
def test_each_offer_at_the_front_desk_ends_in_exactly_one_way(tmp_path: Path) -> None:
    rule = arrivals(tmp_path, 100, 9)
    assert {name: rule[name] for name in ("made", "shown", "clicked")} == {
        "made": 100,
        "shown": 100,
        "clicked": 11,
    }
    assert rule["ends"] == {
        "accepted": 9,
        "declined": 1,
        "complained": 1,
        "withdrawn": 100 - 9 - 3,  # who left without a word
        "expired": 1,  # who stayed on
        "open": 0,
    }


@pytest.mark.covers("B11")
@pytest.mark.parametrize(
    ("guests", "accepted", "status"),
    [
        (99, 9, "INSUFFICIENT"),
        (100, 9, "NORMAL"),
        (300, 12, "REVIEW"),  # Wilson's upper end: 6.9 %
        (300, 13, "NORMAL"),  # 7.3 %
        (300, 29, "NORMAL"),  # 9.7 % of 300
        (300, 30, "STRONG"),  # 10 %
        (300, 73, "STRONG"),  # (73/300 - 0.2) / sqrt(0.2 * 0.8 / 300) = 1.88, under 1.96
        (300, 74, "CHECK"),  # 2.02: the lower end is over 20 %
    ],
)
def test_the_band_of_a_rule_follows_from_who_accepted(
    tmp_path: Path, guests: int, accepted: int, status: str
) -> None:
    rule = arrivals(tmp_path, guests, accepted)
    assert (rule["made"], rule["accepted"], rule["status"]) == (guests, accepted, status)


@pytest.mark.covers("A13d")
def test_menu_mix_ticket_and_repeat_rate_of_the_salon(tmp_path: Path) -> None:
    salon = trade("beauty-salon")
    basic, standard, oil = (
        ("menu-basic", 1, 10_000),
        ("menu-standard", 1, 12_500),
        ("care-oil", 1, 1_500),
    )
    salon.log.buy("a", "a1", START, basic)
    salon.log.buy("a", "a2", START + 30 * DAY, standard, oil)
    salon.log.buy("b", "b1", START + DAY, basic, oil)
    salon.log.buy("c", "c1", START + 2 * DAY, ("menu-premium", 1, 16_000))
    salon.log.buy("c", "c2", START + 40 * DAY, basic)
    measures = salon.reported(tmp_path / "salon")["measures"]
    # Five menus: three Basic, one Standard, one Premium; totals 10,000 14,000 11,500 16,000 10,000.
    assert measures["menu_mix"] == {"menu/1": 3 / 5, "menu/2": 1 / 5, "menu/3": 1 / 5}
    assert measures["ticket"] == 61_500 / 5
    assert measures["repeat_rate"] == 2 / 3


@pytest.mark.covers("A14e")
def test_upper_course_pass_rate_and_referrals_of_the_school(tmp_path: Path) -> None:
    school = trade("cram-school")
    for number, sku in enumerate(("course-regular", "course-regular", "exam-pack", "exam-pack")):
        price = {"course-regular": 22_000, "exam-pack": 27_500}[sku]
        school.log.buy(f"s{number}", f"o{number}", START, (sku, 1, price))
    school.log.buy("s0", "o4", START + DAY, ("exam-pack", 1, 27_500))
    school.log.event("customer.profile_set", "s1", START + DAY, attributes={"exam_passed": False})
    school.log.event("exam.failed", "s2", START + 2 * DAY, exam="first")
    school.log.event("exam.passed", "s2", START + 3 * DAY, exam="second")
    school.log.event("exam.passed", "s3", START + 3 * DAY, exam="first")
    school.log.event("referral.made", "s3", START + 4 * DAY, friend="s4")
    school.log.event("referral.made", "s3", START + 5 * DAY)
    school.log.event(
        "customer.profile_set", "s4", START + 5 * DAY, attributes={"referred_by": "s3"}
    )
    measures = school.reported(tmp_path / "school")["measures"]
    assert measures["upper_course_share"] == {"course": 3 / 4}
    assert measures["pass_rate"] == 2 / 3  # s1 no; s2 at the second try; s3
    assert (measures["referrals"], measures["referred_customers"]) == (2, 1)
