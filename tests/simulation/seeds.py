"""Runs of seeds, and what is left of a failing one when it is made as small as it goes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import structlog

from tests.simulation.machine import Machine, Run, Setup
from tests.simulation.oracle import judge

KNOWN = Path(__file__).parents[1] / "seeds" / "simulation.txt"
#: What can be taken out, to prove that its absence is noticed.
MUTATIONS = ("offsets", "token", "readback", "consent")
_SHRINKING_RUNS_MAX = 80


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Workers log what happens to them; thousands of them would fill the screen."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(setup: Setup, trace: bool = False) -> Run:
    """One run and what is wrong with it."""
    with _silence():
        return Machine(setup, trace).run(judge)


def shrink(setup: Setup) -> Setup:
    """The same run with as few faults as it takes to fail."""
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for place in range(len(setup.faults)):
            faults = setup.faults[:place] + setup.faults[place + 1 :]
            tried = dataclasses.replace(setup, faults=faults)
            runs += 1
            if runs > _SHRINKING_RUNS_MAX:
                return setup
            if simulate(tried).failures:
                setup, smaller = tried, True
                break
    return setup


def known_seeds() -> list[int]:
    """Seeds that found something once, from the file that says what."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def first_failing(mutation: str, seeds: range) -> int | None:
    """The first seed whose run fails with something taken out."""
    for seed in seeds:
        if simulate(Setup.of(seed, mutation)).failures:
            return seed
    return None
