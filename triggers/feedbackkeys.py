"""`cool_off:` and `sales_wait:` of a rule book, from their models to what the engine reads."""

from collections.abc import Callable
from dataclasses import replace

from triggers.book import SALES, CoolOff, Mode, Rule
from triggers.durations import parse_duration
from triggers.feedback import FirstRefusal
from triggers.rules import CoolOffModel, RuleModel
from triggers.salesgates import Hesitated
from triggers.shapes import Path

Add = Callable[[Path, str], None]


def _cool_off(model: CoolOffModel) -> CoolOff:
    return CoolOff(parse_duration(model.for_).ms, tuple(sorted(set(model.after_))), model.over)


def cool_off_of(
    model: RuleModel, book: CoolOffModel | None, path: Path, add: Add
) -> tuple[CoolOff, ...]:
    """A rule's cool-offs: its own and, where it sells, the book's; both hold."""
    found = []
    if model.cool_off is not None:
        if model.cool_off.over == "placement" and model.placement is None:
            message = "the rule has no placement: write `over: rule`, or name its `placement`"
            add((*path, "cool_off", "over"), message)
        found.append(_cool_off(model.cool_off))
    if book is not None and model.kind in SALES:
        found.append(_cool_off(book))
    return tuple(found)


def sales_wait_of(model: RuleModel, path: Path, add: Add) -> bool:
    """Whether sales wait for the rule's pending timer: for a follow-up that has one."""
    if not model.sales_wait:
        return False
    if model.kind != "follow_up":
        add((*path, "sales_wait"), f"belongs to a follow_up, and this is a {model.kind}")
    if not (model.after or model.after_silence or model.before):
        message = "a rule that decides at once keeps nobody waiting: give it an `after`"
        add((*path, "sales_wait"), message)
    return True


def with_own_lines(rule: Rule) -> Rule:
    """The rule with the conditions that its kind and its events bring along.

    A ``down_sell`` answers hesitation alone; what answers declined offers leaves those alone that
    were an answer to a decline themselves.
    """
    if rule.kind == "down_sell":
        rule = replace(rule, when=(Hesitated(), *rule.when))
    if "offer.declined" not in rule.on:
        return rule
    if rule.mode is Mode.NOW:
        return replace(rule, when=(FirstRefusal(), *rule.when))
    return replace(rule, arm_when=(FirstRefusal(), *rule.arm_when))
