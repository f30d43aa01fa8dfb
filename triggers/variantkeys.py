"""From the ``variants`` of a rule to compiled rules, one each."""

from collections.abc import Callable
from dataclasses import replace

from triggers.book import Rule
from triggers.gatecompiler import permille_of
from triggers.rules import RuleModel, VariantModel
from triggers.shapes import AddFault, Fault, Path

Compile = Callable[[RuleModel, Path], Rule]


def compile_variants(
    model: RuleModel, path: Path, compile_rule: Compile, faults: list[Fault], add: AddFault
) -> tuple[tuple[int, Rule], ...]:
    """Share in per mille and rule of each variant, in the order of their names; () without any.

    Of the faults that ``compile_rule`` adds to ``faults`` only those of the variant's own keys
    stay: the others are the rule's.
    """
    if not model.variants:
        if model.learn:
            add((*path, "learn"), "there are no variants to learn about")
        return ()
    _check_shares(model, path, add)
    found = []
    for name, variant in sorted(model.variants.items()):
        place: Path = (*path, "variants", name)
        before = len(faults)
        rule = compile_rule(_merged(model, variant), place)
        own = variant.model_fields_set
        faults[before:] = [
            fault
            for fault in faults[before:]
            if len(fault.path) > len(place) and fault.path[len(place)] in own
        ]
        share = permille_of(variant.share) if variant.share else 0
        found.append((share, replace(rule, variant=name, learns=model.learn)))
    return tuple(found)


def _merged(model: RuleModel, variant: VariantModel) -> RuleModel:
    """The rule with the variant's keys instead of its own; texts of a message are merged."""
    given = {key: getattr(variant, key) for key in variant.model_fields_set if key != "share"}
    if variant.message is not None and model.message is not None:
        own = variant.message.model_fields_set
        texts = {key: getattr(variant.message, key) for key in own}
        given["message"] = model.message.model_copy(update=texts)
    return model.model_copy(update={**given, "variants": {}, "learn": False})


def _check_shares(model: RuleModel, path: Path, add: AddFault) -> None:
    if len(model.variants) < 2:
        add((*path, "variants"), "one variant is none: give two or more")
        return
    if model.learn:
        for name, variant in model.variants.items():
            if variant.share is not None:
                add((*path, "variants", name, "share"), "is learnt: leave it out, or `learn`")
        return
    total = 0
    for name, variant in model.variants.items():
        if variant.share is None:
            add(
                (*path, "variants", name),
                "has no share, such as 50%; or the rule has `learn: true`",
            )
            return
        total += permille_of(variant.share)
    if total != 1000:
        add((*path, "variants"), f"the shares add up to {total / 10:g}%, not to 100%")
