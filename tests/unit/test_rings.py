"""What a document remembers of offers and orders is packed once, and never stale."""

from collections.abc import Callable

import msgspec
import pytest

from triggers.customer import Customer
from triggers.rings import Made, Order, pack_lines, pack_offers, unpack_offers
from triggers.state import Line, StoredMade, StoredOrder


def an_offer(number: int = 0) -> Made:
    perks = [("free_shipping", 9)]
    return Made(
        number, f"id{number}", "r", "cross_sell", "email", None, "k1", 90, 500,
        "cart.item_added", False, perks, ["tea"], "b",
    )  # fmt: skip


def an_order() -> Order:
    return Order("o1", 5, 900, 100, "k1", 450, pack_lines([Line("tea", 2, 450)]), 200, True)


@pytest.mark.parametrize(("value", "layout"), [(an_offer(), StoredMade), (an_order(), StoredOrder)])
def test_values_lie_in_the_order_of_the_layout(value: object, layout: type[msgspec.Struct]) -> None:
    told = [getattr(value, name) for name in layout.__struct_fields__]
    assert list(value.fields()) == told  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.end("accepted", 7),
        lambda made: made.see(2),
        lambda made: made.say_why("price"),
        lambda made: made.answer(),
        lambda made: made.complain(),
    ],
)
def test_a_change_after_packing_is_written(change: Callable[[Made], None]) -> None:
    customer = Customer("ann")
    customer.offers.made += [an_offer(1), an_offer(2)]
    before = pack_offers(customer.offers)
    change(customer.offers.made[0])
    after = pack_offers(customer.offers)
    assert after != before
    assert pack_offers(unpack_offers(after)) == after
    found = [made.fields() for made in unpack_offers(after).made]
    assert found == [made.fields() for made in customer.offers.made]


def test_orders_come_back_as_they_were() -> None:
    customer = Customer("ann")
    customer.orders["o1"] = an_order()
    customer.touch("orders")
    again = Customer("ann", dict(customer.take_changes()))
    assert again.orders["o1"].fields() == an_order().fields()
    assert again.orders["o1"].lines == [Line("tea", 2, 450)]
    again.touch("orders")
    assert again.take_changes() == [("o", msgspec.msgpack.encode({"o1": an_order().fields()}))]
