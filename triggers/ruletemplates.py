"""Rules with parameters: a template serves several rules, shops and trades.

A rule that says `use: NAME` and `with: {...}` takes the template's keys with its parameters put in;
keys of its own replace the template's. All of it happens before anything is compiled, and a fault
in what came from a template is shown there.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from triggers.durations import parse_duration
from triggers.shapes import ASIDE, Fault, Path, fault_of

_NAME = re.compile(r"\$\{([^{}]*)\}")
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9])?%")


def _is_duration(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_duration(value))
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    # What would end a quoted text inside an expression.
    return isinstance(value, str) and not any(char in value for char in "\"'\\\n")


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


#: Type of a parameter -> whether a value is of it.
PARAM_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "texts": lambda v: isinstance(v, dict) and v.keys() == {"ja", "en"} and all(v.values()),
    "integer": lambda v: _is_number(v, int),
    "amount": lambda v: _is_number(v, int) and v >= 0,
    "number": lambda v: _is_number(v, int, float),
    "boolean": lambda v: isinstance(v, bool),
    "duration": _is_duration,
    "percent": lambda v: isinstance(v, str) and _PERCENT.fullmatch(v) is not None,
    "list": lambda v: isinstance(v, list) and all(map(_is_text, v)),
    "expression": lambda v: isinstance(v, str) and v != "",
    "events": lambda v: _is_text(v) or (isinstance(v, list) and all(map(_is_text, v))),
}

_Param = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ParamModel(_Model):
    """A parameter that may be left out."""

    type: str
    default: Any


class TemplateModel(_Model):
    """``params`` by name, each a type or ``{type, default}``, and the keys of a rule."""

    params: dict[_Param, str | ParamModel] = {}
    rule: dict[str, Any]


Templates = TypeAdapter(dict[str, TemplateModel])


@dataclass(slots=True)
class Expanded:
    """A content without templates, and where its rules came from."""

    content: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)
    templates: dict[str, TemplateModel] = field(default_factory=dict)
    _origins: dict[int, tuple[str, frozenset[str], str]] = field(default_factory=dict)

    def at_origin(self, fault: Fault) -> Fault:
        """A fault of a rule at the template that it came from, where it did."""
        path = fault.path
        if len(path) < 2 or path[0] != "rules" or path[1] not in self._origins:
            return fault
        name, own, rule = self._origins[int(path[1])]
        if len(path) == 2 or path[2] in own:
            return fault
        message = f"{fault.message} (as rule {rule} uses it)"
        source = _part(self.templates[name].rule, path[2:])
        # Where a parameter was put in, columns of the text are not those of the template.
        column = 1 if isinstance(source, str) and "${" in source else fault.column
        return Fault(("templates", name, "rule", *path[2:]), message, column, fault.at_key)

    def came_from(self, place: int, template: str, own: frozenset[str], rule: str) -> None:
        """Note that a rule took all but its ``own`` keys from a template."""
        self._origins[place] = template, own, rule


def _part(value: Any, path: Path) -> Any:
    """What stands at a path; None where there is no such place."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def expand(content: Mapping[str, Any]) -> Expanded:
    """Put templates into the rules that use them; a content without them stays as it is."""
    rules = content.get("rules")
    uses = isinstance(rules, list) and any(isinstance(r, dict) and "use" in r for r in rules)
    if "templates" not in content and not uses:
        return Expanded(dict(content))
    left = {key: value for key, value in content.items() if key != "templates"}
    found = Expanded(left)
    templates = found.templates = _templates(content.get("templates", {}), found.faults)
    if not isinstance(rules, list):
        return found
    left["rules"] = [
        _rule(rule, ("rules", place), templates, found)
        if isinstance(rule, dict) and "use" in rule
        else rule
        for place, rule in enumerate(rules)
    ]
    return found


def _templates(given: Any, faults: list[Fault]) -> dict[str, TemplateModel]:
    try:
        templates = Templates.validate_python(given)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            fault = fault_of(each)
            path = [part for part in fault.path if part not in ("str", "ParamModel")]
            place = Fault(("templates", *path), fault.message, fault.column, fault.at_key)
            if place not in faults:
                faults.append(place)
        return {}
    for name, model in templates.items():
        _check_template(model, ("templates", name), faults)
    return templates


def _check_template(model: TemplateModel, path: Path, faults: list[Fault]) -> None:
    for param, given in model.params.items():
        kind = given if isinstance(given, str) else given.type
        place: Path = (*path, "params", param)
        if kind not in PARAM_TYPES:
            faults.append(Fault(place, f"unknown type {kind}{_hint(kind, PARAM_TYPES)}"))
        elif isinstance(given, ParamModel) and not PARAM_TYPES[kind](given.default):
            faults.append(Fault(place, f"the default is no {kind}"))
    used: dict[str, Path] = {}
    _gather(model.rule, (*path, "rule"), used)
    for name, place in used.items():
        if name not in model.params:
            message = f"there is no parameter {name}{_hint(name, model.params)}"
            faults.append(Fault(place, message))
    for param in model.params:
        if param not in used:
            place = (*path, "params", param)
            faults.append(Fault(place, f"the rule does not use {param}", at_key=True))
    for key in ("id", "use", "with"):
        if key in model.rule:
            message = f"{key} belongs to the rule that uses the template"
            faults.append(Fault((*path, "rule", key), message, at_key=True))


def _gather(value: Any, path: Path, used: dict[str, Path]) -> None:
    if isinstance(value, str):
        for match in _NAME.finditer(value):
            used.setdefault(match[1].strip(), path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _gather(inner, (*path, key), used)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _gather(inner, (*path, place), used)


def _rule(
    rule: dict[str, Any], path: Path, templates: Mapping[str, TemplateModel], found: Expanded
) -> dict[str, Any]:
    name = rule["use"]
    identity = str(rule.get("id", ASIDE["id"]))
    template = templates.get(name) if isinstance(name, str) else None
    if template is None:
        if not any(fault.path[:1] == ("templates",) for fault in found.faults):
            message = f"there is no template {name}{_hint(str(name), templates)}"
            found.faults.append(Fault((*path, "use"), message))
        return {**ASIDE, "id": identity}
    values = _values(rule.get("with", {}), template, path, found.faults)
    if values is None:
        return {**ASIDE, "id": identity}
    own = {key: value for key, value in rule.items() if key not in ("use", "with")}
    kinds = {k: v if isinstance(v, str) else v.type for k, v in template.params.items()}
    found.came_from(int(path[1]), str(name), frozenset(own), identity)
    return {**_filled(template.rule, values, kinds), **own}


def _values(
    given: Any, template: TemplateModel, path: Path, faults: list[Fault]
) -> dict[str, Any] | None:
    """The value of each parameter; None when one is wrong."""
    if not isinstance(given, dict):
        faults.append(Fault((*path, "with"), "must be a mapping"))
        return None
    before = len(faults)
    for key in given:
        if key not in template.params:
            message = f"the template has no parameter {key}{_hint(key, template.params)}"
            faults.append(Fault((*path, "with", key), message, at_key=True))
    values: dict[str, Any] = {}
    for name, param in template.params.items():
        kind = param if isinstance(param, str) else param.type
        if name in given:
            values[name] = given[name]
            if kind in PARAM_TYPES and not PARAM_TYPES[kind](given[name]):
                faults.append(Fault((*path, "with", name), f"{name} is of type {kind}"))
        elif isinstance(param, ParamModel):
            values[name] = param.default
        else:
            faults.append(Fault((*path, "use"), f"`with` lacks {name}, of type {kind}"))
    return values if len(faults) == before else None


def _filled(value: Any, values: Mapping[str, Any], kinds: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, values, kinds) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values, kinds) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _NAME.fullmatch(value)
    if whole is not None and whole[1].strip() in values:
        return values[whole[1].strip()]

    def put(match: re.Match[str]) -> str:
        name = match[1].strip()
        return _written(values[name], kinds[name]) if name in values else match[0]

    return _NAME.sub(put, value)


def _written(value: Any, kind: str) -> str:
    """A value inside a text or an expression, where numbers are doubles and lists are CEL's."""
    if kind == "number":
        return repr(float(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
