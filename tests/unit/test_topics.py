"""Which topics a worker wants, and what stands against a start."""

from __future__ import annotations

from streams.settings import load_settings
from streams.topics import (
    EVIDENCE,
    LEARNED,
    REPLAYS,
    plan_topics,
    right_faults,
    rights,
    topic_faults,
)
from triggers.events import CATALOG, TOPICS


def counts() -> dict[str, int]:
    return {plan.name: plan.partitions for plan in plan_topics(None, 4, history=False)}


def test_the_topics_that_are_made_are_those_that_are_wanted() -> None:
    assert topic_faults(load_settings(), None, counts()) == []
    assert counts()[CATALOG] == counts()[LEARNED] == 1
    assert {counts()[topic] for topic in TOPICS} == {4}


def test_what_is_between_partitions_is_compacted_and_has_one_partition() -> None:
    for history in (False, True):
        (plan,) = (p for p in plan_topics(None, 4, history) if p.name == LEARNED)
        assert plan.configs["cleanup.policy"] == "compact"
    faults = topic_faults(load_settings(), None, {**counts(), LEARNED: 4})
    assert faults == ["topic learned has 4 partitions and must have 1"]
    without = {name: count for name, count in counts().items() if name != LEARNED}
    assert topic_faults(load_settings(), None, without) == ["topic learned is missing"]


def test_p9_the_evidence_of_consent_is_kept_three_years_and_a_month() -> None:
    plans = {plan.name: plan for plan in plan_topics(None, 4, history=False)}
    evidence, replays = plans[EVIDENCE], plans[REPLAYS]
    assert evidence.configs == {"retention.ms": "97286400000"}  # and so deleted, not compacted
    assert replays.configs == {"cleanup.policy": "compact"}
    assert evidence.partitions == replays.partitions == 1


def test_a_right_that_is_missing_is_named_and_a_broker_that_tells_none_is_believed() -> None:
    settings = load_settings(prefix="x-")
    everything = {f"x-{name}": wanted for name, wanted in rights(None).items()}
    assert everything.keys() == {f"x-{name}" for name in counts() if name != REPLAYS}
    assert right_faults(settings, None, everything) == []
    assert right_faults(settings, None, dict.fromkeys(everything, ())) == []
    assert right_faults(settings, None, dict.fromkeys(everything, ("ALL",))) == []
    faults = right_faults(settings, None, {**everything, "x-learned": ("DESCRIBE", "READ")})
    assert faults == ["topic x-learned: this user may not Write"]
