import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import front, hypervolume, preference, reference_point, span

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
    assert reference == pytest.approx([0.2 - 0.08, 0.5 - 0.0125])


def test_many_objectives_take_no_longer() -> None:
    """Exactly, these three hundred points take most of a minute, and twice as many many hours."""
    rng = np.random.default_rng(0)
    matrix = np.abs(rng.standard_normal((600, 8)))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    start = time.perf_counter()
    volume = hypervolume(matrix, np.zeros(8))
    assert time.perf_counter() - start < 5
    assert hypervolume(matrix[:300], np.zeros(8)) <= volume


def test_hypervolume_of_many_objectives_is_about_right() -> None:
    """One box, and two that overlap in a third."""
    assert hypervolume(np.full((1, 6), 0.5), np.zeros(6)) == pytest.approx(0.5**6, rel=0.03)
    pair = [[1.0, 0.5, 1, 1, 1, 1], [0.5, 1.0, 1, 1, 1, 1]]
    assert hypervolume(pair, np.zeros(6)) == pytest.approx(0.75, rel=0.03)


def test_preference_is_the_weighted_mean_in_spans_of_the_baselines() -> None:
    unit = span([[0.0, 10.0], [0.5, 30.0]])
    assert unit == pytest.approx([0.5, 20.0])
    assert preference([[0.5, 0.0], [0.0, 20.0]], [3.0, 1.0], unit) == pytest.approx([0.75, 0.25])


def test_span_where_baselines_hardly_differ_or_are_missing() -> None:
    assert span([[2.0, 0.0]]) == pytest.approx([0.5, 1e-9])
    assert span([[-0.2426], [-0.2432]]) == pytest.approx([0.0608])
    assert span(np.zeros((0, 2))) == pytest.approx([1.0, 1.0])
