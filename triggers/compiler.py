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
from triggers.conditions import Expressions
from triggers.contradictions import impossible
from triggers.customtypes import declare
from triggers.durations import parse_duration
from triggers.events import EVENT_TYPES
from triggers.extraskeys import allowed_of, check_message, compile_extras
from triggers.feedbackkeys import cool_off_of, sales_wait_of, with_own_lines
from triggers.forgetting import forget_spans_of
from triggers.gatecompiler import GateCompiler, holdout_of, merged
from triggers.gatekeys import Gate, Holdout
from triggers.gates import binding
from triggers.kindchecks import check_kind, in_checkout
from triggers.learningkeys import knowledge_of, pause_of, selections_min_of
from triggers.limitkeys import limit_of, quiet_of
from triggers.lints import lint
from triggers.names import Variable
from triggers.pickkeys import check_price, compile_pick
from triggers.retire import dates_of
from triggers.rules import (
    Content,
    RuleModel,
    TermsModel,
)
from triggers.ruletemplates import expand
from triggers.scopes import Scopes
from triggers.shapes import ASIDE, ROUNDS_MAX, Fault, Path, fault_of, is_echo, without
from triggers.teaching import teachers
from triggers.variantkeys import compile_variants

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
        self._custom = declare(model.events, ("events",), self._add)
        types = {**EVENT_TYPES, **self._custom}
        self._scopes = Scopes(types, model.segments, self._add)
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
            self._lint(model, ("rules", place))
        limits = tuple(limit_of(limit) for limit in book.limits)
        forget_ms, forget_visitors_ms = forget_spans_of(book, rules, limits, self._add)
        if self._faults:
            return self._faults
        quiet = None if book.quiet_hours is None else quiet_of(book.quiet_hours)
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
            segments=self._scopes.segments,
            allowed=allowed_of(book.allow),
            warnings=tuple(self._warnings),
            forget_ms=forget_ms,
            forget_visitors_ms=forget_visitors_ms,
        )

    def faults_beside(self, known: list[Fault]) -> list[Fault]:
        """The faults of the parts that are in shape, without what only follows from ``known``."""
        self.run()
        wrong = {f.path[:3] for f in known if f.path[:1] == ("rules",) and len(f.path) > 2}
        of_book = {f.path[1] for f in known if f.path[:1] == ("book",) and len(f.path) > 1}

        def follows(fault: Fault) -> bool:
            # What asks for a key that was put aside, as it was wrong, would mislead.
            if "terms" in of_book and fault.path[-1] == "terms":
                return True
            aside = {place[2] for place in wrong if place[:2] == fault.path[:2]} | of_book
            return any(f"`{key}{end}" in fault.message for key in aside for end in "`:")

        return [fault for fault in self._faults if not follows(fault)]

    def _add(self, path: Path, message: str, column: int = 1) -> None:
        self._faults.append(Fault(path, message, column))

    def _warn(self, path: Path, message: str) -> None:
        self._warnings.append(Fault(path, message))

    def _check_zone(self, zone: str) -> None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._add(("book", "timezone"), f"{zone!r} is no time zone of the IANA database")

    # -- rules -----------------------------------------------------------------------------

    def _rule(self, model: RuleModel, path: Path) -> compiled.Rule:
        before = len(self._faults)
        on = self._scopes.known_types(model.on, (*path, "on"))
        misread = len(self._faults) > before
        scope = self._scopes.scope(on)
        names = self._scopes.names(on)
        value = partial(self._scopes.value, scope)
        rule = compiled.Rule(
            id=model.id,
            kind=model.kind,
            on=on,
            channel=model.channel,
            pick=compile_pick(model.pick, value, (*path, "pick"), self._add),
            about=model.about,
            **self._moment(model, scope, path),
            natural={name: self._custom[name].about for name in on if name in self._custom},
            cooldown_ms=parse_duration(model.cooldown).ms if model.cooldown else 0,
            limits=tuple(limit_of(limit) for limit in model.limits),
            quiet_hours=None if model.quiet_hours is None else quiet_of(model.quiet_hours),
            placement=model.placement,
            priority=model.priority,
            quantity=model.quantity,
            price=self._price(model, path),
            valid_for_ms=parse_duration(
                model.valid_for or ("7d" if model.kind == "follow_up" else "24h")
            ).ms,
            withdraw_on=self._types_at(model.withdraw_on, (*path, "withdraw_on")),
            skip_after_ms=None
            if isinstance(model.lateness, str)
            else parse_duration(model.lateness.skip_after).ms,
            reason=self._scopes.texts(model.reason, names, (*path, "reason")),
            message=self._message(model, names, path),
            worth=self._worth(model, names, path),
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
        variants = compile_variants(model, path, self._rule, self._faults, self._add)
        return replace(rule, checks=binding(rule), variants=variants, learns=model.learn)

    def _lint(self, model: RuleModel, path: Path) -> None:
        lint(model, self._custom, self._model.segments, path, self._add, self._warn)
        never = impossible(model.when)
        if never is not None:
            place, name = never
            message = f"never holds beside the other lines ({name}): the rule cannot be reached"
            self._warn((*path, "when", place), message)

    def _compile_book_gate(self) -> Gate | None:
        model = self._model.book.gate
        if model is None:
            return None
        path = ("book", "gate")
        if model.framing is not None:
            self._add((*path, "framing"), "each down_sell says for itself why it fits")
        return GateCompiler(self._scopes.scope(()), path, self._add).gate(model)

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

    def _types_at(self, types: list[str], path: Path) -> frozenset[str]:
        return frozenset(self._scopes.known_types(types, path))

    def _moment(self, model: RuleModel, scope: Expressions, path: Path) -> dict[str, Any]:
        """When the rule decides, and under which conditions."""
        given = [key for key in ("after", "after_silence", "before") if getattr(model, key)]
        if len(given) > 1:
            self._add((*path, given[1]), f"a rule has one moment: {given[0]} or {given[1]}")
        mode = compiled.Mode(given[0]) if given else compiled.Mode.NOW
        delay = getattr(model, given[0]) if given else None
        zone = self._model.book.timezone
        dates = dates_of(model.retire, zone, (*path, "retire"), self._add)
        conditions = self._scopes.conditions
        arm_when = conditions(model.arm_when, scope, (*path, "arm_when"))
        return {
            "mode": mode,
            "delay": parse_duration(delay) if isinstance(delay, str) else None,
            "before": self._before(model, scope, path),
            "unless": self._types_at(model.unless, (*path, "unless")),
            "when": (*dates, *conditions(model.when, scope, (*path, "when"))),
            "arm_when": arm_when if mode is compiled.Mode.NOW else (*dates, *arm_when),
        }

    def _before(self, model: RuleModel, scope: Expressions, path: Path) -> compiled.Before | None:
        if model.before is None:
            return None
        date = self._scopes.value(scope, model.before.date, (*path, "before", "date"), ("string",))
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
                found[key] = self._scopes.texts(text, names, (*path, "message", key))
        return found

    def _worth(self, model: RuleModel, names: Mapping[str, Variable], path: Path) -> dict[str, Any]:
        worth = None if model.message is None else model.message.worth
        if worth is None:
            return {}
        return {
            key: self._scopes.texts(getattr(worth, key), names, (*path, "message", "worth", key))
            for key in ("price", "effort", "payback")
        }

    def _terms(self, model: RuleModel, path: Path) -> dict[str, dict[str, str]] | None:
        known: dict[str, TermsModel] = self._model.book.terms
        if model.terms is None:
            if in_checkout(model):
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
