"""``python -m tests.fuzz.run --seconds 600``: all targets in turn, until the time is over.

Whatever a target raises, or takes too long for, is written to ``tests/fuzz/corpus/TARGET/`` and
ends the run with status 1. With ``--keep`` inputs whose answer was new are written there, too;
everything there is tried first, always.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.fuzz import targets
from tests.fuzz.mutate import mutated

CORPUS = Path(__file__).with_name("corpus")
NAMES = ("door", "rules", "http")
#: A case that takes longer is a hang.
CASE_S_MAX = 10
#: Answers that are told apart, and how many inputs of which size go into the corpus.
ANSWERS_MAX = 400
KEPT_MAX = 64
KEPT_BYTES_MAX = 2_048


class Finding(NamedTuple):
    """An input that did what none may do."""

    target: str
    given: bytes
    told: str


class Fuzz:
    """One target with its inputs."""

    def __init__(self, name: str, target: targets.Target, seeds: list[bytes], seed: int) -> None:
        self.name = name
        self.cases = 0
        self.answers: dict[str, bytes] = {}
        self._target = target
        self._pool = seeds + corpus(name)
        self._chance = random.Random(f"{name}{seed}")

    def replay(self) -> Finding | None:
        """Try everything that was kept."""
        for given in list(self._pool):
            if (found := self._case(given)) is not None:
                return found
        return None

    def run(self, until: float) -> Finding | None:
        """Mutate until an instant of ``time.monotonic``."""
        while time.monotonic() < until:
            given = mutated(self._chance, self._pool)
            if (found := self._case(given)) is not None:
                return found
        return None

    def _case(self, given: bytes) -> Finding | None:
        self.cases += 1
        signal.setitimer(signal.ITIMER_REAL, CASE_S_MAX)
        try:
            answer = self._target(given)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            told = "".join(traceback.format_exception(error)[-6:])
            return Finding(self.name, given, told)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if answer not in self.answers and len(self.answers) < ANSWERS_MAX:
            self.answers[answer] = given
            self._pool.append(given)
        return None


def corpus(name: str) -> list[bytes]:
    """What was kept of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]


def keep(name: str, given: bytes) -> Path:
    """Put an input into the corpus."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(given).hexdigest()[:16]}.bin"
    path.write_bytes(given)
    return path


def _alarm(_: int, __: FrameType | None) -> None:
    raise TimeoutError(f"no answer within {CASE_S_MAX} s")


def fuzz(
    seconds: float, seed: int, names: tuple[str, ...] = NAMES
) -> tuple[list[Fuzz], list[Finding]]:
    """Share the time among targets; what was run, and what was found."""
    signal.signal(signal.SIGALRM, _alarm)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it tells of each bad request
    makers: dict[str, Callable[[], list[bytes]]] = {
        "door": targets.seeds_of_door,
        "rules": targets.seeds_of_rules,
        "http": targets.seeds_of_http,
    }
    findings: list[Finding] = []
    with ExitStack() as stack:
        made: dict[str, targets.Target] = {"door": targets.door, "rules": targets.rules}
        if "http" in names:
            made["http"] = stack.enter_context(targets.http())
        runs = [Fuzz(name, made[name], makers[name](), seed) for name in names]
        for one in runs:
            found = one.replay() or one.run(time.monotonic() + seconds / len(runs))
            if found is not None:
                findings.append(found)
    return runs, findings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="put inputs with new answers away")
    parser.add_argument("--target", choices=NAMES, action="append")
    chosen = parser.parse_args(arguments)
    runs, findings = fuzz(chosen.seconds, chosen.seed, tuple(chosen.target or NAMES))
    for one in runs:
        print(f"{one.name}: {one.cases:,} cases, {len(one.answers)} answers (seed {chosen.seed})")
        if chosen.keep:
            small = [given for given in one.answers.values() if len(given) <= KEPT_BYTES_MAX]
            for given in small[: KEPT_MAX - len(corpus(one.name))]:
                keep(one.name, given)
    for found in findings:
        path = keep(found.target, found.given)
        print(f"{path}:\n{found.told}", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
