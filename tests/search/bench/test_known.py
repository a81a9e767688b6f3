"""What the best front of a problem is, is known well enough."""

from __future__ import annotations

import numpy as np
import pytest

from search.bench.known import PROBLEMS


def test_random_points_do_not_reach_the_best_front() -> None:
    known = PROBLEMS["rotated-2"](1)
    points = np.random.default_rng(0).random((200, 2))
    assert 0.7 < known.share([known.problem(point) for point in points]) < 1.0


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "zdt3", "zdt4"])
def test_the_optima_of_a_published_function_reach_all_of_its_volume(name: str) -> None:
    """Zitzler, Deb, Thiele 2000: the front is where all variables but the first are 0."""
    known = PROBLEMS[name](0)
    points = np.zeros((400, known.problem.n))
    points[:, 0] = np.linspace(0, 1, 400)
    if name == "zdt4":  # of variables from -5 to 5
        points[:, 1:] = 0.5
    assert known.share([known.problem(p) for p in points]) == pytest.approx(1.0, abs=0.01)


def test_three_objectives_at_the_optimum_lie_on_a_sphere() -> None:
    """DTLZ2 of Deb et al. 2002: where the distance variables are 0.5."""
    known = PROBLEMS["dtlz2"](0)
    point = np.full(known.problem.n, 0.5)
    assert np.linalg.norm(known.problem(point)) == pytest.approx(1.0)
    assert known.volume > 0
