"""The engine: one event or one due timer in, the changed customer and the decisions out.

Pure: the same customer, trigger, instant, book and catalogue give the same answer, live, over
history and in simulated time.

The order inside one event, each step seeing what the ones before it left:

1. timers of this customer due at or before the event fire; who was idle for too long is new;
2. a repeated event is dropped, another body under a known id is refused;
3. the event changes the document; feedback that has no effect gets no answer from rules;
4. it cancels timers (``unless``), withdraws open offers (``withdraw_on``);
5. rules that listen to it are judged or arm their timers; gates see the state before step 3;
6. among the rules that may offer, the best for each placement wins.
"""

from typing import Any

from triggers.before import Before
from triggers.book import Book, Rule
from triggers.catalog import Catalog
from triggers.context import Context
from triggers.customer import Customer
from triggers.decisions import Decision, Trigger, Withdrawal
from triggers.events import Event
from triggers.facts import APPLIERS, ZONED
from triggers.feedback import HEARD, WITHDRAWN, close
from triggers.forgetting import forget_idle
from triggers.gatekeys import SESSION_MS
from triggers.ids import offer_id
from triggers.judgement import Gone, Occurrence, Step, answer, arbitrate, clear, occur
from triggers.present import Timer
from triggers.rates import paused
from triggers.repeats import NEW, REPEATED, remember
from triggers.rings import Made
from triggers.state import MAX_TIMERS
from triggers.timers import about_of, arm, bar, cancel, same_thing, shed, take_due

_CONSENTS_BACK = "consent.granted"
_GONE = {"customer.erase_requested": "erased", "customer.objected": "objected"}


def step(
    customer: Customer,
    event: Event,
    at_ms: int,
    book: Book,
    catalog: Catalog,
    checksum: int = 0,
    out: Step | None = None,
) -> Step:
    """Apply one event whose record timestamp is ``at_ms``; ``customer`` is changed in place.

    ``checksum`` (32 bits) stands for the event's bytes: the same id with another checksum is a
    conflict, which changes nothing. What comes of it is added to ``out`` when that is given.
    """
    if out is None:
        out = Step()
    out.conflict = False
    now = customer.now
    at = max(now.at, at_ms)
    for timer in now.timers:
        if timer.due_ms <= at:
            advance(customer, at, book, catalog, out)
            break
    if at - now.at > book.forget_visitors_ms and forget_idle(customer, at, book):
        out.note("customer_forgotten")
        now = customer.now
    kind, data = event.type, event.data
    if now.gone and kind != _CONSENTS_BACK:
        out.note(now.gone)
        if kind in _GONE:  # asked once more: it is answered, and an erasure is never less
            _forget(customer, now.gone if now.gone == "erased" else _GONE[kind], at, out)
        return out
    known = remember(customer, event.source, event.id, at, checksum)
    if known != NEW:
        out.conflict = known != REPEATED
        if not out.conflict:
            out.note("repeated")
        return out
    if kind in _GONE:
        _forget(customer, _GONE[kind], at, out)
        return out
    if now.gone:
        _return(customer, at, out)
    timed = book.timed.get(kind)  # None: no rule listens to such events
    before = None if timed is None else _before(customer, event, book)
    answered = _change(customer, event, at, book, catalog, out)
    if at - now.seen_at >= SESSION_MS:
        now.session_at = at
    now.at = now.seen_at = at
    customer.touch("now")
    if kind in book.cancels:
        _cancel(customer, event, at, book, out)
    if kind in book.withdraws:
        _withdraw_open(customer, event, at, book, catalog, out)
    if timed is not None and before is not None and answered:
        _answer(event, Context(data, kind, customer, at, book, catalog), before, out)
    return out


def _change(
    customer: Customer, event: Event, at: int, book: Book, catalog: Catalog, out: Step
) -> bool:
    """Let the event teach and change the document; whether rules may answer it."""
    kind, data = event.type, event.data
    for teach in book.learning.get(kind, ()):
        out.learnt += teach(customer, data, at, catalog)
    applier = APPLIERS.get(kind)
    if applier is not None:
        applier(customer, data, at, catalog)
    elif kind in ZONED:
        ZONED[kind](customer, data, at, book.timezone)
    hear = HEARD.get(kind)
    return hear is None or hear(customer, data, at, out.note)


def _before(customer: Customer, event: Event, book: Book) -> Before:
    before = Before(customer, event.data, book.timezone)
    if event.type in book.looks_at_owned:
        before.keep_owned()
    return before


def _answer(event: Event, ctx: Context, before: Before, out: Step) -> None:
    """Let the rules that listen to the event decide, or arm their timers."""
    book, kind = ctx.book, event.type
    timed = book.timed[kind]
    first = kind in book.sales_wait_for
    if first:  # a follow-up that sales wait for: those that answer the same event wait too
        _arm(timed, event, ctx, out)
    _judge(event, ctx, before, out)
    if timed and not first:
        _arm(timed, event, ctx, out)


def _forget(customer: Customer, gone: str, at: int, out: Step) -> None:
    if customer.now.timers:
        out.note("timer_cancelled", len(customer.now.timers))
    customer.wipe(gone, at)
    out.gone.append(Gone(customer.id, gone, at))


def _return(customer: Customer, at: int, out: Step) -> None:
    """A new consent begins a new, empty customer."""
    customer.now.gone = ""
    out.gone.append(Gone(customer.id, "returned", at))


def advance(customer: Customer, to_ms: int, book: Book, catalog: Catalog, out: Step) -> None:
    """Fire the customer's timers due at or before ``to_ms``, each at its due time."""
    # A timer may put off another (quiet hours), which can be due again within the same span; the
    # second time it is not put off, so each timer passes here at most twice.
    while (due := take_due(customer, to_ms, book.custom)) is not None:
        _fire(customer, due[0], due[1], book, catalog, out)


def fire_first(customer: Customer, to_ms: int, book: Book, catalog: Catalog, out: Step) -> bool:
    """Fire only the next timer due at or before ``to_ms``; whether there was one."""
    due = take_due(customer, to_ms, book.custom)
    if due is not None:
        _fire(customer, due[0], due[1], book, catalog, out)
    return due is not None


def _cancel(customer: Customer, event: Event, at: int, book: Book, out: Step) -> None:
    dropped = cancel(customer, book.cancels[event.type], event.data)
    if dropped:
        out.note("timer_cancelled", dropped)
    bar(customer, event.type, book.bars[event.type], event.data, at)


def _withdraw_open(
    customer: Customer, event: Event, at: int, book: Book, catalog: Catalog, out: Step
) -> None:
    """Take back what is still open, and drop what quiet hours put off."""
    rules = book.withdraws[event.type]
    dropped = cancel(customer, rules, event.data, only_deferred=True)
    if dropped:
        out.note("timer_cancelled", dropped)
    ids = {rule.id: rule for rule in rules}
    for made in customer.offers.made:
        rule = ids.get(made.rule)
        if rule is None or not made.open or at > made.until:
            continue
        if same_thing(rule.about_field(made.event_type), made.about, event.data, customer):
            close(customer, made, WITHDRAWN, at)
            _withdraw(customer, rule, made, event, at, book, catalog, out)


def _withdraw(
    customer: Customer,
    rule: Rule,
    made: Made,
    event: Event,
    at: int,
    book: Book,
    catalog: Catalog,
    out: Step,
) -> None:
    out.offers.append(
        Withdrawal(at, customer.id, made.offer_id, rule.id, made.channel, made.about, event.type)
    )
    trigger = Trigger(event.type, event.id, event.source)
    out.decisions.append(
        Decision(
            at,
            customer.id,
            rule.id,
            book.digest,
            rule.kind,
            trigger,
            "withdrawn",
            event.type,
            made.offer_id,
            rule.priority,
            catalog.version,
        )
    )


def _judge(event: Event, ctx: Context, before: Before, out: Step) -> None:
    """Let the immediate rules answer the event."""
    passed: list[Occurrence] = []
    trigger: Trigger | None = None  # one for all decisions, made when the first rule asks
    false = 0
    for rule, field in ctx.book.immediate[event.type]:
        # As _holds() says, written out: this runs for every rule of every event.
        for condition in rule.when:
            if not condition.holds(ctx):
                false += 1
                break
        else:
            if rule.pause is not None and _rests(rule, ctx, out):
                continue
            if trigger is None:
                trigger = Trigger(event.type, event.id, event.source)
            about = about_of(field, event.data, ctx.customer)
            occurrence = occur(rule, ctx, before, trigger, about, ctx.at)
            if clear(occurrence, ctx, out):
                passed.append(occurrence)
    if false:
        out.note("when_false", false)
    if passed:
        arbitrate(passed, ctx, out)


def _arm(timed: tuple[tuple[Rule, str], ...], event: Event, ctx: Context, out: Step) -> None:
    """Arm the timers of the rules that decide later, or move them."""
    armed = 0
    for rule, field in timed:
        armed += arm(rule, field, event, ctx)
    if armed:
        out.note("timer_armed", armed)
    if len(ctx.customer.now.timers) > MAX_TIMERS:
        out.note("timer_dropped", shed(ctx.customer))


def _holds(rule: Rule, ctx: Context) -> bool:
    for condition in rule.when:  # noqa: SIM110 - a generator costs more than most conditions
        if not condition.holds(ctx):
            return False
    return True


def _rests(rule: Rule, ctx: Context, out: Step) -> bool:
    """Whether complaints make the rule rest: it then counts as switched off, without a decision."""
    assert rule.pause is not None
    if not paused(ctx.catalog.learned, rule.id, rule.pause, ctx.at):
        return False
    out.note("rule_paused")
    return True


def _fire(
    customer: Customer, timer: Timer, data: Any, book: Book, catalog: Catalog, out: Step
) -> None:
    """Judge the rule of a due timer at its due time; each timer stands alone."""
    at = timer.due_ms
    customer.now.at = max(customer.now.at, at)
    customer.touch("now")
    out.fired.append(at)
    trigger = Trigger(timer.event_type, timer.event_id, timer.source, timer.rule, at)
    rule = book.rules.get(timer.rule)
    if rule is None:
        out.note("timer_cancelled")
        out.decisions.append(_removed(customer, timer, trigger, book, catalog))
        return
    ctx = Context(data, timer.event_type, customer, at, book, catalog)
    if not _holds(rule, ctx):
        out.note("when_false")
        return
    if rule.pause is not None and _rests(rule, ctx, out):
        return
    before = Before(customer, data, book.timezone)
    occurrence = occur(rule, ctx, before, trigger, timer.about, timer.origin_ms)
    if clear(occurrence, ctx, out, put_off_before=timer.deferred):
        answer(occurrence, ctx, out)


def _removed(
    customer: Customer, timer: Timer, trigger: Trigger, book: Book, catalog: Catalog
) -> Decision:
    """The note on a timer whose rule the book no longer has."""
    number = offer_id(timer.rule, customer.id, timer.source, timer.event_id)
    return Decision(
        timer.due_ms,
        customer.id,
        timer.rule,
        book.digest,
        "",
        trigger,
        "withdrawn",
        "rule_removed",
        number,
        0,
        catalog.version,
    )
