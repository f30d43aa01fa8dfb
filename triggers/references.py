"""Figures that others published. They are printed as references and are never a result of a shop.

Nothing computes with them; the borders of a rule's status stand in ``triggers.intervals``.
"""

from typing import NamedTuple


class Reference(NamedTuple):
    """A published figure, of what, and what it is good for."""

    figure: str
    of: str
    use: str


REFERENCES = (
    Reference(
        "+20 % sales, +30 % EBITDA",
        "one published case of a company that sold across its lines",
        "shows what was reached once, elsewhere; no forecast",
    ),
    Reference(
        "1/5 of the cost",
        "keeping a customer, compared with winning one; a rule of thumb",
        "a reason to look at retention; costs are not in the events",
    ),
    Reference(
        "7 to 10 %",
        "usual share of cross-sell proposals that succeed",
        "about 10 % for planning; under 7 % a rule is revised",
    ),
    Reference(
        "20 %",
        "share that succeeds where things go very well; more is rare",
        "over it the tracking is checked first",
    ),
)
