"""What each gate looked at, as values for an explanation: one table, gate code to its facts."""

from collections.abc import Callable
from typing import Any

from triggers.durations import to_text
from triggers.factsused import facts_of, plain
from triggers.feedback import cools_off, service_due
from triggers.gatekeys import DOWNSELL_WAIT_MS
from triggers.gates import Case, binds_limit, counts, once_used, quiet_hours_of
from triggers.rings import Made
from triggers.salesgates import basket, price_of, session_start

Facts = dict[str, Any]
_MADE_MAX = 5


def _made(made: Made) -> Facts:
    return {"rule": made.rule, "at": to_text(made.at), "price": made.price}


def _no_consent(case: Case) -> Facts:
    return {"channel": case.rule.channel, "consents": dict(sorted(case.before.consents.items()))}


def _ticket_open(case: Case) -> Facts:
    return {"tickets": plain(case.ctx.customer.now.tickets)}


def _pick(case: Case) -> Facts:
    pick = case.rule.pick
    value = None if pick.value is None else pick.value.get(case.ctx)
    found: Facts = {"pick": pick.kind}
    if pick.value is not None:
        found[pick.value.source] = plain(value)
    return found


def _irrelevant(case: Case) -> Facts:
    purpose = case.rule.gate.purpose
    wanted = None if purpose is None else purpose.get(case.ctx)
    return {**_pick(case), "purposes wanted": plain(wanted)}


def _value(case: Case) -> Facts:
    gate, now = case.rule.gate, case.ctx.customer.now
    found: Facts = {"customer.csat": now.csat, "customer.deployed": plain(now.deployed)}
    if gate.deployed is not None:
        found["deployed wanted"] = plain(list(gate.deployed)) or "any product"
    if gate.value is not None:
        found |= {"value_realised": gate.value.source, **facts_of([gate.value], case.ctx)}
    return found


def _ceiling(case: Case) -> Facts:
    ceiling = case.rule.gate.ceiling
    share = "" if ceiling is None else f"{ceiling.permille / 10:g}%"
    return {"price": price_of(case), "basket": basket(case.ctx), "share": share}


def _too_soon(case: Case) -> Facts:
    price, since = price_of(case), case.ctx.at - DOWNSELL_WAIT_MS
    dearer = [m for m in case.ctx.customer.offers.made if m.at > since and m.price > price]
    last = dearer[-1] if dearer else None
    until = {} if last is None else {"until": to_text(last.at + DOWNSELL_WAIT_MS)}
    return {"price": price, "dearer offer": None if last is None else _made(last), **until}


def _cooldown(case: Case) -> Facts:
    rule, ctx = case.rule, case.ctx
    found: Facts = {}
    last = ctx.customer.offers.last.get(rule.id)
    if rule.cooldown_ms and last is not None and ctx.at - last < rule.cooldown_ms:
        found |= {"last offer": to_text(last), "until": to_text(last + rule.cooldown_ms)}
    if rule.cool_off and cools_off(rule, ctx):
        found["cool_off"] = "the customer said no"
    if service_due(ctx):
        found["sales_wait"] = sorted(
            {t.rule for t in ctx.customer.now.timers if t.rule in ctx.book.sales_wait}
        )
    if once_used(rule, ctx, case.about):
        found["once_per"] = rule.once_per or f"{rule.once_per_ms} ms"
        found["used up for"] = case.about
    return found


def _capped(case: Case) -> Facts:
    rule, ctx = case.rule, case.ctx
    made = ctx.customer.offers.made
    limits = []
    for limit in (*ctx.book.limits, *rule.limits):
        own = limit in rule.limits
        if not own and not binds_limit(limit, rule):
            continue
        inside = [
            each
            for each in made
            if each.at > ctx.at - limit.window_ms
            and (each.rule == rule.id if own else counts(limit, each))
        ]
        if len(inside) >= limit.max:
            hours = limit.window_ms / 3_600_000
            offers = [_made(each) for each in inside[-_MADE_MAX:]]
            limits.append(
                {"max": limit.max, "in_hours": hours, "made": len(inside), "last": offers}
            )
    return {"limits": limits}


def _fatigue(case: Case) -> Facts:
    ctx = case.ctx
    budgets = [
        {"budget": each.budget, "in_hours": each.window_ms / 3_600_000}
        if each.window_ms
        else {
            "budget": each.budget,
            "session since": to_text(session_start(ctx.customer.now, ctx.at)),
        }
        for each in case.rule.gate.fatigue
    ]
    return {"budgets": budgets, "last": [_made(m) for m in ctx.customer.offers.made[-_MADE_MAX:]]}


def _quiet(case: Case) -> Facts:
    quiet = quiet_hours_of(case)
    if quiet is None:
        return {}
    until = quiet.window.end_after(case.ctx.at, case.before.zone)
    return {"until": to_text(until), "zone": case.before.zone, "then": quiet.then}


def _stale(case: Case) -> Facts:
    return {
        "due": to_text(case.origin_ms),
        "skip_after_hours": (case.rule.skip_after_ms or 0) / 3.6e6,
    }


FACTS: dict[str, Callable[[Case], Facts]] = {
    "no_consent": _no_consent,
    "ticket_open": _ticket_open,
    "already_owned": _pick,
    "out_of_stock": _pick,
    "irrelevant": _irrelevant,
    "value_not_realised": _value,
    "price_ceiling": _ceiling,
    "downsell_too_soon": _too_soon,
    "cooldown": _cooldown,
    "frequency_cap": _capped,
    "fatigue": _fatigue,
    "quiet_hours": _quiet,
    "no_candidate": _pick,
    "stale": _stale,
}


def gate_facts(code: str, case: Case) -> Facts:
    """What the gate of that code looked at; ``{}`` for one that is not known here."""
    facts = FACTS.get(code)
    return {} if facts is None else facts(case)
