"""The project's own merge problems behave as merging does."""

from __future__ import annotations

import numpy as np
import pytest

from search.bench.digits import rotated, split


def test_specialists_are_good_at_their_own_task_and_forget_the_other() -> None:
    problem = split(2, 1)
    alone = np.array([problem(corner) for corner in np.eye(2)])
    assert (alone.diagonal() > 0.9).all()
    assert alone[0, 1] < 0.2
    assert alone[1, 0] < 0.2


def test_some_merge_beats_the_base_and_the_average_in_every_task() -> None:
    problem = rotated(3, 1)
    base, average = problem(np.zeros(3)), problem(np.full(3, 1 / 3))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 6)] * 3), axis=-1).reshape(-1, 3)
    best = max((problem(point) for point in grid), key=np.min)
    assert best.min() > base.min()
    assert best.min() > average.min()
    assert (best > problem.reference).all()


def test_a_merge_of_use_loses_no_more_than_five_points_to_the_base() -> None:
    problem = rotated(2, 1)
    assert problem.reference == pytest.approx(problem(np.zeros(2)) - 0.05)


def test_a_seed_makes_the_same_networks_and_another_makes_others() -> None:
    one, again, other = split(2, 3), split(2, 3), split(2, 4)
    assert (one.differences == again.differences).all()
    assert (one.differences != other.differences).any()


def test_the_base_reads_every_task_far_better_than_chance() -> None:
    problem = rotated(2, 2)
    assert (problem(np.zeros(2)) > 0.7).all()
