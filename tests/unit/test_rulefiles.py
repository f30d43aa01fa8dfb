"""A rule folder is read strictly, and every fault is named where it stands."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.check import run_check
from streams.rulefiles import RuleFolder, load_folder
from streams.strictyaml import Fault
from triggers.book import Book

HERE = Path(__file__).parent
RETAIL = HERE.parents[1] / "examples" / "retail-year" / "rules"
GOOD = """
book: {name: x, timezone: UTC, currency: JPY}
rules:
  - id: one
    kind: cross_sell
    on: cart.item_added
    pick: none
    channel: email
    reason: {ja: "あ", en: "a"}
"""


def faults(folder: Path) -> list[Fault]:
    found = load_folder(folder)
    assert not isinstance(found, Book)
    return found


def places(folder: Path) -> dict[str, str]:
    """Place -> message."""
    return {f"{Path(f.file).name}:{f.line}:{f.column}": f.message for f in faults(folder)}


def write(folder: Path, text: str, name: str = "book.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_every_fault_of_a_broken_book_is_named_at_its_place() -> None:
    found = places(HERE / "broken-book")
    expected = {
        "book.yaml:3:13": "'Mars/Olympus' is no time zone",
        "book.yaml:11:9": "did you mean cart.item_added?",
        "book.yaml:16:9": "the id twice is taken",
        "book.yaml:18:9": "a down_sell answers hesitation",
        "book.yaml:20:9": "unknown name event.item.prize",
        "book.yaml:21:25": "no matching overload",
        "book.yaml:22:9": "must be true or false",
        "book.yaml:26:18": "unknown name itm.name; did you mean item.name?",
        "book.yaml:32:20": "a rule has one moment",
        "book.yaml:25:20": "looser than the book's limit of 3",
        "book.yaml:33:5": "names 2 kinds of pick",
        "book.yaml:28:5": "names its `terms`",
        "book.yaml:36:27": "a brace without its partner",
        "shapes.yaml:2:1": "book: stands in another file already",
        "shapes.yaml:4:10": "did you mean customer.orders?",
        "shapes.yaml:5:13": "String should match pattern '^[a-z][a-z0-9_]*$'",
        "shapes.yaml:10:5": "unknown key chanel; did you mean channel?",
        "shapes.yaml:11:39": "did you mean event.subtotal?",
        "shapes.yaml:18:5": "one variant is none: give two or more",
        "shapes.yaml:19:39": "unknown name foo",
        "shapes.yaml:20:5": "names 2 kinds of pick: exactly one of sku, same, complements_of, "
        "closes_gap_to, bought_together_with, viewed_together_with, tier_up_from, tier_down_from, "
        "bundle_with, replenishes, next_module_after, perk",
        "shapes.yaml:23:5": "channel is missing",
        "shapes.yaml:31:15": "must be a whole number",
        "shapes.yaml:32:16": "must be a text: put it in quotes",
        "shapes.yaml:33:15": "'7 days' is not a duration such as 90s, 30m, 12h or 7d",
        "shapes.yaml:34:15": "'week' is not customer, about, always or a duration",
        "shapes.yaml:35:11": "Input should be 'none' or a mapping",
        "shapes.yaml:42:9": "unknown name foo",
        "shapes.yaml:45:28": "must be of type string or list, but is int",
        "shapes.yaml:47:12": "the book has no terms standrd",
        "shapes.yaml:48:27": "unknown name trigger.nam; did you mean trigger.name?",
        "shapes.yaml:51:9": "must be a list",
        "shapes.yaml:55:5": "must be a mapping",
        "shapes.yaml:58:9": "did you mean cart.item_added?",
        "shapes.yaml:63:19": "did you mean purchase.completed?",
    }
    assert found.keys() == expected.keys()
    for place, message in expected.items():
        assert message in found[place], place


def test_what_strict_yaml_refuses_is_named_at_its_place() -> None:
    found = places(HERE / "broken-yaml")
    assert found == {
        "a.yaml:1:7": "anchors are not allowed",
        "b.yaml:4:11": "aliases are not allowed",
        "c.yaml:2:9": "tags are not allowed",
        "d.yaml:3:3": "the key name stands here twice",
        "d.yaml:4:3": "is not a key: a plain text is needed",
        "e.yaml:2:1": "found character '\\t' that cannot start any token",
        "f.yaml:1:49": "expected ',' or '}', but got '<scalar>': "
        "inside {} and [] an expression stands in single quotes",
    }


def test_the_demos_book_has_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(RETAIL) == 0
    assert capsys.readouterr().err == ""


def test_check_prints_one_fault_a_line_and_answers_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(HERE / "broken-book") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(faults(HERE / "broken-book"))
    assert all(line.count(":") >= 3 for line in lines)


def test_words_numbers_and_times_are_what_they_look_like(tmp_path: Path) -> None:
    quiet = "currency: JPY, quiet_hours: {from: 21:00, to: 08:00, channels: [email]}}"
    found = load_folder(write(tmp_path / "r", GOOD.replace("currency: JPY}", quiet)))
    assert isinstance(found, Book)
    assert found.quiet_hours is not None
    assert found.quiet_hours.window.start_min == 21 * 60
    bad = GOOD.replace("name: x", "name: 1.10")
    (fault,) = faults(write(tmp_path / "bad", bad))
    assert fault.message == "must be a text: put it in quotes"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rules: {}",
        "rules: 3",
        "rules: {id: x}",
        "rules: [3, [], null]",
        "segments: [a]",
        "segments:",
        "book: []",
        "book: {name: [x]}",
        "book: {limits: [3]}",
        "book: {terms: {a: 1}}",
        "rules: [{id: [1], on: {a: b}, pick: {max: {}}, price: [], when: [[], 1]}]",
        "--- 1\n--- 2",
        "a: [" * 30,
        "\ufeffbook: 1",
        "[]: 1",
        "? {a: b}\n: c",
        "- a",
        "book: [1",
        "\t- a: b",
        "book:\nrules:",
        "? [a]\n: b",
    ],
)
def test_odd_files_are_faults_and_no_crash(tmp_path: Path, text: str) -> None:
    assert faults(write(tmp_path / "r", text))


def test_a_bomb_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"
    assert any("anchors" in f.message for f in faults(write(tmp_path / "bomb", bomb)))
    huge = "# " + "x" * (300 * 1024)
    assert "more than 256 KiB" in faults(write(tmp_path / "huge", huge))[0].message
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "b.yaml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in faults(tmp_path / "bytes")[0].message
    assert "no *.yaml files" in faults(tmp_path / "nowhere")[0].message


def test_a_faulty_change_leaves_the_old_book_and_a_good_one_takes_over(tmp_path: Path) -> None:
    folder = RuleFolder(write(tmp_path / "r", GOOD))
    old = folder.load()
    assert folder.poll() is None
    write(tmp_path / "r", GOOD[: len(GOOD) // 2])
    assert folder.poll() is None
    assert folder.faults
    write(tmp_path / "r", GOOD.replace("id: one", "id: two"))
    new = folder.poll()
    assert new is not None
    assert new.digest != old.digest
    assert list(new.rules) == ["two"]
    assert folder.faults == []


def test_the_digest_depends_on_neither_files_nor_comments(tmp_path: Path) -> None:
    one = load_folder(write(tmp_path / "one", GOOD))
    head, rules = GOOD.split("rules:")
    write(tmp_path / "two", "# a comment\nrules:" + rules, "z.yaml")
    two = load_folder(write(tmp_path / "two", head, "a.yaml"))
    assert isinstance(one, Book)
    assert isinstance(two, Book)
    assert one.digest == two.digest


def test_a_wrong_shape_anywhere_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    document = yaml.safe_load(GOOD)
    number = 0
    for path in list(_paths(document)):
        for odd in (None, 7, -1.5, "?", [], {}, [[1]], {"a": {"b": 1}}, True):
            changed = copy.deepcopy(document)
            inside = changed
            for part in path[:-1]:
                inside = inside[part]
            inside[path[-1]] = odd
            number += 1
            text = yaml.safe_dump(changed, allow_unicode=True)
            found = load_folder(write(tmp_path / str(number), text))
            assert isinstance(found, Book) or found


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries if isinstance(value, dict | list) else ():
        yield from _paths(inner, (*path, key))


def test_faults_of_a_second_file_name_that_file(tmp_path: Path) -> None:
    rule = GOOD.split("rules:")[1]
    write(tmp_path / "r", GOOD, "a.yaml")
    write(tmp_path / "r", "rules:" + rule.replace("on: cart", "no: cart"), "b.yaml")
    assert places(tmp_path / "r") == {
        "b.yaml:2:5": "on is missing",
        "b.yaml:4:5": "unknown key no",
    }
    write(tmp_path / "r", "rules:" + rule, "b.yaml")
    assert places(tmp_path / "r") == {"b.yaml:2:9": "the id one is taken by another rule"}


def test_deep_nesting_is_refused_before_it_is_built(tmp_path: Path) -> None:
    begun = time.monotonic()
    (fault,) = faults(write(tmp_path / "r", "a: " + "[" * 200_000))
    assert fault.message == "is nested deeper than 20"
    assert time.monotonic() - begun < 2


def test_what_is_no_file_is_a_fault_and_an_editors_file_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", GOOD)
    write(folder, "half: [", ".book.yaml")
    assert isinstance(load_folder(folder), Book)
    (folder / "x.yaml").mkdir()
    os.mkfifo(folder / "y.yml")
    assert [f.message for f in faults(folder)] == ["is no file", "is no file"]


def test_the_digest_depends_on_no_order_of_keys_or_rules(tmp_path: Path) -> None:
    head, rule = GOOD.split("rules:\n")
    other = rule.replace("id: one", "id: two")
    turned = "  - channel: email\n    id: one\n" + rule.split("\n", 1)[1].replace(
        "    channel: email\n", ""
    )
    one = load_folder(write(tmp_path / "one", head + "rules:\n" + rule + other))
    two = load_folder(write(tmp_path / "two", "rules:\n" + other + turned + head))
    changed = load_folder(write(tmp_path / "three", head + "rules:\n" + rule))
    assert isinstance(one, Book)
    assert isinstance(two, Book)
    assert isinstance(changed, Book)
    assert one.digest == two.digest != changed.digest
