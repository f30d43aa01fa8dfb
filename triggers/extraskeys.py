"""From the keys about perks, preselection, evidence and message to what an offer carries."""

from collections.abc import Callable

from triggers.bounds import Allowed
from triggers.durations import instant_of, parse_duration
from triggers.extras import Extras, Perk, Series
from triggers.pickkeys import AddFault, Compile
from triggers.rules import AllowModel, PerkModel, RuleModel
from triggers.shapes import Path
from triggers.usage import window_fault


def compile_extras(model: RuleModel, value: Compile, path: Path, add: AddFault) -> Extras:
    """What a rule adds to its offers; faults go to ``add``."""
    perks = [_perk(perk, value, (*path, "perks", at), add) for at, perk in enumerate(model.perks)]
    pick = model.pick
    if not isinstance(pick, str) and pick.perk is not None:
        if any(perk.perk == pick.perk for perk in model.perks):
            perks = [each for each in perks if each.name != pick.perk] + [
                each for each in perks if each.name == pick.perk
            ][:1]
        else:
            perks.append(Perk(pick.perk))
    _check_selection(model, path, add)
    message = model.message
    told = set()
    if message is not None:
        told = {key for key in ("benefit", "story") if isinstance(getattr(message, key), str)}
        if "benefit" in told and (isinstance(pick, str) or pick.perk is not None):
            add(
                (*path, "message", "benefit"), "the catalogue tells it of items, and none is picked"
            )
    reference = None if message is None else message.content_ref
    return Extras(
        perks=tuple(perks),
        default_selection=model.default_selection or "",
        series=tuple(_series(model, path, add)),
        from_catalog=frozenset(told),
        content_type=(reference.type or "") if reference is not None else "",
    )


def _perk(model: PerkModel, value: Compile, path: Path, add: AddFault) -> Perk:
    if model.until is not None and model.for_ is not None:
        add((*path, "for"), "a perk ends once: `until` an instant, or `for` a span")
    if model.for_ is not None:
        return Perk(model.perk, span=parse_duration(model.for_))
    if model.until is None:
        return Perk(model.perk)
    fixed = instant_of(model.until)
    if fixed is not None:
        return Perk(model.perk, until_ms=fixed)
    return Perk(model.perk, until=value(model.until, (*path, "until"), ("string",)))


def _check_selection(model: RuleModel, path: Path, add: AddFault) -> None:
    """Only a plan may be preselected; whatever a cross-sell adds is a paid extra."""
    if model.default_selection is None:
        return
    if model.kind == "cross_sell" and not isinstance(model.pick, str):
        message = (
            "preselects in an offer of paid extras, which nobody may tick for the customer: name "
            "the plan in a rule of its own with `pick: none`, or leave it out"
        )
        add((*path, "default_selection"), message)


def _series(model: RuleModel, path: Path, add: AddFault) -> list[Series]:
    found = []
    for at, given in enumerate(model.evidence):
        fault = window_fault(given.window)
        if fault is not None:
            add((*path, "evidence", at, "window"), fault)
        found.append(Series(given.series, given.window, given.min))
    return found


def check_message(
    model: RuleModel, path: Path, add: AddFault, warn: Callable[[Path, str], None]
) -> None:
    """An up_sell says what it is good for; a cross-sell had better show how."""
    message = model.message
    if model.kind == "up_sell" and (message is None or message.benefit is None):
        fault = (
            "an up_sell states its benefit: give `message: {benefit: {ja: …, en: …}}`, or "
            "`benefit: catalog`"
        )
        add(path if message is None else (*path, "message"), fault)
    again = not isinstance(model.pick, str) and model.pick.same is not None
    told = message is not None and message.content_ref is not None
    if model.kind == "cross_sell" and not again and not told:
        warn(
            path,
            "a cross_sell without content: how-to content works best, give "
            "`message: {content_ref: {type: how_to, ja: …, en: …}}`",
        )


def allowed_of(models: list[AllowModel]) -> Allowed:
    """What the book lets lie outside the bounds of prices."""
    return Allowed(
        bundles=frozenset(sku for model in models for sku in model.bundles),
        ladders=frozenset(name for model in models for name in model.ladders),
    )
