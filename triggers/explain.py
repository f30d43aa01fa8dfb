"""Why each rule would, or would not, make its offer to one customer right now.

Nothing is changed: rules are judged against the document as it is, each with the customer's last
event that it listens to, or with the event that armed its pending timer.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from triggers.before import Before
from triggers.book import Book, Mode, Rule
from triggers.catalog import Catalog
from triggers.context import Context
from triggers.customer import Customer
from triggers.decisions import Trigger
from triggers.durations import to_text
from triggers.explaingates import gate_facts
from triggers.factsused import facts_of
from triggers.gates import first_gate, once_used
from triggers.holdout import held_out
from triggers.judgement import Occurrence, occur
from triggers.present import Timer
from triggers.rates import paused
from triggers.selection import price_of
from triggers.timers import about_of, armed_by, barred, due_of


class Known(NamedTuple):
    """An event of the customer that is known; ``rebuilt`` from what the document keeps of it."""

    type: str
    data: Any
    at_ms: int
    id: str = ""
    source: str = ""
    rebuilt: bool = False


class Line(msgspec.Struct, gc=False):
    """One condition: its text, whether it holds, and the values that it looked at."""

    text: str
    holds: bool
    values: dict[str, Any]


class Answer(msgspec.Struct, gc=False):
    """What one rule says.

    ``verdict``: ``offers`` (it would), ``arms`` (it would set a timer due at ``due``), ``false``
    (the last of ``lines`` does not hold), ``held_back`` (by ``gate``, with ``values``), ``rests``
    (complaints), ``held_out``, ``stopped`` (no timer: ``why``), ``waits`` (for an event of
    ``waits_for``; none is known).
    """

    rule: str
    kind: str
    verdict: str
    event: dict[str, Any] | None = None  # type, time, rebuilt; what it is judged with
    lines: list[Line] = []
    gate: str | None = None
    values: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    due: str | None = None  # of a timer that is pending, or would be armed
    pending: bool = False
    why: str | None = None
    waits_for: list[str] = []


def explain_rules(
    customer: Customer,
    at_ms: int,
    book: Book,
    catalog: Catalog,
    events: Mapping[str, Known],
) -> list[Answer]:
    """One answer a rule in id order; several for a rule with several timers pending.

    ``events``: the customer's last known event of each type.
    """
    return [
        answer
        for rule in book.rules.values()
        for answer in _answers(rule, _World(customer, at_ms, book, catalog), events)
    ]


class _World(NamedTuple):
    customer: Customer
    at: int
    book: Book
    catalog: Catalog

    def context(self, known: Known) -> Context:
        return Context(known.data, known.type, self.customer, self.at, self.book, self.catalog)


def _answers(rule: Rule, world: _World, events: Mapping[str, Known]) -> list[Answer]:
    found = []
    for timer in world.customer.now.timers:
        if timer.rule == rule.id:
            known = _arming(timer, world)
            answer = _judge(rule, world, known, timer.about, timer.origin_ms)
            answer.due, answer.pending = to_text(timer.due_ms), True
            found.append(answer)
    if found:
        return found
    known_ones = [events[event_type] for event_type in rule.on if event_type in events]
    if not known_ones:
        return [Answer(rule.id, rule.kind, "waits", waits_for=list(rule.on))]
    last = max(known_ones, key=lambda known: known.at_ms)
    about = about_of(rule.about_field(last.type), last.data, world.customer)
    if rule.mode is Mode.NOW:
        return [_judge(rule, world, last, about, world.at)]
    return [_arms(rule, world, last, about)]


def _arming(timer: Timer, world: _World) -> Known:
    data = armed_by(world.customer, timer, world.book.custom)
    return Known(timer.event_type, data, 0, timer.event_id, timer.source)


def _shown(known: Known) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": known.type}
    if known.at_ms:
        shown["time"] = to_text(known.at_ms)
    if known.id:
        shown["id"] = known.id
    if known.rebuilt:
        shown["rebuilt"] = True
    return shown


def _lines(conditions: tuple[Any, ...], ctx: Context) -> list[Line]:
    """The conditions up to the first that does not hold."""
    found = []
    for condition in conditions:
        errors = getattr(condition, "errors", None)
        holds = condition.holds(ctx)
        if errors is not None:
            condition.errors = errors  # looking on counts nothing
        found.append(Line(condition.source, holds, facts_of([condition], ctx)))
        if not holds:
            break
    return found


def _judge(rule: Rule, world: _World, known: Known, about: str, origin_ms: int) -> Answer:
    """What the rule would decide now."""
    ctx = world.context(known)
    answer = Answer(rule.id, rule.kind, "false", event=_shown(known))
    answer.lines = _lines(rule.when, ctx)
    if not all(line.holds for line in answer.lines):
        return answer
    if rule.pause is not None and paused(ctx.catalog.learned, rule.id, rule.pause, ctx.at):
        answer.verdict = "rests"
        return answer
    before = Before(world.customer, known.data, world.book.timezone)
    trigger = Trigger(known.type, known.id, known.source)
    occurrence = occur(rule, ctx, before, trigger, about, min(origin_ms, ctx.at))
    answer.items = _items(occurrence)
    answer.gate = first_gate(occurrence.case)
    if answer.gate is not None:
        answer.verdict = "held_back"
        answer.values = gate_facts(answer.gate, occurrence.case)
    else:
        answer.verdict = "held_out" if held_out(rule, ctx) else "offers"
    return answer


def _items(occurrence: Occurrence) -> list[dict[str, Any]]:
    price = occurrence.rule.price
    return [
        {"sku": each.product.sku, "quantity": each.quantity, "price": price_of(each, price)}
        for each in occurrence.case.picked.items
    ]


def _arms(rule: Rule, world: _World, known: Known, about: str) -> Answer:
    """Whether the event would arm the rule's timer now; what it would decide is judged later."""
    ctx = world.context(known)
    answer = Answer(rule.id, rule.kind, "stopped", event=_shown(known))
    if barred(world.customer, rule, known.type, known.data, about):
        names = ", ".join(sorted(rule.unless))
        answer.why = f"one of {names} spoke about {about} already"
        return answer
    if once_used(rule, ctx, about):
        answer.verdict, answer.gate = "held_back", "cooldown"
        answer.values = gate_facts("cooldown", _case(rule, ctx, known, about, world))
        return answer
    answer.lines = _lines(rule.arm_when, ctx)
    if not all(line.holds for line in answer.lines):
        answer.verdict = "false"
        return answer
    due = due_of(rule, ctx)
    if due is None:
        answer.why = "there is no date to count back from, or that instant has passed"
        return answer
    answer.verdict, answer.due = "arms", to_text(due)
    return answer


def _case(rule: Rule, ctx: Context, known: Known, about: str, world: _World) -> Any:
    before = Before(world.customer, known.data, world.book.timezone)
    return occur(rule, ctx, before, Trigger(known.type, known.id, known.source), about, ctx.at).case
