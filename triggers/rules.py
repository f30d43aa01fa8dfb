"""The rule language as pydantic models: the shape of a book, before anything is compiled.

Every model is strict and refuses keys that it does not know.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from triggers.durations import parse_duration
from triggers.fields import FeedbackReason

HORIZON_DAYS_MAX = 400
#: Who was idle for longer is forgotten, unless the book says otherwise.
FORGET_DAYS = 400

RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
Sku = Annotated[str, StringConstraints(pattern=r"^[^>#]{1,256}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Kind = Literal["cross_sell", "up_sell", "down_sell", "follow_up"]
Percent = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,2}(\.[0-9])?|100)%$")]
TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _span(text: str) -> str:
    if parse_duration(text).ms > HORIZON_DAYS_MAX * 86_400_000:
        raise ValueError(f"{text} is longer than {HORIZON_DAYS_MAX}d")
    return text


def _cooling(value: Any) -> Any:
    """A plain duration stands for a cool-off after ``not_needed`` of the rule's own offers."""
    return {"for": value} if isinstance(value, str) else value


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Spans(_Model):
    """Checks every field named in ``SPANS`` as a duration."""

    @field_validator(
        "in_",
        "after",
        "after_silence",
        "cooldown",
        "valid_for",
        "skip_after",
        "by",
        "for_",
        "window",
        mode="after",
        check_fields=False,
    )
    @classmethod
    def _is_span(cls, value: str | None) -> str | None:
        return None if value is None else _span(value)


class LimitModel(_Spans):
    """``{max, in, kinds?, channel?, placement?}``; at most as many as a document remembers."""

    max: int = Field(ge=0, le=50)
    in_: str = Field(alias="in")
    kinds: list[Kind] | None = None
    channel: Channel | None = None
    placement: Name | None = None


class QuietModel(_Model):
    """Hours of silence; ``channels`` defaults to all that the book's own quiet hours name."""

    from_: TimeOfDay = Field(alias="from")
    to: TimeOfDay
    channels: list[Channel]
    then: Literal["defer", "suppress"] = "defer"


class TextModel(_Model):
    """A text in both languages."""

    ja: str = Field(min_length=1)
    en: str = Field(min_length=1)


class TermsModel(_Model):
    """The six facts that a final confirmation screen must show."""

    quantity: TextModel
    total: TextModel
    payment: TextModel
    delivery: TextModel
    period: TextModel
    cancellation: TextModel


class PauseModel(_Model):
    """``{complaints: 2%, min_offers: 50}``: the rule rests while more than that complained."""

    complaints: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9])?%$")]
    min_offers: int = Field(50, ge=1, le=1_000_000)


class CeilingModel(_Model):
    """``20%``, or ``{share: 20%, until_accepted: 3}``: of the basket, until so many acceptances."""

    share: Percent
    until_accepted: int = Field(1, ge=1, le=1000)


class FatigueModel(_Model):
    """``{budget: 1, per: session}``, or per duration; at most as many as a document remembers."""

    budget: int = Field(ge=0, le=50)
    per: str

    @field_validator("per")
    @classmethod
    def _is_per(cls, value: str) -> str:
        if value == "session":
            return value
        try:
            return _span(value)
        except ValueError as error:
            raise ValueError(f"{error}; or write session") from None


class GateModel(_Model):
    """``gate:`` of a rule or of the book. ``""`` and ``[]`` stand for a plain ``true``."""

    value_realised: str | None = None
    deployed: list[Name] | None = None
    purpose: str | None = None
    price_ceiling: CeilingModel | None = None
    fatigue: FatigueModel | None = None
    framing: Literal["fit"] | None = None

    @field_validator("value_realised", "purpose", mode="before")
    @classmethod
    def _is_said(cls, value: Any) -> Any:
        if value is False or value == "":
            raise ValueError("must be true or an expression; leave the key out for no gate")
        return "" if value is True else value

    @field_validator("deployed", mode="before")
    @classmethod
    def _is_listed(cls, value: Any) -> Any:
        if value is False or value == []:
            raise ValueError("must be true or products; leave the key out for no gate")
        return [] if value is True else [value] if isinstance(value, str) else value

    @field_validator("price_ceiling", mode="before")
    @classmethod
    def _is_ceiling(cls, value: Any) -> Any:
        return {"share": value} if isinstance(value, str) else value


class CoolOffModel(_Spans):
    """``30d``, or ``{for: 30d, after: [not_needed, timing], over: placement}``."""

    for_: str = Field(alias="for")
    after_: list[FeedbackReason] = Field(["not_needed"], alias="after", min_length=1)
    over: Literal["rule", "placement", "all"] = "rule"

    @field_validator("after_", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class HoldoutModel(_Model):
    """``{share, salt}``: who is offered nothing, drawn by a digest."""

    share: Percent
    salt: Annotated[str, StringConstraints(max_length=64)] | None = None


class LearnModel(_Model):
    """``{min_selections: 20}``: from how many selections on a plan's rate says something."""

    min_selections: int = Field(20, ge=1, le=1_000_000)


class AllowModel(_Model):
    """``{bundles, ladders, reason}``: prices that may lie outside the bounds, and why."""

    bundles: list[Sku] = []
    ladders: list[Name] = []
    reason: str = Field(min_length=1)


class BookModel(_Model):
    """The ``book:`` section."""

    name: Name
    timezone: str
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    limits: list[LimitModel] = []
    quiet_hours: QuietModel | None = None
    terms: dict[str, TermsModel] = {}
    pause_over: PauseModel | None = None
    learn: LearnModel | None = None
    gate: GateModel | None = None
    holdout: HoldoutModel | None = None
    cool_off: CoolOffModel | None = None
    allow: list[AllowModel] = []
    forget_after: str = f"{FORGET_DAYS}d"
    forget_visitors_after: str | None = None

    _cool_off = field_validator("cool_off", mode="before")(_cooling)

    @field_validator("allow", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("forget_after", "forget_visitors_after")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None:
            parse_duration(value)
        return value


class BeforeModel(_Spans):
    """``{date, by, if_past}``."""

    date: str
    by: str
    if_past: Literal["skip", "fire"] = "skip"


class PickModel(_Model):
    """Exactly one kind of pick; ``max`` items of it."""

    sku: str | None = None
    same: str | None = None
    complements_of: str | None = None
    closes_gap_to: int | None = Field(None, ge=1)
    bought_together_with: str | None = None
    viewed_together_with: str | None = None
    min_support: int | None = Field(None, ge=1, le=1_000_000)
    tier_up_from: str | None = None
    tier_down_from: str | None = None
    bundle_with: str | None = None
    replenishes: str | None = None
    next_module_after: str | None = None
    perk: Name | None = None
    from_: str | None = Field(None, alias="from")
    features: str | None = None
    exclude: list[Name] = []
    leave_out_owned: bool | None = None
    max: int = Field(1, ge=1, le=20)


class RetireModel(_Model):
    """``{from, to}``: dates of the book's zone, or instants; ``to`` is the first without."""

    from_: str | None = Field(None, alias="from")
    to: str | None = None


class PriceModel(_Model):
    """``{off: 4%}`` or ``{set: 3880}``."""

    off: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}(\.[0-9])?%$")] | None = None
    set: int | None = Field(None, ge=0)


class LatenessModel(_Spans):
    """``{skip_after: 2d}``."""

    skip_after: str


class PerkModel(_Spans):
    """``{perk, until}`` or ``{perk, for}``; with neither it ends with the offer."""

    perk: Name
    until: str | None = None
    for_: str | None = Field(None, alias="for")


class SeriesModel(_Spans):
    """``{series, window, min}``: daily figures of a metric that the offer shows."""

    series: Name
    window: str = "90d"
    min: int = Field(3, ge=1, le=90)


class ContentRefModel(TextModel):
    """A reference in both languages; ``type`` says what lies there."""

    type: Literal["how_to", "case"] | None = None


class WorthModel(_Model):
    """Why it is worth it, for who decides on it: what it costs, asks for, and when it pays."""

    price: TextModel
    effort: TextModel
    payback: TextModel


class MessageModel(_Model):
    """What the marketing tool may print beside the reason."""

    for_whom: TextModel | None = None
    benefit: Literal["catalog"] | TextModel | None = None
    story: Literal["catalog"] | TextModel | None = None
    content_ref: ContentRefModel | None = None
    worth: WorthModel | None = None


class VariantModel(_Spans):
    """What a variant has instead of its rule, and its share of the customers."""

    share: Percent | None = None
    reason: TextModel | None = None
    message: MessageModel | None = None
    pick: Literal["none"] | PickModel | None = None
    price: Literal["list"] | PriceModel | None = None
    quantity: int | None = Field(None, ge=1, le=1000)
    placement: Name | None = None
    valid_for: str | None = None
    perks: list[PerkModel] | None = Field(None, max_length=20)
    default_selection: Sku | None = None


class RuleModel(_Spans):
    """One rule. Lists may be written as one value where there is only one."""

    id: RuleId
    kind: Kind
    on: list[str]
    about: Name | None = None
    after: str | None = None
    after_silence: str | None = None
    before: BeforeModel | None = None
    unless: list[str] = []
    arm_when: list[str] = []
    when: list[str] = []
    once_per: str | None = None
    cooldown: str | None = None
    limits: list[LimitModel] = []
    quiet_hours: QuietModel | None = None
    pick: Literal["none"] | PickModel
    price: Literal["list"] | PriceModel = "list"
    quantity: int = Field(1, ge=1, le=1000)
    priority: int = Field(50, ge=0, le=1000)
    channel: Channel
    placement: Name | None = None
    valid_for: str | None = None
    withdraw_on: list[str] = []
    reason: TextModel
    retire: RetireModel | None = None
    lateness: Literal["fire"] | LatenessModel = "fire"
    message: MessageModel | None = None
    perks: list[PerkModel] = Field([], max_length=20)
    default_selection: Sku | None = None
    evidence: list[SeriesModel] = Field([], max_length=5)
    terms: Name | None = None
    pause_over: PauseModel | None = None
    gate: GateModel | None = None
    holdout: HoldoutModel | None = None
    cool_off: CoolOffModel | None = None
    sales_wait: bool = False
    tags: list[Name] = Field([], max_length=20)
    variants: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")], VariantModel
    ] = Field({}, max_length=20)
    learn: bool = False
    examples: list[dict[str, Any]] = []

    _cool_off = field_validator("cool_off", mode="before")(_cooling)

    @field_validator("on", "unless", "arm_when", "when", "withdraw_on", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class EventModel(_Model):
    """A custom event type: the topic it travels on, what it is about, and its fields."""

    topic: Literal["customer", "cart", "checkout", "purchase", "usage", "feedback"]
    about: Name = "customer"
    fields: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")], str] = {}


class Content(_Model):
    """A whole book: all files of the folder together."""

    book: BookModel
    segments: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")], str] = {}
    events: dict[
        Annotated[
            str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}(\.[a-z0-9_]{1,32}){1,3}$")
        ],
        EventModel,
    ] = {}
    rules: list[RuleModel] = []
