"""Scenario files: what is given, and the decisions that must come of it.

`scenarios.yaml` beside the rules, `tests/*.yaml` below them, and the `examples:` of a rule. Read
strictly; every fault is `file:line:column`. docs/scenarios.md describes the format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from streams.rulefiles import SCENARIOS, Source
from streams.strictyaml import Fault, Places, read_document
from triggers.shapes import Fault as ContentFault
from triggers.shapes import Path, fault_of

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
Row = Annotated[str, StringConstraints(pattern=r"^[A-Z][0-9]{1,2}[a-z]?$")]
Outcome = Literal[
    "offered", "suppressed", "deferred", "held_out", "outranked", "withdrawn", "expired"
]
#: A scenario's own keys in a step; all others are fields of the event's data.
STEP_KEYS = ("at", "event", "do", "customer", "id", "source", "offer", "offers", "refused")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RelationModel(_Model):
    """An edge from one product to another."""

    sku: str
    to: str
    relation: Literal["complement", "alternative", "replenishes"] = "complement"
    weight: float = 0.5
    story: dict[str, str] | None = None


class CatalogModel(_Model):
    """What the catalogue holds before the first event."""

    products: dict[str, dict[str, Any]] = {}
    relations: list[RelationModel] = []
    bundles: dict[str, dict[str, Any]] = {}
    stock: dict[str, int] = {}


class SetupModel(_Model):
    """What holds before a scenario's first event; absent keys are those of the level above."""

    start: str | None = None
    customer: Annotated[str, StringConstraints(min_length=1)] | None = None
    consent: str | list[str] | None = None
    catalog: CatalogModel = CatalogModel()
    events: dict[str, dict[str, Any]] = {}


class ExpectModel(BaseModel):
    """One decision; further keys are those of the offer, or of the decision, on the wire."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    at: str
    rule: str
    outcome: Outcome = "offered"
    reason: str | dict[str, Any] | None = None
    customer: str | None = None

    @model_validator(mode="after")
    def _has_reason(self) -> ExpectModel:
        if self.outcome in ("suppressed", "deferred", "withdrawn", "expired"):
            if not isinstance(self.reason, str):
                raise ValueError(f"a {self.outcome} decision has its code as `reason`")
        elif isinstance(self.reason, str):
            raise ValueError(f"an {self.outcome} decision has no code as `reason`")
        return self


class ExampleModel(_Model):
    """An example of one rule."""

    title: str = ""
    covers: list[Row] = []
    setup: SetupModel = SetupModel()
    given: list[dict[str, Any]]
    until: str | None = None
    expect: list[ExpectModel] | None = None
    never: list[str] = []
    holds: list[str] = []

    @model_validator(mode="after")
    def _expects(self) -> ExampleModel:
        if self.expect is None and not self.never and not self.holds:
            raise ValueError("expects nothing: give expect, never or holds")
        return self


class ScenarioModel(ExampleModel):
    """A scenario of a file; ``rules`` limits what is compared to these rules."""

    id: Id
    rules: list[str] | None = None


class FileModel(_Model):
    """A scenario file."""

    setup: SetupModel = SetupModel()
    scenarios: list[ScenarioModel]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario ready to run: its setup is that of all levels above it together."""

    id: str
    model: ExampleModel
    setup: SetupModel
    rules: tuple[str, ...] | None
    path: Path
    places: Places = field(repr=False)

    @property
    def place(self) -> str:
        """Where it stands: ``file:line:column``."""
        return self.at(())

    def at(self, path: Path) -> str:
        """Where a part of it stands."""
        found = self.places.find(ContentFault((*self.path, *path), ""))
        return f"{found.file}:{found.line}:{found.column}"

    def fault(self, path: Path, message: str) -> Fault:
        """A fault at a part of it."""
        return self.places.find(ContentFault((*self.path, *path), message))


def joined(above: SetupModel, below: SetupModel) -> SetupModel:
    """One setup over another: named things add up, the rest is replaced where it is given."""
    a, b = above.catalog, below.catalog
    catalog = CatalogModel(
        products={**a.products, **b.products},
        relations=[*a.relations, *b.relations],
        bundles={**a.bundles, **b.bundles},
        stock={**a.stock, **b.stock},
    )
    return SetupModel(
        start=below.start if below.start is not None else above.start,
        customer=below.customer if below.customer is not None else above.customer,
        consent=below.consent if below.consent is not None else above.consent,
        catalog=catalog,
        events={**above.events, **below.events},
    )


def scenario_files(folder: FilePath) -> list[FilePath]:
    """`scenarios.yaml` of a book's folder first, then `tests/*.yaml`."""
    own = folder / SCENARIOS
    below = sorted((folder / "tests").glob("*.yaml"))
    return [*([own] if own.is_file() else []), *below]


def read_scenarios(folder: FilePath, source: Source) -> list[Scenario] | list[Fault]:
    """All scenarios and examples of a book's folder, or all faults of their shape."""
    faults: list[Fault] = []
    found: list[Scenario] = []
    base = SetupModel()
    for file in scenario_files(folder):
        places = Places()
        document = read_document(file, places, faults)
        if document is None:
            continue
        model = _model_of(FileModel, document, (), places, faults)
        if model is None:
            continue
        setup = joined(base, model.setup)
        if file.name == SCENARIOS:
            base = setup
        for number, each in enumerate(model.scenarios):
            rules = None if each.rules is None else tuple(each.rules)
            whole = joined(setup, each.setup)
            found.append(Scenario(each.id, each, whole, rules, ("scenarios", number), places))
    found += _examples(source, base, faults)
    faults += _doubled(found)
    return sorted(set(faults)) or found


def _examples(source: Source, base: SetupModel, faults: list[Fault]) -> Iterator[Scenario]:
    # What is no rule at all, the faults of the book itself say.
    for place, rule in enumerate(_list(source.content.get("rules"))):
        examples = _list(rule.get("examples")) if isinstance(rule, dict) else []
        for number, example in enumerate(examples):
            path: Path = ("rules", place, "examples", number)
            model = _model_of(ExampleModel, example, path, source.places, faults)
            if model is not None:
                setup = joined(base, model.setup)
                rule_id = str(rule.get("id"))
                name = f"{rule_id}.{number + 1}"
                yield Scenario(name, model, setup, (rule_id,), path, source.places)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _model_of(kind: type[Any], value: Any, path: Path, places: Places, faults: list[Fault]) -> Any:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            fault = _fault(each, path)
            faults.append(places.find(fault))
        return None


def _fault(found: Any, path: Path) -> ContentFault:
    fault = fault_of(found)
    message = fault.message
    if found["type"] == "extra_forbidden":
        key = str(fault.path[-1])
        close = get_close_matches(key, _KEYS, n=1)
        message = f"unknown key {key}" + (f"; did you mean {close[0]}?" if close else "")
    return ContentFault((*path, *fault.path), message, fault.column, fault.at_key)


def _doubled(found: list[Scenario]) -> Iterator[Fault]:
    seen: dict[str, Scenario] = {}
    for each in found:
        if each.id in seen:
            message = f"the id {each.id} is taken by the scenario at {seen[each.id].place}"
            yield each.fault(("id",), message)
        seen.setdefault(each.id, each)


_KEYS = sorted(
    {
        name
        for model in (FileModel, ScenarioModel, SetupModel, CatalogModel, RelationModel)
        for name in model.model_fields
    }
)
