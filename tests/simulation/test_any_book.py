"""What holds for any rule book, any log and any cut of it into batches."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, REASON
from triggers.book import SALES, Book, Mode
from triggers.catalog import Catalog
from triggers.compiler import compile_content
from triggers.customer import Customer
from triggers.decisions import Decision
from triggers.engine import advance, step
from triggers.events import EVENT_TYPES, Event
from triggers.judgement import Step

PEOPLE = ("ann", "bob")
CARTS = ("k1", "k2")
SKUS = ("a", "b", "c")
FINAL = frozenset({"offered", "suppressed", "held_out", "outranked"})
THE_END = NOON + 400 * DAY
LISTENED = ("cart.item_added", "purchase.completed", "cart.viewed")
SPANS = {"30m": 30 * MINUTE, "3h": 3 * HOUR, "2d": 2 * DAY}


class Moment(NamedTuple):
    """One event of a drawn log: how long after the one before, who, what, about which cart."""

    later_ms: int
    person: str
    kind: str
    cart: str
    sku: str


MOMENTS = st.lists(
    st.builds(
        Moment,
        st.sampled_from([0, 1, MINUTE, 29 * MINUTE, 30 * MINUTE, 2 * HOUR, 9 * HOUR, 2 * DAY]),
        st.sampled_from(PEOPLE),
        st.sampled_from([*LISTENED, *LISTENED, "consent.revoked", "consent.granted"]),
        st.sampled_from(CARTS),
        st.sampled_from(SKUS),
    ),
    max_size=25,
)
LIMITS = st.lists(
    st.fixed_dictionaries(
        {"max": st.integers(0, 3), "in": st.sampled_from(sorted(SPANS))},
        optional={"channel": st.sampled_from(["email", "push"]), "placement": st.just("top")},
    ),
    max_size=2,
)
#: Exactly one of them; an empty one decides at once.
TIMINGS = st.sampled_from([{}, {}, {"after": "3h"}, {"after": "2d"}, {"after_silence": "30m"}])
RULES = st.lists(
    st.tuples(
        TIMINGS,
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["cross_sell", "follow_up"]),
                "on": st.lists(st.sampled_from(LISTENED), min_size=1, max_size=2, unique=True),
                "channel": st.sampled_from(["email", "push"]),
                "pick": st.sampled_from(
                    ["none", {"sku": "b"}, {"complements_of": "'a'"}, {"same": "cart.skus"}]
                ),
                "priority": st.sampled_from([40, 50, 60]),
            },
            optional={
                "placement": st.sampled_from(["top", "side"]),
                "cooldown": st.sampled_from(sorted(SPANS)),
                "limits": LIMITS,
                "once_per": st.sampled_from(["customer", "about", "2d", "always"]),
                "unless": st.just(["purchase.completed"]),
                "withdraw_on": st.just(["purchase.completed"]),
                "when": st.sampled_from([["customer.orders < 2"], ["cart.subtotal > 100"]]),
                "lateness": st.just({"skip_after": "3h"}),
            },
        ),
    ),
    min_size=1,
    max_size=4,
)


def compile_drawn(
    rules: list[tuple[dict[str, Any], dict[str, Any]]], limits: Any, *sections: dict[str, Any]
) -> Book | None:
    """The book, or None where `check` refuses it: a rule's limit looser than the book's."""
    filled = [
        {"id": f"r{n}", "reason": REASON, **rule, **timing}
        for n, (timing, rule) in enumerate(rules)
    ]
    head = {"name": "any", "timezone": "Asia/Tokyo", "currency": "JPY", "limits": limits}
    for section in sections:
        head |= section
    found = compile_content({"book": head, "rules": filled})
    return found if isinstance(found, Book) else None


QUIET = {"from": "21:00", "to": "08:00", "channels": ["email"], "then": "defer"}
BOOKS = st.builds(
    compile_drawn,
    RULES,
    LIMITS,
    st.sampled_from([{}, {"quiet_hours": QUIET}]),
    st.sampled_from([{}, {"holdout": {"share": "50%", "salt": "s"}}]),
).filter(lambda book: book is not None)
CUTS = st.lists(st.integers(0, 25), max_size=5)


def events_of(moments: Iterable[Moment]) -> list[Event]:
    """The log: everybody consents at first, then what was drawn."""
    found = [
        make_event(f"g-{person}", person, "consent.granted", NOON - DAY, {"channel": "*"})
        for person in PEOPLE
    ]
    at = NOON
    for number, moment in enumerate(moments):
        at += moment.later_ms
        data = payload(moment, number)
        found.append(make_event(f"e{number}", moment.person, moment.kind, at, data))
    return found


def payload(moment: Moment, number: int) -> dict[str, Any]:
    item = {"sku": moment.sku, "quantity": 1, "unit_price": 100}
    cart = {"cart_id": moment.cart, "subtotal": 150, "currency": "JPY"}
    if moment.kind == "cart.item_added":
        return {**cart, "item": item}
    if moment.kind == "cart.viewed":
        return cart
    if moment.kind == "purchase.completed":
        order = {"order_id": f"o{number}", "items": [item], "total": 100, "currency": "JPY"}
        return {**order, "cart_id": moment.cart}
    return {"channel": "*"}


def make_event(number: str, person: str, kind: str, at: int, data: dict[str, Any]) -> Event:
    return Event(number, "shop", kind, person, at, msgspec.convert(data, EVENT_TYPES[kind].data))


def make_catalog() -> Catalog:
    catalog = Catalog()
    for sku in SKUS:
        data = {"name": sku, "price": 100, "currency": "JPY"}
        put(catalog, "catalog.product_set", sku, data)
    put(catalog, "catalog.relation_set", "a", {"to": "b", "relation": "complement", "weight": 0.5})
    return catalog


def put(catalog: Catalog, kind: str, sku: str, data: dict[str, Any]) -> None:
    catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))


@dataclass(frozen=True)
class Outcome:
    """What a run left: by customer the decisions, what leaves the engine, and the documents."""

    decisions: dict[str, list[Decision]] = field(compare=False)  # their bytes are
    records: dict[str, list[tuple[str, str, str, bytes]]]
    documents: dict[str, dict[str, bytes]]


def run(book: Book, log: list[Event], cuts: Iterable[int] = (), resent: bool = False) -> Outcome:
    """Apply the log in batches that end at ``cuts``, each customer's events together, and every
    document read back from its bytes between two batches; ``resent``: each event comes twice."""
    catalog = make_catalog()
    stored: dict[str, dict[str, bytes]] = {person: {} for person in PEOPLE}
    out = {person: Step() for person in PEOPLE}
    ends = sorted({*cuts, len(log)})
    begin = 0
    for end in ends:
        batch, begin = log[begin:end], max(begin, end)
        for person in PEOPLE:
            customer = Customer(person, dict(stored[person]))
            for event in batch:
                for _ in range(1 + resent):
                    if event.subject == person:
                        step(customer, event, event.time_ms, book, catalog, 7, out[person])
            if end == ends[-1]:
                advance(customer, THE_END, book, catalog, out[person])
            stored[person] |= customer.take_changes()
            stored[person] = {k: v for k, v in stored[person].items() if v}
    return Outcome(
        {person: step.decisions for person, step in out.items()},
        {
            person: [made.record() for made in (*step.offers, *step.decisions)]
            for person, step in out.items()
        },
        stored,
    )


def offered(outcome: Outcome, person: str) -> list[Decision]:
    return [each for each in outcome.decisions[person] if each.outcome == "offered"]


everything = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(BOOKS, MOMENTS, CUTS)
@everything
def test_batches_and_restarts_and_events_sent_again_change_nothing(
    book: Book, moments: list[Moment], cuts: list[int]
) -> None:
    log = events_of(moments)
    whole = run(book, log)
    assert run(book, log, cuts) == whole
    assert run(book, log, range(len(log))) == whole
    again = run(book, log, cuts, resent=True)
    assert again.records == whole.records


@given(BOOKS, MOMENTS)
@everything
def test_no_window_holds_more_than_its_limit_and_no_rule_comes_back_before_it_has_cooled(
    book: Book, moments: list[Moment]
) -> None:
    outcome = run(book, events_of(moments))
    for person in PEOPLE:
        made = offered(outcome, person)
        for limit in book.limits:
            counted = [
                each.at
                for each in made
                if each.kind in SALES
                and limit.channel in (None, book.rules[each.rule].channel)
                and limit.placement in (None, book.rules[each.rule].placement)
            ]
            assert fullest(counted, limit.window_ms) <= limit.max
        for rule in book.rules.values():
            own = [each.at for each in made if each.rule == rule.id]
            for limit in rule.limits:
                if rule.kind in limit.kinds:
                    assert fullest(own, limit.window_ms) <= limit.max
            if rule.cooldown_ms:
                assert all(b - a >= rule.cooldown_ms for a, b in pairwise(own))


def fullest(times: list[int], window_ms: int) -> int:
    """The most of ``times`` in any window ``(at - window, at]``."""
    return max((sum(at - window_ms < t <= at for t in times) for at in times), default=0)


@given(BOOKS, MOMENTS)
@everything
def test_nothing_is_offered_without_consent_at_decision_time(
    book: Book, moments: list[Moment]
) -> None:
    log = events_of(moments)
    outcome = run(book, log)
    for person in PEOPLE:
        words = [e for e in log if e.subject == person and e.type.startswith("consent.")]
        for each in offered(outcome, person):
            # No rule of these books answers a consent, and timers go before events.
            before = [word for word in words if word.time_ms < each.at]
            if each.trigger.due_ms is None:
                place = next(n for n, e in enumerate(log) if e.id == each.trigger.event_id)
                before = [word for word in words if log.index(word) < place]
            assert before[-1].type == "consent.granted"


@given(BOOKS, MOMENTS)
@everything
def test_an_event_brings_a_customer_one_offer_a_placement(
    book: Book, moments: list[Moment]
) -> None:
    outcome = run(book, events_of(moments))
    for person in PEOPLE:
        taken = Counter(
            (each.trigger.event_id, book.rules[each.rule].placement)
            for each in offered(outcome, person)
            if each.trigger.due_ms is None
        )
        assert all(n == 1 for (_, placement), n in taken.items() if placement is not None)


@given(BOOKS, MOMENTS)
@everything
def test_a_trigger_ends_in_one_final_decision(book: Book, moments: list[Moment]) -> None:
    log = events_of(moments)
    outcome = run(book, log)
    for person in PEOPLE:
        by_offer: dict[str, list[Decision]] = defaultdict(list)
        for each in outcome.decisions[person]:
            by_offer[each.offer_id].append(each)
        for found in by_offer.values():
            first = [each.outcome for each in found if each.outcome in FINAL | {"deferred"}]
            rule = book.rules[found[0].rule]
            assert len({each.rule for each in found}) == 1
            assert first.count("deferred") <= 1
            if first[0] == "deferred":
                answers = first[1:]
                certain = not (rule.when or rule.unless or rule.withdraw_on)
                assert len(answers) <= 1
                assert len(answers) == 1 or not certain
            else:
                assert len(first) == 1
        for rule in book.rules.values():
            if rule.mode is Mode.NOW and not rule.when:
                matched = {e.id for e in log if e.subject == person and e.type in rule.on}
                answered = {
                    each.trigger.event_id
                    for each in outcome.decisions[person]
                    if each.rule == rule.id and each.outcome in FINAL | {"deferred"}
                }
                assert answered == matched


@given(BOOKS, MOMENTS)
@everything
def test_a_cancelled_timer_never_fires(book: Book, moments: list[Moment]) -> None:
    log = events_of(moments)
    by_id = {event.id: event for event in log}
    outcome = run(book, log)
    for person in PEOPLE:
        bought = [e for e in log if e.subject == person and e.type == "purchase.completed"]
        for each in outcome.decisions[person]:
            rule, due = book.rules[each.rule], each.trigger.due_ms
            if due is None or not rule.unless or each.outcome not in FINAL | {"deferred"}:
                continue
            armed = by_id[each.trigger.event_id]
            name = rule.about_field(armed.type)
            about = getattr(armed.data, name)
            assert not [
                event
                for event in bought
                if log.index(event) > log.index(armed)
                and event.time_ms < due
                and getattr(event.data, name) == about
            ]
