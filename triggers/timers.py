"""Arming and cancelling timers, and what "about the same thing" means.

A timer is data: its rule, what it is about, when it is due and which event armed it. One customer
has at most one timer for a rule and a thing, and at most ``MAX_TIMERS`` in all.
"""

from typing import Any

import msgspec

from triggers.book import Mode, Rule
from triggers.context import Context
from triggers.durations import to_ms
from triggers.events import EVENT_TYPES, Event
from triggers.gates import once_used
from triggers.state import MAX_BARS, MAX_TIMERS, Customer, Timer

CUSTOMER = "customer"
_CHECKOUT = "checkout_id"


def about_field(rule: Rule, event_type: str) -> str:
    """The payload field that says what ``rule`` is about when ``event_type`` triggers it."""
    if rule.about is not None:
        return rule.about
    known = EVENT_TYPES.get(event_type)
    return known.about if known is not None else CUSTOMER


def about_of(rule: Rule, event_type: str, data: Any, customer: Customer) -> str:
    """The value of that field; the customer id where the payload has none."""
    field = about_field(rule, event_type)
    value = None if field == CUSTOMER else getattr(data, field, None)
    return str(value) if value else customer.id


def named_by(field: str, data: Any) -> set[str] | None:
    """The things of kind ``field`` that an event names; None when it lacks the field."""
    value = getattr(data, field, None)
    if value:
        return {str(value)}
    if field == "plan":
        items = getattr(data, "items", None)
        return {item.sku for item in items} if items else None
    return None


def same_thing(field: str, about: str, data: Any, customer: Customer) -> bool:
    """Whether an event speaks about ``about``; one that lacks the field speaks about all."""
    if field == CUSTOMER:
        return True
    named = named_by(field, data)
    if named is not None:
        return about in named
    if field == _CHECKOUT:
        cart_id = getattr(data, "cart_id", None)
        if cart_id:
            return any(
                c.cart_id == cart_id for c in customer.now.checkouts if c.checkout_id == about
            )
    return True


def cancel(customer: Customer, rules: tuple[Rule, ...], data: Any) -> int:
    """Drop the timers of ``rules`` about what the event names; the number of dropped ones."""
    now = customer.now
    if not now.timers:
        return 0
    ids = {rule.id: rule for rule in rules}
    gone = []
    for timer in now.timers:
        rule = ids.get(timer.rule)
        if rule is not None:
            field = about_field(rule, timer.event_type)
            if same_thing(field, timer.about, data, customer):
                gone.append(timer)
    for timer in gone:
        drop(customer, timer)
    return len(gone)


def cancel_deferred(customer: Customer, rules: tuple[Rule, ...], data: Any) -> int:
    """Like :func:`cancel`, for decisions that quiet hours put off."""
    now = customer.now
    deferred = {timer.rule for timer in now.timers if timer.deferred}
    chosen = tuple(rule for rule in rules if rule.id in deferred)
    return cancel(customer, chosen, data) if chosen else 0


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


def bar(customer: Customer, rules: tuple[Rule, ...], data: Any, at: int) -> None:
    """Remember what an ``unless`` event was about, so that nothing about it is armed later."""
    keys = []
    for rule in rules:
        fields = {about_field(rule, event_type) for event_type in rule.on} - {CUSTOMER}
        for field in sorted(fields):
            keys += [f"{rule.id}\0{about}" for about in sorted(named_by(field, data) or ())]
            cart_id = getattr(data, "cart_id", None)
            if field == _CHECKOUT and cart_id:
                keys.append(f"{rule.id}\0\0{cart_id}")
    if keys:
        bars = dict(customer.offers.bars)
        for key in keys:
            bars.pop(key, None)
            bars[key] = at
        for key in list(bars)[: max(0, len(bars) - MAX_BARS)]:
            del bars[key]
        customer.offers.bars = bars
        customer.touch("offers")


def barred(customer: Customer, rule: Rule, about: str, data: Any) -> bool:
    """Whether an ``unless`` event has spoken about this thing already."""
    if not rule.unless:
        return False
    bars = customer.offers.bars
    if not bars:
        return False
    if f"{rule.id}\0{about}" in bars:
        return True
    cart_id = getattr(data, "cart_id", None)
    return bool(cart_id) and f"{rule.id}\0\0{cart_id}" in bars


def arm(rule: Rule, event: Event, ctx: Context) -> bool:
    """Arm the rule's timer for an event of its ``on``; whether one was armed."""
    customer = ctx.customer
    about = about_of(rule, event.type, event.data, customer)
    if barred(customer, rule, about, event.data) or once_used(rule, ctx, about):
        return False
    if any(not condition.holds(ctx) for condition in rule.arm_when):
        return False
    pending = _pending(customer, rule.id, about)
    if rule.mode is Mode.AFTER and pending is not None:
        return False  # counts from its first event; only silence starts again
    due = _due(rule, ctx)
    if due is None:
        if pending is not None:
            drop(customer, pending)
        return False
    if pending is None:
        timer = Timer(rule.id, about, due, event.source, event.id, event.type, due)
        put(customer, timer, event.data)
        return True
    # The most common case by far, a cart that changes again: the timer moves in place.
    pending.due_ms = pending.origin_ms = due
    pending.source, pending.event_id, pending.event_type = event.source, event.id, event.type
    customer.armed.events[_key(pending)] = event.data
    customer.touch("now")
    customer.touch("armed")
    return True


def _pending(customer: Customer, rule_id: str, about: str) -> Timer | None:
    for timer in customer.now.timers:
        if timer.rule == rule_id and timer.about == about and not timer.deferred:
            return timer
    return None


def _due(rule: Rule, ctx: Context) -> int | None:
    zone = ctx.customer.now.timezone or ctx.book.timezone
    if rule.before is None:
        return rule.delay.after(ctx.at, zone) if rule.delay is not None else None
    text = rule.before.date.get(ctx)
    if not text:
        return None
    due = rule.before.by.before(to_ms(str(text)), zone)
    if due >= ctx.at:
        return due
    return ctx.at if rule.before.fire_if_past else None


def put(customer: Customer, timer: Timer, data: Any) -> None:
    """Set a timer that is not pending yet, with its event's payload.

    A decision that was put off keeps a timer of its own: each occurrence is answered.
    """
    timers = customer.now.timers
    timers.append(timer)
    customer.armed.events[_key(timer)] = data
    customer.touch("now")
    customer.touch("armed")
    if len(timers) > MAX_TIMERS:
        drop(customer, max(timers, key=_order))


def _order(timer: Timer) -> tuple[int, str, str]:
    return timer.due_ms, timer.rule, timer.about


def take_due(customer: Customer, up_to_ms: int) -> tuple[Timer, Any] | None:
    """Remove and return the next timer due at or before ``up_to_ms`` with its event's payload.

    In due order, equal ones by rule id and then by what they are about.
    """
    due = [timer for timer in customer.now.timers if timer.due_ms <= up_to_ms]
    if not due:
        return None
    first = min(due, key=_order)
    data = customer.armed.events[_key(first)]
    if isinstance(data, bytes):
        data = _payload_of(first.event_type, data)
    drop(customer, first)
    return first, data


def _payload_of(event_type: str, packed: bytes) -> Any:
    return msgspec.json.decode(packed, type=EVENT_TYPES[event_type].data)
