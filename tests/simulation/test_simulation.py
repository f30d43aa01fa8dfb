"""The whole worker in simulated time, under faults, against the engine alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.machine import Setup
from tests.simulation.oracle import summary
from tests.simulation.run import main
from tests.simulation.seeds import MUTATIONS, first_failing, known_seeds, simulate

#: `make simulate` runs more of them.
SEEDS = 40


@pytest.mark.parametrize("seed", [*range(SEEDS), *(s for s in known_seeds() if s >= SEEDS)])
def test_a_seed_ends_with_what_the_model_says(seed: int) -> None:
    run = simulate(Setup.of(seed))
    assert run.failures == [], f"again: python -m tests.simulation.run --seed {seed}"
    assert summary(run.machine)["outputs"] > 0


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_is_taken_out_is_missed_within_200_seeds(mutation: str) -> None:
    assert first_failing(mutation, range(200)) is not None


def test_a_seed_is_one_run_whatever_the_hash_seed_is() -> None:
    digests = set()
    for hash_seed in ("1", "2", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.run", "--seed", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests |= {line for line in done.stdout.splitlines() if "digest" in line}
    assert len(digests) == 1


def test_another_seed_is_another_run() -> None:
    assert len({simulate(Setup.of(seed)).digest for seed in (7, 8)}) == 2


def test_a_failing_seed_is_named_with_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "16", "--jobs", "1", "--mutation", "readback"]) == 0
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "python -m tests.simulation.run --seed" in said
