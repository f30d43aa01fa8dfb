"""The report: one fold over events, decisions and offers in the order of time, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from triggers.durations import DAY_MS, to_ms, to_text
from triggers.groups import by_group
from triggers.ledger import STEPS, DecisionMade, Ledger, OfferMade
from triggers.lift import HELD_OUT, TREATED, WHOLE_BOOK, Trials, lift_of
from triggers.measures import values
from triggers.references import REFERENCES
from triggers.shoppers import Shoppers
from triggers.stayguard import guards

WINDOW_DAYS = 7
_FORGETS = frozenset({"customer.erase_requested", "customer.objected"})
_ARMS = {"offered": TREATED, "held_out": HELD_OUT}


class Report:
    """Feed it records in the order of time (a customer's, at least), then ask for ``body()``.

    ``window_days``: for how many days after a decision an order counts as its effect; ``whole``:
    whether the book's holdout holds a customer id, where the book is known.
    """

    def __init__(
        self, window_days: int = WINDOW_DAYS, whole: Callable[[str], bool] | None = None
    ) -> None:
        self.window_days = window_days
        window_ms = window_days * DAY_MS
        self.trials = Trials(window_ms, whole)
        self.ledger = Ledger(self.trials, window_ms)
        self.shoppers = Shoppers(window_ms)
        self.begin_ms = 0
        self.end_ms = 0

    def catalogued(self, kind: str, sku: str, data: Any) -> None:
        """A record of the catalogue."""
        self.shoppers.catalogued(kind, sku, data)

    def event(self, kind: str, customer: str, data: Any, at_ms: int) -> None:
        """An event of a customer; ``data`` has its fields as attributes."""
        self._at(at_ms)
        if kind in STEPS:
            self.ledger.feedback(customer, data.offer_id, STEPS[kind], at_ms)
        ordered_ms, orders, minor = self.shoppers.happened(kind, customer, data, at_ms)
        if ordered_ms:
            self.trials.paid(customer, ordered_ms, at_ms, orders, minor)
            if orders > 0:
                for offer_id in data.offer_ids or ():
                    self.ledger.feedback(customer, offer_id, "accepted", at_ms)
        elif kind in _FORGETS:
            self.trials.forget(customer)

    def offer(self, customer: str, made: OfferMade, at_ms: int) -> None:
        """An ``offer.made``."""
        self._at(at_ms)
        self.ledger.offer(customer, made, at_ms, to_ms(made.valid_until))

    def decision(self, customer: str, made: DecisionMade, at_ms: int) -> None:
        """A ``decision.made``."""
        self._at(at_ms)
        self.ledger.decision(customer, made, at_ms)
        arm = _ARMS.get(made.outcome)
        if arm is not None and made.kind == "down_sell":
            self.shoppers.downsold(customer, made.rule, arm, at_ms)

    def _at(self, at_ms: int) -> None:
        self.begin_ms = min(self.begin_ms or at_ms, at_ms)
        self.end_ms = max(self.end_ms, at_ms)

    def body(self, attribute: str | None = None) -> dict[str, Any]:
        """All figures, for JSON; ends the fold. ``attribute`` makes groups of customers."""
        self.trials.finish(self.end_ms)
        self.ledger.finish(self.end_ms)
        self.shoppers.end_ms = self.end_ms
        return {
            "from": to_text(self.begin_ms),
            "until": to_text(self.end_ms),
            "window_days": self.window_days,
            "rules": {rule: self.ledger.body(rule) for rule in sorted(self.ledger.rules)},
            "lift": lift_of(self.trials.by_rule.get(WHOLE_BOOK)),
            "measures": values(self.shoppers),
            "groups": by_group(self.shoppers, attribute) if attribute else {},
            "guards": [guard._asdict() for guard in guards(self.shoppers)],
            "alerts": self._alerts(),
            "references": [{**one._asdict(), "is_result": False} for one in REFERENCES],
        }

    def _alerts(self) -> list[str]:
        found = [
            f"{guard.rule}: a stay brings {-guard.change:.0f} less than without this down-sell "
            f"(at least {-guard.high:.0f})"
            for guard in guards(self.shoppers)
            if guard.state == "alert"
        ]
        if self.ledger.rules and not self.ledger.told:
            found.append("no feedback is in the log: rates and status say nothing")
        currencies = list(self.shoppers.sums.currencies)
        if len(currencies) > 1:
            found.append(f"amounts in several currencies are added up: {', '.join(currencies)}")
        dropped = self.ledger.dropped
        if dropped:
            found.append(f"{dropped} open offers had to be let go before their time")
        if self.shoppers.left_out or self.trials.left_out:
            found.append("there are more customers than can be held: figures miss some")
        return found
