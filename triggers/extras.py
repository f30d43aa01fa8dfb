"""What an offer carries beside its items: perks, a preselected plan, evidence, the shop's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triggers import usage
from triggers.candidates import Picked
from triggers.durations import Duration, instant_of, to_text

if TYPE_CHECKING:
    from triggers.book import Rule, Value
    from triggers.context import Context

LANGUAGES = ("ja", "en")


@dataclass(frozen=True, slots=True)
class Perk:
    """A perk and its end: an instant, an expression for one, a span from the decision, or (none of
    them) the end of the offer."""

    name: str
    until_ms: int | None = None
    until: "Value | None" = None
    span: Duration | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Daily figures of a metric that the offer shows; with fewer than ``min`` of them the rule has
    nothing to offer."""

    metric: str
    window: str
    min: int = 3


@dataclass(frozen=True, slots=True)
class Extras:
    """What a rule adds to its offers. ``from_catalog`` names the parts of the message that the
    catalogue tells (``benefit``, ``story``); ``content_type`` is of ``content_ref``."""

    perks: tuple[Perk, ...] = ()
    default_selection: str = ""
    series: tuple[Series, ...] = ()
    from_catalog: frozenset[str] = frozenset()
    content_type: str = ""


NONE = Extras()


def both(texts: Mapping[str, str]) -> bool:
    """Whether a text of the catalogue is there in both languages."""
    return all(texts.get(language) for language in LANGUAGES)


def shown(extras: Extras, ctx: "Context") -> list[dict[str, Any]] | None:
    """The series as evidence; None when one of them has too few points."""
    found = []
    for wanted in extras.series:
        points = usage.series(ctx, wanted.metric, wanted.window)
        if len(points) < wanted.min:
            return None
        value = [{"date": day, "value": figure} for day, figure in points]
        found.append({"fact": wanted.metric, "value": value})
    return found


def perks_at(extras: Extras, ctx: "Context", valid_until: int) -> list[tuple[str, int]]:
    """The perks that hold at the decision, each with its end in ms; what is over is not offered."""
    found = []
    for perk in extras.perks:
        until = _end(perk, ctx, valid_until)
        if until is not None and until >= ctx.at:
            found.append((perk.name, until))
    return found


def _end(perk: Perk, ctx: "Context", valid_until: int) -> int | None:
    if perk.until is not None:
        return instant_of(perk.until.get(ctx))
    if perk.span is not None:
        return perk.span.after(ctx.at, ctx.customer.now.timezone or ctx.book.timezone)
    return valid_until if perk.until_ms is None else perk.until_ms


def perks_body(perks: list[tuple[str, int]]) -> list[dict[str, str]]:
    """Perks as the wire has them."""
    return [{"perk": name, "until": to_text(until)} for name, until in perks]


def preselected(extras: Extras, picked: Picked, kind: str, ctx: "Context") -> str | None:
    """The plan that the page may preselect; None when the catalogue says that it is no plan, or
    that it is sold out, and for an item that a cross-sell adds: nothing paid is ever preticked."""
    sku = extras.default_selection
    if not sku or not ctx.catalog.in_stock(sku) or ctx.catalog.removed(sku):
        return None
    product = ctx.catalog.product(sku)
    if product is not None and product.ladder is None:
        return None
    added = kind == "cross_sell" and any(item.product.sku == sku for item in picked.items)
    return None if added else sku


def message_of(rule: "Rule", picked: Picked, ctx: "Context") -> dict[str, Any]:
    """The message of an offer: the rule's own words, then what the catalogue tells."""
    message: dict[str, Any] = {
        name: {language: text.render(ctx) for language, text in texts.items()}
        for name, texts in rule.message.items()
    }
    extras = rule.extras
    if extras.content_type:
        message["content_ref"]["type"] = extras.content_type
    if "benefit" in extras.from_catalog and both(picked.first.benefit):
        message["benefit"] = dict(picked.first.benefit)
    if "story" not in message and both(picked.story):
        message["story"] = dict(picked.story)
    if rule.worth:
        message["worth"] = {
            name: {language: text.render(ctx) for language, text in texts.items()}
            for name, texts in rule.worth.items()
        }
    return message
