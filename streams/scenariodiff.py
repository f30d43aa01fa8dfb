"""What a scenario expected beside what came: one line for each difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.scenariotime import Times
from triggers.decisions import Decision
from triggers.durations import instant_of

_TIMES = ("until", "valid_until", "valid_from", "due")
_ALIASES = {"price": "offer_price"}
_OWN = ("at", "rule", "outcome", "customer")


@dataclass(frozen=True, slots=True)
class Seen:
    """A decision that came, with its data on the wire (of an offered one: the offer's)."""

    decision: Decision
    data: dict[str, Any]


def differences(
    expected: Sequence[tuple[int, str, Any]] | None,
    seen: Sequence[Seen],
    never: Sequence[str],
    rules: Sequence[str] | None,
    times: Times,
) -> list[str]:
    """All differences; an empty list when everything came as expected.

    ``expected`` holds instant, place and model of each decision; when it is None, only offers of
    the rules in ``never`` are looked at.
    """
    found = [
        f"must not offer: {_shown(each, times)}"
        for each in seen
        if each.decision.rule in never and each.decision.outcome == "offered"
    ]
    looked_at = [each for each in seen if rules is None or each.decision.rule in rules]
    if expected is None:
        return found
    left = list(looked_at)
    unmet = []
    for at_ms, place, model in expected:
        match = next((s for s in left if not _differs(at_ms, model, s, times)), None)
        if match is not None:
            left.remove(match)
        else:
            unmet.append((at_ms, place, model))
    for at_ms, place, model in unmet:
        nearest = next((s for s in left if _kin(s, model) and s.decision.at == at_ms), None)
        nearest = nearest or next((s for s in left if _kin(s, model)), None)
        if nearest is None:
            found.append(f"missing: {times.show(at_ms)} {model.rule} {model.outcome}  [{place}]")
        else:
            left.remove(nearest)
            found.append(f"differs: {_shown(nearest, times)}  [{place}]")
            found += [f"  {text}" for text in _differs(at_ms, model, nearest, times)]
    return found + [f"unexpected: {_shown(each, times)}" for each in left]


def _kin(seen: Seen, model: Any) -> bool:
    return bool((seen.decision.rule, seen.decision.customer) == (model.rule, model.customer))


def _differs(at_ms: int, model: Any, seen: Seen, times: Times) -> list[str]:
    decision, found = seen.decision, []
    if (decision.rule, decision.customer) != (model.rule, model.customer):
        found.append(f"rule: expected {model.rule} for {model.customer}")
    if decision.at != at_ms:
        found.append(f"at: expected {times.show(at_ms)}, came {times.show(decision.at)}")
    if decision.outcome != model.outcome or decision.reason != _code(model):
        came = " ".join(filter(None, (decision.outcome, decision.reason)))
        wanted = " ".join(filter(None, (model.outcome, _code(model))))
        found.append(f"outcome: expected {wanted}, came {came}")
        return found
    given: dict[str, Any] = model.model_dump(exclude_unset=True)
    if not isinstance(given.get("reason"), Mapping):
        given.pop("reason", None)
    data = dict(seen.data)
    if model.outcome == "offered":
        data["until"] = data["valid_until"]
        data["about"] = data["correlation_id"]
        if data["items"] and "items" not in given:
            found.append(f"items: not named, came {_json(data['items'])}")
    for key, value in given.items():
        if key not in _OWN:
            found += _unequal(key, value, data.get(key), times)
    return found


def _code(model: Any) -> str | None:
    """The code of a decision that is not an offer; held out and outranked ones name themselves."""
    if model.outcome in ("held_out", "outranked"):
        return str(model.outcome)
    return model.reason if isinstance(model.reason, str) else None


def _unequal(path: str, wanted: Any, came: Any, times: Times) -> list[str]:
    """Differences of one value: a mapping names some of the keys, a list names all entries."""
    name = path.rpartition(".")[2]
    if name in _TIMES and isinstance(wanted, str) and isinstance(came, str):
        return _unequal_times(path, wanted, came, times)
    if isinstance(wanted, Mapping) and isinstance(came, list):
        return _unequal_some(path, wanted, came, times)
    if isinstance(wanted, Mapping) and isinstance(came, Mapping):
        found = []
        for key, value in wanted.items():
            real = _ALIASES.get(key, key) if name.isdigit() else key
            found += _unequal(f"{path}.{key}", value, came.get(real), times)
        return found
    if isinstance(wanted, list) and isinstance(came, list) and len(wanted) == len(came):
        found = []
        for place, (one, other) in enumerate(zip(wanted, came, strict=True)):
            found += _unequal(f"{path}.{place}", _entry(one, other), other, times)
        return found
    if type(wanted) is type(came) and wanted == came:
        return []
    if isinstance(wanted, int | float) and isinstance(came, int | float) and wanted == came:
        return []
    return [f"{path}: expected {_json(wanted)}, came {_json(came)}"]


def _entry(wanted: Any, came: Any) -> Any:
    """A text stands for the entry's sku or perk."""
    if isinstance(wanted, str) and isinstance(came, Mapping):
        return {"perk" if "perk" in came else "sku": wanted}
    return wanted


def _unequal_times(path: str, wanted: str, came: str, times: Times) -> list[str]:
    at_ms, came_ms = times.read(wanted), instant_of(came)
    if at_ms == came_ms:
        return []
    shown = came if came_ms is None else times.show(came_ms)
    return [f"{path}: expected {times.show(at_ms)}, came {shown}"]


def _unequal_some(path: str, wanted: Mapping[str, Any], came: list[Any], times: Times) -> list[str]:
    """``{at_least: 3, has: [...]}`` about a list that is not named in full."""
    found = []
    for key, value in wanted.items():
        if key == "at_least":
            if len(came) < value:
                found.append(f"{path}: expected at least {value} entries, came {len(came)}")
        elif key == "has":
            found += [
                f"{path}: expected an entry {_json(one)}, came {_json(came)}"
                for one in value
                if all(_unequal(f"{path}.0", _entry(one, other), other, times) for other in came)
            ]
        else:
            found.append(f"{path}: is a list: name its entries, or at_least and has")
    return found


def _shown(seen: Seen, times: Times) -> str:
    decision = seen.decision
    parts = [times.show(decision.at), decision.rule, decision.outcome, decision.reason or ""]
    if decision.outcome == "offered":
        items = seen.data["items"]
        parts.append(", ".join(f"{i['sku']} x{i['quantity']} at {i['offer_price']}" for i in items))
    if decision.until is not None:
        parts.append(f"until {times.show(decision.until)}")
    return " ".join(part for part in parts if part)


def _json(value: Any) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()
