"""What a rule's kind asks of it, and limits that may be stricter than the book's, never looser."""

from collections.abc import Callable

from triggers.book import SALES
from triggers.durations import parse_duration
from triggers.rules import BookModel, RuleModel
from triggers.shapes import Path

Add = Callable[[Path, str], None]
_HESITATION = frozenset({"checkout.plan_left", "offer.declined"})


def check_kind(model: RuleModel, book: BookModel, path: Path, add: Add) -> None:
    """Add the faults of a rule's kind and limits, given those of its book."""
    if model.kind == "up_sell" and not any(
        gate is not None and gate.value_realised is not None for gate in (model.gate, book.gate)
    ):
        message = (
            "an up_sell waits until the customer has felt the value of what is there: give "
            "the rule or the book `gate: {value_realised: true}`"
        )
        add((*path, "kind"), message)
    if model.kind == "down_sell" and not _HESITATION & set(model.on):
        names = " or ".join(sorted(_HESITATION))
        add((*path, "on"), f"a down_sell answers hesitation: {names}")
    for place, limit in enumerate(model.limits):
        window_ms = parse_duration(limit.in_).ms
        binding = [
            known
            for known in book.limits
            if model.kind in (known.kinds or SALES)
            and known.channel in (None, model.channel)
            and known.placement in (None, model.placement)
            and parse_duration(known.in_).ms >= window_ms
        ]
        strictest = min(binding, key=lambda known: known.max, default=None)
        if strictest is not None and limit.max > strictest.max:
            message = f"is looser than the book's limit of {strictest.max} in {strictest.in_}"
            add((*path, "limits", place, "max"), message)


def in_checkout(model: RuleModel) -> bool:
    """Whether an offer appears among the last pages before a purchase, by its place or moment."""
    if not any(name.startswith("checkout.") for name in model.on):
        return False
    if any(word in (model.placement or "") for word in ("checkout", "payment")):
        return True
    timed = model.after or model.after_silence or model.before
    return not timed and model.channel == "onsite" and "checkout.payment_reached" in model.on
