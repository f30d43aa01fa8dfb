"""From a parsed rule book to the compiled one, with every fault named at its path."""

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from pydantic import ValidationError

from triggers import book as compiled
from triggers.conditions import Condition, ExpressionError, Expressions, Value
from triggers.context import FUNCTIONS, VARIABLES, event_variables
from triggers.customtypes import declare
from triggers.durations import DailyWindow, parse_duration
from triggers.errors import RuleError
from triggers.events import CATALOG, EVENT_TYPES
from triggers.extraskeys import allowed_of, check_message, compile_extras
from triggers.feedbackkeys import cool_off_of, sales_wait_of, with_own_lines
from triggers.gatecompiler import GateCompiler, holdout_of, merged
from triggers.gatekeys import Gate, Holdout
from triggers.gates import binding
from triggers.kindchecks import check_kind
from triggers.learningkeys import knowledge_of, pause_of, selections_min_of
from triggers.names import Variable
from triggers.offerfacts import offer_variables
from triggers.pickkeys import check_price, compile_pick
from triggers.retire import Dates, instant
from triggers.rules import (
    Content,
    LimitModel,
    QuietModel,
    RuleModel,
    TermsModel,
    TextModel,
)
from triggers.ruletemplates import expand
from triggers.segments import in_order
from triggers.shapes import ASIDE, ROUNDS_MAX, Fault, Path, fault_of, is_echo, without
from triggers.teaching import teachers
from triggers.templates import TemplateError, compile_template

#: A name that only the events in ``on`` bring along.
_NAME_OF_EVENT = re.compile(r"unknown name (event|offer)\.")


def compile_content(content: Mapping[str, Any]) -> compiled.Book | list[Fault]:
    """The book of a parsed content, or all its faults."""
    expanded = expand(content)
    found = _compiled(expanded.content)
    if isinstance(found, compiled.Book):
        return expanded.faults or found
    return [*expanded.faults, *map(expanded.at_origin, found)]


def _compiled(content: Mapping[str, Any]) -> compiled.Book | list[Fault]:
    faults: list[Fault] = []
    sound: Any = content
    for _ in range(ROUNDS_MAX):
        try:
            model = Content.model_validate(sound)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if not faults:
                faults = [fault_of(each) for each in found if not is_echo(each)]
            sound = without(sound, [each["loc"] for each in found])
            continue
        compiler = _Compiler(model, sound)
        if not faults:
            return compiler.run()
        # What is of the right shape is checked too, so that all faults are seen at once.
        return [*faults, *compiler.faults_beside(faults)]
    return faults


class _Compiler:
    def __init__(self, model: Content, content: Mapping[str, Any]) -> None:
        self._model = model
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._text = _canonical(content)
        self._digest = blake2b(self._text, digest_size=16).hexdigest()
        self._scopes: dict[tuple[str, ...], Expressions] = {}
        self._names: dict[tuple[str, ...], dict[str, Variable]] = {}
        self._custom = declare(model.events, ("events",), self._add)
        self._types = {**EVENT_TYPES, **self._custom}
        self._segments = self._compile_segments()
        self._book_gate = self._compile_book_gate()

    def run(self) -> compiled.Book | list[Fault]:
        """Compile everything, gathering faults."""
        book = self._model.book
        self._check_zone(book.timezone)
        seen: set[str] = set()
        rules: list[compiled.Rule] = []
        for place, model in enumerate(self._model.rules):
            if model.id in seen and model.id != ASIDE["id"]:
                self._add(("rules", place, "id"), f"the id {model.id} is taken by another rule")
            seen.add(model.id)
            rules.append(self._rule(model, ("rules", place)))
        if self._faults:
            return self._faults
        limits = tuple(_limit(limit) for limit in book.limits)
        quiet = None if book.quiet_hours is None else _quiet(book.quiet_hours)
        made = compiled.make_book(
            book.name,
            book.timezone,
            book.currency,
            self._digest,
            rules,
            limits,
            quiet,
            holdout_of(book.holdout),
        )
        return replace(
            made,
            learning=teachers(knowledge_of(rules, self._text)),
            selections_min=selections_min_of(book.learn),
            custom=self._custom,
            allowed=allowed_of(book.allow),
            warnings=tuple(self._warnings),
        )

    def faults_beside(self, known: list[Fault]) -> list[Fault]:
        """The faults of the parts that are in shape, without what only follows from ``known``."""
        self.run()
        wrong = {fault.path[:3] for fault in known if fault.path[:1] == ("rules",)}
        no_terms = any(fault.path[:2] == ("book", "terms") for fault in known)
        return [
            fault
            for fault in self._faults
            if not (no_terms and fault.path[-1] == "terms")
            and not ("`terms`" in fault.message and (*fault.path, "terms") in wrong)
        ]

    def _add(self, path: Path, message: str, column: int = 1) -> None:
        self._faults.append(Fault(path, message, column))

    def _warn(self, path: Path, message: str) -> None:
        self._warnings.append(Fault(path, message))

    def _check_zone(self, zone: str) -> None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._add(("book", "timezone"), f"{zone!r} is no time zone of the IANA database")

    # -- names and expressions -------------------------------------------------------------

    def _compile_segments(self) -> dict[str, Variable]:
        """The segments, each after those that it names."""
        found: dict[str, Variable] = {}
        sources = self._model.segments
        for name in in_order(sources, self._add):
            scope = Expressions({**VARIABLES, **found}, FUNCTIONS)
            try:
                condition = scope.condition(sources[name])
            except ExpressionError as error:
                self._add(("segments", name), str(error), error.column)
                condition = scope.condition("false")  # its name is known: no faults that follow
            found[f"segment.{name}"] = Variable("bool", condition.holds, lambda ctx: True)
        return found

    def _scope(self, types: tuple[str, ...]) -> Expressions:
        if types not in self._scopes:
            names = {**VARIABLES, **self._segments, **offer_variables(types)}
            names |= event_variables(types, self._types)
            self._names[types] = names
            self._scopes[types] = Expressions(names, FUNCTIONS)
        return self._scopes[types]

    def _conditions(
        self, sources: list[str], scope: Expressions, path: Path
    ) -> tuple[Condition, ...]:
        found = []
        for place, source in enumerate(sources):
            try:
                found.append(scope.condition(source))
            except ExpressionError as error:
                self._add((*path, place), str(error), error.column)
        return tuple(found)

    def _value(
        self, source: str, scope: Expressions, path: Path, kinds: tuple[str, ...]
    ) -> Value | None:
        try:
            value = scope.value(source)
        except ExpressionError as error:
            self._add(path, str(error), error.column)
            return None
        if value.type.partition("<")[0] not in kinds:
            self._add(path, f"must be of type {' or '.join(kinds)}, but is {value.type}")
        return value

    def _value_at(
        self, scope: Expressions, source: str, path: Path, kinds: tuple[str, ...]
    ) -> Value | None:
        return self._value(source, scope, path, kinds)

    def _texts(self, model: TextModel, names: Mapping[str, Variable], path: Path) -> dict[str, Any]:
        found = {}
        for language in ("ja", "en"):
            try:
                found[language] = compile_template(getattr(model, language), language, names)
            except TemplateError as error:
                self._add((*path, language), str(error), error.column)
        return found

    def _known_types(self, types: list[str], path: Path) -> tuple[str, ...]:
        known = [name for name, kind in self._types.items() if kind.topic != CATALOG]
        for place, name in enumerate(types):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self._add((*path, place), f"unknown event type {name}{hint}")
        return tuple(name for name in types if name in known)

    # -- rules -----------------------------------------------------------------------------

    def _rule(self, model: RuleModel, path: Path) -> compiled.Rule:
        before = len(self._faults)
        on = self._known_types(model.on, (*path, "on"))
        misread = len(self._faults) > before
        scope = self._scope(on)
        dates = self._dates(model, path)
        names = self._names[on]
        mode, delay = self._moment(model, path)
        value = partial(self._value_at, scope)
        rule = compiled.Rule(
            id=model.id,
            kind=model.kind,
            on=on,
            channel=model.channel,
            pick=compile_pick(model.pick, value, (*path, "pick"), self._add),
            mode=mode,
            about=model.about,
            delay=None if delay is None else parse_duration(delay),
            before=self._before(model, scope, path),
            unless=frozenset(self._known_types(model.unless, (*path, "unless"))),
            when=(*dates, *self._conditions(model.when, scope, (*path, "when"))),
            arm_when=(
                *(dates if mode is not compiled.Mode.NOW else ()),
                *self._conditions(model.arm_when, scope, (*path, "arm_when")),
            ),
            natural={name: self._custom[name].about for name in on if name in self._custom},
            cooldown_ms=parse_duration(model.cooldown).ms if model.cooldown else 0,
            limits=tuple(_limit(limit) for limit in model.limits),
            quiet_hours=None if model.quiet_hours is None else _quiet(model.quiet_hours),
            placement=model.placement,
            priority=model.priority,
            quantity=model.quantity,
            price=self._price(model, path),
            valid_for_ms=parse_duration(
                model.valid_for or ("7d" if model.kind == "follow_up" else "24h")
            ).ms,
            withdraw_on=frozenset(self._known_types(model.withdraw_on, (*path, "withdraw_on"))),
            skip_after_ms=None
            if isinstance(model.lateness, str)
            else parse_duration(model.lateness.skip_after).ms,
            reason=self._texts(model.reason, names, (*path, "reason")),
            message=self._message(model, names, path),
            terms=self._terms(model, path),
            extras=compile_extras(model, value, path, self._add),
            pause=pause_of(model, self._model.book.pause_over, path, self._add),
            gate=self._gate(model, scope, path),
            holdout=self._holdout(model),
            cool_off=cool_off_of(model, self._model.book.cool_off, path, self._add),
            sales_wait=sales_wait_of(model, path, self._add),
        )
        check_kind(model, self._model.book, path, self._add)
        check_price(model, path, self._add)
        check_message(model, path, self._add, self._warn)
        if misread:  # the names of an event that nobody knows are no further faults
            kept = [f for f in self._faults[before:] if not _NAME_OF_EVENT.search(f.message)]
            self._faults[before:] = kept
        rule = replace(rule, **self._once_per(model, path))
        rule = with_own_lines(rule)
        return replace(rule, checks=binding(rule))

    def _compile_book_gate(self) -> Gate | None:
        model = self._model.book.gate
        if model is None:
            return None
        path = ("book", "gate")
        if model.framing is not None:
            self._add((*path, "framing"), "each down_sell says for itself why it fits")
        return GateCompiler(self._scope(()), path, self._add).gate(model)

    def _gate(self, model: RuleModel, scope: Expressions, path: Path) -> Gate:
        own = Gate()
        if model.gate is not None:
            own = GateCompiler(scope, (*path, "gate"), self._add).gate(model.gate)
            if own.framing_fit and model.kind != "down_sell":
                message = f"belongs to a down_sell, and this is a {model.kind}"
                self._add((*path, "gate", "framing"), message)
        return merged(own, self._book_gate, model.kind)

    def _holdout(self, model: RuleModel) -> Holdout | None:
        book = self._model.book.holdout
        return holdout_of(model.holdout, "" if book is None else book.salt or "")

    def _moment(self, model: RuleModel, path: Path) -> tuple[compiled.Mode, str | None]:
        given = [key for key in ("after", "after_silence", "before") if getattr(model, key)]
        if len(given) > 1:
            self._add((*path, given[1]), f"a rule has one moment: {given[0]} or {given[1]}")
        if not given:
            return compiled.Mode.NOW, None
        delay = getattr(model, given[0])
        return compiled.Mode(given[0]), delay if isinstance(delay, str) else None

    def _dates(self, model: RuleModel, path: Path) -> tuple[Condition | Dates, ...]:
        """The condition that stands for ``retire``; none without it."""
        retire = model.retire
        if retire is None:
            return ()
        found = Dates(f"retire: {retire.from_ or ''} to {retire.to or ''}")
        for key, text in (("from", retire.from_), ("to", retire.to)):
            try:
                if text is not None:
                    setattr(found, f"{key}_ms", instant(text, self._model.book.timezone))
            except RuleError as error:
                self._add((*path, "retire", key), str(error))
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass  # the book's zone has its own fault
        if found.from_ms >= found.to_ms:
            self._add((*path, "retire", "to"), "lies before `from`")
        return (found,)

    def _before(self, model: RuleModel, scope: Expressions, path: Path) -> compiled.Before | None:
        if model.before is None:
            return None
        date = self._value(model.before.date, scope, (*path, "before", "date"), ("string",))
        if date is None:
            return None
        by = parse_duration(model.before.by)
        return compiled.Before(date, by, model.before.if_past == "fire")

    def _price(self, model: RuleModel, path: Path) -> compiled.Price:
        price = model.price
        if isinstance(price, str):
            return compiled.Price()
        if (price.off is None) == (price.set is None):
            self._add((*path, "price"), "is either {off: 4%} or {set: amount}")
            return compiled.Price()
        if price.set is not None:
            return compiled.Price("set", set_minor=price.set)
        whole, _, tenth = str(price.off).removesuffix("%").partition(".")
        return compiled.Price("off", off_permille=int(whole) * 10 + int(tenth or 0))

    def _message(
        self, model: RuleModel, names: Mapping[str, Variable], path: Path
    ) -> dict[str, Any]:
        message = model.message
        found = {}
        for key in ("for_whom", "benefit", "story", "content_ref"):
            text = None if message is None else getattr(message, key)
            if text is not None and not isinstance(text, str):
                found[key] = self._texts(text, names, (*path, "message", key))
        return found

    def _terms(self, model: RuleModel, path: Path) -> dict[str, dict[str, str]] | None:
        known: dict[str, TermsModel] = self._model.book.terms
        if model.terms is None:
            checkout = any(name.startswith("checkout.") for name in model.on)
            if checkout and model.placement is not None and "checkout" in model.placement:
                message = "an offer in the checkout names its `terms`, from the book's `terms:`"
                self._add(path, message)
            return None
        if model.terms not in known:
            close = get_close_matches(model.terms, list(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self._add((*path, "terms"), f"the book has no terms {model.terms}{hint}")
            return None
        facts = known[model.terms].model_dump()
        return {name: dict(text) for name, text in facts.items()}

    def _once_per(self, model: RuleModel, path: Path) -> dict[str, Any]:
        timed = any((model.after, model.after_silence, model.before))
        text = model.once_per or ("about" if timed else "always")
        if text in ("customer", "about", "always"):
            return {"once_per": text}
        try:
            return {"once_per": "", "once_per_ms": parse_duration(text).ms}
        except ValueError:
            message = f"{text!r} is not customer, about, always or a duration"
            self._add((*path, "once_per"), message)
            return {}


def _canonical(content: Mapping[str, Any]) -> bytes:
    """Bytes that do not depend on the order of files, rules and keys."""
    rules = sorted(content.get("rules", ()), key=lambda rule: str(rule.get("id")))
    return msgspec.json.encode({**content, "rules": rules}, order="sorted")


def _limit(model: LimitModel) -> compiled.Limit:
    kinds = compiled.SALES if model.kinds is None else frozenset(model.kinds)
    window_ms = parse_duration(model.in_).ms
    return compiled.Limit(model.max, window_ms, kinds, model.channel, model.placement)


def _quiet(model: QuietModel) -> compiled.QuietHours:
    def minutes(text: str) -> int:
        hours, _, rest = text.partition(":")
        return int(hours) * 60 + int(rest)

    window = DailyWindow(minutes(model.from_), minutes(model.to))
    return compiled.QuietHours(window, frozenset(model.channels), model.then)
