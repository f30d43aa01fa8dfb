"""Scenario files: what they say is run through the engine, and what differs is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.rulefiles import read_folder
from streams.scenariorun import Result
from streams.scenarios import read_scenarios
from streams.scenariotest import book_folders, report, results, run_tests

BOOK = """
book: {name: chairs, timezone: Asia/Tokyo, currency: JPY}
rules:
  - id: cushion
    kind: cross_sell
    on: cart.item_added
    pick: {complements_of: event.item.sku}
    channel: onsite
    valid_for: 30m
    cooldown: 1d
    reason: {ja: "{item.name}をどうぞ。", en: "Take {item.name}."}
  - id: left
    kind: cross_sell
    on: cart.item_added
    after_silence: 60m
    unless: purchase.completed
    pick: {same: cart.items}
    channel: push
    reason: {ja: "残っています。", en: "Still there."}
"""
SETUP = {
    "catalog": {
        "products": {
            "chair": {"name": "Chair", "price": 12000, "category": "chair"},
            "cushion": {"name": "Cushion", "price": 2980},
        },
        "relations": [{"sku": "chair", "to": "cushion", "weight": 0.9}],
    },
    "events": {"chair": {"event": "cart.item_added", "item": "chair"}},
}
CHAIR = {"at": "0s", "do": "chair"}
CUSHION = {
    "at": "0s",
    "rule": "cushion",
    "items": [{"sku": "cushion", "quantity": 1, "price": 2980}],
    "until": "30m",
    "reason": {"en": "Take Cushion."},
}
LEFT = {"at": "60m", "rule": "left", "items": ["chair"]}


class Plain(yaml.SafeDumper):
    """Writes a value again where it stands twice: scenario files hold no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(value: Any) -> str:
    return yaml.dump(value, Dumper=Plain, sort_keys=False)


def write(folder: Path, *scenarios: dict[str, Any], book: str = BOOK) -> None:
    (folder / "book.yaml").write_text(book, encoding="utf-8")
    named = [{"id": f"s{n}", **scenario} for n, scenario in enumerate(scenarios)]
    text = dump({"setup": SETUP, "scenarios": named})
    (folder / "scenarios.yaml").write_text(text, encoding="utf-8")


def run(folder: Path, **scenario: Any) -> Result:
    write(folder, scenario)
    found, faults = results(folder)
    assert not faults, faults
    return found[0]


def lines(result: Result) -> list[str]:
    return [line.split("  [")[0] for line in result.differences]


def test_a_scenario_that_comes_as_expected_passes(tmp_path: Path) -> None:
    assert run(tmp_path, given=[CHAIR], expect=[CUSHION, LEFT]).passed


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"items": [{"sku": "cushion", "price": 2981}]}, "items.0.price: expected 2981, came 2980"),
        ({"items": ["chair"]}, 'items.0.sku: expected "chair", came "cushion"'),
        (
            {"until": "30m1s"},
            "until: expected 2026-03-02 10:30:01, came 2026-03-02 10:30:00",
        ),
        ({"at": "1s"}, "at: expected 2026-03-02 10:00:01, came 2026-03-02 10:00:00"),
        ({"channel": "push"}, 'channel: expected "push", came "onsite"'),
        ({"outcome": "suppressed", "reason": "cooldown"}, "outcome: expected suppressed cooldown"),
        ({"about": "cart-2"}, 'about: expected "cart-2", came "cart-1"'),
        ({"placement": "cart"}, 'placement: expected "cart", came nothing'),
    ],
)
def test_one_thing_that_is_not_as_expected_is_named(
    tmp_path: Path, changed: dict[str, Any], difference: str
) -> None:
    result = run(tmp_path, given=[CHAIR], expect=[{**CUSHION, **changed}, LEFT])
    assert any(difference in line for line in lines(result)), result.differences


def test_items_of_an_offer_have_to_be_named(tmp_path: Path) -> None:
    expect = [{"at": "0s", "rule": "cushion"}, LEFT]
    assert "items: not named" in str(run(tmp_path, given=[CHAIR], expect=expect).differences)


def test_a_decision_that_was_not_expected_and_one_that_did_not_come(tmp_path: Path) -> None:
    result = run(tmp_path, given=[CHAIR], expect=[LEFT])
    assert lines(result) == ["unexpected: 2026-03-02 10:00:00 cushion offered cushion x1 at 2980"]
    result = run(tmp_path, given=[CHAIR], until="59m59s", expect=[CUSHION])
    assert result.passed
    result = run(tmp_path, given=[CHAIR], until="60m", expect=[CUSHION, LEFT, {**LEFT}])
    assert lines(result) == ["missing: 2026-03-02 11:00:00 left offered"]


def test_no_decision_at_all_is_an_empty_list(tmp_path: Path) -> None:
    viewed = {"at": "0s", "event": "product.viewed", "sku": "chair"}
    assert run(tmp_path, given=[viewed], expect=[]).passed
    assert not run(tmp_path, given=[CHAIR], expect=[]).passed


def test_a_rule_that_must_not_offer(tmp_path: Path) -> None:
    bought = {"at": "59m59s", "event": "purchase.completed", "items": ["chair"]}
    late = {**bought, "at": "60m1s"}
    assert run(tmp_path, given=[CHAIR, bought], never=["left"]).passed
    result = run(tmp_path, given=[CHAIR, late], never=["left"])
    assert lines(result) == ["must not offer: 2026-03-02 11:00:00 left offered chair x1 at 12000"]


def test_an_event_may_name_the_offer_of_a_timer_due_right_then(tmp_path: Path) -> None:
    taken = {"at": "60m", "event": "purchase.completed", "items": ["chair"], "offers": ["left"]}
    holds = ["customer.offers_accepted == 1"]
    assert run(tmp_path, given=[CHAIR, taken], rules=["left"], expect=[LEFT], holds=holds).passed
    early = {**taken, "at": "59m59s"}
    write(tmp_path, {"given": [CHAIR, early], "never": ["left"]})
    ((result,), _) = results(tmp_path)
    assert "left has offered customer-1 nothing so far" in str(result.faults)


def test_expectations_may_be_about_some_rules_only(tmp_path: Path) -> None:
    assert run(tmp_path, given=[CHAIR], rules=["left"], expect=[LEFT]).passed


def test_what_holds_at_the_end_is_a_condition_about_the_customer(tmp_path: Path) -> None:
    bought = {"at": "+10m", "event": "purchase.completed", "items": ["chair", "cushion"]}
    given = [CHAIR, bought]
    assert run(tmp_path, given=given, holds=["customer.spend == 14980"]).passed
    result = run(tmp_path, given=given, holds=["customer.spend == 14979"])
    assert lines(result) == [
        "does not hold at the end: customer.spend == 14979 (customer.spend is 14980)"
    ]


def test_what_holds_at_the_end_may_be_a_segment(tmp_path: Path) -> None:
    book = BOOK + "segments: {buyer: customer.orders >= 1, guest: '!segment.buyer'}\n"
    bought = {"at": "0s", "event": "purchase.completed", "items": ["chair"]}
    write(
        tmp_path,
        {"given": [bought], "holds": ["segment.buyer"]},
        {"given": [bought], "holds": ["segment.guest"]},
        {"given": [CHAIR], "holds": ["segment.guest"]},
        book=book,
    )
    assert [each.passed for each in results(tmp_path)[0]] == [True, False, True]


def test_feedback_names_the_rule_whose_offer_it_means(tmp_path: Path) -> None:
    accepted = {"at": "5m", "event": "offer.accepted", "offer": "cushion"}
    result = run(tmp_path, given=[CHAIR, accepted], holds=["customer.offers_accepted == 1"])
    assert result.passed
    result = run(tmp_path, given=[{**accepted, "at": "0s"}], holds=["true"])
    assert "cushion has offered customer-1 nothing so far" in str(result.faults)


def test_subtotals_follow_from_what_lies_in_the_cart(tmp_path: Path) -> None:
    more = {"at": "1m", "event": "cart.item_added", "item": {"sku": "cushion", "quantity": 2}}
    less = {"at": "2m", "event": "cart.item_removed", "item": "chair"}
    assert run(tmp_path, given=[CHAIR, more], holds=["cart.subtotal == 17960"]).passed
    assert run(tmp_path, given=[CHAIR, more, less], holds=["cart.subtotal == 5960"]).passed


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"given": [{"at": "0s", "event": "cart.item_aded"}]}, "did you mean cart.item_added?"),
        ({"given": [{"at": "0s", "do": "chiar"}]}, "no event of the setup is named chiar"),
        ({"given": [{"at": "soon", "do": "chair"}]}, "'soon' is no time such as"),
        ({"given": [{"do": "chair"}]}, "has no time"),
        (
            {"given": [{"at": "0s", "event": "product.viewed", "skku": "a"}]},
            "product.viewed has no field skku; did you mean sku?",
        ),
        (
            {"given": [{"at": "0s", "event": "support.opened", "csat": 6}]},
            "support.opened is refused: bad_data",
        ),
        ({"given": [CHAIR], "expect": [{"at": "0s", "rule": "cushio"}]}, "no rule cushio"),
        ({"given": [CHAIR], "never": ["lefft"]}, "no rule lefft"),
        ({"given": [{**CHAIR, "at": "1m"}, CHAIR]}, "goes back"),
    ],
)
def test_a_scenario_that_cannot_run_says_where(
    tmp_path: Path, scenario: dict[str, Any], message: str
) -> None:
    whole = scenario if len(scenario) > 1 else {**scenario, "never": ["left"]}
    write(tmp_path, whole)
    found, _ = results(tmp_path)
    assert message in str(found[0].faults[0])
    assert str(found[0].faults[0]).startswith(f"{tmp_path}/scenarios.yaml:")


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"given": [CHAIR]}, "expects nothing"),
        ({"given": [CHAIR], "expct": []}, "unknown key expct; did you mean expect?"),
        (
            {"given": [CHAIR], "expect": [{**LEFT, "outcome": "suppressed"}]},
            "a suppressed decision has its code",
        ),
        ({"given": [CHAIR], "never": ["left"], "covers": ["row 1"]}, "should match pattern"),
    ],
)
def test_faults_of_shape_have_their_place(
    tmp_path: Path, scenario: dict[str, Any], message: str
) -> None:
    write(tmp_path, scenario)
    found, faults = results(tmp_path)
    assert not found
    assert message in str(faults[0])


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"id": "a", "given": [CHAIR], "never": ["left"]},
        {"id": "a", "given": [], "never": ["left"]},
    )
    assert "the id a is taken by the scenario at" in str(results(tmp_path)[1][0])


def test_files_below_tests_share_the_setup_beside_the_rules(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "tests").mkdir()
    more = {"scenarios": [{"id": "below", "given": [CHAIR], "expect": [CUSHION, LEFT]}]}
    (tmp_path / "tests" / "more.yaml").write_text(dump(more), encoding="utf-8")
    found, faults = results(tmp_path)
    assert not faults
    assert [(each.scenario.id, each.passed) for each in found] == [("below", True)]


def test_examples_in_a_rule_see_that_rule_alone(tmp_path: Path) -> None:
    example = """
    examples:
      - given:
          - {at: 0s, do: chair}
        expect:
          - {at: 60m, rule: left, items: [chair]}
"""
    write(tmp_path, book=BOOK.rstrip() + example)
    found, _ = results(tmp_path)
    assert [(each.scenario.id, each.passed) for each in found] == [("left.1", True)]
    write(tmp_path, book=BOOK.rstrip() + example.replace("60m", "61m"))
    (result,) = results(tmp_path)[0]
    assert next(iter(report(result))).startswith(f"{tmp_path}/book.yaml:21:9: left.1")


def test_the_command_tests_every_book_below_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, {"given": [CHAIR], "expect": [CUSHION, LEFT], "covers": ["A1"]})
    assert list(book_folders(tmp_path)) == [tmp_path / "a", tmp_path / "b"]
    assert run_tests(tmp_path, as_json=True) == 0
    out = capsys.readouterr().out
    assert out == '{"books": 2, "scenarios": 2, "failed": 0, "faults": 0}\n'
    assert run_tests(tmp_path, covers="A2") == 1
    write(tmp_path / "b", {"given": [CHAIR], "expect": [CUSHION]})
    assert run_tests(tmp_path) == 1
    assert "scenarios.yaml" in capsys.readouterr().err


def test_days_of_a_scenario_are_those_of_the_calendar(tmp_path: Path) -> None:
    book = BOOK.replace("Asia/Tokyo", "America/New_York").replace("after_silence: 60m", "after: 7d")
    setup = {"start": "2026-03-05 10:00"}  # the clocks change on the 8th
    expect = [{**LEFT, "at": "7d"}]
    write(
        tmp_path,
        {"setup": setup, "given": [CHAIR], "rules": ["left"], "expect": expect},
        {"given": [CHAIR], "setup": setup, "rules": ["left"], "expect": [{**LEFT, "at": "168h"}]},
        book=book,
    )
    found, faults = results(tmp_path)
    assert not faults
    assert [each.passed for each in found] == [True, False]


@pytest.mark.parametrize("rules", ["[a, 1, null]", "word", "[{examples: 7}]", "{a: 1}"])
def test_what_is_no_rule_has_no_examples(tmp_path: Path, rules: str) -> None:
    (tmp_path / "book.yaml").write_text(f"rules: {rules}\n")
    assert read_scenarios(tmp_path, read_folder(tmp_path)) == []
