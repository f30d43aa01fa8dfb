"""What conditions and texts see of the offer that an event is about: the names ``offer.*``.

They are there for rules that listen to events with an ``offer_id`` (feedback) or ``offer_ids`` (an
order: the first one that the document knows).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from triggers.book import KINDS
from triggers.durations import DAY_MS
from triggers.events import EVENT_TYPES
from triggers.feedback import CLICKED, SHOWN, find, service_due
from triggers.names import Function, Variable
from triggers.rings import Made

if TYPE_CHECKING:
    from triggers.context import Context

_NO_OFFER = Made(0, "", "", "", "", None, "", 0, 0, "", False, [], [])
_FIELDS = frozenset({"offer_id", "offer_ids"})


def offer_of(ctx: "Context") -> Made:
    """The offer that the event is about; an empty one where there is none."""
    offer_id = getattr(ctx.event, "offer_id", None)
    ids = [offer_id] if offer_id else getattr(ctx.event, "offer_ids", None) or ()
    for each in ids:
        made = find(ctx.customer, each)
        if made is not None:
            return made
    return _NO_OFFER


def _name(kind: str, field: str) -> Variable:
    def get(ctx: "Context") -> object:
        value = getattr(offer_of(ctx), field)
        return "" if value is None else value

    return Variable(kind, get, lambda ctx: bool(get(ctx)))


def _seen(step: int) -> Variable:
    def get(ctx: "Context") -> bool:
        return offer_of(ctx).seen >= step

    return Variable("bool", get, get)


def _skus(ctx: "Context") -> list[str]:
    return list(offer_of(ctx).skus)


def _sku(ctx: "Context") -> str:
    skus = offer_of(ctx).skus
    return skus[0] if skus else ""


OFFER_VARIABLES: dict[str, Variable] = {
    "offer.about": _name("string", "about"),
    "offer.channel": _name("string", "channel"),
    "offer.clicked": _seen(CLICKED),
    "offer.decline_reason": _name("string", "why"),
    "offer.event": _name("string", "event_type"),
    "offer.kind": _name("string", "kind"),
    "offer.offer_id": _name("string", "offer_id"),
    "offer.outcome": _name("string", "fate"),
    "offer.placement": _name("string", "placement"),
    "offer.price": _name("int", "price"),
    "offer.rule": _name("string", "rule"),
    "offer.shown": _seen(SHOWN),
    "offer.sku": Variable("string", _sku, lambda ctx: bool(_sku(ctx))),
    "offer.skus": Variable("list(string)", _skus, lambda ctx: bool(_skus(ctx))),
}


def offer_variables(event_types: Iterable[str]) -> dict[str, Variable]:
    """The ``offer.*`` names, where one of the types is about an offer; else none."""
    for event_type in event_types:
        known = EVENT_TYPES.get(event_type)
        if known is not None and _FIELDS & set(known.data.__struct_fields__):
            return OFFER_VARIABLES
    return {}


def _days(ctx: "Context", since_ms: int) -> int:
    return (ctx.at - since_ms) // DAY_MS if since_ms else 0


def _decline_reason(ctx: "Context", of: str) -> str:
    """Why an offer of this kind, or of this rule, was declined last; ``""`` when none was."""
    found: Made | None = None
    for made in ctx.customer.offers.made:
        told = made.why and of in (made.kind, made.rule)
        if told and (found is None or made.ended_at >= found.ended_at):
            found = made
    return found.why if found is not None else ""


def _since_accepted(ctx: "Context") -> int:
    return _days(ctx, ctx.customer.now.accepted_at)


def _since_downsell(ctx: "Context") -> int:
    return _days(ctx, ctx.customer.now.downsell_at)


def _has_accepted(ctx: "Context") -> bool:
    return ctx.customer.now.accepted_at > 0


def _has_downsell(ctx: "Context") -> bool:
    return ctx.customer.now.downsell_at > 0


FACTS: dict[str, Variable] = {
    "customer.days_since_accepted": Variable("int", _since_accepted, _has_accepted),
    "customer.days_since_downsell": Variable("int", _since_downsell, _has_downsell),
    "customer.service_due": Variable("bool", service_due, service_due),
}


def _is_known(place: int, constant: object) -> str | None:
    plain = str(constant).replace("-", "").replace("_", "").replace(" ", "").lower()
    for kind in sorted(KINDS):
        if constant != kind and plain == kind.replace("_", ""):
            return f"{constant!r} is no kind; did you mean {kind}?"
    return None


_REASON = Function(("string",), "string", _decline_reason, _is_known)
FUNCTIONS: dict[str, Function] = {
    "customer.decline_reason": _REASON,
    "decline_reason": _REASON,
}
