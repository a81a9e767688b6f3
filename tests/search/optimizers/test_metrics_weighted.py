"""Weights of checkpoints from their scores or places, by one number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.optimizers.metrics_weighted import weights
from search.outcome import Candidate, Outcome
from search.parent_weights import weights_at
from search.run import opening
from tests.search.optimizers.analytic import Setup, outcome, search

SETUP = Setup("metrics_weighted", blocks=1, parents=4, objectives=1)
OWN = len(opening(SETUP.space))
SCORES = np.array([0.1, 0.4, 0.3, 0.2])


@pytest.mark.parametrize("scheme", ["softmax", "power", "rank", "place"])
def test_no_penalty_is_the_uniform_average(scheme: str) -> None:
    np.testing.assert_allclose(weights(scheme, SCORES, 0.0), np.full(4, 0.25))


@pytest.mark.parametrize(
    ("scheme", "penalty", "proportions"),
    [
        # exp(2 (s - 0.4) / 0.3)
        ("softmax", 2.0, np.exp([-2.0, 0.0, -2 / 3, -4 / 3])),
        # (s - 0.1 + 1)^3
        ("power", 3.0, [1.0, 1.3**3, 1.2**3, 1.1**3]),
        # 2^-rank, the best having rank 0
        ("rank", 1.0, [1 / 8, 1.0, 1 / 2, 1 / 4]),
        # place^2
        ("place", 2.0, [1.0, 4.0, 9.0, 16.0]),
    ],
)
def test_weights_are_as_calculated(scheme: str, penalty: float, proportions: np.ndarray) -> None:
    expected = np.array(proportions) / np.sum(proportions)
    np.testing.assert_allclose(weights(scheme, SCORES, penalty), expected)


def test_equal_scores_have_equal_weights() -> None:
    np.testing.assert_allclose(weights("softmax", np.full(3, 0.5), 7.0), np.full(3, 1 / 3))


def test_an_unknown_scheme_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no scheme"):
        weights("loss", SCORES, 1.0)


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_penalty_of_the_best_scheme_is_found(parallel: int) -> None:
    """Best are weights proportional to the cube of the place."""
    best = weights("place", SCORES, 3.0)

    def judge(candidate: Candidate) -> Outcome:
        genome = candidate.genome or (0.0,) * 4
        distance = np.abs(weights_at(SETUP.space, genome) - best).sum()
        return outcome(candidate, np.array([np.exp(-3 * distance)]))

    seen = search(replace(SETUP, parallel=parallel), OWN + 60, judge)
    found = seen.candidates[int(np.argmax(seen.points()[:, 0]))].origin.detail
    assert found["scheme"] == "place"
    assert float(found["penalty"]) == pytest.approx(3.0, abs=0.15)


def test_schemes_take_turns_at_first() -> None:
    schemes = [c.origin.detail["scheme"] for c in search(SETUP, OWN + 8).candidates[OWN:]]
    assert schemes == ["softmax", "power", "rank", "place"] * 2
