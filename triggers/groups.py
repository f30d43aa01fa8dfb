"""Some measures for groups of customers that share the value of an attribute."""

from __future__ import annotations

from triggers.measures import MEASURES, Value
from triggers.shopper import Shopper
from triggers.shoppers import Shoppers

#: Measures of a group of customers, by name.
GROUP_MEASURES = ("orders", "revenue", "aov", "tenure_days", "ltv", "repeat_rate")
GROUPS_MAX = 50
OTHERS = "(others)"
NOT_TOLD = "(not told)"


def by_group(shoppers: Shoppers, attribute: str) -> dict[str, dict[str, Value]]:
    """Some measures for customers with equal values of an attribute, and how many they are.

    At most ``GROUPS_MAX`` groups, the largest; the others are one.
    """
    members: dict[str, list[tuple[str, Shopper]]] = {}
    for customer, one in shoppers.known.items():
        given = one.attributes.get(attribute)
        members.setdefault(NOT_TOLD if given is None else str(given), []).append((customer, one))
    ranked = sorted(members, key=lambda group: (-len(members[group]), group))
    for group in ranked[GROUPS_MAX:]:
        members.setdefault(OTHERS, []).extend(members.pop(group))
    wanted = [measure for measure in MEASURES if measure.name in GROUP_MEASURES]
    found: dict[str, dict[str, Value]] = {}
    for group in sorted(members):
        part = Shoppers(shoppers.window_ms)
        part.known, part.end_ms = dict(members[group]), shoppers.end_ms
        found[group] = {"customers": len(part.known)}
        found[group] |= {measure.name: measure.function(part) for measure in wanted}
    return found
