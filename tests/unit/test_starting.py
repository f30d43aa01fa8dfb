"""A folder to begin with, schemas for editors, and two books side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from streams.backtestview import compared, show_backtest
from streams.check import run_check
from streams.errors import UsageError
from streams.rulefiles import load_book
from streams.scenariotest import run_tests
from streams.schemas import book_schema, events_schema, scenario_schema
from streams.starting import FILES, start_book
from tests.contract.door_samples import DATA, encode, event
from triggers.events import EVENT_TYPES

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_new_folder_passes_check_and_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shop"
    written = start_book(folder)
    assert {path.name for path in written} == {*FILES, "book.json", "scenarios.json", "events.json"}
    assert run_check(folder, as_json=True) == 0
    assert run_tests(folder, as_json=True) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert '"rules": 3, "examples": 1, "warnings": 0' in captured.out
    assert '"scenarios": 4, "failed": 0' in captured.out


def test_the_sample_events_make_offers(tmp_path: Path) -> None:
    start_book(tmp_path / "shop")
    book = load_book(tmp_path / "shop")
    events = [tmp_path / "shop" / "events.jsonl"]
    figures = show_backtest(book, events, tmp_path / "out", "2026-03-20T00:00:00Z", None, True)
    assert figures["dead_letters"] == 0
    assert figures["offers"] == {"goes-with-it": 2, "left-behind": 1, "one-week-after": 1}


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        start_book(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def typed(value: Any) -> Any:
    """What YAML's plain words stand for in a rule book: numbers and truths."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    try:
        return {"true": True, "false": False}[value] if value in ("true", "false") else int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def books() -> list[Path]:
    here = Path(__file__).parents[2]
    files = [*EXAMPLES.rglob("*.yaml"), *(here / "streams" / "starter").glob("*.yaml")]
    return [f for f in files if f.name != "scenarios.yaml" and f.parent.name != "tests"]


@pytest.mark.parametrize("file", books(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_schema_knows_every_book_of_ours(file: Path) -> None:
    document = typed(yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader))
    jsonschema.Draft202012Validator(book_schema()).validate(document)


def problems(schema: dict[str, Any], document: Any) -> list[str]:
    return [
        error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)
    ]


def test_the_schema_refuses_what_check_refuses() -> None:
    rule = {"id": "a", "kind": "follow_up", "on": "cart.viewed", "pick": "none", "channel": "push"}
    reason = {"reason": {"ja": "あ", "en": "a"}}
    assert problems(book_schema(), {"rules": [{**rule, **reason}]}) == []
    assert problems(book_schema(), {"rules": [rule]}) != []
    assert problems(book_schema(), {"rules": [{**rule, **reason, "chanel": "push"}]}) != []
    assert problems(book_schema(), {"rules": [{"id": "a", "use": "t", "with": {}}]}) == []
    assert problems(book_schema(), {"ruls": []}) != []


def test_the_schema_knows_the_short_forms_of_gates() -> None:
    def gated(**gate: Any) -> list[str]:
        head = {"name": "b", "timezone": "UTC", "currency": "JPY", "cool_off": "30d"}
        return problems(book_schema(), {"book": {**head, "gate": gate}})

    assert gated(value_realised=True, deployed="crm", purpose=True, price_ceiling="20%") == []
    assert gated(value_realised=False) != []
    assert gated(deployed=False) != []


def test_the_schema_of_scenarios_knows_ours() -> None:
    for file in [*EXAMPLES.rglob("scenarios.yaml"), *EXAMPLES.rglob("tests/*.yaml")]:
        document = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
        ids = [each["id"] for each in document["scenarios"]]
        errors = problems(scenario_schema(), typed(document))
        assert errors == [], (file, ids, errors)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_the_schema_of_events_knows_every_type(kind: str) -> None:
    sample = msgspec.json.decode(encode(event(kind)))
    assert kind in DATA
    assert problems(events_schema(), sample) == []
    assert problems(events_schema(), {**sample, "type": "no.such"}) != []


def test_two_books_are_compared_rule_by_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_book(tmp_path / "shop")
    start_book(tmp_path / "old")
    rules = tmp_path / "old" / "rules.yaml"
    text = rules.read_text(encoding="utf-8").replace("one-week-after", "later")
    rules.write_text(text.replace("after_silence: 60m", "after_silence: 10m"), encoding="utf-8")
    new, old = load_book(tmp_path / "shop"), load_book(tmp_path / "old")
    events = [tmp_path / "shop" / "events.jsonl"]
    until = "2026-03-20T00:00:00Z"
    figures = show_backtest(new, events, tmp_path / "out", until, old)
    assert figures["compare"] == {
        "goes-with-it": {"before": 2, "after": 2},
        "later": {"before": 1, "after": 0},
        "left-behind": {"before": 2, "after": 1},
        "one-week-after": {"before": 0, "after": 1},
    }
    assert figures["rules"]["left-behind"] == {"offered": 1}
    shown = capsys.readouterr().out
    assert "left-behind" in shown
    assert "-1" in shown
    offers = (tmp_path / "out" / "before" / "offers.jsonl").read_text().splitlines()
    assert len(offers) == 5
    assert json.loads(offers[0])["data"]["rule_book"] == old.digest


def test_rules_of_one_book_only_are_compared_with_nothing() -> None:
    answer = compared({"a": {"offered": 3}}, {"b": {"suppressed": 2}})
    assert answer == {"a": {"before": 3, "after": 0}, "b": {"before": 0, "after": 0}}
