"""Combinations of checkpoints: they sum to one, and may be negative."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

from search.optimizers.lcsc import LCSC, starts, summing_to_one
from search.outcome import Candidate, Outcome
from search.parent_weights import weights_at
from search.run import opening
from search.spec import SearchSpec
from tests.search.optimizers.analytic import Setup, outcome, search


@dataclass(frozen=True)
class Signed(Setup):
    """Weights between -1 and 2."""

    @cached_property
    def spec(self) -> SearchSpec:
        document = super().spec.model_dump(mode="json", exclude_none=True)
        document["space"]["parameters"]["weight"] = {"low": -1.0, "high": 2.0}
        return SearchSpec.model_validate(document)


SETUP = Signed("lcsc", blocks=1, parents=6, objectives=1)
OWN = len(opening(SETUP.space))
PEAK = np.array([0.1, -0.2, 0.0, -0.4, 0.3, 1.2])


def judge(candidate: Candidate) -> Outcome:
    weights = np.zeros(6) if candidate.genome is None else weights_of(candidate)
    return outcome(candidate, np.array([np.exp(-((weights - PEAK) ** 2).sum())]))


def weights_of(candidate: Candidate) -> np.ndarray:
    assert candidate.genome is not None
    return weights_at(SETUP.space, candidate.genome)


def test_moving_averages_averages_of_the_last_and_the_last_come_first() -> None:
    first = starts(4)
    np.testing.assert_allclose(first[0], np.array([1, 2, 4, 8]) / 15)
    assert any(np.allclose(row, [0, 0, 0, 1]) for row in first)
    assert any(np.allclose(row, [0, 0, 0.5, 0.5]) for row in first)
    assert any(np.allclose(row, np.full(4, 0.25)) for row in first)
    np.testing.assert_allclose([row.sum() for row in first], 1.0)


def test_every_combination_sums_to_one_within_the_bounds() -> None:
    for candidate in search(SETUP, OWN + 80, judge).candidates[OWN:]:
        weights = weights_of(candidate)
        assert weights.sum() == pytest.approx(1.0)
        assert weights.min() >= -1.0
        assert weights.max() <= 2.0


@pytest.mark.parametrize("parallel", [1, 8])
def test_negative_weights_are_found_where_they_are_better(parallel: int) -> None:
    """The best combination without any has a score of 0.80."""
    seen = search(replace(SETUP, parallel=parallel), OWN + 250, judge)
    assert seen.points()[OWN:].max() > 0.95


def test_the_best_is_never_lost() -> None:
    setup = replace(SETUP, options={"population": 4})
    seen, optimizer = search(setup, OWN + 100, judge), setup.start()
    assert isinstance(optimizer, LCSC)
    for told in seen.outcomes:
        optimizer.tell(told)
    best = seen.candidates[OWN + int(np.argmax(seen.points()[OWN:, 0]))]
    negative = int((weights_of(best) < 0).sum())
    assert f"has {negative} negative of 6 weights" in optimizer.status()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.5, 0.5, 0.6], [0.5 - 0.2, 0.3, 0.4]),  # 0.2 from each
        ([3.0, -3.0, 0.0], [1.5, -0.5, 0.0]),  # both ends at their bounds
        ([0.9, 0.9, -0.5], [0.75, 0.75, -0.5]),  # one cannot go lower
    ],
)
def test_weights_go_to_the_nearest_that_sum_to_one(
    weights: list[float], expected: list[float]
) -> None:
    found = summing_to_one(np.array(weights), -0.5, 1.5)
    np.testing.assert_allclose(found, expected, atol=1e-9)
