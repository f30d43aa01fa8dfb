"""The reasons not to offer, in the order in which they name a decision.

A gate is a function of one :class:`Case`; it answers whether it holds. Gates look at the state
before the event. ``erased`` and ``objected`` stand in the engine, since such customers get no
decision at all; ``outranked`` belongs to arbitration.
"""

from collections.abc import Callable, Mapping

from triggers import salesgates
from triggers.before import Before
from triggers.book import SALES, Limit, QuietHours, Rule
from triggers.context import Context
from triggers.durations import instant_of
from triggers.feedback import cools_off, service_due
from triggers.rings import Made
from triggers.selection import Picked


class Case:
    """One rule's would-be offer: the context, the customer before the event, the picked items.

    ``origin_ms`` is when the rule should have answered first; ``about`` what it is about.
    """

    __slots__ = ("about", "before", "ctx", "origin_ms", "picked", "rule")

    def __init__(
        self, rule: Rule, ctx: Context, about: str, origin_ms: int, before: Before, picked: Picked
    ) -> None:
        self.rule = rule
        self.ctx = ctx
        self.about = about
        self.origin_ms = origin_ms
        self.before = before
        self.picked = picked


def consented(consents: Mapping[str, bool], channel: str) -> bool:
    """Whether these consents cover ``channel``: its own word, else that of ``*``."""
    return consents.get(channel, consents.get("*", False))


def counts(limit: Limit, made: Made) -> bool:
    """Whether an offer made counts toward a limit."""
    return (
        made.kind in limit.kinds
        and (limit.channel is None or limit.channel == made.channel)
        and (limit.placement is None or limit.placement == made.placement)
    )


def binds_limit(limit: Limit, rule: Rule) -> bool:
    """Whether a limit of the book holds for a rule."""
    return (
        rule.kind in limit.kinds
        and (limit.channel is None or limit.channel == rule.channel)
        and (limit.placement is None or limit.placement == rule.placement)
    )


def _full(made: list[Made], at: int, limit: Limit, rule_id: str = "") -> bool:
    """Whether ``limit.max`` offers lie in ``(at - window, at]``; ``made`` is oldest first.

    Those that the limit counts, or all of one rule where it is that rule's own limit.
    """
    if len(made) < limit.max:
        return False
    if not limit.max:
        return True
    found = 0
    since = at - limit.window_ms
    for offer in reversed(made):
        if offer.at <= since:
            return False
        if offer.rule == rule_id if rule_id else counts(limit, offer):
            found += 1
            if found >= limit.max:
                return True
    return False


def _no_consent(case: Case) -> bool:
    return not consented(case.before.consents, case.rule.channel)


def _blocked(code: str) -> Callable[[Case], bool]:
    def gate(case: Case) -> bool:
        return case.picked.blocked == code

    return gate


def mark_key(rule: Rule, about: str, anchor: str) -> str:
    """Under which key ``once_per`` of a rule remembers that it was used up."""
    if rule.once_per == "about":
        return f"{rule.id}\0{about}\0{anchor}"
    return f"{rule.id}\0"


def once_used(rule: Rule, ctx: Context, about: str) -> bool:
    """Whether ``once_per`` leaves nothing to offer."""
    if rule.once_per == "always":
        return False
    marks = ctx.customer.marks
    if not marks:
        return False
    at = marks.get(mark_key(rule, about, anchor_of(rule, ctx)))
    return at is not None and (not rule.once_per_ms or ctx.at - at < rule.once_per_ms)


def anchor_of(rule: Rule, ctx: Context) -> str:
    """The date that a ``before`` rule counts back from, in ms as text; ``""`` for other rules."""
    return "" if rule.before is None else str(instant_of(rule.before.date.get(ctx)) or "")


def _cooldown(case: Case) -> bool:
    rule, ctx = case.rule, case.ctx
    if rule.cooldown_ms:
        last = ctx.customer.offers.last.get(rule.id)
        if last is not None and ctx.at - last < rule.cooldown_ms:
            return True
    if rule.cool_off and cools_off(rule, ctx):
        return True
    if rule.kind in SALES and service_due(ctx):
        return True
    return once_used(rule, ctx, case.about)


def frequency_capped(rule: Rule, ctx: Context) -> bool:
    """Whether a limit of the book, or of the rule itself, leaves no room."""
    made, at = ctx.customer.offers.made, ctx.at
    for limit in ctx.book.limits:
        if binds_limit(limit, rule) and _full(made, at, limit):
            return True
    return any(_full(made, at, limit, rule.id) for limit in rule.limits)


def still_counted(made: Made, ctx: Context) -> bool:
    """Whether a limit may yet need to count this offer."""
    for limit in ctx.book.limits:
        if made.at > ctx.at - limit.window_ms and counts(limit, made):
            return True
    if salesgates.still_recalled(made, ctx):
        return True
    rule = ctx.book.rules.get(made.rule)
    own = rule.limits if rule is not None else ()
    return any(made.at > ctx.at - limit.window_ms for limit in own)


def _capped(case: Case) -> bool:
    return frequency_capped(case.rule, case.ctx)


def quiet_hours_of(case: Case) -> QuietHours | None:
    """The quiet hours in force for the rule's channel right now, or None."""
    quiet = case.rule.quiet_hours or case.ctx.book.quiet_hours
    if quiet is None or case.rule.channel not in quiet.channels:
        return None
    return quiet if quiet.window.holds(case.ctx.at, case.before.zone) else None


def _quiet(case: Case) -> bool:
    return quiet_hours_of(case) is not None


def _no_candidate(case: Case) -> bool:
    return case.picked.empty


def _stale(case: Case) -> bool:
    skip_after = case.rule.skip_after_ms
    return skip_after is not None and case.ctx.at - case.origin_ms > skip_after


#: Gate code -> test, in order; the first that holds names the decision.
GATES: dict[str, Callable[[Case], bool]] = {
    "no_consent": _no_consent,
    "ticket_open": salesgates.ticket_open,
    "already_owned": _blocked("already_owned"),
    "out_of_stock": _blocked("out_of_stock"),
    "irrelevant": salesgates.irrelevant,
    "value_not_realised": salesgates.value_not_realised,
    "price_ceiling": salesgates.price_ceiling,
    "downsell_too_soon": salesgates.downsell_too_soon,
    "cooldown": _cooldown,
    "frequency_cap": _capped,
    "fatigue": salesgates.fatigue,
    "quiet_hours": _quiet,
    "no_candidate": _no_candidate,
    "stale": _stale,
}
#: Which rules a gate binds, where that is not all of them.
_BINDS: dict[str, Callable[[Rule], bool]] = {
    "ticket_open": lambda rule: rule.kind in SALES,
    "already_owned": lambda rule: rule.kind in SALES,
    "out_of_stock": lambda rule: rule.kind in SALES,
    "irrelevant": lambda rule: rule.gate.purpose is not None,
    "value_not_realised": lambda rule: bool(rule.gate.value) or rule.gate.deployed is not None,
    "price_ceiling": lambda rule: rule.gate.ceiling is not None,
    "downsell_too_soon": lambda rule: rule.kind == "down_sell" and not rule.gate.framing_fit,
    "fatigue": lambda rule: bool(rule.gate.fatigue),
    "stale": lambda rule: rule.skip_after_ms is not None,
}
#: Gates that count offers: looked at again among the winners of one event.
_COUNTING = ("downsell_too_soon", "frequency_cap", "fatigue")


def binding(rule: Rule) -> tuple[tuple[str, Callable[[Case], bool]], ...]:
    """The gates that can bind ``rule``, in order: decided when a book is loaded."""
    return tuple(
        (code, holds) for code, holds in GATES.items() if code not in _BINDS or _BINDS[code](rule)
    )


def first_gate(case: Case) -> str | None:
    """The code of the first gate that holds, or None when the offer may go out."""
    for code, holds in case.rule.checks or binding(case.rule):
        if holds(case):
            return code
    return None


def first_counting_gate(case: Case) -> str | None:
    """The first gate that holds of those that count offers."""
    for code, holds in case.rule.checks or binding(case.rule):
        if code in _COUNTING and holds(case):
            return code
    return None
