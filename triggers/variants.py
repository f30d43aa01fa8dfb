"""Which variant of a rule a customer gets: by fixed shares, or by what was accepted so far.

Chance is a digest, so a replay draws the same. With shares a customer keeps the variant of a rule;
with ``learn`` each decision draws anew (Thompson sampling): for each variant a number from the
Beta distribution of its acceptances, and the highest wins.

A Beta number with whole parameters a and b is the a-th smallest of a + b - 1 uniform ones, so all
of it is integer arithmetic, the same on every machine. Past ``UNIFORMS_MAX`` counts both parameters
are scaled down: the draws stay as wide as those of so many offers, and learning never ends.
"""

from hashlib import blake2b, shake_256
from struct import unpack
from typing import TYPE_CHECKING

from triggers.rates import variant_counts

if TYPE_CHECKING:
    from triggers.book import Rule
    from triggers.context import Context
    from triggers.decisions import Trigger

UNIFORMS_MAX = 1000
_WHOLE = 1 << 64


def variant_of(rule: "Rule", ctx: "Context", trigger: "Trigger") -> "Rule":
    """The variant of ``rule`` for this customer and, where it learns, for this decision."""
    if rule.learns:
        return _learnt(rule, ctx, trigger)
    seed = _framed("variant", rule.id, ctx.customer.id)
    number = int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")
    below = 0
    for permille, variant in rule.variants:
        below += permille
        if number * 1000 < below * _WHOLE:
            return variant
    return rule.variants[-1][1]


def _learnt(rule: "Rule", ctx: "Context", trigger: "Trigger") -> "Rule":
    best, most = rule.variants[0][1], -1
    for _, variant in rule.variants:
        offered, accepted = variant_counts(ctx.catalog.learned, rule.id, variant.variant, ctx.at)
        seed = _framed(
            "learn",
            rule.id,
            variant.variant,
            ctx.customer.id,
            trigger.source,
            trigger.event_id,
            str(trigger.due_ms),
        )
        number = beta(accepted + 1, max(0, offered - accepted) + 1, seed)
        if number > most:
            best, most = variant, number
    return best


def beta(a: int, b: int, seed: bytes) -> int:
    """A number of the Beta distribution with parameters ``a`` and ``b``, in units of 2^-64."""
    if a + b - 1 > UNIFORMS_MAX:
        scaled = min(max(1, a * (UNIFORMS_MAX + 1) // (a + b)), UNIFORMS_MAX)
        a, b = scaled, UNIFORMS_MAX + 1 - scaled
    count = a + b - 1
    uniforms: tuple[int, ...] = unpack(f">{count}Q", shake_256(seed).digest(8 * count))
    return sorted(uniforms)[a - 1]


def _framed(*parts: str) -> bytes:
    return "".join([f"{len(part)}:{part}" for part in parts]).encode()
