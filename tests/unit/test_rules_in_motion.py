"""The folder of rules changes while a worker looks at it: no half-written book comes into force."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.rulefiles import FOLDER_BYTES_MAX, RuleFolder, load_folder
from streams.strictyaml import FILE_BYTES_MAX
from triggers.book import Book

HEAD = "book: {name: x, timezone: UTC, currency: JPY}\nrules:\n"


def rule(name: str) -> str:
    return (
        f"  - id: {name}\n    kind: cross_sell\n    on: cart.item_added\n    pick: none\n"
        "    channel: email\n    reason: {ja: 理由, en: why}\n"
    )


FULL = HEAD + rule("one") + rule("two") + rule("three")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rules"
    made.mkdir()
    (made / "book.yaml").write_text(FULL)
    return made


@pytest.fixture
def rules(folder: Path) -> RuleFolder:
    found = RuleFolder(folder)
    assert sorted(found.load().rules) == ["one", "three", "two"]
    return found


def looks(rules: RuleFolder, count: int = 4) -> list[Book]:
    """The books that so many looks in a row bring into force."""
    found = (rules.settled() for _ in range(count))
    return [book for book in found if book is not None]


def test_s26_a_good_change_comes_into_force_once_two_looks_agree(
    rules: RuleFolder, folder: Path
) -> None:
    assert looks(rules) == []
    (folder / "book.yaml").write_text(HEAD + rule("new"))
    assert rules.settled() is None
    (book,) = looks(rules)
    assert list(book.rules) == ["new"]
    assert looks(rules) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("book: {name: x", "expected ',' or '}'"),
        (FULL.replace("on:", "no:"), "unknown key no"),
        (FULL.replace("cart.item_added", "cart.exploded"), "cart.exploded"),
        (FULL.replace("pick: none", "when: '1 +'\n    pick: none"), ""),
        ("\x00", "not allowed"),
        ("\ufffe", ""),
        ("", "missing"),
        ("[]", "is not a mapping"),
        ("- " * 50_000, "deeper than 20"),
        ("a: " + "[" * 100_000, "deeper than 20"),
        ("a: &a [x]\nb: *a\n", "anchors are not allowed"),
        ("a: &a [&b [x,x],*b]\n" * 9, "anchors"),
        ("<<: {a: b}\n" + FULL, "is not a key"),
        ("book: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        (FULL + "rules: []\n", "twice"),
        ("#" * (FILE_BYTES_MAX + 1), "more than 256 KiB"),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_s26_a_broken_file_changes_nothing_and_its_place_is_named(
    rules: RuleFolder, folder: Path, text: str, said: str
) -> None:
    begun = time.process_time()
    (folder / "book.yaml").write_text(text)
    assert looks(rules) == []
    assert any(said in fault.message for fault in rules.faults)
    assert all(Path(fault.file).name in ("book.yaml", "rules") for fault in rules.faults)
    (folder / "book.yaml").write_text(FULL.replace("three", "four"))
    (book,) = looks(rules)
    assert "four" in book.rules
    assert rules.faults == []
    assert time.process_time() - begun < 5


def test_s26_a_bomb_is_refused_before_it_is_built(rules: RuleFolder, folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    begun = time.process_time()
    (folder / "book.yaml").write_text("\n".join(lines))
    assert looks(rules) == []
    assert rules.faults
    assert time.process_time() - begun < 1


def test_s26_a_file_of_50_mb_is_not_read(rules: RuleFolder, folder: Path) -> None:
    with (folder / "book.yaml").open("wb") as file:
        file.truncate(50_000_000)
    begun = time.process_time()
    assert looks(rules) == []
    assert [fault.message for fault in rules.faults] == ["more than 2048 KiB in all"]
    assert time.process_time() - begun < 1


def test_s26_many_files_within_their_bounds_may_not_add_up_to_more(folder: Path) -> None:
    for number in range(FOLDER_BYTES_MAX // FILE_BYTES_MAX + 1):
        (folder / f"x{number}.yaml").write_text("#" * FILE_BYTES_MAX)
    (fault,) = load_folder(folder)  # type: ignore[misc]
    assert "in all" in fault.message


def test_s26_half_a_file_that_looks_like_a_book_takes_no_rule_away(
    rules: RuleFolder, folder: Path
) -> None:
    half = HEAD + rule("one")  # what an editor that writes in place has written so far
    assert isinstance(load_folder(folder), Book)
    (folder / "book.yaml").write_text(half)
    assert rules.settled() is None
    (folder / "book.yaml").write_text(FULL.replace("three", "four"))
    assert rules.settled() is None
    (book,) = looks(rules)
    assert sorted(book.rules) == ["four", "one", "two"]


def test_s26_a_file_that_is_cut_while_it_is_read_is_read_again(
    rules: RuleFolder, folder: Path
) -> None:
    file = folder / "book.yaml"
    long = HEAD + "".join(rule(f"r{number}") for number in range(600))  # takes its time
    file.write_text(long)
    cut = threading.Timer(0.1, os.truncate, (file, len(HEAD + rule("r0"))))
    cut.start()
    found = rules.poll()
    cut.join()
    assert found is None
    assert rules.faults == []
    file.write_text(HEAD + rule("one") + rule("new"))
    (book,) = looks(rules)
    assert sorted(book.rules) == ["new", "one"]


def test_s26_while_somebody_writes_line_by_line_no_half_book_comes_into_force(
    rules: RuleFolder, folder: Path
) -> None:
    text = FULL.replace("id: one", "id: uno")
    half_books = 0
    with (folder / "book.yaml").open("w") as out:
        for line in text.splitlines(keepends=True)[:-1]:
            out.write(line)
            out.flush()
            assert rules.settled() is None
            half_books += not rules.faults
        out.write(text.splitlines(keepends=True)[-1])
    assert half_books > 0  # some of them had no fault
    (book,) = looks(rules)
    assert sorted(book.rules) == ["three", "two", "uno"]


def test_s26_a_deleted_file_or_folder_leaves_the_book_in_force(
    rules: RuleFolder, folder: Path
) -> None:
    (folder / "book.yaml").unlink()
    assert looks(rules) == []
    assert [fault.message for fault in rules.faults] == ["no *.yaml files here"]
    shutil.rmtree(folder)
    assert looks(rules) == []
    folder.mkdir()
    (folder / "book.yaml").write_text(FULL)
    (book,) = looks(rules)
    assert len(book.rules) == 3
    assert rules.faults == []


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads whatever its mode says; nobody does not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_s26_an_unreadable_file_changes_nothing_and_is_read_when_it_may_be() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        file = folder / "book.yaml"
        file.write_text(FULL)
        rules = RuleFolder(folder)
        rules.load()
        file.write_text(FULL.replace("three", "four"))
        file.chmod(0)
        with as_nobody():
            assert looks(rules) == []
            assert [fault.message for fault in rules.faults] == ["cannot be read: PermissionError"]
        file.chmod(0o644)  # neither its time nor its size tells
        with as_nobody():
            (book,) = looks(rules)
        assert "four" in book.rules
        assert rules.faults == []
    finally:
        shutil.rmtree(folder)


def test_s26_an_unreadable_folder_changes_nothing() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "book.yaml").write_text(FULL)
        folder.chmod(0o755)
        rules = RuleFolder(folder)
        with as_nobody():
            rules.load()
        for mode in (0, 0o444, 0o111):
            folder.chmod(mode)
            with as_nobody():
                assert looks(rules) == []
                assert rules.faults
        folder.chmod(0o755)
        with as_nobody():
            assert [len(book.rules) for book in looks(rules)] == [3]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_s26_a_file_swapped_for_a_pipe_or_a_folder_is_no_file(
    rules: RuleFolder, folder: Path
) -> None:
    file = folder / "book.yaml"
    file.unlink()
    os.mkfifo(file)
    assert looks(rules) == []
    assert [fault.message for fault in rules.faults] == ["is no file"]
    file.unlink()
    file.mkdir()
    assert looks(rules) == []


def test_s26_a_folder_swapped_as_a_link_is_a_change_like_any_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "book.yaml").write_text(FULL.replace("three", name * 2))
    link = tmp_path / "rules"
    link.symlink_to(tmp_path / "one")
    rules = RuleFolder(link)
    rules.load()
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").rename(link)
    (book,) = looks(rules)
    assert "twotwo" in book.rules
