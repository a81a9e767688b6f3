"""MAP looks where its surrogate sees a gain, and spreads what is in flight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.map import _directions, _gains
from search.pareto import hypervolume
from tests.search.optimizers.analytic import Setup, search

SETUP = Setup("map", blocks=1, objectives=2)
QUICK = {"generations": 4, "population": 16}


def test_on_a_smooth_front_it_needs_few_evaluations() -> None:
    """Hypervolume over (0.3, 0.3) after 30 evaluations, against 200 of even sampling."""
    ours = hypervolume(search(SETUP, 30).points(), (0.3, 0.3))
    even = hypervolume(search(replace(SETUP, optimizer="uniform"), 200).points(), (0.3, 0.3))
    assert ours > even


def test_candidates_in_flight_differ() -> None:
    seen = search(replace(SETUP, parallel=8, options=QUICK), 36)
    genomes = [candidate.genome for candidate in seen.candidates[20:]]
    for start in range(9):
        flight = np.array(genomes[start : start + 8])
        gaps = np.linalg.norm(flight[:, None] - flight, axis=2)[np.triu_indices(8, k=1)]
        assert gaps.min() > 1e-3


def test_sobol_points_come_first() -> None:
    moves = [c.origin.move for c in search(replace(SETUP, options=QUICK), 20).candidates]
    assert moves[6:11] == ["sample"] * 5
    assert moves[11:] == ["predicted_front"] * 9


@pytest.mark.parametrize("objectives", [2, 7])
def test_gains_are_where_nothing_is_yet(objectives: int) -> None:
    """By hypervolume with two objectives, by the lead with seven."""
    have = np.eye(objectives)
    predicted = np.stack(
        (np.full(objectives, 0.9), np.full(objectives, 0.5), np.full(objectives, -0.1))
    )
    gains = _gains(have, predicted, np.full(objectives, -0.2))
    assert gains[0] > gains[1] > gains[2]
    assert gains[2] <= 0


@pytest.mark.parametrize("objectives", [1, 2, 3, 6, 16])
def test_directions_are_at_most_as_many_as_asked(objectives: int) -> None:
    directions = _directions(objectives, 40)
    assert len(directions) <= 40
    np.testing.assert_allclose(directions.sum(axis=1), 1.0)
