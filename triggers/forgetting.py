"""Forgetting customers with whom nothing has happened for long.

Whoever comes back after the book's span counts as somebody unknown. That is decided by the document
and the event alone, so it does not matter when a store drops the document, as long as every event
that still finds it is applied before. So what drops documents goes by what has been read, not by
the clock, and leaves :data:`MARGIN_MS` for events that come late.
"""

from collections.abc import Iterable

from triggers.book import Book, Limit, Rule
from triggers.customer import Customer
from triggers.durations import DAY_MS, parse_duration
from triggers.gatekeys import DOWNSELL_WAIT_MS
from triggers.kindchecks import Add
from triggers.present import Now
from triggers.rules import BookModel

#: How late an event may come and still find what a store has kept for it.
MARGIN_MS = 7 * DAY_MS
#: No shorter span: repeats are known for 72 hours.
MIN_MS = 7 * DAY_MS
MAX_MS = 1_100 * DAY_MS


def is_idle(now: Now, at: int, book: Book) -> bool:
    """Whether nothing has happened for the span of a customer, or of a visitor, who never bought
    or consented; and nothing is to come.

    A pending timer, a held offer and a running contract are things to come.
    """
    known = now.first_order_at or now.consents
    return bool(
        now.at
        and at - now.at > (book.forget_ms if known else book.forget_visitors_ms)
        and not (now.gone or now.timers or now.held_until or now.contracts)
    )


def forget_idle(customer: Customer, at: int, book: Book) -> bool:
    """Forget a customer who was idle for too long at ``at``, as if they had never come.

    Who was offered something is no visitor: what caps count is kept as long as for a customer.
    """
    now = customer.now
    if not is_idle(now, at, book):
        return False
    if at - now.at <= book.forget_ms and customer.offers.made:
        return False
    customer.wipe("", 0)
    return True


def forget_spans_of(
    model: BookModel, rules: Iterable[Rule], limits: Iterable[Limit], add: Add
) -> tuple[int, int]:
    """After how long customers and visitors are forgotten, ms; ``add`` gets the faults."""
    known = parse_duration(model.forget_after).ms
    visitors = parse_duration(model.forget_visitors_after or model.forget_after).ms
    for key, span_ms in (("forget_after", known), ("forget_visitors_after", visitors)):
        if not MIN_MS <= span_ms <= MAX_MS:
            add(("book", key), f"is from {MIN_MS // DAY_MS}d to {MAX_MS // DAY_MS}d")
    if visitors > known:
        add(("book", "forget_visitors_after"), "is at most `forget_after`")
    looks_back_ms = _longest_memory_ms(rules, limits)
    if known < looks_back_ms:
        days = -(-looks_back_ms // DAY_MS)
        message = f"a limit, cooldown or gate looks back {days}d: nobody is forgotten sooner"
        add(("book", "forget_after"), message)
    return known, visitors


def _longest_memory_ms(rules: Iterable[Rule], limits: Iterable[Limit]) -> int:
    spans = [limit.window_ms for limit in limits]
    for rule in rules:
        spans += [limit.window_ms for limit in rule.limits]
        spans += [fatigue.window_ms for fatigue in rule.gate.fatigue]
        spans += [cool_off.ms for cool_off in rule.cool_off]
        spans += [rule.cooldown_ms, rule.once_per_ms, rule.valid_for_ms]
        spans.append(DOWNSELL_WAIT_MS if rule.kind == "down_sell" else 0)
    return max(spans, default=0)
