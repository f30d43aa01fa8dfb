"""What a rule says and promises: words, fields and places that `check` refuses or warns about.

Tables first: words of fear, words of our own gain, where an offer may appear at which moment, and
which conditions a tag asks for. Faults stop a book; warnings only show.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from triggers.rules import MessageModel, RuleModel, TextModel
from triggers.shapes import AddFault, Path

Warn = Callable[[Path, str], None]

#: What plays on fear. Japanese is searched as it stands, English by whole words in any case.
FEAR = {
    "ja": (
        "手遅れ",
        "取り返しがつ",
        "後悔しま",
        "後悔する",
        "後悔したくな",
        "損をしま",
        "損しま",
        "落ちこぼれ",
        "乗り遅れ",
        "取り残され",
        "最後のチャンス",
        "ラストチャンス",
        "今すぐ買わないと",
        "今買わないと",
        "このままでは",
        "不安を",
        "怖い",
        "恐ろし",
        "大変なことにな",
        "落ちてもいい",
        "失敗したくな",
    ),
    "en": (
        "too late",
        "last chance",
        "regret",
        "regrets",
        "miss out",
        "missing out",
        "fall behind",
        "falling behind",
        "left behind",
        "afraid",
        "fear",
        "scared",
        "scary",
        "you will fail",
        "before it's gone",
        "act now or",
        "or else",
        "nightmare",
        "disaster",
    ),
}
#: What speaks of our gain ...
OURS = {
    "ja": (
        "売上",
        "売り上げ",
        "当社の利益",
        "弊社の利益",
        "当店の利益",
        "利益率",
        "客単価",
        "ノルマ",
        "在庫処分",
        "在庫一掃",
        "販売目標",
        "キャンペーン目標",
    ),
    "en": (
        "our revenue",
        "our sales",
        "our margin",
        "our profit",
        "our target",
        "our stock",
        "sales target",
        "average order value",
        "upsell",
        "up-sell",
        "cross-sell",
    ),
}
#: ... and what speaks of the customer beside it.
THEIRS = {
    "ja": (
        "お客",
        "あなた",
        "ご自",
        "お手元",
        "お宅",
        "貴社",
        "御社",
        "皆さま",
        "皆様",
        "ご利用",
        "ご家",
    ),
    "en": ("you", "your", "yours"),
}
#: A word of a placement -> how the events begin at whose moment it is before the customer's eyes.
MOMENTS = {
    "product": ("product.", "cart.item_added"),
    "cart": ("cart.",),
    "checkout": ("checkout.",),
    "payment": ("checkout.",),
    "thanks": ("purchase.", "contract."),
    "confirmation": ("purchase.", "contract."),
    "reception": ("stay.",),
    "frontdesk": ("stay.",),
    "checkin": ("stay.",),
}
#: A tag of copy written for one stage of life -> the stage that its condition names.
STAGES = {
    "new_customer": "new",
    "active_customer": "active",
    "heavy_user": "heavy",
    "lapsed_customer": "lapsed",
}
#: Channels where a person speaks for us: what it costs and when it pays has to be told.
SPOKEN = ("sales",)

_WORDS = {
    table_name: {
        "ja": re.compile("|".join(map(re.escape, table["ja"]))),
        "en": re.compile(rf"\b(?:{'|'.join(map(re.escape, table['en']))})\b", re.IGNORECASE),
    }
    for table_name, table in (("fear", FEAR), ("ours", OURS), ("theirs", THEIRS))
}
_NAME = re.compile(r"\{[^{}]*\}")
_SEGMENT = re.compile(r"\bsegment\.([a-z][a-z0-9_]*)")


def lint(
    model: RuleModel,
    custom: Mapping[str, object],
    segments: Mapping[str, str],
    path: Path,
    add: AddFault,
    warn: Warn,
) -> None:
    """Look at one rule; ``custom`` are declared event types, ``segments`` sources by name."""
    for place, text in _texts(model, path):
        _lint_text(text, place, add)
    _lint_whom(model, path, add, warn)
    _lint_placement(model, custom, path, add)
    _lint_tags(model, segments, path, add)
    _lint_never(model, path, warn)


def _texts(model: RuleModel, path: Path) -> Iterator[tuple[Path, TextModel]]:
    yield (*path, "reason"), model.reason
    yield from _message_texts(model.message, (*path, "message"))
    for name, variant in model.variants.items():
        place: Path = (*path, "variants", name)
        if variant.reason is not None:
            yield (*place, "reason"), variant.reason
        yield from _message_texts(variant.message, (*place, "message"))


def _message_texts(message: MessageModel | None, path: Path) -> Iterator[tuple[Path, TextModel]]:
    for key in ("for_whom", "benefit", "story"):
        text = getattr(message, key, None)
        if isinstance(text, TextModel):
            yield (*path, key), text


def _lint_text(model: TextModel, path: Path, add: AddFault) -> None:
    for language in ("ja", "en"):
        # What stands in braces is a name, not a word of ours; places stay where they are.
        text = _NAME.sub(lambda match: " " * len(match[0]), getattr(model, language))
        fear = _WORDS["fear"][language].search(text)
        if fear is not None:
            message = f'"{fear[0]}" plays on fear: say what the customer gains'
            add((*path, language), message, fear.start() + 1)
        ours = _WORDS["ours"][language].search(text)
        if ours is not None and _WORDS["theirs"][language].search(text) is None:
            message = f'"{ours[0]}" speaks of our gain alone: say what the customer has of it'
            add((*path, language), message, ours.start() + 1)


def _lint_whom(model: RuleModel, path: Path, add: AddFault, warn: Warn) -> None:
    message = model.message
    if model.kind == "follow_up":
        return
    if model.channel in SPOKEN and (message is None or message.worth is None):
        fault = (
            f"an offer through {model.channel} says what it is worth: give `message: {{worth: "
            "{price: {ja: …, en: …}, effort: …, payback: …}}`"
        )
        add(path if message is None else (*path, "message"), fault)
    if model.kind == "up_sell" and (message is None or message.for_whom is None):
        warning = "an up_sell had better say whom it is for: give `message: {for_whom: …}`"
        warn(path if message is None else (*path, "message"), warning)


def _lint_placement(
    model: RuleModel, custom: Mapping[str, object], path: Path, add: AddFault
) -> None:
    words = re.split(r"[^a-z0-9]+", (model.placement or "").lower())
    for word in words:
        moments = MOMENTS.get(word)
        if moments is None:
            continue
        for name in model.on:
            if name not in custom and not name.startswith(moments):
                known = " or ".join(
                    f"{moment}*" if moment[-1] == "." else moment for moment in moments
                )
                message = (
                    f"the placement {model.placement} is not before the customer's eyes at {name}: "
                    f"it fits {known}"
                )
                add((*path, "placement"), message)
                break


def _lint_tags(model: RuleModel, segments: Mapping[str, str], path: Path, add: AddFault) -> None:
    for place, tag in enumerate(model.tags):
        stage = STAGES.get(tag)
        if stage is None:
            continue
        lines = [*model.when, *model.arm_when]
        if not any("customer.stage" in _spelled(line, segments) for line in lines):
            message = (
                f"copy for one stage goes to that stage only: give `when: "
                f"['customer.stage == \"{stage}\"']`"
            )
            add((*path, "tags", place), message)


def _spelled(line: str, segments: Mapping[str, str], depth: int = 8) -> str:
    """A condition with the sources of its segments behind it."""
    if not depth:
        return line
    used = [segments[name] for name in _SEGMENT.findall(line) if name in segments]
    return " ".join([line, *(_spelled(source, segments, depth - 1) for source in used)])


def _lint_never(model: RuleModel, path: Path, warn: Warn) -> None:
    """Keys that leave a rule no offer."""
    for place, limit in enumerate(model.limits):
        if limit.max == 0:
            warn((*path, "limits", place), "a limit of none: the rule never offers anything")
    if model.holdout is not None and model.holdout.share == "100%":
        warn((*path, "holdout"), "everybody is held out: the rule never offers anything")
