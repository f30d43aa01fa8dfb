"""Everything that this program raises on purpose.

    TsuideError
    ├── Refused           a record that the door turns away: the sender's fault
    ├── RuleError         a fault of the rule book: its author's
    │   ├── DurationError     a span that is not like 90s, 30m, 12h or 7d
    │   └── EvalError         an expression that has no value for these facts
    └── StateError        a stored document that this version cannot read: the operator's

Facts that are no faults (a gate that closed, a repeat, a lost claim) are values, not errors.
"""

from __future__ import annotations


class TsuideError(Exception):
    """The root: catch it to catch whatever this program raises on purpose."""


class Refused(TsuideError):  # noqa: N818 - a verdict on a record, no fault of ours
    """A record that the door turns away.

    `reason` is one of the contract's codes. `detail` names the field, never what stood in it, so
    it may be logged and sent on.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RuleError(TsuideError):
    """A fault of the rule book."""


class DurationError(RuleError, ValueError):
    """A text that is not a duration such as 90s, 30m, 12h or 7d."""


class EvalError(RuleError):
    """An expression that has no value for the facts at hand; it counts as "did not match"."""


class StateError(TsuideError):
    """A stored document that this version cannot read."""
