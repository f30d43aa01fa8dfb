"""``python -m tests.simulation.run --seeds 2000``: many runs of the whole worker in simulated time.

``--seed 17`` runs one and prints what happened in it; ``--mutation token`` takes something out
that must not be missing, and is content when that is noticed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from typing import NamedTuple

from tests.simulation.machine import Setup
from tests.simulation.oracle import summary
from tests.simulation.seeds import MUTATIONS, known_seeds, shrink, simulate

_SHOWN = 5


class Outcome(NamedTuple):
    """What a process answers about a seed."""

    seed: int
    failures: list[str]
    figures: Counter[str]


def _calm() -> None:
    """Dying workers leave work that was never begun; Python need not say so each time."""
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _one(job: tuple[int, str]) -> Outcome:
    seed, mutation = job
    run = simulate(Setup.of(seed, mutation))
    return Outcome(seed, run.failures, summary(run.machine))


def _show(seed: int, mutation: str) -> bool:
    """Run one seed and print everything; whether it failed."""
    setup = Setup.of(seed, mutation)
    run = simulate(setup, trace=True)
    print("\n".join(run.trace))
    print(f"seed {seed}: {setup.workers} workers, a second is {setup.scale} s")
    for name, count in summary(run.machine).items():
        print(f"  {name}: {count}")
    print(f"  digest: {run.digest}")
    for failure in run.failures:
        print(f"FAILED: {failure}")
    return bool(run.failures)


def _report(outcome: Outcome, mutation: str) -> None:
    print(f"seed {outcome.seed} FAILED")
    for failure in outcome.failures[:_SHOWN]:
        print(f"  {failure}")
    small = shrink(Setup.of(outcome.seed, mutation))
    print("  what it takes:", "" if small.faults else "no fault at all")
    for fault in small.faults:
        print(f"    {fault}")
    print(f"  again: python -m tests.simulation.run --seed {outcome.seed}")


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a seed failed (with a mutation: when none did)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--mutation", choices=MUTATIONS, default="")
    given = parser.parse_args(arguments)
    _calm()
    if given.seed is not None:
        return int(_show(given.seed, given.mutation))
    seeds = list(range(given.first, given.first + given.seeds))
    if not given.mutation:
        seeds = list(dict.fromkeys([*known_seeds(), *seeds]))
    begun = time.monotonic()
    failed = 0
    total: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(given.jobs, _calm) as pool:
        jobs = [(seed, given.mutation) for seed in seeds]
        for outcome in pool.imap(_one, jobs, chunksize=8):
            total += outcome.figures
            if outcome.failures:
                failed += 1
                if failed <= _SHOWN:
                    _report(outcome, given.mutation)
                if given.mutation:
                    pool.terminate()
                    break
    seconds = time.monotonic() - begun
    print(
        f"{len(seeds)} seeds, {failed} failed; {seconds:.0f} s, {len(seeds) / seconds:.1f} a second"
    )
    print(", ".join(f"{count} {name}" for name, count in total.items()))
    return int(bool(failed) is not bool(given.mutation))


if __name__ == "__main__":
    sys.exit(main())
