"""From ``pick:`` of a rule to what the engine chooses from, with every fault named at its path."""

from collections.abc import Callable
from difflib import get_close_matches

from triggers.book import Pick, Value
from triggers.learningkeys import support_of
from triggers.rules import PickModel, RuleModel
from triggers.shapes import Path
from triggers.together import LEARNT_PICKS

AddFault = Callable[[Path, str], None]
#: Compiles an expression at a path whose type must be one of those named.
Compile = Callable[[str, Path, tuple[str, ...]], Value | None]

#: Every pick: the type that its expression must have, none where it takes a literal.
PICKS: dict[str, tuple[str, ...]] = {
    "sku": (),
    "same": ("string", "list"),
    "complements_of": ("string", "list"),
    "closes_gap_to": (),
    "bought_together_with": ("string", "list"),
    "viewed_together_with": ("string", "list"),
    "tier_up_from": ("string",),
    "tier_down_from": ("string",),
    "bundle_with": ("string", "list"),
    "replenishes": ("string", "list"),
    "next_module_after": ("string", "list"),
    "perk": (),
}
#: Picks that offer one thing, and why.
_ONE = {
    "bundle_with": "an offer holds one set",
    "next_module_after": "modules come one at a time",
}
_WITHOUT_CANDIDATES = frozenset({"sku", "same", "perk"})


def compile_pick(model: str | PickModel, value: Compile, path: Path, add: AddFault) -> Pick:
    """The pick of a rule; faults go to ``add``."""
    if isinstance(model, str):
        return Pick("none")
    given = [key for key in PICKS if getattr(model, key) is not None]
    if len(given) != 1:
        add(path, f"names {len(given)} kinds of pick: exactly one of {', '.join(PICKS)}")
        return Pick("none")
    kind = given[0]
    _check_keys(kind, model, path, add)
    argument = getattr(model, kind)
    support = support_of(kind, model.min_support, path, add) if kind != "closes_gap_to" else 1
    source = ""
    if kind == "closes_gap_to":
        source = model.from_ or "complements"
        support = support_of(source, model.min_support, path, add)
    features = model.features
    return Pick(
        kind,
        value(argument, (*path, kind), PICKS[kind]) if PICKS[kind] else None,
        sku=argument if kind == "sku" else "",
        amount=argument if kind == "closes_gap_to" else 0,
        source=source,
        max=model.max,
        min_support=support,
        features=None
        if features is None
        else value(features, (*path, "features"), ("string", "list")),
        exclude=frozenset(model.exclude),
        leave_out_owned=bool(model.leave_out_owned),
    )


def _check_keys(kind: str, model: PickModel, path: Path, add: AddFault) -> None:
    if model.from_ is not None and kind != "closes_gap_to":
        add((*path, "from"), f"belongs to closes_gap_to, not to {kind}")
    if model.from_ is not None and model.from_ not in ("complements", *LEARNT_PICKS):
        known = ["complements", *LEARNT_PICKS]
        close = get_close_matches(model.from_, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        add((*path, "from"), f"is one of {', '.join(known)}{hint}")
    if model.max > 1 and kind in _ONE:
        add((*path, "max"), f"is 1 for {kind}: {_ONE[kind]}")
    if model.leave_out_owned is not None and kind != "bundle_with":
        add((*path, "leave_out_owned"), f"belongs to bundle_with, not to {kind}")
    if kind in _WITHOUT_CANDIDATES:
        for key in ("features", "exclude"):
            if getattr(model, key):
                add((*path, key), f"chooses among candidates, and {kind} has none to choose from")
    if kind == "bundle_with" and (model.features or model.exclude):
        key = "features" if model.features else "exclude"
        add((*path, key), "a set is offered whole: it belongs to the other picks")


def check_price(model: RuleModel, path: Path, add: AddFault) -> None:
    """A set has the catalogue's price, a perk none."""
    pick = model.pick
    if isinstance(pick, str) or isinstance(model.price, str):
        return
    if pick.bundle_with is not None:
        add((*path, "price"), "a set has its own price in the catalogue: leave `price` out")
    if pick.perk is not None:
        add((*path, "price"), "a perk has no price: leave `price` out")
