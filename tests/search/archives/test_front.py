"""The bounded front against brute force and moocore."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

from search.archives.front import FrontArchive, crowding, most_crowded, ranks
from search.pareto import front

# Few different values, so that ties and duplicates are common.
POINTS = st.integers(1, 4).flatmap(
    lambda m: arrays(
        np.float64,
        st.tuples(st.integers(1, 25), st.just(m)),
        elements=st.integers(-3, 3).map(float),
    )
)


def filled(points: NDArray[np.float64], capacity: int) -> FrontArchive[int]:
    archive: FrontArchive[int] = FrontArchive(capacity)
    for index, point in enumerate(points):
        archive.add(index, point)
    return archive


@given(POINTS)
def test_an_unbounded_front_is_the_front(points: NDArray[np.float64]) -> None:
    archive = filled(points, capacity=1000)
    expected = {tuple(point) for point in points[front(points)]}
    assert {tuple(point) for point in archive.points} == expected
    assert len(archive) == len(expected)
    firsts = [min(np.flatnonzero((points == point).all(axis=1))) for point in archive.points]
    assert archive.members == firsts


@given(POINTS, st.integers(1, 5))
def test_a_bounded_front_is_within_bounds_and_undominated(
    points: NDArray[np.float64], capacity: int
) -> None:
    archive = filled(points, capacity)
    assert 1 <= len(archive) <= capacity
    assert front(archive.points).all()
    assert (points[archive.members] == archive.points).all()


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


def test_the_most_crowded_leaves_and_extremes_stay() -> None:
    archive: FrontArchive[str] = FrontArchive(3)
    for name, point in {"a": (0, 9), "b": (9, 0), "c": (5, 5)}.items():
        assert archive.add(name, point)
    assert not archive.add("d", (5.1, 4.9)), "as crowded as c, and newer"
    assert archive.members == ["a", "b", "c"]
    assert archive.add("e", (10, -1))
    assert archive.members == ["a", "c", "e"]


def test_an_equal_point_is_not_admitted_twice() -> None:
    archive: FrontArchive[str] = FrontArchive(3)
    assert archive.add("first", (1.0, 2.0))
    assert not archive.add("second", (1.0, 2.0))
    assert archive.members == ["first"]


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        FrontArchive(3).add("x", (1.0, float("nan")))


def test_an_archive_holds_someone() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        FrontArchive(0)


def test_nothing_has_no_rank() -> None:
    assert len(ranks(np.zeros((0, 2)))) == 0


def test_of_equally_crowded_points_the_last_is_found() -> None:
    assert most_crowded([[0.0], [0.0], [0.0]]) == 2
