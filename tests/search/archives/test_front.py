"""Ranks against peeling by hand, crowding against pymoo."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

from search.archives.front import crowding, most_crowded, ranks
from search.pareto import front

# Few different values, so that ties and duplicates are common.
POINTS = st.integers(1, 4).flatmap(
    lambda m: arrays(
        np.float64,
        st.tuples(st.integers(1, 25), st.just(m)),
        elements=st.integers(-3, 3).map(float),
    )
)


@given(POINTS)
def test_ranks_peel_off_front_after_front(points: NDArray[np.float64]) -> None:
    rank, left, number = ranks(points), np.arange(len(points)), 0
    while len(left):
        best = front(points[left])
        assert (rank[left[best]] == number).all()
        left, number = left[~best], number + 1


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(3, 20), st.integers(1, 4)),
        unique=True,
        elements=st.floats(-1, 1, width=16),
    )
)
def test_crowding_is_that_of_pymoo(points: NDArray[np.float64]) -> None:
    """pymoo divides by the number of objectives; no ties, which it breaks another way."""
    expected = calc_crowding_distance(points.copy()) * points.shape[1]
    np.testing.assert_allclose(crowding(points), expected, rtol=1e-9)


def test_what_violates_constraints_comes_after_all_else_in_the_order_of_its_violation() -> None:
    points = [[1.0, 1.0], [0.5, 0.5], [9.0, 9.0], [8.0, 8.0], [7.0, 7.0]]
    assert ranks(points, [0.0, 0.0, 0.2, 0.1, 0.2]).tolist() == [0, 1, 3, 2, 3]
    assert ranks(points[2:], [0.2, 0.1, 0.2]).tolist() == [1, 0, 1]


def test_nothing_has_no_rank() -> None:
    assert len(ranks(np.zeros((0, 2)))) == 0


def test_of_equally_crowded_points_the_last_is_found() -> None:
    assert most_crowded([[0.0], [0.0], [0.0]]) == 2
