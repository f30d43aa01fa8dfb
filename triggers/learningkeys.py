"""From the keys of a book that rest on what is learnt to what the engine needs of them."""

from collections.abc import Callable, Iterable

from triggers.book import Rule
from triggers.learned import PLAN, RULE, VARIANT
from triggers.rates import SELECTED_MIN, Pause
from triggers.rules import LearnModel, PauseModel, RuleModel
from triggers.shapes import Path
from triggers.together import LEARNT_PICKS, MIN_SUPPORT

AddFault = Callable[[Path, str], None]
_PLAN_FUNCTIONS = (b"plan_abandonment", b"plan_selections")


def knowledge_of(rules: Iterable[Rule], text: bytes) -> set[str]:
    """The kinds of knowledge that a book of these rules rests on; ``text`` is all of its source."""
    kinds = set()
    for rule in rules:
        for each in (rule, *(variant for _, variant in rule.variants)):
            for source in (each.pick.kind, each.pick.source):
                if source in LEARNT_PICKS:
                    kinds.add(LEARNT_PICKS[source])
        if rule.learns:
            kinds.add(VARIANT)
        if rule.pause is not None:
            kinds.add(RULE)
    if any(name in text for name in _PLAN_FUNCTIONS):
        kinds.add(PLAN)
    return kinds


def pause_of(
    model: RuleModel, book: PauseModel | None, path: Path, add_fault: AddFault
) -> Pause | None:
    """When complaints make the rule rest: its own word, else the book's; never looser than it."""
    own = model.pause_over
    if own is not None and book is not None and _pause(own).permille > _pause(book).permille:
        message = f"is looser than the book's {book.complaints}"
        add_fault((*path, "pause_over", "complaints"), message)
    given = own or book
    return None if given is None else _pause(given)


def _pause(model: PauseModel) -> Pause:
    whole, _, tenth = model.complaints.removesuffix("%").partition(".")
    return Pause(int(whole) * 10 + int(tenth or 0), model.min_offers)


def support_of(kind: str, given: int | None, path: Path, add_fault: AddFault) -> int:
    """How often a pair must have been seen; only picks that are learnt have it."""
    if given is not None and kind not in LEARNT_PICKS:
        names = " and ".join(LEARNT_PICKS)
        add_fault((*path, "min_support"), f"belongs to {names}, not to {kind}")
    return MIN_SUPPORT if given is None else given


def selections_min_of(model: LearnModel | None) -> int:
    """From how many selections on a plan's rate says something."""
    return SELECTED_MIN if model is None else model.min_selections
