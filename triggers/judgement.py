"""One rule's answer to one trigger: the occurrence, its gates, arbitration, and the offer."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from triggers.before import Before
from triggers.book import Rule
from triggers.context import Context
from triggers.decisions import Decision, Offer, OfferItem, Trigger, Withdrawal
from triggers.extras import message_of, perks_at, preselected, shown
from triggers.factsused import facts_of
from triggers.feedback import expire
from triggers.gates import (
    Case,
    anchor_of,
    first_counting_gate,
    first_gate,
    mark_key,
    quiet_hours_of,
    still_counted,
)
from triggers.holdout import held_out
from triggers.ids import offer_id
from triggers.learned import RULE, Fact
from triggers.present import Timer
from triggers.rates import variant_offered
from triggers.rings import Made
from triggers.selection import pick_items, price_of
from triggers.sizes import held_within
from triggers.state import MAX_MARKS, MAX_OFFERS
from triggers.timers import put, shed
from triggers.variants import variant_of


class Gone(NamedTuple):
    """A customer who was erased or objected at ``at`` (ms), or who returned with a new consent.

    ``why`` is ``erased``, ``objected`` or ``returned``.
    """

    customer: str
    why: str
    at: int


@dataclass(slots=True)
class Step:
    """What came of one step or of several.

    ``fired`` holds the due times of timers that fired; ``notes`` counts what makes no decision, by
    name; ``conflict`` says that the last event was refused since its id stood for another body;
    ``learnt`` is what counts across customers; ``gone`` who left or came back.
    """

    decisions: list[Decision] = field(default_factory=list)
    offers: list[Offer | Withdrawal] = field(default_factory=list)
    fired: list[int] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    conflict: bool = False
    learnt: list[Fact] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)

    def note(self, name: str, count: int = 1) -> None:
        """Count something that happened without a decision."""
        self.notes[name] = self.notes.get(name, 0) + count


class Occurrence:
    """A rule whose trigger and condition held, with all that its decision needs."""

    __slots__ = ("case", "offer_id", "rule", "trigger")

    def __init__(self, rule: Rule, case: Case, trigger: Trigger, number: str) -> None:
        self.rule = rule
        self.case = case
        self.trigger = trigger
        self.offer_id = number


def occur(
    rule: Rule, ctx: Context, before: Before, trigger: Trigger, about: str, origin_ms: int
) -> Occurrence:
    """Gather what the decision of ``rule`` needs; ``origin_ms`` is when it should have answered."""
    if rule.variants:
        rule = variant_of(rule, ctx, trigger)
    case = Case(rule, ctx, about, origin_ms, before, pick_items(rule, ctx, before))
    number = offer_id(rule.id, ctx.customer.id, trigger.source, trigger.event_id)
    return Occurrence(rule, case, trigger, number)


def arbitrate(passed: list[Occurrence], ctx: Context, out: Step) -> None:
    """Offer in order of priority; a placement takes one, and what counts is looked at again.

    Who is in a holdout leaves the competition: a rule whose own holdout it is gives its place to
    the next. Of those held out only what would have won its placement counts from then on.
    """
    passed.sort(key=lambda occurrence: (-occurrence.rule.priority, occurrence.rule.id))
    taken: set[str] = set()
    would_take: set[str] = set()
    for place, occurrence in enumerate(passed):
        placement = occurrence.rule.placement
        held = held_out(occurrence.rule, ctx)
        free = placement is None or not (placement in taken or (held and placement in would_take))
        if not free and not held:
            out.decisions.append(decide(occurrence, ctx, "outranked", "outranked"))
            continue
        code = first_counting_gate(occurrence.case) if place and free else None
        if code is not None:
            out.decisions.append(decide(occurrence, ctx, "suppressed", code))
            continue
        if placement is not None:
            (would_take if held else taken).add(placement)
        if held:
            keep_back(occurrence, ctx, out, counts=free)
        else:
            make_offer(occurrence, ctx, out)


def answer(occurrence: Occurrence, ctx: Context, out: Step) -> None:
    """Make the offer of an occurrence that stands alone, or keep it back for the holdout."""
    if held_out(occurrence.rule, ctx):
        keep_back(occurrence, ctx, out, counts=True)
    else:
        make_offer(occurrence, ctx, out)


def keep_back(occurrence: Occurrence, ctx: Context, out: Step, counts: bool) -> None:
    """Record what the holdout was not offered; ``counts``: toward its own cooldowns and limits."""
    items = _items(occurrence, ctx)
    decision = decide(occurrence, ctx, "held_out", "held_out")
    decision.would_have = {
        "channel": occurrence.rule.channel,
        "placement": occurrence.rule.placement,
        "items": items,
    }
    if counts:
        _record(occurrence, items, ctx, out)
    out.decisions.append(decision)


def clear(occurrence: Occurrence, ctx: Context, out: Step, put_off_before: bool = False) -> bool:
    """Whether no gate holds; otherwise the decision is written, or put off by quiet hours once."""
    for note in occurrence.case.picked.notes:
        out.note(note)
    gate = first_gate(occurrence.case)
    if gate is None:
        # Its event came before the memory of repeats reaches back to: the same id would get
        # another body.
        known = occurrence.offer_id in [made.offer_id for made in ctx.customer.offers.made]
        if known:
            out.note("offer_repeated")
        return not known
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
    items = _items(occurrence, ctx)
    ctx.item = case.picked.first
    perks = perks_at(rule.extras, ctx, at + rule.valid_for_ms)
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
        message_of(rule, case.picked, ctx),
        dict(rule.terms) if rule.terms is not None else None,
        perks,
        preselected(rule.extras, case.picked, rule.kind, ctx),
        rule.variant,
    )
    _record(occurrence, items, ctx, out, perks)
    out.offers.append(offer)
    out.decisions.append(decide(occurrence, ctx, "offered", None))
    if rule.pause is not None:
        out.learnt.append(Fact(RULE, rule.id, at, (1, 0)))
    if rule.learns:
        out.learnt.append(variant_offered(rule.id, rule.variant, at))


def _items(occurrence: Occurrence, ctx: Context) -> list[OfferItem]:
    rule = occurrence.rule
    return [
        OfferItem(
            candidate.product.sku,
            candidate.quantity,
            candidate.product.price,
            price_of(candidate, rule.price),
            candidate.product.currency or ctx.book.currency,
        )
        for candidate in occurrence.case.picked.items
    ]


def _evidence(occurrence: Occurrence, ctx: Context) -> list[dict[str, Any]]:
    trigger = occurrence.trigger
    found: list[dict[str, Any]] = [
        {"fact": trigger.event_type, "value": occurrence.case.about, "event_id": trigger.event_id}
    ]
    found += [
        {"fact": f"{occurrence.rule.pick.kind}.weight", "value": candidate.weight}
        for candidate in occurrence.case.picked.items
    ]
    used = facts_of(occurrence.rule.when, ctx)
    found += [{"fact": fact, "value": value} for fact, value in used.items()]
    return found + (shown(occurrence.rule.extras, ctx) or [])


def _record(
    occurrence: Occurrence,
    items: list[OfferItem],
    ctx: Context,
    out: Step,
    perks: list[tuple[str, int]] | None = None,
) -> None:
    """Remember the offer; one without ``perks`` is a ghost, which a holdout kept back."""
    rule, at, about = occurrence.rule, ctx.at, occurrence.case.about
    offers = ctx.customer.offers
    expire(ctx.customer, at, out.note)
    price = held_within(sum(item.quantity * item.offer_price for item in items))
    offers.made.append(
        Made(
            at,
            occurrence.offer_id,
            rule.id,
            rule.kind,
            rule.channel,
            rule.placement,
            about,
            at + rule.valid_for_ms,
            price,
            occurrence.trigger.event_type,
            perks is None,
            perks or [],
            [item.sku for item in items],
            rule.variant,
        )
    )
    if len(offers.made) > MAX_OFFERS:
        _forget_one(offers.made, ctx)
        ctx.customer.lose("offers")
    if rule.cooldown_ms:
        offers.last[rule.id] = at
        for stale in [known for known in offers.last if known not in ctx.book.rules]:
            del offers.last[stale]
    if rule.once_per != "always":
        key = mark_key(rule, about, anchor_of(rule, ctx))
        marks = ctx.customer.marks
        marks.pop(key, None)
        marks[key] = at
        if len(marks) > MAX_MARKS:
            del marks[next(iter(marks))]
            out.note("mark_dropped")
            ctx.customer.lose("marks")
        ctx.customer.touch("marks")
    ctx.customer.touch("offers")


def _forget_one(made: list[Made], ctx: Context) -> None:
    """Drop the oldest offer that no limit counts any more; the oldest of all where each is."""
    for index, offer in enumerate(made):
        if not still_counted(offer, ctx):
            del made[index]
            return
    del made[0]
