"""The backtest over the demo's log: the same bytes whatever the hash seed, and a known digest."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail-year"
FILES = [
    EXAMPLE / "data" / f"{name}.jsonl.gz"
    for name in ("catalog", "customer", "cart", "checkout", "purchase")
]
RESULTS = ("offers.jsonl", "decisions.jsonl", "dead-letters.jsonl")


def run(out: Path, seed: str, rules: Path = EXAMPLE / "rules", *more: str) -> dict[str, str]:
    """Backtest the demo under a hash seed; digests of the results by file name."""
    command = [sys.executable, "-m", "streams.cli", "backtest", "--rules", str(rules), *more]
    command += ["--out", str(out), "--events", *map(str, FILES), "--json"]
    subprocess.run(
        command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=EXAMPLE.parents[1]
    )
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in RESULTS}


def test_two_hash_seeds_give_the_same_bytes(tmp_path: Path) -> None:
    first = run(tmp_path / "first", "0")
    assert first == run(tmp_path / "second", "4711")
    assert (tmp_path / "first" / "offers.jsonl").stat().st_size > 1_000_000
    assert (tmp_path / "first" / "dead-letters.jsonl").read_bytes() == b""


def test_what_is_learnt_gives_the_same_bytes_under_two_hash_seeds(tmp_path: Path) -> None:
    learning = Path(__file__).parent / "learned"
    until = ("--until", "2017-03-01T00:00:00Z")
    first = run(tmp_path / "first", "0", learning, *until)
    assert first == run(tmp_path / "second", "4711", learning, *until)
    offers = (tmp_path / "first" / "offers.jsonl").read_text()
    assert '"rule":"bought-together"' in offers
