import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import front, hypervolume, reference_point

points = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 5))


@given(points)
def test_front_is_what_nothing_dominates(matrix: np.ndarray) -> None:
    dominated = [
        any(np.all(other >= row) and np.any(other > row) for other in matrix) for row in matrix
    ]
    assert list(front(matrix)) == [not d for d in dominated]


def test_hypervolume_is_the_area_of_the_staircase() -> None:
    assert hypervolume([[1, 3], [2, 2], [3, 1], [1, 1]], [0, 0]) == pytest.approx(6.0)


def test_points_that_are_not_above_the_reference_add_nothing() -> None:
    assert hypervolume([[5, 0], [-1, 9]], [0, 0]) == 0.0
    assert hypervolume([], [0, 0]) == 0.0


@given(points, points)
def test_more_points_never_lose_hypervolume(some: np.ndarray, more: np.ndarray) -> None:
    corner = [-1.0, -1.0]
    assert hypervolume(np.vstack([some, more]), corner) >= hypervolume(some, corner) - 1e-9


def test_reference_lies_a_tenth_of_the_span_below_the_worst_baseline() -> None:
    reference = reference_point([[0.2, 0.5], [1.0, 0.5]])
    assert reference == pytest.approx([0.2 - 0.08, 0.5 - 0.05])
