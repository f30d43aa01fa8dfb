"""Rates out of what is learnt across customers: abandoned plans, complaints, variants."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triggers.learned import PLAN, RULE, UNIT, VARIANT, Fact, View, variant_key

if TYPE_CHECKING:
    from triggers.book import Rule

#: Selections of a plan below which its rate says nothing, where the book does not say.
SELECTED_MIN = 20


@dataclass(frozen=True, slots=True)
class Pause:
    """A rule rests while more than ``permille`` of its offers, of at least ``offers_min``, were
    complained about."""

    permille: int
    offers_min: int = 50


def plan_abandonment(view: View, plan: str, at: int, selected_min: int = SELECTED_MIN) -> float:
    """The share of selections of ``plan`` that were left again, 0 to 1; 0 where few chose it."""
    selected, left = view.counts(PLAN, plan, at) or (0, 0)
    return min(1.0, left / selected) if selected >= selected_min * UNIT else 0.0


def plan_selections(view: View, plan: str, at: int) -> int:
    """How often ``plan`` was selected lately, rounded down."""
    return (view.counts(PLAN, plan, at) or (0, 0))[0] // UNIT


def paused(view: View, rule: str, pause: Pause, at: int) -> bool:
    """Whether complaints make a rule rest at an instant."""
    offered, complained = view.counts(RULE, rule, at) or (0, 0)
    return offered >= pause.offers_min * UNIT and complained * 1000 > pause.permille * offered


def resting(rules: "Iterable[Rule]", view: View, at: int) -> list[str]:
    """The ids of the rules that complaints make rest at an instant, in the rules' order."""
    return [r.id for r in rules if r.pause is not None and paused(view, r.id, r.pause, at)]


def variant_counts(view: View, rule: str, variant: str, at: int) -> tuple[int, int]:
    """How often a rule's variant was offered and accepted lately, each rounded down.

    Deterministic for a given view; (0, 0) where nothing was counted.
    """
    offered, accepted = view.counts(VARIANT, variant_key(rule, variant), at) or (0, 0)
    return offered // UNIT, accepted // UNIT


def variant_offered(rule: str, variant: str, at: int) -> Fact:
    """What is to be counted when a variant is offered (``Step.learnt``)."""
    return Fact(VARIANT, variant_key(rule, variant), at, (1, 0))


def variant_accepted(rule: str, variant: str, at: int) -> Fact:
    """What is to be counted when an offer of a variant is accepted for the first time."""
    return Fact(VARIANT, variant_key(rule, variant), at, (0, 1))
