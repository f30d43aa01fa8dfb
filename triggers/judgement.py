"""One rule's answer to one trigger: the occurrence, its gates, arbitration, and the offer."""

from dataclasses import dataclass, field
from typing import Any

from triggers.before import Before
from triggers.book import Rule
from triggers.catalog import UNKNOWN
from triggers.context import Context
from triggers.decisions import Decision, Offer, OfferItem, Trigger, Withdrawal
from triggers.gates import (
    Case,
    anchor_of,
    first_gate,
    frequency_capped,
    mark_key,
    quiet_hours_of,
    still_counted,
)
from triggers.ids import offer_id
from triggers.learned import RULE, Fact
from triggers.selection import offer_price, pick_items
from triggers.state import MAX_MARKS, MAX_OFFERS, Made, Timer
from triggers.timers import put, shed


@dataclass(slots=True)
class Step:
    """What came of one step or of several.

    ``fired`` holds the due times of timers that fired; ``notes`` counts what makes no decision, by
    name; ``conflict`` says that the last event was refused since its id stood for another body;
    ``learnt`` is what counts across customers.
    """

    decisions: list[Decision] = field(default_factory=list)
    offers: list[Offer | Withdrawal] = field(default_factory=list)
    fired: list[int] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    conflict: bool = False
    learnt: list[Fact] = field(default_factory=list)

    def note(self, name: str, count: int = 1) -> None:
        """Count something that happened without a decision."""
        self.notes[name] = self.notes.get(name, 0) + count


@dataclass(slots=True)
class Occurrence:
    """A rule whose trigger and condition held, with all that its decision needs."""

    rule: Rule
    case: Case
    trigger: Trigger
    offer_id: str


def occur(
    rule: Rule, ctx: Context, before: Before, trigger: Trigger, about: str, origin_ms: int
) -> Occurrence:
    """Gather what the decision of ``rule`` needs; ``origin_ms`` is when it should have answered."""
    case = Case(rule, ctx, about, origin_ms, before, pick_items(rule, ctx, before))
    number = offer_id(rule.id, ctx.customer.id, trigger.source, trigger.event_id)
    return Occurrence(rule, case, trigger, number)


def arbitrate(passed: list[Occurrence], ctx: Context, out: Step) -> None:
    """Offer in order of priority; a placement takes one, and limits are looked at again."""
    passed.sort(key=lambda occurrence: (-occurrence.rule.priority, occurrence.rule.id))
    taken: set[str] = set()
    for place, occurrence in enumerate(passed):
        placement = occurrence.rule.placement
        if placement is not None and placement in taken:
            out.decisions.append(decide(occurrence, ctx, "outranked", "outranked"))
        elif place and frequency_capped(occurrence.rule, ctx):
            out.decisions.append(decide(occurrence, ctx, "suppressed", "frequency_cap"))
        else:
            if placement is not None:
                taken.add(placement)
            make_offer(occurrence, ctx, out)


def clear(occurrence: Occurrence, ctx: Context, out: Step, put_off_before: bool = False) -> bool:
    """Whether no gate holds; otherwise the decision is written, or put off by quiet hours once."""
    gate = first_gate(occurrence.case)
    if gate is None:
        return True
    quiet = quiet_hours_of(occurrence.case) if gate == "quiet_hours" else None
    if quiet is None or quiet.then != "defer" or put_off_before:
        out.decisions.append(decide(occurrence, ctx, "suppressed", gate))
        return False
    trigger, case = occurrence.trigger, occurrence.case
    decision = decide(occurrence, ctx, "deferred", gate)
    decision.until = until = quiet.window.end_after(ctx.at, case.before.zone)
    out.decisions.append(decision)
    timer = Timer(
        occurrence.rule.id,
        case.about,
        until,
        trigger.source,
        trigger.event_id,
        trigger.event_type,
        case.origin_ms,
        deferred=True,
    )
    put(ctx.customer, timer, ctx.event)
    dropped = shed(ctx.customer)
    if dropped:
        out.note("timer_dropped", dropped)
    return False


def decide(occurrence: Occurrence, ctx: Context, outcome: str, reason: str | None) -> Decision:
    """The decision record of an occurrence."""
    rule = occurrence.rule
    return Decision(
        ctx.at,
        ctx.customer.id,
        rule.id,
        ctx.book.digest,
        rule.kind,
        occurrence.trigger,
        outcome,
        reason,
        occurrence.offer_id,
        rule.priority,
        ctx.catalog.version,
    )


def make_offer(occurrence: Occurrence, ctx: Context, out: Step) -> None:
    """Record the offer in the customer's document and answer it with its decision."""
    rule, case, at = occurrence.rule, occurrence.case, ctx.at
    items = [
        OfferItem(
            candidate.product.sku,
            candidate.quantity,
            candidate.product.price,
            offer_price(rule.price, candidate.product.price),
            candidate.product.currency or ctx.book.currency,
        )
        for candidate in case.picked.items
    ]
    ctx.item = case.picked.items[0].product if case.picked.items else UNKNOWN
    offer = Offer(
        at,
        ctx.customer.id,
        occurrence.offer_id,
        rule.kind,
        rule.id,
        ctx.book.digest,
        occurrence.trigger,
        rule.channel,
        rule.placement,
        case.about,
        items,
        at + rule.valid_for_ms,
        {language: text.render(ctx) for language, text in rule.reason.items()},
        _evidence(occurrence, ctx),
        rule.skip_after_ms,
        _message(rule, ctx),
        dict(rule.terms) if rule.terms is not None else None,
    )
    _record(occurrence, offer, ctx, out)
    out.offers.append(offer)
    out.decisions.append(decide(occurrence, ctx, "offered", None))
    if rule.pause is not None:
        out.learnt.append(Fact(RULE, rule.id, at, (1, 0)))


def _message(rule: Rule, ctx: Context) -> dict[str, Any]:
    return {
        name: {language: text.render(ctx) for language, text in texts.items()}
        for name, texts in rule.message.items()
    }


def _evidence(occurrence: Occurrence, ctx: Context) -> list[dict[str, Any]]:
    trigger = occurrence.trigger
    found: list[dict[str, Any]] = [
        {"fact": trigger.event_type, "value": occurrence.case.about, "event_id": trigger.event_id}
    ]
    found += [
        {"fact": f"{occurrence.rule.pick.kind}.weight", "value": candidate.weight}
        for candidate in occurrence.case.picked.items
    ]
    return found


def _record(occurrence: Occurrence, offer: Offer, ctx: Context, out: Step) -> None:
    rule, at = occurrence.rule, ctx.at
    offers = ctx.customer.offers
    price = sum(item.quantity * item.offer_price for item in offer.items)
    offers.made.append(
        Made(
            at,
            offer.offer_id,
            rule.id,
            rule.kind,
            rule.channel,
            rule.placement,
            offer.about,
            offer.valid_until,
            price,
            occurrence.trigger.event_type,
        )
    )
    if len(offers.made) > MAX_OFFERS:
        _forget_one(offers.made, ctx)
    if rule.cooldown_ms:
        offers.last[rule.id] = at
        for stale in [known for known in offers.last if known not in ctx.book.rules]:
            del offers.last[stale]
    if rule.once_per != "always":
        key = mark_key(rule, offer.about, anchor_of(rule, ctx))
        marks = ctx.customer.marks
        marks.pop(key, None)
        marks[key] = at
        if len(marks) > MAX_MARKS:
            del marks[next(iter(marks))]
            out.note("mark_dropped")
        ctx.customer.touch("marks")
    ctx.customer.touch("offers")


def _forget_one(made: list[Made], ctx: Context) -> None:
    """Drop the oldest offer that no limit counts any more; the oldest of all where each is."""
    for index, offer in enumerate(made):
        if not still_counted(offer, ctx):
            del made[index]
            return
    del made[0]
