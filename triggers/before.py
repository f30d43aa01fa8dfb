"""What gates look at: the customer as it was before the event.

Appliers replace what stands here instead of changing it in place, so taking it is a matter of
keeping references; what an event cannot change is read when a gate asks for it. Owned skus are
many and change in place: they are copied where a rule that answers the event looks at them.
"""

from collections.abc import Mapping
from typing import Any

from triggers.context import Context
from triggers.customer import Customer

_NO_LINES: Mapping[str, Any] = {}


class Before:
    """Consents, zone, owned skus and cart of a customer, taken before an event is applied."""

    __slots__ = ("_customer", "_lines", "_owned", "consents", "zone")

    def __init__(self, customer: Customer, data: Any, zone: str) -> None:
        """``zone`` is the book's, for customers who have told none."""
        now = customer.now
        self.consents = now.consents
        self.zone = now.timezone or zone
        self._customer = customer
        self._owned: dict[str, int] | None = None
        self._lines: Mapping[str, Any] | None = None
        cart_id = getattr(data, "cart_id", None)
        if cart_id:
            self._lines = _NO_LINES
            for cart in reversed(now.carts):  # mostly the latest one
                if cart.cart_id == cart_id:
                    self._lines = cart.lines
                    break

    def keep_owned(self) -> None:
        """Keep the skus that are owned now, before the event changes them."""
        self._owned = dict(self._customer.owned)

    @property
    def owned(self) -> Mapping[str, int]:
        """Skus in orders that were not wholly given back."""
        return self._customer.owned if self._owned is None else self._owned

    def cart(self, ctx: Context) -> Mapping[str, Any]:
        """The lines of the cart that the event is about, by sku."""
        return ctx.cart.lines if self._lines is None else self._lines
