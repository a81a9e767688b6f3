"""Bayesian MAP without the defects of the published program, each by a test."""

from __future__ import annotations

import numpy as np
import pytest

from search.optimizer import optimizers
from search.optimizers.map_bayesian import (
    BayesianMAP,
    angles_of,
    bin_of,
    bin_scores,
    bins,
    point_at,
)
from tests.search.optimizers.analytic import Setup, search

OPTIONS = {"initial": 8, "acquired": 8, "generations": 3, "population": 8}
SETUP = Setup("map_bayesian", blocks=1, objectives=2, options=OPTIONS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_angles_lead_back_to_the_point() -> None:
    points = rng().random((50, 5))
    angles = angles_of(points)
    assert ((angles >= 0) & (angles <= np.pi / 2)).all()
    for point, row in zip(points, angles, strict=True):
        np.testing.assert_allclose(point_at(row, float(np.linalg.norm(point))), point, atol=1e-12)


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (2, 4), (3, 16), (4, 8), (6, 32)])
def test_angles_are_cut_in_four_with_up_to_three_genes_and_else_in_two(
    dim: int, count: int
) -> None:
    everything = bins(dim)
    assert len(everything) == count
    found = bin_of(rng().random((500, dim)))
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in everything.tolist()}
    assert len(np.unique(found, axis=0)) > count / 2


def test_design_then_acquisition_then_the_front() -> None:
    moves = [candidate.origin.move for candidate in search(SETUP, 30).candidates[6:]]
    assert moves == ["sample"] * 8 + ["acquisition"] * 8 + ["predicted_front"] * 8


def test_new_points_count_in_the_scores() -> None:
    """Published: every round scores the residuals of the first points again."""
    everything = bins(2)
    places, squared = np.array([[0], [1]]), np.array([0.5, 0.1])
    before = bin_scores(places, squared, everything, rng())
    after = bin_scores(
        np.concatenate((places, [[1]] * 3)), np.array([0.5, 0.1, 2, 2, 2]), everything, rng()
    )
    assert before[0] > before[1]
    assert after[1] > after[0]


def test_rounds_do_not_run_out_of_points() -> None:
    """Published: each round leaves a fifth out of what the last one left, down to four points.

    The spread of the mean of 80 of 100 numbers of variance 1, all different in every round, is
    sqrt(0.2 / 0.8 / 100) = 0.05.
    """
    squared = rng(3).standard_normal(100) + 5.0
    squared = (squared - squared.mean()) / squared.std() + 5.0
    scores = [
        bin_scores(np.zeros((100, 1)), squared, np.array([[0]]), rng(seed))[0] for seed in range(20)
    ]
    assert np.mean(scores) == pytest.approx(5.0 + 0.5 * 0.05, abs=0.005)


def test_bins_without_points_are_looked_at() -> None:
    """Published: they score minus infinity."""
    scores = bin_scores(np.array([[0], [1]]), np.array([0.1, 0.4]), bins(2), rng())
    np.testing.assert_allclose(scores, [0.1, 0.4, 0.4, 0.4])
    seen = search(SETUP, 22).candidates
    acquired = np.array([c.genome for c in seen if c.origin.move == "acquisition"])
    known = {tuple(row) for row in bin_of(np.array([c.genome for c in seen[:14] if c.genome]))}
    assert {tuple(row) for row in bin_of(acquired)} - known


def test_the_last_points_are_in_the_last_fit() -> None:
    """Published: the last batch is evaluated and then left out."""
    optimizer = SETUP.start()
    assert isinstance(optimizer, BayesianMAP)
    for told in search(SETUP, 22).outcomes:
        optimizer.tell(told)
    assert "each of 22 outcomes" in optimizer.status()


def test_points_lie_in_the_ring_that_was_published() -> None:
    seen = search(SETUP, 22).candidates
    distances = [
        float(np.linalg.norm(c.genome)) for c in seen if c.origin.move == "acquisition" and c.genome
    ]
    assert 0.2 <= min(distances) <= max(distances) <= 0.8


def test_more_genes_than_bins_can_divide_are_refused() -> None:
    entry = optimizers["map_bayesian"]
    problem = entry.problems(SETUP.spec, 60, entry.options())["optimizer.name"]
    assert "at most 10 genes" in problem
    assert not entry.problems(SETUP.spec, 10, entry.options())
