"""Runs scenarios through the whole engine on a virtual clock, and says where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streams.replay import Replay, apply_line
from streams.scenariodiff import Seen, differences
from streams.scenariolog import EventWriter, ScenarioFault
from streams.scenarios import Scenario
from streams.scenariotime import START, Times, TimeTextError, absolute
from streams.strictyaml import Fault
from triggers.book import Book
from triggers.conditions import ExpressionError, Expressions
from triggers.context import FUNCTIONS, VARIABLES, Context
from triggers.customer import Customer
from triggers.decisions import Offer
from triggers.durations import DAY_MS
from triggers.errors import Refused
from triggers.events import EVENT_TYPES
from triggers.judgement import Step
from triggers.payloads import CustomerObjected
from triggers.shapes import Path

#: A scenario without `until` runs on for so long after its last event.
RUN_ON_DAYS = 30
CUSTOMER = "customer-1"


@dataclass(slots=True)
class Result:
    """What came of one scenario: no differences and no faults when it holds; ``seen`` are all its
    decisions."""

    scenario: Scenario
    differences: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything came as expected."""
        return not self.differences and not self.faults


def run_scenario(book: Book, scenario: Scenario) -> Result:
    """Run one scenario under a book; what differs from its expectations."""
    result = Result(scenario)
    try:
        run = _Run(book, scenario)
        result.seen = run.seen
        run.play()
        expected = run.expected()
        never = _known_rules(scenario, book)
        result.differences += differences(expected, run.seen, never, scenario.rules, run.times)
        result.differences += run.untrue()
    except ScenarioFault as error:
        result.faults.append(error.fault)
    return result


class _Run:
    def __init__(self, book: Book, scenario: Scenario) -> None:
        self.book = book
        self.scenario = scenario
        self.seen: list[Seen] = []
        self._offers: dict[tuple[str, str], str] = {}
        start = scenario.setup.start or START
        try:
            self.times = Times(absolute(start, book.timezone), book.timezone)
        except TimeTextError as error:
            raise ScenarioFault(scenario.fault(("setup", "start"), str(error))) from None
        self._customer = scenario.setup.customer or CUSTOMER
        self._replay = Replay(book, self._write)
        self._writer = EventWriter(
            scenario,
            {**EVENT_TYPES, **book.custom},
            book.currency,
            self._replay.catalog,
            self._offers,
        )

    def _write(self, out: Step) -> None:
        bodies = {offer.offer_id: offer for offer in out.offers if isinstance(offer, Offer)}
        for decision in out.decisions:
            offered = bodies.get(decision.offer_id) if decision.outcome == "offered" else None
            value = offered.encode() if offered is not None else decision.encode()
            data = msgspec.json.decode(value)["data"]
            self.seen.append(Seen(decision, data))
            if offered is not None:
                self._offers[decision.customer, decision.rule] = offered.offer_id

    # -- the log ---------------------------------------------------------------------------

    def play(self) -> None:
        """Apply the setup and all events, and let time pass to the end."""
        steps = list(self._steps())
        instants = self._instants(steps)
        first = min([self.times.start_ms, *instants])
        self._set_up(
            first - DAY_MS, sorted({self._customer, *map(self._who, (s for s, _ in steps))})
        )
        for (step, path), at_ms in zip(steps, instants, strict=True):
            self._apply(step, at_ms, path)
        last = max(instants, default=self.times.start_ms)
        self.end_ms = last + RUN_ON_DAYS * DAY_MS
        if self.scenario.model.until is not None:
            self.end_ms = self._time(self.scenario.model.until, ("until",))
            if self.end_ms < last:
                raise self._fault(("until",), "ends before the last event")
        self._replay.fire(self.end_ms)

    def _steps(self) -> Iterator[tuple[dict[str, Any], Path]]:
        """The steps of ``given``, named events put in."""
        named = self.scenario.setup.events
        for place, step in enumerate(self.scenario.model.given):
            path: Path = ("given", place)
            if "do" in step:
                base = named.get(str(step["do"]))
                if base is None:
                    raise self._fault((*path, "do"), f"no event of the setup is named {step['do']}")
                step = {**base, **{key: value for key, value in step.items() if key != "do"}}
            if "at" not in step:
                raise self._fault(path, "has no time: at")
            yield step, path

    def _instants(self, steps: list[tuple[dict[str, Any], Path]]) -> list[int]:
        found: list[int] = []
        for step, path in steps:
            before = found[-1] if found else None
            at_ms = self._time(str(step["at"]), (*path, "at"), before)
            if before is not None and at_ms < before:
                raise self._fault((*path, "at"), "goes back behind the event before it")
            found.append(at_ms)
        return found

    def _who(self, step: dict[str, Any]) -> str:
        return str(step.get("customer", self._customer))

    def _set_up(self, at_ms: int, customers: list[str]) -> None:
        setup = self.scenario.setup
        catalog = setup.catalog
        lines: list[dict[str, Any]] = [
            {"event": "catalog.product_set", "sku": sku, **product}
            for sku, product in catalog.products.items()
        ]
        lines += [
            {"event": "catalog.relation_set", **relation.model_dump(exclude_none=True)}
            for relation in catalog.relations
        ]
        lines += [
            {"event": "catalog.bundle_set", "sku": sku, **bundle}
            for sku, bundle in catalog.bundles.items()
        ]
        lines += [
            {"event": "catalog.stock_set", "sku": sku, "stock": stock}
            for sku, stock in catalog.stock.items()
        ]
        for line in lines:
            self._apply(line, at_ms, ("setup", "catalog"))
        consent = ["*"] if setup.consent is None else setup.consent
        channels = [consent] if isinstance(consent, str) else consent
        for customer in customers:
            for channel in channels:
                if channel != "none":
                    step = {"event": "consent.granted", "channel": channel, "customer": customer}
                    self._apply(step, at_ms, ("setup", "consent"))

    def _apply(self, step: dict[str, Any], at_ms: int, path: Path) -> None:
        self._replay.fire(at_ms)  # the step may name an offer that a timer has just made
        line = self._writer.line(step, at_ms, self._who(step), path)
        wanted = step.get("refused")
        try:
            apply_line(self._replay, line)
        except Refused as refused:
            if refused.reason == wanted:
                return
            name = f"{step['event']} {step.get('sku', '')}".strip()
            raise self._fault(path, f"{name} is refused: {refused}") from None
        if wanted is not None:
            raise self._fault((*path, "refused"), "was not refused")

    # -- the expectations ------------------------------------------------------------------

    def expected(self) -> list[tuple[int, str, Any]] | None:
        """Instant, place and model of each expected decision; None where none are looked at."""
        if self.scenario.model.expect is None:
            return None
        found = []
        for place, model in enumerate(self.scenario.model.expect):
            path: Path = ("expect", place)
            if model.rule not in self.book.rules:
                raise self._fault((*path, "rule"), f"the book has no rule {model.rule}")
            at_ms = self._time(model.at, (*path, "at"))
            if at_ms > self.end_ms:
                raise self._fault((*path, "at"), "lies behind the end of the scenario: give until")
            customer = model.customer or self._customer
            found.append(
                (at_ms, self.scenario.at(path), model.model_copy(update={"customer": customer}))
            )
        return found

    def untrue(self) -> list[str]:
        """The lines of ``holds`` that do not hold at the end."""
        if not self.scenario.model.holds:
            return []
        expressions = Expressions({**VARIABLES, **self.book.segments}, FUNCTIONS)
        customer = self._replay.customers.get(self._customer) or Customer(self._customer)
        ctx = Context(
            CustomerObjected(), "", customer, self.end_ms, self.book, self._replay.catalog
        )
        found = []
        for place, text in enumerate(self.scenario.model.holds):
            try:
                condition = expressions.condition(text)
            except ExpressionError as error:
                raise self._fault(("holds", place), str(error)) from None
            if not condition.holds(ctx):
                found.append(f"does not hold at the end: {text}{_values(text, ctx)}")
        return found

    def _time(self, text: str, path: Path, before_ms: int | None = None) -> int:
        try:
            return self.times.read(text, before_ms)
        except (TimeTextError, ValueError, OverflowError) as error:
            raise self._fault(path, str(error)) from None

    def _fault(self, path: Path, message: str) -> ScenarioFault:
        return ScenarioFault(self.scenario.fault(path, message))


def _values(text: str, ctx: Context) -> str:
    """The values of the names in a line, so that nobody has to guess."""
    shown = [
        f"{name} is {variable.get(ctx)!r}" for name, variable in VARIABLES.items() if name in text
    ]
    return f" ({', '.join(shown)})" if shown else ""


def _known_rules(scenario: Scenario, book: Book) -> list[str]:
    for place, rule in enumerate(scenario.model.never):
        if rule not in book.rules:
            raise ScenarioFault(scenario.fault(("never", place), f"the book has no rule {rule}"))
    for place, rule in enumerate(scenario.rules or ()):
        if rule not in book.rules:
            raise ScenarioFault(scenario.fault(("rules", place), f"the book has no rule {rule}"))
    return scenario.model.never
