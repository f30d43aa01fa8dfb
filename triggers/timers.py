"""Arming and cancelling timers, and what "about the same thing" means.

A timer is data: its rule, what it is about, when it is due and which event armed it. One customer
has at most one timer for a rule and a thing, and at most ``MAX_TIMERS`` in all.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from triggers.book import Mode, Rule
from triggers.context import Context
from triggers.customer import Customer
from triggers.customtypes import NOTHING
from triggers.durations import instant_of
from triggers.events import CUSTOMER, EVENT_TYPES, Event, EventType
from triggers.gates import once_used
from triggers.present import Timer
from triggers.sizes import kept_payload
from triggers.state import MAX_BARS, MAX_TIMERS

_CHECKOUT = "checkout_id"
_CART = "cart_id"
#: A timer is set at most so far ahead: a date of a record may name the year 2099.
HORIZON_MS_MAX = 1_100 * 86_400_000
_SILENCE, _BEFORE = Mode.AFTER_SILENCE, Mode.BEFORE
_DECODE = {
    name: msgspec.json.Decoder(known.data).decode
    for name, known in EVENT_TYPES.items()
    if known.about != "subject"
}


def about_of(field: str, data: Any, customer: Customer) -> str:
    """The thing of kind ``field`` that an event is about; the customer where it does not say."""
    value = None if field == CUSTOMER else getattr(data, field, None)
    return str(value) if value else customer.id


def named_by(field: str, data: Any) -> set[str] | None:
    """The things of kind ``field`` that an event names; None when it lacks the field."""
    value = getattr(data, field, None)
    named = {str(value)} if value else set()
    if field == "plan":
        named.update(item.sku for item in getattr(data, "items", None) or ())
    return named or None


def same_thing(field: str, about: str, data: Any, customer: Customer) -> bool:
    """Whether an event speaks about ``about``; one that lacks the field speaks about all."""
    if field == CUSTOMER:
        return True
    named = named_by(field, data)
    cart_id = getattr(data, _CART, None) if field == _CHECKOUT else None
    if named is None and not cart_id:
        return True
    if named is not None and about in named:
        return True
    return bool(cart_id) and any(
        known.cart_id == cart_id for known in customer.now.checkouts if known.checkout_id == about
    )


def cancel(
    customer: Customer, rules: tuple[Rule, ...], data: Any, only_deferred: bool = False
) -> int:
    """Drop the timers of ``rules`` about what the event names; the number of dropped ones.

    ``only_deferred``: of those only decisions that quiet hours put off.
    """
    ids = {rule.id: rule for rule in rules}
    gone = []
    for timer in customer.now.timers:
        rule = ids.get(timer.rule)
        if rule is None or (only_deferred and not timer.deferred):
            continue
        if same_thing(rule.about_field(timer.event_type), timer.about, data, customer):
            gone.append(timer)
    for timer in gone:
        drop(customer, timer)
    return len(gone)


def drop(customer: Customer, timer: Timer) -> None:
    """Remove a pending timer and its event's payload."""
    customer.now.timers.remove(timer)
    del customer.armed.events[_key(timer)]
    customer.touch("now")
    customer.touch("armed")


def _key(timer: Timer) -> str:
    """Under which key a timer's payload lies; a decision put off has its own for each event."""
    key = f"{timer.rule}\0{timer.about}"
    return f"{key}\0{timer.source}\0{timer.event_id}" if timer.deferred else key


def bar(customer: Customer, event_type: str, fields: tuple[str, ...], data: Any, at: int) -> None:
    """Remember what an ``unless`` event was about, so that nothing about it is armed later.

    What is remembered does not depend on how many rules name the event.
    """
    keys = {
        _bar_key(event_type, field, about): None
        for field in fields
        for about in sorted(named_by(field, data) or ())
    }
    cart_id = getattr(data, _CART, None) if _CHECKOUT in fields else None
    if cart_id:
        keys[_bar_key(event_type, _CART, cart_id)] = None
    if not keys:
        return
    bars = customer.bars
    for key in keys:
        bars.pop(key, None)
        bars[key] = at
    while len(bars) > MAX_BARS:
        del bars[next(iter(bars))]
        customer.lose("bars")
    customer.touch("bars")


def _bar_key(event_type: str, field: str, about: str) -> str:
    return f"{event_type}\0{field}\0{about}"


def barred(customer: Customer, rule: Rule, event_type: str, data: Any, about: str) -> bool:
    """Whether an ``unless`` event has spoken about this thing already."""
    if not rule.unless:
        return False
    bars = customer.bars
    if not bars:
        return False
    field = rule.about_field(event_type)
    cart_id = getattr(data, _CART, None) if field == _CHECKOUT else None
    for ending in rule.unless:
        if _bar_key(ending, field, about) in bars:
            return True
        if cart_id and _bar_key(ending, _CART, cart_id) in bars:
            return True
    return False


def arm(rule: Rule, field: str, event: Event, ctx: Context) -> bool:
    """Let a timer rule answer an event of its ``on``; whether a timer was armed or moved.

    ``field`` says what the rule is about. ``after`` counts from its first event, ``after_silence``
    starts again with every one about the same thing, ``before`` follows the latest date.
    """
    customer = ctx.customer
    about = about_of(field, event.data, customer)
    pending = _pending(customer, rule.id, about)
    if pending is not None and rule.mode is not _BEFORE:
        return rule.mode is _SILENCE and _restart(pending, rule, event, ctx)
    due = due_of(rule, ctx) if _may_arm(rule, event, ctx, about) else None
    if pending is not None:
        drop(customer, pending)  # the date it counted back from is no longer the latest
    if due is None:
        return False
    timer = Timer(rule.id, about, due, event.source, event.id, event.type, due)
    put(customer, timer, event.data)
    return True


def _may_arm(rule: Rule, event: Event, ctx: Context, about: str) -> bool:
    if barred(ctx.customer, rule, event.type, event.data, about) or once_used(rule, ctx, about):
        return False
    return _meets(rule, ctx)


def _restart(pending: Timer, rule: Rule, event: Event, ctx: Context) -> bool:
    """Begin the silence anew: the most common case by far, so the timer moves in place (the part
    it lies in changes with every event anyway).

    An event that does not meet ``arm_when`` ends the silence too, but arms nothing itself.
    """
    customer = ctx.customer
    pending.due_ms = pending.origin_ms = due_of(rule, ctx) or pending.due_ms
    if _meets(rule, ctx):
        pending.source, pending.event_id, pending.event_type = event.source, event.id, event.type
        customer.part("armed").events[_key(pending)] = kept_payload(customer, event.data)
        customer.touch("armed")
    return True


def _meets(rule: Rule, ctx: Context) -> bool:
    for condition in rule.arm_when:  # noqa: SIM110 - a generator costs more than the conditions
        if not condition.holds(ctx):
            return False
    return True


def _pending(customer: Customer, rule_id: str, about: str) -> Timer | None:
    for timer in customer.now.timers:
        if timer.rule == rule_id and timer.about == about and not timer.deferred:
            return timer
    return None


def due_of(rule: Rule, ctx: Context) -> int | None:
    """When a timer that is armed now is due, in ms; None where it is not armed."""
    if rule.delay is not None and not rule.delay.days:
        return ctx.at + rule.delay.ms
    zone = ctx.customer.now.timezone or ctx.book.timezone
    if rule.before is None:
        return rule.delay.after(ctx.at, zone) if rule.delay is not None else None
    date = instant_of(rule.before.date.get(ctx))
    if date is None:
        return None
    due = rule.before.by.before(date, zone)
    if due > ctx.at + HORIZON_MS_MAX:
        ctx.customer.lose("horizon")  # the next event of the kind looks at the date again
        return None
    if due >= ctx.at:
        return due
    return ctx.at if rule.before.fire_if_past else None


def put(customer: Customer, timer: Timer, data: Any) -> None:
    """Set a timer that is not pending yet, with its event's payload.

    A decision that was put off keeps a timer of its own: each occurrence is answered.
    """
    customer.now.timers.append(timer)
    customer.armed.events[_key(timer)] = kept_payload(customer, data)
    customer.touch("now")
    customer.touch("armed")


def shed(customer: Customer) -> int:
    """Drop timers beyond ``MAX_TIMERS``, the last ones due first; how many."""
    timers = customer.now.timers
    surplus = len(timers) - MAX_TIMERS
    if surplus > 0:
        customer.lose("timers", surplus)
    for _ in range(surplus):
        drop(customer, max(timers, key=_order))
    return max(0, surplus)


def _order(timer: Timer) -> tuple[int, str, str]:
    return timer.due_ms, timer.rule, timer.about


def armed_by(customer: Customer, timer: Timer, custom: Mapping[str, EventType]) -> Any:
    """The payload of the event that armed a pending timer; ``custom`` as in :func:`take_due`."""
    data = customer.armed.events[_key(timer)]
    return _decoded(timer.event_type, data, custom) if isinstance(data, bytes) else data


def next_due(customer: Customer, up_to_ms: int) -> Timer | None:
    """The next timer due at or before ``up_to_ms``."""
    due = [timer for timer in customer.now.timers if timer.due_ms <= up_to_ms]
    return min(due, key=_order) if due else None


def take_due(
    customer: Customer, up_to_ms: int, custom: Mapping[str, EventType]
) -> tuple[Timer, Any] | None:
    """Remove and return the next timer due at or before ``up_to_ms`` with its event's payload.

    In due order, equal ones by rule id and then by what they are about. ``custom`` are the event
    types that the book declares.
    """
    first = next_due(customer, up_to_ms)
    if first is None:
        return None
    data = armed_by(customer, first, custom)
    drop(customer, first)
    return first, data


def set_aside(customer: Customer, up_to_ms: int) -> Timer | None:
    """Remove the next timer due at or before ``up_to_ms`` without a look at its payload."""
    first = next_due(customer, up_to_ms)
    if first is None:
        return None
    customer.now.timers.remove(first)
    customer.armed.events.pop(_key(first), None)
    customer.touch("now")
    customer.touch("armed")
    return first


def _decoded(event_type: str, data: bytes, custom: Mapping[str, EventType]) -> Any:
    """The payload of what armed a timer; nothing where a new book tells its type otherwise."""
    decode = _DECODE.get(event_type)
    if decode is not None:
        return decode(data)
    declared = custom.get(event_type)
    try:
        return NOTHING if declared is None else msgspec.json.decode(data, type=declared.data)
    except msgspec.ValidationError:
        return NOTHING
