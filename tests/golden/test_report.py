"""The report over one log: the same bytes whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.test_measures import downsold, shop

ROOT = Path(__file__).parents[2]


def run(files: tuple[Path, Path, Path], seed: str) -> bytes:
    events, offers, decisions = files
    command = [sys.executable, "-m", "streams.cli", "report", "--events", str(events), "--json"]
    command += ["--offers", str(offers), "--decisions", str(decisions), "--by", "plan"]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)
    return done.stdout


def test_two_hash_seeds_give_the_same_report(tmp_path: Path) -> None:
    log, guests = shop(1), downsold(40, 40, 8_000, 900)
    for name in ("events", "offers", "decisions"):
        records = getattr(log, name)
        for record in getattr(guests, name):  # one log of both, with ids of their own
            records.append({**record, "id": f"{record['id']}x"})
    files = log.write(tmp_path)
    first = run(files, "0")
    assert first == run(files, "4711")
    assert b'"state": "alert"' in first
