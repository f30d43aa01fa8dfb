"""What customers answer: each offer made ends in exactly one outcome, and moves the state once.

An offer is open until it is accepted, declined, complained about, withdrawn, or runs out
(``expired``). The first of these is final. What comes later:

- the same answer again changes nothing, and rules do not answer twice;
- another answer contradicts: it is counted, not applied, and no rule answers it but to a complaint;
- an answer to an offer that ran out leaves it expired and counts nowhere; what the customer said
  still holds (the reason, a cool-off), and rules answer it once.

An offer that the document does not know (any more) moves the counts, and rules answer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triggers.book import CoolOff, Rule
from triggers.customer import Customer
from triggers.rings import Made
from triggers.state import MAX_REFUSED

if TYPE_CHECKING:
    from triggers.context import Context

ACCEPTED, DECLINED, COMPLAINED = "accepted", "declined", "complained"
WITHDRAWN, EXPIRED = "withdrawn", "expired"
SHOWN, CLICKED = 1, 2

Note = Callable[[str], None]
#: Gets the customer after the event's facts, the payload, the decision time and where to count;
#: answers whether rules may answer the event.
Hearer = Callable[[Customer, Any, int, Note], bool]


def find(customer: Customer, offer_id: str) -> Made | None:
    """The offer of that id among those remembered; what was only held back is none."""
    for made in reversed(customer.offers.made):
        if made.offer_id == offer_id:
            return None if made.ghost else made
    return None


def close(customer: Customer, made: Made, fate: str, at: int) -> None:
    """End an open offer."""
    made.end(fate, at)
    customer.touch("offers")


def expire(customer: Customer, at: int, note: Note) -> None:
    """End the offers that have run out by ``at``, at the instants at which they did."""
    for made in customer.offers.made:
        if not made.fate and made.until < at:
            close(customer, made, EXPIRED, made.until)
            note("offer_expired")


def _looked(step: int) -> Hearer:
    def hear(customer: Customer, data: Any, at: int, note: Note) -> bool:
        made = find(customer, data.offer_id)
        if made is None:
            note("feedback_unknown")
        elif made.seen < step:
            made.see(step)
            customer.touch("offers")
        return True

    return hear


def _answered(fate: str) -> Hearer:
    def hear(customer: Customer, data: Any, at: int, note: Note) -> bool:
        expire(customer, at, note)
        made = find(customer, data.offer_id)
        if made is None:
            note("feedback_unknown")
            _move(customer, None, fate, data.reason, at)
            return True
        if made.open:
            close(customer, made, fate, at)
            _move(customer, made, fate, data.reason, at)
        elif made.fate not in (fate, EXPIRED):
            note("feedback_contradicts")
            return fate == COMPLAINED
        elif made.fate == EXPIRED and not made.answered:
            note("feedback_late")
            if fate == DECLINED:
                _say(customer, made, data.reason, at)
        elif made.answered:
            note("feedback_repeated")
            return False
        made.answer()
        customer.touch("offers")
        return True

    return hear


def _bought(customer: Customer, data: Any, at: int, note: Note) -> bool:
    """An order that names offers accepts them."""
    if data.offer_ids:
        expire(customer, at, note)
        for offer_id in dict.fromkeys(data.offer_ids):
            made = find(customer, offer_id)
            if made is None:
                note("feedback_unknown")
            elif made.open:
                close(customer, made, ACCEPTED, at)
                _move(customer, made, ACCEPTED, None, at)
            elif made.fate != ACCEPTED:
                note("feedback_late" if made.fate == EXPIRED else "feedback_contradicts")
    return True


def _move(customer: Customer, made: Made | None, fate: str, reason: str | None, at: int) -> None:
    """Let a first answer move the customer's facts."""
    now = customer.now
    if fate == ACCEPTED:
        now.accepted += 1
        now.accepted_at = at
        if made is not None and made.kind == "down_sell":
            now.entered_by_downsell = True
            now.downsell_at = at
    elif fate == DECLINED:
        now.declined += 1
        _say(customer, made, reason, at)


def _say(customer: Customer, made: Made | None, reason: str | None, at: int) -> None:
    """Remember why the customer said no, for conditions and for cool-offs."""
    customer.now.last_decline_reason = reason or ""
    if not reason:
        return
    refused = dict(customer.offers.refused)
    keys = [refused_key(reason, "all", "")]
    if made is not None:
        made.say_why(reason)
        keys.append(refused_key(reason, "rule", made.rule))
        if made.placement is not None:
            keys.append(refused_key(reason, "placement", made.placement))
    for key in keys:
        refused.pop(key, None)
        refused[key] = at
    while len(refused) > MAX_REFUSED:
        del refused[next(iter(refused))]
        customer.lose("refusals")
    customer.offers.refused = refused
    customer.touch("offers")


def refused_key(reason: str, over: str, name: str) -> str:
    """Under which key a refusal lies: its reason, and the rule, placement or all it is about."""
    return f"{reason}\0{over}\0{name}"


#: Event type -> what it says about offers. Looked up once an event.
HEARD: dict[str, Hearer] = {
    "offer.shown": _looked(SHOWN),
    "offer.clicked": _looked(CLICKED),
    "offer.accepted": _answered(ACCEPTED),
    "offer.declined": _answered(DECLINED),
    "offer.complained": _answered(COMPLAINED),
    "purchase.completed": _bought,
}


def cools_off(rule: Rule, ctx: "Context") -> bool:
    """Whether the customer said no lately, for a reason after which the rule keeps quiet."""
    refused = ctx.customer.offers.refused
    if not refused:
        return False
    return any(_cools(cool, rule, refused, ctx.at) for cool in rule.cool_off)


def _cools(cool: CoolOff, rule: Rule, refused: dict[str, int], at: int) -> bool:
    over = cool.over
    if over == "placement" and rule.placement is None:
        over = "rule"
    name = {"rule": rule.id, "placement": rule.placement or "", "all": ""}[over]
    for reason in cool.reasons:
        said_at = refused.get(refused_key(reason, over, name))
        if said_at is not None and at - said_at < cool.ms:
            return True
    return False


def service_due(ctx: "Context") -> bool:
    """Whether a follow-up that comes before any sale is still pending."""
    first = ctx.book.sales_wait
    return bool(first) and any(timer.rule in first for timer in ctx.customer.now.timers)


class FirstRefusal:
    """The line of every rule that answers ``offer.declined``: one step, never a chain of them."""

    source = "the declined offer was no answer to a refusal itself"
    facts: tuple[Any, ...] = ()
    errors = 0

    def holds(self, ctx: "Context") -> bool:
        """Whether the declined offer came of something else than a refusal."""
        if ctx.type != "offer.declined":
            return True
        made = find(ctx.customer, ctx.event.offer_id)
        return made is None or made.event_type != "offer.declined"


__all__ = [
    "ACCEPTED",
    "COMPLAINED",
    "DECLINED",
    "EXPIRED",
    "HEARD",
    "WITHDRAWN",
    "FirstRefusal",
    "close",
    "cools_off",
    "expire",
    "find",
    "refused_key",
    "service_due",
]
