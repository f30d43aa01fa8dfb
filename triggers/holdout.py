"""The customers who are offered nothing, so that the effect of offers can be measured.

Who they are is a digest of salt and customer id: the same in every replay, and independent of
everything that the customer does.
"""

from triggers.book import Rule
from triggers.context import Context
from triggers.ids import share_below


def held_out(rule: Rule, ctx: Context) -> bool:
    """Whether the customer is in the book's holdout, or in that of the rule alone."""
    whole, own = ctx.book.holdout, rule.holdout
    if whole is not None and share_below(whole.share, whole.salt, ctx.customer.id):
        return True
    return own is not None and share_below(own.share, own.salt, ctx.customer.id, rule.id)
