"""JSON Schemas: of the files that people write, for editors, and of the events that come in."""

from typing import Any

import msgspec

from streams.scenarios import FileModel
from triggers.events import CATALOG, EVENT_TYPES, EventType
from triggers.rules import Content
from triggers.ruletemplates import Templates

DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: Lists that may be written as one value where there is only one.
_LISTED = ("on", "unless", "arm_when", "when", "withdraw_on", "allow", "after")
#: Short forms that the models spell out: key -> what may stand there too.
_SHORT: dict[str, list[dict[str, Any]]] = {
    "cool_off": [{"type": "string"}],
    "price_ceiling": [{"type": "string"}],
    "value_realised": [{"const": True}],
    "purpose": [{"const": True}],
    "deployed": [{"const": True}, {"type": "string"}],
}
_ENVELOPE = ("specversion", "id", "source", "type", "time", "subject", "data")


def book_schema() -> dict[str, Any]:
    """Of one file of a rule book; the sections may be spread over several."""
    schema = Content.model_json_schema(by_alias=True)
    templates = Templates.json_schema()
    definitions = {**schema.pop("$defs"), **templates.pop("$defs", {})}
    for definition in definitions.values():
        _loosen(definition)
    rule = definitions["RuleModel"]
    required = rule.pop("required")
    rule["properties"]["use"] = {"type": "string", "description": "The template's name."}
    rule["properties"]["with"] = {"type": "object", "description": "The template's parameters."}
    rule["required"] = ["id"]
    rule["if"] = {"required": ["use"]}
    rule["else"] = {"required": required}
    schema.pop("required")
    schema["properties"]["templates"] = templates
    title = {"$schema": DRAFT, "title": "A file of a Tsuide rule book"}
    return {**schema, **title, "$defs": definitions}


def _loosen(definition: dict[str, Any]) -> None:
    properties = definition.get("properties", {})
    for name in _LISTED:
        listed = properties.get(name, {})
        if listed.get("type") == "array":
            choice = {"anyOf": [{**listed}, listed["items"]]}
            properties[name] = choice
    for name, forms in _SHORT.items():
        if name in properties:
            properties[name] = {"anyOf": [properties[name], *forms]}


def scenario_schema() -> dict[str, Any]:
    """Of a scenario file."""
    title = {"$schema": DRAFT, "title": "Scenarios of a Tsuide rule book"}
    return {**FileModel.model_json_schema(by_alias=True), **title}


def events_schema(custom: dict[str, EventType] | None = None) -> dict[str, Any]:
    """Of one event in structured JSON: the envelope, and the data by type."""
    types = {**EVENT_TYPES, **(custom or {})}
    payloads = list(dict.fromkeys(one.data for one in types.values()))
    schemas, definitions = msgspec.json.schema_components(payloads, ref_template="#/$defs/{name}")
    by_payload = dict(zip(payloads, schemas, strict=True))
    text = {"type": "string", "minLength": 1, "maxLength": 256}
    return {
        "$schema": DRAFT,
        "title": "An event that Tsuide reads (CloudEvents 1.0)",
        "type": "object",
        "required": list(_ENVELOPE),
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "time": {"type": "string", "format": "date-time"},
            "subject": {**text, "description": "The customer's id; of catalog.* the sku."},
        },
        "oneOf": [
            {
                "title": f"{name} (topic {one.topic}"
                + ("" if one.topic == CATALOG else f", about {one.about}")
                + ")",
                "properties": {"type": {"const": name}, "data": by_payload[one.data]},
            }
            for name, one in types.items()
        ],
        "$defs": definitions,
    }
