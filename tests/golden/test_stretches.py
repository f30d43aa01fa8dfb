"""A log applied in stretches gives the bytes of a log applied line by line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from streams.backtest import run_backtest
from streams.rulefiles import load_book
from tests.golden.test_backtest import EXAMPLE, FILES, RESULTS

RULES = (EXAMPLE / "rules", Path(__file__).parents[2] / "benchmarks" / "rules")
LINES = 6_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The log's beginning, with broken lines, an id that comes twice with another body, and a
    product that is taken out of sale in the middle."""
    folder = tmp_path_factory.mktemp("log")
    found = []
    for file in FILES:
        path = folder / file.name.removesuffix(".gz")
        path.write_bytes(b"".join(lines_of(file)))
        found.append(path)
    return found


def lines_of(file: Path) -> Iterator[bytes]:
    with gzip.open(file) as stream:
        most = None if "catalog" in file.name else LINES
        for number, line in enumerate(islice(stream, most)):
            yield line
            if number % 500 == 99:
                yield b"{not json\n"
                yield line.replace(b'"currency":"USD"', b'"currency":"EUR"')


@pytest.mark.parametrize("rules", RULES, ids=["retail-year", "benchmark"])
def test_a_log_in_stretches_gives_the_bytes_of_one_line_after_the_other(
    tmp_path: Path, files: list[Path], rules: Path
) -> None:
    book = load_book(rules)
    written = {}
    for size in (1, 2, 97, 8_000):
        out = tmp_path / str(size)
        figures = run_backtest(book, files, out, stretch_lines=size)
        assert figures["dead_letters"] > 20
        written[size] = [(out / name).read_bytes() for name in RESULTS]
    assert b"id_conflict" in written[1][2]
    assert all(found == written[1] for found in written.values())
