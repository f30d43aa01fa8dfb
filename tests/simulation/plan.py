"""What goes wrong in a run, and when: drawn from the seed, and made smaller when it fails."""

from __future__ import annotations

import random
from typing import NamedTuple

from streams.failpoints import FAILPOINTS
from tests.simulation.shop import ACTIVE_S, BEGIN_MS

#: From here on nothing goes wrong any more, and everything must come to rest.
HEALED_S = ACTIVE_S + 0.5
WORKERS_MAX = 3


class Fault(NamedTuple):
    """One thing that goes wrong at a moment of the loop; ``KINDS`` says what the rest means."""

    at_s: float
    kind: str
    which: int = 0
    value: float = 0.0
    name: str = ""


#: kind -> what `which`, `value` and `name` say.
KINDS = {
    "kill": "worker; starts again after so many seconds",
    "stop": "worker; goes on after so many seconds",
    "kill_at": "at the nth passing of failpoint `name`; starts again after so many seconds",
    "stop_at": "at the nth passing of failpoint `name`; goes on after so many seconds",
    "restart": "worker, in order; starts again after so many seconds",
    "churn": "the group rebalances",
    "store_crash": "the store loses its last calls, so many, and is away for so many seconds",
    "store_old": "the store is replaced by one that lacks the last calls, so many",
    "refuse": "the store refuses with code `name` for so many seconds",
    "reply_lost": "so many per cent of the store's answers are lost for so many seconds",
    "broker": "broker; is away for so many seconds",
    "mute": "the brokers answer readers, but take no writes, for so many seconds",
    "produce": "so many per cent of writes go wrong in way `name`, for so many seconds",
    "clock": "worker's clock is off by so many ms",
}
#: Ten minutes forward and back, 400 days, and back to 1970.
JUMPS_MS = (600_000, -600_000, 400 * 86_400_000, -BEGIN_MS)
_PRODUCE = ("late", "error_after_write", "error_before_write", "partly", "forgotten")


def draw_plan(seed: int) -> tuple[int, list[Fault]]:
    """How many workers there are, and what goes wrong."""
    chance = random.Random(f"plan-{seed}")
    workers = chance.randint(1, WORKERS_MAX)
    faults = [_draw(chance, workers) for _ in range(chance.choice([0, 1, 2, 4, 6, 9, 14]))]
    return workers, sorted(faults)


def _draw(chance: random.Random, workers: int) -> Fault:
    at_s = 0.3 + (ACTIVE_S - 0.3) * chance.random()
    kind = chance.choice([*sorted(KINDS.keys() - {"mute"}), "stop", "stop"])
    which = chance.randrange(workers)
    short_s = chance.choice([0.05, 0.3, 0.8]) * (0.5 + chance.random())
    if kind == "stop":
        return Fault(at_s, kind, which, short_s + chance.choice([0, 1.2, 2.4]))
    if kind in ("kill_at", "stop_at"):
        name = chance.choice(sorted(FAILPOINTS))
        return Fault(0.0, kind, chance.randint(1, 40), short_s, name)
    if kind in ("store_crash", "store_old"):
        return Fault(at_s, kind, chance.choice([1, 2, 3, 5, 9, 20, 60]), short_s)
    if kind == "refuse":
        return Fault(at_s, kind, 0, short_s, chance.choice(["OOM", "READONLY", "MISCONF"]))
    if kind == "reply_lost":
        return Fault(at_s, kind, chance.choice([5, 20, 60]), short_s)
    if kind == "broker":
        return Fault(at_s, kind, chance.randrange(2), short_s * chance.choice([1, 3]))
    if kind == "produce":
        return Fault(at_s, kind, chance.choice([10, 40, 90]), short_s, chance.choice(_PRODUCE))
    if kind == "clock":
        # Ahead by less than the margin for it, behind by less than the door allows, or jumps.
        return Fault(at_s, kind, which, float(chance.choice([200, 100, -50, -50_000, *JUMPS_MS])))
    return Fault(at_s, kind, which, short_s)
