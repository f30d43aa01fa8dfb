"""The compiled rule book: what the engine reads. Built by ``triggers.rules`` from checked YAML.

Everything is frozen; a new book is a new object, and partitions swap it between two batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from triggers.bounds import Allowed
from triggers.durations import DAY_MS, DailyWindow, Duration
from triggers.events import CUSTOMER, EVENT_TYPES, EventType
from triggers.extras import NONE as NO_EXTRAS
from triggers.extras import Extras
from triggers.gatekeys import DOWNSELL_WAIT_MS, Gate, Holdout
from triggers.rates import SELECTED_MIN, Pause
from triggers.rules import FORGET_DAYS
from triggers.teaching import Teacher

if TYPE_CHECKING:
    from triggers.context import Context
    from triggers.shapes import Fault

SALES = frozenset({"cross_sell", "up_sell", "down_sell"})
KINDS = SALES | {"follow_up"}


#: Picks that offer again what the customer has or wants: ownership does not matter to them.
IGNORES_OWNERSHIP = frozenset({"same", "sku", "replenishes", "none", "perk"})
#: Events after which a customer may own other skus.
CHANGES_OWNED = frozenset({"purchase.completed", "purchase.refunded", "purchase.cancelled"})


class Mode(StrEnum):
    """When a rule decides: at the event, or by a timer that the event arms."""

    NOW = "now"
    AFTER = "after"
    AFTER_SILENCE = "after_silence"
    BEFORE = "before"


class Condition(Protocol):
    """One line of ``when``: source text, place in the file, and its truth for a context."""

    source: str

    def holds(self, ctx: "Context") -> bool:
        """True only when the expression is exactly true; an error is false and is counted."""
        ...


class Value(Protocol):
    """An expression that yields a value, such as the argument of ``pick``."""

    source: str

    def get(self, ctx: "Context") -> Any:
        """The value, or None when the expression has no value here."""
        ...


class Template(Protocol):
    """A text with ``{names}`` in it."""

    def render(self, ctx: "Context") -> str:
        """The text for this context; unknown values are empty."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``max`` offers in the window ``(at - in, at]``."""

    max: int
    window_ms: int
    kinds: frozenset[str] = SALES
    channel: str | None = None
    placement: str | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Local hours in which the named channels stay silent; ``then``: ``defer`` or ``suppress``."""

    window: DailyWindow
    channels: frozenset[str]
    then: str


@dataclass(frozen=True, slots=True)
class Before:
    """A date anchor: the timer is due ``by`` before the instant that ``date`` names.

    ``date`` yields RFC 3339 text or None; ``fire_if_past`` decides at once when that instant has
    passed already, otherwise nothing is armed.
    """

    date: Value
    by: Duration
    fire_if_past: bool = False


@dataclass(frozen=True, slots=True)
class Pick:
    """What a rule offers. ``kind`` is the key in the book; ``none`` offers no item."""

    kind: str
    value: Value | None = None  # an expression: a sku, skus or items
    sku: str = ""  # for ``sku``
    amount: int = 0  # for ``closes_gap_to``, minor units
    source: str = ""  # ``from`` of ``closes_gap_to``: "complements", or a pick that is learnt
    max: int = 1
    min_support: int = 1  # of what is learnt: how often a pair must have been seen
    features: Value | None = None  # tags of which a candidate must have one
    exclude: frozenset[str] = frozenset()  # categories and families that are never offered
    leave_out_owned: bool = False  # of a set: the rest of it alone


@dataclass(frozen=True, slots=True)
class Price:
    """``list``, ``off`` (per mille of the list price: 4% is 40) or ``set`` (minor units)."""

    kind: str = "list"
    off_permille: int = 0
    set_minor: int = 0


@dataclass(frozen=True, slots=True)
class CoolOff:
    """Silence for ``ms`` after a decline with one of ``reasons``.

    ``over`` says whose decline counts: of the rule's own offers (``rule``), of those at its
    placement (``placement``) or of any (``all``).
    """

    ms: int
    reasons: tuple[str, ...] = ("not_needed",)
    over: str = "rule"


Texts = Mapping[str, Template]  # language -> text


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be judged. Field names are those of the rule language."""

    id: str
    kind: str
    on: tuple[str, ...]
    channel: str
    pick: Pick
    mode: Mode = Mode.NOW
    about: str | None = None  # the field that overrides the natural one
    delay: Duration | None = None
    before: Before | None = None
    unless: frozenset[str] = frozenset()
    when: tuple[Condition, ...] = ()  # of an immediate rule in a book: arm_when, then when
    arm_when: tuple[Condition, ...] = ()
    once_per: str = "always"  # "customer", "about", "always" or "" with once_per_ms
    once_per_ms: int = 0
    cooldown_ms: int = 0
    limits: tuple[Limit, ...] = ()
    quiet_hours: QuietHours | None = None  # the rule's own; else the book's
    placement: str | None = None
    priority: int = 50
    quantity: int = 1
    price: Price = Price()
    valid_for_ms: int = 86_400_000
    withdraw_on: frozenset[str] = frozenset()
    skip_after_ms: int | None = None  # lateness; None fires however late
    reason: Texts = field(default_factory=dict)
    message: Mapping[str, Texts] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, str]] | None = None
    pause: Pause | None = None  # complaints that make the rule rest
    gate: Gate = field(default_factory=Gate)  # with what the book's adds
    holdout: Holdout | None = None
    cool_off: tuple[CoolOff, ...] = ()  # the rule's own, and the book's where it sells
    sales_wait: bool = False  # while its timer is pending, nothing is sold
    checks: tuple[tuple[str, Callable[[Any], bool]], ...] = ()  # gates that can bind, in order
    variants: tuple[tuple[int, "Rule"], ...] = ()  # each with its share in per mille
    variant: str = ""  # the name of a variant
    learns: bool = False  # variants are drawn by what was accepted, not by shares
    worth: Mapping[str, Texts] = field(default_factory=dict)  # price, effort and payback
    natural: Mapping[str, str] = field(default_factory=dict)  # of custom types in ``on``
    extras: Extras = NO_EXTRAS

    def about_field(self, event_type: str) -> str:
        """The payload field that says what the rule is about when ``event_type`` triggers it."""
        if self.about is not None:
            return self.about
        known = EVENT_TYPES.get(event_type)
        return known.about if known is not None else self.natural.get(event_type, CUSTOMER)


@dataclass(frozen=True, slots=True)
class Book:
    """A whole rule book, indexed by event type, rules in id order.

    ``immediate`` and ``timed`` are the two halves of ``by_event``, each rule with the field that
    says what it is about at such an event. ``bars`` tells of each ``unless`` event which fields
    the timer rules that name it are about. ``learning`` is what events teach across customers, as
    far as the book uses it. ``recall_ms`` says how far back gates other than limits count offers,
    ``by_session`` whether one counts those of a session. ``custom`` are the event types that it
    declares. ``allowed`` may lie outside the bounds of prices; ``warnings`` are what ``check``
    says of a book without faults. ``sales_wait`` names the rules whose pending timers hold sales
    back, ``sales_wait_for`` the events that arm them. ``looks_at_owned`` are the events that change
    what a customer owns, where a rule that answers at once passes over what they owned before.
    ``forget_ms`` and ``forget_visitors_ms`` are how long nothing may happen with somebody until
    they are forgotten.
    """

    name: str
    timezone: str
    currency: str
    digest: str
    rules: Mapping[str, Rule]
    limits: tuple[Limit, ...] = ()
    quiet_hours: QuietHours | None = None
    by_event: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    immediate: Mapping[str, tuple[tuple[Rule, str], ...]] = field(default_factory=dict)
    timed: Mapping[str, tuple[tuple[Rule, str], ...]] = field(default_factory=dict)
    cancels: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    withdraws: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    bars: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    learning: Mapping[str, tuple[Teacher, ...]] = field(default_factory=dict)
    selections_min: int = SELECTED_MIN
    holdout: Holdout | None = None
    recall_ms: int = 0
    by_session: bool = False
    custom: Mapping[str, EventType] = field(default_factory=dict)
    segments: Mapping[str, Any] = field(default_factory=dict)  # names of expressions
    allowed: Allowed = field(default_factory=Allowed)
    warnings: tuple["Fault", ...] = ()
    sales_wait: frozenset[str] = frozenset()
    sales_wait_for: frozenset[str] = frozenset()
    looks_at_owned: frozenset[str] = frozenset()
    forget_ms: int = FORGET_DAYS * DAY_MS
    forget_visitors_ms: int = FORGET_DAYS * DAY_MS


def make_book(
    name: str,
    timezone: str,
    currency: str,
    digest: str,
    rules: list[Rule],
    limits: tuple[Limit, ...] = (),
    quiet_hours: QuietHours | None = None,
    holdout: Holdout | None = None,
) -> Book:
    """Index ``rules`` (ids unique) into a :class:`Book`."""
    ordered = sorted(map(_settled, rules), key=lambda rule: rule.id)

    def index(types_of: Callable[[Rule], Any]) -> dict[str, tuple[Rule, ...]]:
        found: dict[str, list[Rule]] = {}
        for rule in ordered:
            for event_type in sorted(types_of(rule)):
                found.setdefault(event_type, []).append(rule)
        return {key: tuple(value) for key, value in found.items()}

    by_event = index(lambda rule: rule.on)
    cancels = index(lambda rule: rule.unless)

    def half(timed: bool) -> dict[str, tuple[tuple[Rule, str], ...]]:
        return {
            event_type: tuple(
                (rule, rule.about_field(event_type))
                for rule in rules
                if (rule.mode is not Mode.NOW) is timed
            )
            for event_type, rules in by_event.items()
        }

    immediate = half(timed=False)
    return Book(
        name=name,
        timezone=timezone,
        currency=currency,
        digest=digest,
        rules={rule.id: rule for rule in ordered},
        limits=limits,
        quiet_hours=quiet_hours,
        by_event=by_event,
        immediate=immediate,
        timed=half(timed=True),
        cancels=cancels,
        withdraws=index(lambda rule: rule.withdraw_on),
        bars={event_type: _barred_fields(rules) for event_type, rules in cancels.items()},
        holdout=holdout,
        recall_ms=max(map(_recall_ms, ordered), default=0),
        sales_wait=frozenset(rule.id for rule in ordered if rule.sales_wait),
        sales_wait_for=frozenset(kind for rule in ordered if rule.sales_wait for kind in rule.on),
        looks_at_owned=frozenset(
            kind
            for kind in CHANGES_OWNED
            if any(_passes_over_owned(rule) for rule, _ in immediate.get(kind, ()))
        ),
        by_session=any(not f.window_ms for rule in ordered for f in rule.gate.fatigue),
    )


def _passes_over_owned(rule: Rule) -> bool:
    every = (rule, *(variant for _, variant in rule.variants))
    return any(each.pick.kind not in IGNORES_OWNERSHIP for each in every)


def _recall_ms(rule: Rule) -> int:
    spans = [limit.window_ms for limit in rule.gate.fatigue]
    return max([*spans, DOWNSELL_WAIT_MS if rule.kind == "down_sell" else 0])


def _settled(rule: Rule) -> Rule:
    """An immediate rule judges both lists of conditions at the same moment: one list does."""
    if rule.mode is not Mode.NOW or not rule.arm_when:
        return rule
    return replace(rule, when=(*rule.arm_when, *rule.when), arm_when=())


def _barred_fields(rules: tuple[Rule, ...]) -> tuple[str, ...]:
    timed = [rule for rule in rules if rule.mode is not Mode.NOW]
    fields = {rule.about_field(event_type) for rule in timed for event_type in rule.on}
    return tuple(sorted(fields - {CUSTOMER}))
