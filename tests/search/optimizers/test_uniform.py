"""Sobol' points by index."""

from __future__ import annotations

import numpy as np

from search.optimizers.uniform import SobolPoints
from tests.search.optimizers.analytic import Setup, search


def test_points_do_not_depend_on_the_order_of_asking() -> None:
    forwards = SobolPoints(3, np.random.default_rng(1))
    backwards = SobolPoints(3, np.random.default_rng(1))
    indices = [0, 5, 255, 256, 700, 5000]
    there = [forwards[i].tolist() for i in indices]
    back = [backwards[i].tolist() for i in reversed(indices)]
    assert there == back[::-1]


def test_every_octant_gets_its_share() -> None:
    """The property that independent draws lack: 64 points, 8 in each octant."""
    points = SobolPoints(3, np.random.default_rng(1))
    octants = np.array([points[i] > 0.5 for i in range(64)]) @ [1, 2, 4]
    assert np.bincount(octants).tolist() == [8] * 8


def test_scores_do_not_matter() -> None:
    one, other = (search(Setup("uniform", objectives=m), 20) for m in (1, 3))
    assert one.candidates == other.candidates
