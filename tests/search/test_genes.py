import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.genes import Choice


def choice(*shares: float) -> Choice:
    return Choice(0, "p", None, ("a", "b", "c"), shares)


@pytest.mark.parametrize(("shares", "edges"), [((), (1 / 3, 2 / 3)), ((0.1, 0.2, 0.7), (0.1, 0.3))])
def test_choices_have_equal_parts_or_those_that_are_given(
    shares: tuple[float, ...], edges: tuple[float, float]
) -> None:
    low, high = edges
    units = (-1.0, 0.0, low - 1e-9, low + 1e-9, high - 1e-9, high + 1e-9, 1.0, 2.0)
    assert [choice(*shares).value(u) for u in units] == list("aaabbccc")


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.sampled_from("abc"))
def test_the_point_of_a_choice_gives_it_back(parts: list[float], value: str) -> None:
    one = choice(*(part / sum(parts) for part in parts))
    assert one.value(one.unit(value)) == value


def test_many_points_are_placed_at_once() -> None:
    units = np.linspace(0, 1, 11)
    one = choice(0.5, 0.25, 0.25)
    assert [one.choices[place] for place in one.places(units)] == [one.value(u) for u in units]
