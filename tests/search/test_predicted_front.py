"""Where quadratics predict the front, and what is worth a look there."""

from __future__ import annotations

import numpy as np
import pytest

from search.predicted_front import _directions, _gains


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
