"""Faults of shape: what the models of a book refuse, and a book without it.

A part of the wrong shape is put aside, never run, so that the rest of the book is checked too and
all faults are seen at once.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from triggers.rules import (
    AllowModel,
    BookModel,
    CeilingModel,
    Content,
    CoolOffModel,
    FatigueModel,
    GateModel,
    HoldoutModel,
    LearnModel,
    LimitModel,
    MessageModel,
    PauseModel,
    PerkModel,
    PickModel,
    QuietModel,
    RuleModel,
    SeriesModel,
)

Path = tuple[str | int, ...]


class AddFault(Protocol):
    """Takes a fault at a path; ``column`` counts from 1 inside the value."""

    def __call__(self, path: Path, message: str, column: int = 1) -> None:
        """Note the fault."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, at which path of the content; ``column`` counts from 1 inside the value."""

    path: Path
    message: str
    column: int = 1
    at_key: bool = False  # the key itself is wrong, not what stands behind it


def without(content: Any, places: list[Path]) -> Any:
    """The content with what is wrong put aside: a list keeps its length, so that paths hold."""
    content = dict(content)
    if any(place[0] == "book" for place in places):
        given = content.get("book")
        book = dict(given) if isinstance(given, dict) else {}
        for place in places:
            if place[0] == "book" and len(place) > 1:
                book.pop(place[1], None)
        content["book"] = {**_ANY_BOOK, **book}
    for place in places:
        section = place[0]
        if section == "book":
            continue
        if len(place) == 1 or not isinstance(content.get(str(section)), dict | list):
            content.pop(str(section), None)
        elif section == "segments":
            kept = dict(content["segments"])
            kept[place[1]] = "false"
            if place[-1] == "[key]":
                kept.pop(place[1])
            content["segments"] = kept
        elif section == "rules":
            rules = list(content["rules"])
            rule = rules[int(place[1])]
            if not isinstance(rule, dict) or len(place) < 3 or place[2] == "on":
                rule = ASIDE  # without its events no name of the rule means anything
            elif place[2] in ASIDE:
                rule = {**rule, place[2]: ASIDE[str(place[2])]}
            else:
                rule = {key: value for key, value in rule.items() if key != place[2]}
            rules[int(place[1])] = rule
            content["rules"] = rules
        else:
            content.pop(str(section), None)
    return content


def is_echo(found: Any) -> bool:
    """Whether a fault only says that the other branch of a union does not fit either."""
    branch = next((part for part in found["loc"] if _is_branch(part)), None)
    if branch is None:
        return False
    literal = str(branch).startswith("literal[")
    return isinstance(found["input"], dict) if literal else found["type"] == "model_type"


def fault_of(found: Any) -> Fault:
    """One error of pydantic as a fault, in words for whoever writes rules."""
    path = tuple(part for part in found["loc"] if not _is_branch(part) and part != "[key]")
    message = _SHAPES.get(found["type"], str(found["msg"]).removeprefix("Value error, "))
    if found["type"] == "string_type" and isinstance(found["input"], int | float):
        message = "must be a text: put it in quotes"
    if found["type"] == "literal_error" and len(path) < len(found["loc"]):
        message += " or a mapping"
    if found["type"] == "extra_forbidden":
        key = str(path[-1])
        close = get_close_matches(key, _KEYS, n=1)
        message = f"unknown key {key}" + (f"; did you mean {close[0]}?" if close else "")
        return Fault(path, message, at_key=True)
    if found["type"] == "missing":
        message = f"{path[-1]} is missing"
    return Fault(path, message)


def _is_branch(part: Any) -> bool:
    """Pydantic names the branch of a union in a path; the file has no such place."""
    return part in _BRANCHES or (isinstance(part, str) and part.startswith("literal["))


_BRANCHES = frozenset({"PickModel", "PriceModel", "LatenessModel", "TextModel"})
ROUNDS_MAX = 8
#: What stands in for a part that is wrong, so that the rest can be checked. It is never run.
_ANY_BOOK = {"name": "?", "timezone": "UTC", "currency": "XXX"}
ASIDE: dict[str, Any] = {
    "id": "-",
    "kind": "follow_up",
    "on": [],
    "pick": "none",
    "channel": "-",
    "reason": {"ja": "-", "en": "-"},
}
_SHAPES = {
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
}


_MODELS = (
    Content,
    BookModel,
    RuleModel,
    PickModel,
    LimitModel,
    QuietModel,
    PauseModel,
    LearnModel,
    GateModel,
    CeilingModel,
    FatigueModel,
    HoldoutModel,
    AllowModel,
    MessageModel,
    PerkModel,
    SeriesModel,
    CoolOffModel,
)
_KEYS = [
    (field.alias or name) for model in _MODELS for name, field in model.model_fields.items()
] + ["templates", "use", "with"]
