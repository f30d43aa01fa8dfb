"""Products of one kind: the sets answer what the definition says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triggers.candidates import Kinds, alike
from triggers.catalog import Product

WORDS = st.sampled_from(["", "chair", "table", "lamp"])
PRODUCTS = st.builds(
    lambda family, category: Product("x", family=family, category=category), WORDS, WORDS
)


@given(named=st.lists(PRODUCTS, max_size=4), other=PRODUCTS)
def test_one_of_the_same_kind_is_found_however_much_is_told(
    named: list[Product], other: Product
) -> None:
    assert Kinds(named).hold(other) == any(alike(other, each) for each in named)
