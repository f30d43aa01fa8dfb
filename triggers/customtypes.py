"""Event types that a rule book declares beside the contract's: their fields, typed and bounded."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from triggers.events import CUSTOMER, EVENT_TYPES, EventType
from triggers.fields import Amount, Count, Figure, Id, Item, Label, Payload, Sku, Timestamp
from triggers.shapes import Path

if TYPE_CHECKING:
    from triggers.rules import EventModel

FIELDS_MAX = 40
#: The types that a field may have; with ``?`` behind it the field may be missing.
FIELD_TYPES: Mapping[str, Any] = {
    "id": Id,
    "sku": Sku,
    "text": Label,
    "integer": Count,
    "amount": Amount,
    "number": Figure,
    "boolean": bool,
    "time": Timestamp,
    "texts": Annotated[list[Label], Meta(max_length=1000)],
    "item": Item,
    "items": Annotated[list[Item], Meta(max_length=1000)],
}
#: Fields that the engine reads wherever they stand, so their type is fixed.
_FIXED = {
    "cart_id": "id",
    "checkout_id": "id",
    "contract_id": "id",
    "order_id": "id",
    "stay_id": "id",
    "ticket_id": "id",
    "offer_id": "id",
    "session_id": "id",
    "plan": "sku",
    "sku": "sku",
    "item": "item",
    "items": "items",
    "total": "amount",
    "subtotal": "amount",
}
#: What an event is called or whose it is stands in its envelope, and so it does in scenarios.
_TAKEN = frozenset({"at", "event", "do", "customer", "id", "source", "offer", "offers", "refused"})
_OWN = ("catalog.", "offer.", "decision.")
AddFault = Callable[[Path, str], None]


def declare(
    models: "Mapping[str, EventModel]", path: Path, add_fault: AddFault
) -> dict[str, EventType]:
    """The declared types by name; what is wrong with one is told, and it keeps its good fields."""
    return {
        name: _declared(name, model, (*path, name), add_fault) for name, model in models.items()
    }


def _declared(name: str, model: "EventModel", path: Path, add_fault: AddFault) -> EventType:
    if name in EVENT_TYPES:
        add_fault(path, f"{name} is an event type of the contract: choose another name")
    elif name.startswith(_OWN):
        add_fault(path, f"names in {name.partition('.')[0]}.* belong to the contract")
    if len(model.fields) > FIELDS_MAX:
        add_fault((*path, "fields"), f"more than {FIELDS_MAX} fields")
    required: list[Any] = []
    optional: list[Any] = []
    for field, text in model.fields.items():
        kind = text.removesuffix("?")
        if not _sound(field, kind, (*path, "fields", field), add_fault):
            continue
        if text.endswith("?"):
            optional.append((field, FIELD_TYPES[kind] | None, None))
        else:
            required.append((field, FIELD_TYPES[kind]))
    _check_about(model, path, add_fault)
    data = msgspec.defstruct(
        "".join(part.capitalize() for part in name.replace("_", ".").split(".")),
        [*required, *optional],
        bases=(Payload,),
        frozen=True,
        gc=False,
    )
    return EventType(name, model.topic, data, model.about)


def _sound(field: str, kind: str, path: Path, add_fault: AddFault) -> bool:
    if kind not in FIELD_TYPES:
        close = get_close_matches(kind, list(FIELD_TYPES), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FIELD_TYPES)}"
        add_fault(path, f"unknown type {kind}; {hint}")
        return False
    if field in _TAKEN:
        add_fault(path, f"{field} belongs to the envelope: choose another name")
        return False
    if kind != _FIXED.get(field, kind):
        add_fault(path, f"a field of the name {field} is of type {_FIXED[field]}")
        return False
    if kind == "item" and field != "item":
        add_fault(path, "a field of type item has the name item")
        return False
    return True


def _check_about(model: "EventModel", path: Path, add_fault: AddFault) -> None:
    kind = model.fields.get(model.about, "")
    if model.about == CUSTOMER or kind in ("id", "sku", "text"):
        return
    if kind:
        message = f"{model.about} is of type {kind}; what an event is about is an id, a sku or text"
    else:
        close = get_close_matches(model.about, [*model.fields, CUSTOMER], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        message = f"there is no field {model.about}{hint}"
    add_fault((*path, "about"), message)


class Nothing(Payload, frozen=True, gc=False):
    """The data of an event that can no longer be read: every field is missing."""


NOTHING = Nothing()
