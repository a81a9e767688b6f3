from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.merging.order import order_statistics


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.data())
def test_they_are_those_of_the_sorted_values(values: list[float], data: st.DataObject) -> None:
    place = st.integers(0, len(values) - 1)
    places = data.draw(st.lists(place, min_size=1, max_size=4))
    found = order_statistics(torch.tensor(values), places)
    assert found == [sorted(values)[p] for p in places]


def test_what_is_not_a_number_comes_last() -> None:
    assert order_statistics(torch.tensor([math.nan, 2.0, 1.0]), [0, 1]) == [1.0, 2.0]
